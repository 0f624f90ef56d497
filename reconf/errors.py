"""The one tree of errors.

    ReconfError
    ├── ConfigError          site file, profile or data file is wrong        retry: no, edit the file
    ├── RegisterError        value cannot be coded into a register           retry: no, a programming fault
    ├── DataFileError        measurement or inventory file cannot be read    retry: no, mend the file
    ├── ParameterError       a physical parameter outside its valid range    retry: no
    ├── TransportError       a node did not answer, or answered wrongly      retry: yes, reads only
    ├── StoreError           the state directory cannot be read or written   retry: yes, once there is room
    └── SolverError          a solver broke (not: said "infeasible")         retry: next interval

Expected outcomes (a refused command, an infeasible interval) are values and never raised.
"""


class ReconfError(Exception):
    """Base of every error this project raises on purpose."""

    retry_helps: bool = False


class ConfigError(ReconfError):
    """A configuration file is wrong. Carries every finding, not only the first."""


class RegisterError(ReconfError):
    """A value does not fit the register it was meant for."""


class DataFileError(ReconfError):
    """A measurement, inventory or parameter file cannot be used."""


class ParameterError(ReconfError):
    """A physical parameter is outside the range its source states."""


class TransportError(ReconfError):
    """A device did not answer, or what it answered cannot be trusted."""

    retry_helps = True


class StoreError(ReconfError):
    """The state directory cannot be read or written."""

    retry_helps = True


class SolverError(ReconfError):
    """A solver failed in a way that is not an answer."""

    retry_helps = True
