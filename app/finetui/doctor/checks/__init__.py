"""The checks: each looks at one side of a situation and says what it finds."""
