"""The app: screens that draw what the rooms below know; it decides nothing itself."""
