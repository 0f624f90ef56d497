"""Modbus: the southbound side, and the server of the twin. The only package that imports pymodbus."""
