"""Decide what runs next from the rows, run it, record it."""
