"""Bringing a site into service: what is compared, what is tried, and the rules it is tried under. Pure."""
