"""What is believed of each module, with its uncertainty."""
