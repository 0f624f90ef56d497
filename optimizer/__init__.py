"""Decisions: which modules rest and for how long, what each converter is to do."""
