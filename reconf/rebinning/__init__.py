"""Re-binning of a running site: what moving modules between positions is worth, and how it is done safely."""
