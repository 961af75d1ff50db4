"""Rows that say the same as earlier ones, exactly or nearly, in flat memory."""
