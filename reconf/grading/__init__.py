"""State of health of loose modules from short tests."""
