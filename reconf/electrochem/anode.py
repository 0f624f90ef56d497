"""A reduced Doyle-Fuller-Newman model of the anode, vectorised over modules.

Porous graphite electrode in `NODES` slices from the separator to the current collector, a particle in each
slice (finite volumes, finest at the surface, nonlinear diffusivity), salt in anode, separator and cathode,
Butler-Volmer kinetics with a film, and the ionic potential drop that makes the slices unequal. The cathode
reacts uniformly: it only feeds salt. Equations: Doyle, Fuller & Newman 1993, doi:10.1149/1.2221597;
criterion: plating needs a potential against lithium below 0 at the separator face, where it is lowest
(Arora, Doyle & White 1999, doi:10.1149/1.1392512).

Currents are per charge between SOC 0 and 1, in 1/h ("rate"), *charging positive* inside this module only:
it is the reaction current of the anode. Callers convert.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from reconf.arrays import FloatArray
from reconf.electrochem.parameters import FARADAY, GAS_CONSTANT, REFERENCE_K, AnodeSet

NODES = 5
SHELLS = 12
SHELL_GROWTH = 1.45
SEPARATOR_NODES = 2
CATHODE_NODES = 3
NEWTON_STEPS = 80
NEWTON_TOLERANCE_V = 1e-6
DEPLETED_FRAC = 0.03
"""Salt left, of the initial, below which the model does not hold."""
LEAST_EXCHANGE_A_PER_M2 = 1e-6
WALLS = (0.0005, 0.9995)
"""Stoichiometries a surface only approaches while the reaction is solved for."""
LOST_V = -1.0
"""Potential reported where the model does not hold: far on the side of plating."""


@dataclass(frozen=True, slots=True)
class AnodeState:
    """State of M anodes."""

    x: FloatArray
    """(M, NODES, SHELLS) stoichiometry, centre first; node 0 is at the separator."""
    salt: FloatArray
    """(M, NODES + SEPARATOR_NODES + CATHODE_NODES) [mol/m3]; collector side of the anode first."""
    reaction: FloatArray
    """(M, NODES) last intercalation current density [A/m2], the start of the next solution."""


class AnodeModel:
    """Geometry and functions of one parameter set."""

    def __init__(self, parameters: AnodeSet) -> None:
        self.set = parameters
        self._shells()
        self._slices()

    def _shells(self) -> None:
        width = SHELL_GROWTH ** -np.arange(SHELLS, dtype=np.float64)
        faces = np.concatenate(([0.0], np.cumsum(width) / width.sum())) * self.set.particle_radius_m
        self.shell_volume = (faces[1:] ** 3 - faces[:-1] ** 3) / 3.0
        centre = (faces[1:] + faces[:-1]) / 2.0
        self.shell_conductance = faces[1:-1] ** 2 / np.diff(centre)
        self.surface_gap_m = float(faces[-1] - centre[-1])
        self.volume_share = self.shell_volume / self.shell_volume.sum()

    def _slices(self) -> None:
        counts = (NODES, SEPARATOR_NODES, CATHODE_NODES)
        widths = [t / n for t, n in zip(self.set.thickness_m, counts, strict=True)]
        self.width = np.repeat(widths, counts)
        self.porosity = np.repeat(self.set.porosity, counts)
        self.tortuosity = np.repeat(self.set.tortuosity, counts)
        self.slice_m = widths[0]
        self.cathode = np.zeros(len(self.width))
        self.cathode[-CATHODE_NODES:] = 1.0 / self.set.thickness_m[2]

    # ---- functions of the set ------------------------------------------------------------------

    def _on_x(self, table: FloatArray, x: FloatArray) -> FloatArray:
        return _uniform_interp(self.set.x_grid, table, x)

    def _on_salt(self, table: FloatArray, salt: FloatArray, temperature_k: FloatArray) -> FloatArray:
        return _bilinear(self.set.temperature_grid_k, self.set.salt_grid, table, temperature_k, salt)

    def _arrhenius(self, energy: float, temperature_k: FloatArray) -> FloatArray:
        factor: FloatArray = np.exp(-energy / GAS_CONSTANT * (1.0 / temperature_k - 1.0 / REFERENCE_K))
        return factor

    # ---- state ---------------------------------------------------------------------------------

    def rested(self, soc_frac: FloatArray) -> AnodeState:
        """State of anodes at rest at `soc_frac` (M,)."""
        x = self.set.x_empty + soc_frac * (self.set.x_full - self.set.x_empty)
        m = len(soc_frac)
        return AnodeState(
            x=np.broadcast_to(x[:, None, None], (m, NODES, SHELLS)).copy(),
            salt=np.full((m, len(self.width)), self.set.salt),
            reaction=np.zeros((m, NODES)),
        )

    def soc_frac(self, state: AnodeState) -> FloatArray:
        """Mean SOC of each anode (M,)."""
        mean = (state.x @ self.volume_share).mean(axis=1)
        soc: FloatArray = (mean - self.set.x_empty) / (self.set.x_full - self.set.x_empty)
        return soc

    def shifted(self, state: AnodeState, soc_frac: FloatArray) -> AnodeState:
        """The state moved to a corrected SOC, gradients kept."""
        move = (soc_frac - self.soc_frac(state)) * (self.set.x_full - self.set.x_empty)
        return replace(state, x=state.x + move[:, None, None])

    # ---- potentials ----------------------------------------------------------------------------

    def solve(
        self, state: AnodeState, rate_per_h: FloatArray, temperature_k: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Reaction of each slice (M, NODES) [A/m2] and potential at the separator face (M,) [V vs Li]."""
        return self._react(state, state.x[:, :, -1], np.zeros(()), rate_per_h, temperature_k)

    def _react(
        self,
        state: AnodeState,
        outer: FloatArray,
        response: FloatArray,
        rate_per_h: FloatArray,
        temperature_k: FloatArray,
    ) -> tuple[FloatArray, FloatArray]:
        """As `solve`, with outer shells at `outer` + `response` * reaction."""
        salt = state.salt[:, :NODES][:, ::-1]
        column = temperature_k[:, None]
        current = rate_per_h * self.set.charge_c_per_m2 / 3600.0
        thermal = 2.0 * GAS_CONSTANT * temperature_k / FARADAY
        kappa = self._on_salt(self.set.conductivity, salt, column) * self.set.tortuosity[0]
        drop = self._diffusion_drop(salt, state.salt[:, NODES], temperature_k)
        diffusivity = self._diffusivity(outer, column)
        lift = response + self.surface_gap_m / (FARADAY * diffusivity * self.set.concentration_max)
        ohmic = self._ohmic(kappa)
        face = current * self.slice_m / 2.0 / kappa[:, 0]
        return self._newton(state.reaction, current, column, thermal, salt, outer, lift, ohmic, drop, face)

    def _newton(
        self,
        start: FloatArray,
        current: FloatArray,
        column: FloatArray,
        thermal: FloatArray,
        salt: FloatArray,
        surface: FloatArray,
        lift: FloatArray,
        ohmic: FloatArray,
        drop: FloatArray,
        face: FloatArray,
    ) -> tuple[FloatArray, FloatArray]:
        area = self.set.specific_area * self.slice_m
        total = start.sum(axis=1)
        # the last distribution scaled to the new current, or a uniform one after rest
        even = np.where(np.abs(total) > 1e-9, current / area / np.where(total == 0, 1.0, total), 0.0)
        j = np.where((even > 0.2)[:, None], start * even[:, None], (current / area / NODES)[:, None])
        m = len(current)
        unsettled = np.ones(m, dtype=np.bool_)
        matrix = np.zeros((m, NODES + 1, NODES + 1))
        potential = np.zeros(m)
        salt_factor = (np.maximum(salt, 1.0) / self.set.salt) ** self.set.exchange_salt_power
        warm = self._arrhenius(self.set.exchange_j_per_mol, column)
        for k in range(NEWTON_STEPS):
            x = surface + lift * j
            u, slope = _with_slope(self.set.x_grid, self.set.potential_v, x)
            bare, rise = _with_slope(self.set.x_grid, self.set.exchange_a_per_m2, x)
            some = np.maximum(bare, LEAST_EXCHANGE_A_PER_M2)
            exchange = 2.0 * some * warm * salt_factor
            eta = thermal[:, None] * np.arcsinh(j / exchange) + self.set.film_ohm_m2 * j
            ionic = np.einsum("mij,mj->mi", ohmic, j) + face[:, None] + drop
            residual = potential[:, None] + ionic - u + eta
            both = np.sqrt(j**2 + exchange**2)
            # near the ends of the stoichiometry the exchange current falls as the surface fills or empties
            starve = np.where(bare > LEAST_EXCHANGE_A_PER_M2, rise / some, 0.0) * j * lift
            own = thermal[:, None] * (1.0 - starve) / both + self.set.film_ohm_m2 - slope * lift
            own = np.maximum(own, 0.1 * thermal[:, None] / both)
            matrix[:, :NODES, :NODES] = ohmic
            matrix[:, np.arange(NODES), np.arange(NODES)] += own
            matrix[:, :NODES, NODES] = 1.0
            matrix[:, NODES, :NODES] = area
            rhs = np.concatenate([-residual, (current - area * j.sum(axis=1))[:, None]], axis=1)
            change = np.linalg.solve(matrix, rhs[:, :, None])[:, :, 0]
            # where the diffusivity falls by orders of magnitude a full step can throw the surface out of 0..1
            reach = 0.2 / (lift * np.abs(change[:, :NODES]) + 1e-12)
            reach = np.minimum(reach, _to_the_wall(x, lift * change[:, :NODES]))
            # and between two pieces of a linear table full steps can go back and forth
            change *= np.minimum(1.0 / (1 + k // 6), reach.min(axis=1))[:, None]
            j = j + change[:, :NODES]
            potential = potential + change[:, NODES]
            unsettled = np.abs(change[:, NODES]) > NEWTON_TOLERANCE_V
            if not unsettled.any():
                break
        # starved of salt, or no solution found: nothing is promised
        lost = unsettled | (salt.min(axis=1) < DEPLETED_FRAC * self.set.salt) | ~np.isfinite(potential)
        even_j = np.broadcast_to((current / area / NODES)[:, None], j.shape)
        return np.where(lost[:, None], even_j, j), np.where(lost, LOST_V, potential)

    def _diffusivity(self, x: FloatArray, temperature_k: FloatArray) -> FloatArray:
        # never beyond the sampled range: an extrapolated logarithm runs away
        within = np.clip(x, self.set.x_grid[0], self.set.x_grid[-1])
        value: FloatArray = np.exp(self._on_x(self.set.log_diffusivity, within))
        return value * self._arrhenius(self.set.diffusivity_j_per_mol, temperature_k)

    def _ohmic(self, kappa: FloatArray) -> FloatArray:
        """(M, N, N): fall of the ionic potential from slice 0 to slice i per reaction of slice j."""
        between = self.slice_m / (0.5 * (kappa[:, 1:] + kappa[:, :-1]))
        depth = np.concatenate([np.zeros((len(kappa), 1)), np.cumsum(between, axis=1)], axis=1)
        i, j = np.meshgrid(np.arange(NODES), np.arange(NODES), indexing="ij")
        # the current that still flows past face k is what the slices behind it take
        fall: FloatArray = self.set.specific_area * self.slice_m * depth[:, np.minimum(i, j)]
        return fall

    def _diffusion_drop(
        self, salt: FloatArray, separator: FloatArray, temperature_k: FloatArray
    ) -> FloatArray:
        """(M, N) fall of the ionic potential from the separator face to each slice by salt diffusion."""
        factor = self._on_salt(self.set.diffusion_factor, salt, temperature_k[:, None])
        edge = np.maximum(0.5 * (salt[:, :1] + separator[:, None]), 1.0)
        fall = np.log(edge / np.maximum(salt, 1.0))
        return 2.0 * GAS_CONSTANT * temperature_k[:, None] / FARADAY * factor * fall

    # ---- time ----------------------------------------------------------------------------------

    def step(
        self, state: AnodeState, rate_per_h: FloatArray, temperature_k: FloatArray, dt_s: FloatArray | float
    ) -> tuple[AnodeState, FloatArray]:
        """Advance by `dt_s` (one, or one each) at a charge rate (M,) [1/h].

        The reaction is the one that fits the particles at the end of the step: where the open-circuit
        potential is steep, slices would otherwise throw lithium at each other.

        Returns:
            The state after, and the potential there with the salt of the start (M,) [V vs Li].
        """
        each_s = np.broadcast_to(np.asarray(dt_s, dtype=np.float64), temperature_k.shape)
        free, pushed = self._diffuse(state.x, temperature_k, each_s[:, None, None])
        reaction, potential = self._react(state, free[:, :, -1], pushed[:, :, -1], rate_per_h, temperature_k)
        x = free + pushed * reaction[:, :, None]
        salt = self._move_salt(state.salt, reaction, rate_per_h, temperature_k, each_s[:, None])
        return AnodeState(x=x, salt=salt, reaction=reaction), potential

    def _diffuse(
        self, x: FloatArray, temperature_k: FloatArray, dt_s: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Shells after `dt_s` without reaction, and what 1 A/m2 of it adds."""
        diffusivity = self._diffusivity(x, temperature_k[:, None, None])
        between = 0.5 * (diffusivity[..., 1:] + diffusivity[..., :-1])
        coupling = between * self.shell_conductance * dt_s
        per_flux = self.set.particle_radius_m**2 / (FARADAY * self.set.concentration_max)
        push = np.zeros_like(x)
        push[..., -1] = per_flux * dt_s[..., 0]
        both = _tridiagonal(coupling, self.shell_volume, np.stack([x * self.shell_volume, push]))
        return both[0], both[1]

    def _move_salt(
        self,
        salt: FloatArray,
        reaction: FloatArray,
        rate_per_h: FloatArray,
        temperature_k: FloatArray,
        dt_s: FloatArray,
    ) -> FloatArray:
        bulk = self._on_salt(self.set.salt_diffusivity, salt, temperature_k[:, None]) * self.tortuosity
        resistance = self.width / (2.0 * bulk)
        coupling = dt_s / (resistance[:, 1:] + resistance[:, :-1])
        take = np.zeros_like(salt)
        take[:, :NODES] = -self.set.specific_area * reaction[:, ::-1]
        take += self.cathode * (rate_per_h * self.set.charge_c_per_m2 / 3600.0)[:, None]
        capacity = self.porosity * self.width
        source = salt * capacity + dt_s * (1.0 - self.set.transference) / FARADAY * take * self.width
        return np.maximum(_tridiagonal(coupling, capacity, source), 1.0)


def _to_the_wall(x: FloatArray, move: FloatArray) -> FloatArray:
    """Share of a move of the surface that leaves a tenth of the way to full or empty.

    There the exchange current vanishes and the overpotential is a wall, with nothing sensible behind it. Who
    is behind it already may move freely.
    """
    ahead = np.where(move > 0.0, WALLS[1] - x, x - WALLS[0])
    share: FloatArray = np.where(ahead > 0.0, 0.9 * ahead / (np.abs(move) + 1e-30), 1.0)
    return share


def _uniform_interp(grid: FloatArray, table: FloatArray, at: FloatArray) -> FloatArray:
    """Linear on a uniform grid, extended linearly beyond its ends."""
    position = (at - grid[0]) / (grid[1] - grid[0])
    low = np.clip(np.nan_to_num(position), 0, len(grid) - 2).astype(np.int64)
    share = position - low
    value: FloatArray = table[low] + share * (table[low + 1] - table[low])
    return value


def _with_slope(grid: FloatArray, table: FloatArray, at: FloatArray) -> tuple[FloatArray, FloatArray]:
    """As `_uniform_interp`, and the slope of the piece."""
    width = grid[1] - grid[0]
    position = (at - grid[0]) / width
    low = np.clip(np.nan_to_num(position), 0, len(grid) - 2).astype(np.int64)
    rise = table[low + 1] - table[low]
    return table[low] + (position - low) * rise, rise / width


def _bilinear(
    rows: FloatArray, columns: FloatArray, table: FloatArray, row: FloatArray, column: FloatArray
) -> FloatArray:
    """Bilinear on uniform grids, held at the ends."""
    r = np.clip((row - rows[0]) / (rows[1] - rows[0]), 0.0, len(rows) - 1.0)
    c = np.clip((column - columns[0]) / (columns[1] - columns[0]), 0.0, len(columns) - 1.0)
    r0 = np.minimum(r.astype(np.int64), len(rows) - 2)
    c0 = np.minimum(c.astype(np.int64), len(columns) - 2)
    fr, fc = r - r0, c - c0
    r0, c0 = np.broadcast_arrays(r0, c0)
    low = table[r0, c0] * (1 - fc) + table[r0, c0 + 1] * fc
    high = table[r0 + 1, c0] * (1 - fc) + table[r0 + 1, c0 + 1] * fc
    value: FloatArray = low * (1 - fr) + high * fr
    return value


def _tridiagonal(coupling: FloatArray, capacity: FloatArray, source: FloatArray) -> FloatArray:
    """Solve capacity y_i + sum_j coupling (y_i - y_j) = source_i along the last axis (Thomas)."""
    n = source.shape[-1]
    diagonal = np.broadcast_to(capacity, source.shape).copy()
    diagonal[..., :-1] += coupling
    diagonal[..., 1:] += coupling
    y = source.copy()
    for i in range(1, n):
        w = coupling[..., i - 1] / diagonal[..., i - 1]
        diagonal[..., i] -= w * coupling[..., i - 1]
        y[..., i] += w * y[..., i - 1]
    y[..., -1] /= diagonal[..., -1]
    for i in range(n - 2, -1, -1):
        y[..., i] = (y[..., i] + coupling[..., i] * y[..., i + 1]) / diagonal[..., i]
    return y
