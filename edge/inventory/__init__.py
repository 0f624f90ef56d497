"""Passports of modules: what is known of each, from where, in an append-only history."""
