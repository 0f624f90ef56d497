"""Assignment of unequal modules to strings and positions, and what each assignment is worth."""
