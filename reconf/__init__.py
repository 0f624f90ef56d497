"""reconf: the domain of a reconfigurable second-life battery, pure.

Nothing below this package reads a clock, opens a socket or a solver. Time and randomness are
arguments; expected outcomes are values. Discharge is positive, everywhere.
"""

__version__ = "0.1.0"
