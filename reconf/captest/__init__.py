"""Capacity test of the live pack: one module of a string at a time, while the site serves power."""
