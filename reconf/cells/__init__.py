"""Cell models: parameters as data files, curves over SOC, and their stacking for many modules."""

from reconf.cells.bank import BankPoint, CellBank
from reconf.cells.model import CellModel, ThermalParameters, arrhenius
from reconf.cells.parameters import cell_model_names, load_cell_model, read_cell_model

__all__ = [
    "BankPoint",
    "CellBank",
    "CellModel",
    "ThermalParameters",
    "arrhenius",
    "cell_model_names",
    "load_cell_model",
    "read_cell_model",
]
