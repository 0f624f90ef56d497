"""Logical re-binning: what can be had without touching a wire.

A string's share of the power, the share of the time each position is inserted, and which positions can be
spared are settings of the daemon, not of the rack. The allocator chooses the first two anew in every
interval; they are given here so that people see what is being done, and what it is worth against strings
that share alike. Sparing a position altogether (`reconf send bypass_module`) is the operator's choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reconf.arrays import FloatArray, IntArray
from reconf.binning.energy import string_energy_wh, trimmed_charge_ah
from reconf.rebinning.pack import Pack

SPARED_LOSS_FRAC = 0.002
"""A position can be spared if the string loses no more than this share of its energy by it."""


@dataclass(frozen=True, slots=True)
class StringShare:
    """One string, without touching a wire."""

    name: str
    energy_wh: float
    share_frac: float
    """Of the site's power, so that all strings end together."""
    share_alike_frac: float
    """Where every string is asked for the same."""
    duty_frac: FloatArray
    """(N,) inserted share of the discharge by position."""
    spared_loss_wh: FloatArray
    """(N,) energy lost if the position stays bypassed; inf where the window does not allow it."""

    @property
    def can_be_spared(self) -> IntArray:
        """Positions that can rest for good at next to no loss."""
        found: IntArray = np.flatnonzero(self.spared_loss_wh <= SPARED_LOSS_FRAC * self.energy_wh)
        return found


@dataclass(frozen=True, slots=True)
class Sharing:
    """The site, without touching a wire."""

    strings: tuple[StringShare, ...]

    @property
    def energy_wh(self) -> float:
        """With shares by energy."""
        return sum(s.energy_wh for s in self.strings)

    @property
    def alike_wh(self) -> float:
        """With equal shares: the discharge ends with the first string."""
        return len(self.strings) * min(s.energy_wh for s in self.strings)


def sharing(pack: Pack, held: tuple[IntArray, ...]) -> Sharing:
    """Shares and duties at the believed capacities."""
    energies = [_energy_wh(pack, s, members) for s, members in enumerate(held)]
    total = sum(energies)
    return Sharing(
        tuple(
            StringShare(
                pack.strings[s].name, energies[s], energies[s] / total, 1.0 / len(held),
                _duty_frac(pack, s, members), _spared_loss_wh(pack, s, members, energies[s]),
            )
            for s, members in enumerate(held)
        )
    )  # fmt: skip


def _energy_wh(pack: Pack, string: int, members: IntArray, spares: int | None = None) -> float:
    hardware = pack.strings[string]
    capacity, volts = pack.lot.capacity_ah[members], pack.loaded_v[members]
    rest = hardware.spares if spares is None else spares
    return float(string_energy_wh(capacity, volts, rest, hardware.trim))


def _duty_frac(pack: Pack, string: int, members: IntArray) -> FloatArray:
    """min(r_i, q)/q, spread so that exactly N - m are inserted (trim makes up the rest)."""
    hardware, capacity = pack.strings[string], pack.lot.capacity_ah[members]
    charge = float(trimmed_charge_ah(capacity, hardware.spares, hardware.trim))
    duty: FloatArray = np.minimum(capacity / charge, 1.0)
    return duty


def _spared_loss_wh(pack: Pack, string: int, members: IntArray, energy_wh: float) -> FloatArray:
    spares = pack.strings[string].spares
    if spares < 1:
        return np.full(len(members), np.inf)
    without = [_energy_wh(pack, string, np.delete(members, k), spares - 1) for k in range(len(members))]
    return energy_wh - np.array(without)
