"""The shell: wires, disk, broker, service, command line."""
