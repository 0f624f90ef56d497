"""Who a node says it is: the read-only identity registers, decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from reconf.devices import rc1, rm1
from reconf.devices.profile import DeviceProfile
from reconf.registers import BlockDecoder, ReadBlock, decode_text


def _values(profile: DeviceProfile, block: ReadBlock, payload: bytes) -> tuple[str, dict[str, float]]:
    """Serial number and all numbers of an identity block."""
    words = np.frombuffer(payload, dtype=">u2").astype(np.uint16)
    serial = profile.register("holding", "SERIAL")
    start = serial.address - block.address
    text = decode_text(words[start : start + serial.count].tolist())
    decoder = BlockDecoder(profile.of_table("holding"), block)
    row = decoder.values(words[None, :])[0]
    return text, {name: float(row[at.start]) for name, at in decoder.columns.items()}


@dataclass(frozen=True, slots=True)
class ModuleIdentity:
    """What an RM1 says of itself and its module; NaN where it says nothing."""

    serial: str
    map_version: int
    n_cells: int
    chemistry_code: int
    """`Chemistry.code`, 0 where not available."""
    rated_capacity_ah: float
    trim_rating_a: float
    r_on_ohm: float
    firmware: float
    trip_cell_max_v: float
    trip_cell_min_v: float
    trip_temperature_max_degc: float
    trim_efficiency_frac: float

    @property
    def trips(self) -> dict[str, float]:
        """The thresholds of its own trips by register, as far as it tells them."""
        trips = {
            "TRIP_CELL_MAX": self.trip_cell_max_v,
            "TRIP_CELL_MIN": self.trip_cell_min_v,
            "TRIP_TEMPERATURE_MAX": self.trip_temperature_max_degc,
        }
        return {name: value for name, value in trips.items() if not np.isnan(value)}

    @classmethod
    def decode(cls, profile: DeviceProfile, head: bytes, payload: bytes) -> Self:
        """From input registers 0..2 and the identity block.

        Raises:
            RegisterError: the serial number is no text.
        """
        _, map_version, n_cells = (int(w) for w in np.frombuffer(head, dtype=">u2"))
        serial, v = _values(profile, rm1.IDENTITY, payload)
        code = v["CHEMISTRY"]
        return cls(
            serial=serial,
            map_version=map_version,
            n_cells=n_cells,
            chemistry_code=0 if np.isnan(code) else int(code),
            rated_capacity_ah=v["RATED_CAPACITY"],
            trim_rating_a=v["TRIM_RATING"],
            r_on_ohm=v["R_ON"] * 1e-3,
            firmware=v["FIRMWARE"],
            trip_cell_max_v=v["TRIP_CELL_MAX"],
            trip_cell_min_v=v["TRIP_CELL_MIN"],
            trip_temperature_max_degc=v["TRIP_TEMPERATURE_MAX"],
            trim_efficiency_frac=v["TRIM_EFFICIENCY"],
        )


@dataclass(frozen=True, slots=True)
class ConverterIdentity:
    """What an RC1 says of itself; NaN where it says nothing."""

    serial: str
    voltage_min_v: float
    voltage_max_v: float
    current_rating_a: float
    power_rating_w: float
    loss_fixed_w: float
    loss_linear_frac: float
    loss_quadratic_w_per_a2: float
    bus_voltage_min_v: float
    bus_voltage_max_v: float

    @classmethod
    def decode(cls, profile: DeviceProfile, payload: bytes) -> Self:
        """From the identity block.

        Raises:
            RegisterError: the serial number is no text.
        """
        serial, v = _values(profile, rc1.IDENTITY, payload)
        return cls(
            serial=serial,
            voltage_min_v=v["STRING_VOLTAGE_MIN"],
            voltage_max_v=v["STRING_VOLTAGE_MAX"],
            current_rating_a=v["CURRENT_RATING"],
            power_rating_w=v["POWER_RATING"] * 1e3,
            loss_fixed_w=v["LOSS_FIXED"],
            loss_linear_frac=v["LOSS_LINEAR"],
            loss_quadratic_w_per_a2=v["LOSS_QUADRATIC"],
            bus_voltage_min_v=v["BUS_VOLTAGE_MIN"],
            bus_voltage_max_v=v["BUS_VOLTAGE_MAX"],
        )


@dataclass(frozen=True, slots=True)
class Identities:
    """Everybody, in site order; None where nobody answered."""

    modules: tuple[ModuleIdentity | None, ...]
    strings: tuple[ConverterIdentity | None, ...]
