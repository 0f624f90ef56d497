"""Electrochemistry of the graphite anode: what its potential against lithium is, and where it plates."""
