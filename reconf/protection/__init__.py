"""What each module and string may do, and why."""
