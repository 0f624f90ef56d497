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
from reconf.electrochem.numerics import bilinear, tridiagonal, uniform_interp, with_slope
from reconf.electrochem.parameters import FARADAY, GAS_CONSTANT, REFERENCE_K, AnodeSet

SLICE_SHARES = (0.06, 0.12, 0.20, 0.28, 0.34)
"""Thickness of the anode's slices, from the separator on: the reaction is steepest there."""
NODES = len(SLICE_SHARES)
SHELLS = 12
SHELL_GROWTH = 1.45
SEPARATOR_NODES = 2
CATHODE_NODES = 3
NEWTON_STEPS = 80
NEWTON_TOLERANCE_V = 1e-6
DEPLETED_FRAC = 0.03
"""Salt left, of the initial, below which the model does not hold."""
SAME_X = 1e-6
"""Stoichiometries nearer than this have the diffusivity of the place."""
WALLS = (0.002, 0.998)
"""Beyond these stoichiometries the exchange current dies away: a full surface takes nothing more ..."""
WALL_WIDTH = 2e-4
"""... by a factor e over this much, which keeps Newton's method on its feet where a zero would not."""
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


@dataclass(frozen=True, slots=True)
class _Reaction:
    """What the reaction of M anodes is to be found for."""

    current: FloatArray
    """(M,) [A/m2] of electrode."""
    temperature_k: FloatArray
    """(M, 1)"""
    salt: FloatArray
    """(M, NODES) from the separator on [mol/m3]."""
    outer: FloatArray
    """(M, NODES) stoichiometry of the outermost shells without a reaction."""
    response: FloatArray
    """What 1 A/m2 adds to it; (M, NODES) or one."""
    gap: FloatArray
    """(M, 1) rise of the diffusivity's integral from outermost shell to surface per reaction."""
    ohmic: FloatArray
    """(M, NODES, NODES)"""
    drop: FloatArray
    """(M, NODES) by salt diffusion."""
    face: FloatArray
    """(M,) from the separator face to the middle of the first slice."""


class AnodeModel:
    """Geometry and functions of one parameter set."""

    def __init__(self, parameters: AnodeSet) -> None:
        self.set = parameters
        self._shells()
        self._slices()
        self._kirchhoff()

    def _shells(self) -> None:
        width = SHELL_GROWTH ** -np.arange(SHELLS, dtype=np.float64)
        faces = np.concatenate(([0.0], np.cumsum(width) / width.sum())) * self.set.particle_radius_m
        self.shell_volume = (faces[1:] ** 3 - faces[:-1] ** 3) / 3.0
        centre = (faces[1:] + faces[:-1]) / 2.0
        self.shell_conductance = faces[1:-1] ** 2 / np.diff(centre)
        self.surface_gap_m = float(faces[-1] - centre[-1])
        self.volume_share = self.shell_volume / self.shell_volume.sum()

    def _kirchhoff(self) -> None:
        """The integral of the diffusivity over stoichiometry at the reference temperature [m2/s].

        Fluxes are differences of it: exact for a steady flux however steep the diffusivity, where any mean of
        two neighbours' values would depend on the grid.
        """
        grid = self.set.x_grid
        value = np.exp(self.set.log_diffusivity)
        pieces = 0.5 * (value[1:] + value[:-1]) * np.diff(grid)
        self.integral = np.concatenate(([0.0], np.cumsum(pieces)))

    def _slices(self) -> None:
        counts = (NODES, SEPARATOR_NODES, CATHODE_NODES)
        widths = [t / n for t, n in zip(self.set.thickness_m, counts, strict=True)]
        self.slice_m = np.array(SLICE_SHARES) * float(self.set.thickness_m[0])
        self.area = self.set.specific_area * self.slice_m
        self.width = np.repeat(widths, counts)
        self.width[:NODES] = self.slice_m[::-1]
        self.porosity = np.repeat(self.set.porosity, counts)
        self.tortuosity = np.repeat(self.set.tortuosity, counts)
        self.cathode = np.zeros(len(self.width))
        self.cathode[-CATHODE_NODES:] = 1.0 / self.set.thickness_m[2]

    # ---- functions of the set ------------------------------------------------------------------

    def _on_x(self, table: FloatArray, x: FloatArray) -> FloatArray:
        return uniform_interp(self.set.x_grid, table, x)

    def _on_salt(self, table: FloatArray, salt: FloatArray, temperature_k: FloatArray) -> FloatArray:
        return bilinear(self.set.temperature_grid_k, self.set.salt_grid, table, temperature_k, salt)

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
        mean = (state.x @ self.volume_share) @ np.array(SLICE_SHARES)
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
        kappa = self._on_salt(self.set.conductivity, salt, column) * self.set.tortuosity[0]
        task = _Reaction(
            current=current,
            temperature_k=column,
            salt=salt,
            outer=outer,
            response=response,
            gap=self.surface_gap_m / (FARADAY * self.set.concentration_max * self._warmth(column)),
            ohmic=self._ohmic(kappa),
            drop=self._diffusion_drop(salt, state.salt[:, NODES], temperature_k),
            face=current * self.slice_m[0] / 2.0 / kappa[:, 0],
        )
        return self._newton(state.reaction, task)

    def _surface(self, task: _Reaction, j: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(M, NODES) stoichiometry at the surface under a reaction, and its slope against the reaction."""
        grid, integral = self.set.x_grid, self.integral
        outer = task.outer + task.response * j
        target = uniform_interp(grid, integral, outer) + task.gap * j
        low = np.clip(np.searchsorted(integral, target) - 1, 0, len(grid) - 2)
        width, rise = grid[1] - grid[0], integral[low + 1] - integral[low]
        x = grid[low] + width * (target - integral[low]) / rise
        here = np.clip(((outer - grid[0]) / width).astype(np.int64), 0, len(grid) - 2)
        feeds = (integral[here + 1] - integral[here]) / width * task.response
        return x, (feeds + task.gap) * width / rise

    def _newton(self, start: FloatArray, task: _Reaction) -> tuple[FloatArray, FloatArray]:
        current, column, salt, ohmic = task.current, task.temperature_k, task.salt, task.ohmic
        thermal = 2.0 * GAS_CONSTANT * column / FARADAY
        shift = column - REFERENCE_K
        area = self.area
        # the last distribution, moved to the new current; scaling it would blow up after a rest
        j = start + ((current - start @ area) / area.sum())[:, None]
        m = len(current)
        unsettled = np.ones(m, dtype=np.bool_)
        matrix = np.zeros((m, NODES + 1, NODES + 1))
        potential = np.zeros(m)
        salt_factor = (np.maximum(salt, 1.0) / self.set.salt) ** self.set.exchange_salt_power
        warm = self._arrhenius(self.set.exchange_j_per_mol, column)
        for k in range(NEWTON_STEPS):
            x, lift = self._surface(task, j)
            u, slope = with_slope(self.set.x_grid, self.set.potential_v, x)
            entropy, more = with_slope(self.set.x_grid, self.set.entropy_v_per_k, x)
            u, slope = u + shift * entropy, slope + shift * more
            bare, steep = self._exchange(x)
            exchange = 2.0 * bare * warm * salt_factor
            eta = thermal * np.arcsinh(j / exchange) + self.set.film_ohm_m2 * j
            ionic = np.einsum("mij,mj->mi", ohmic, j) + task.face[:, None] + task.drop
            residual = potential[:, None] + ionic - u + eta
            both = np.sqrt(j**2 + exchange**2)
            # near the ends of the stoichiometry the exchange current falls as the surface fills or empties
            starve = steep * j * lift
            own = thermal * (1.0 - starve) / both + self.set.film_ohm_m2 - slope * lift
            own = np.maximum(own, 0.1 * thermal / both)
            matrix[:, :NODES, :NODES] = ohmic
            matrix[:, np.arange(NODES), np.arange(NODES)] += own
            matrix[:, :NODES, NODES] = 1.0
            matrix[:, NODES, :NODES] = area
            rhs = np.concatenate([-residual, (current - j @ area)[:, None]], axis=1)
            change = np.linalg.solve(matrix, rhs[:, :, None])[:, :, 0]
            # where the diffusivity falls by orders of magnitude a full step can throw the surface out of 0..1
            reach = 0.2 / (lift * np.abs(change[:, :NODES]) + 1e-12)
            # and between two pieces of a linear table full steps can go back and forth
            change *= np.minimum(1.0 / (1 + k // 6), reach.min(axis=1))[:, None]
            j = j + change[:, :NODES]
            potential = potential + change[:, NODES]
            unsettled = np.abs(change[:, NODES]) > NEWTON_TOLERANCE_V
            if not unsettled.any():
                break
        # starved of salt, or no solution found: nothing is promised
        lost = unsettled | (salt.min(axis=1) < DEPLETED_FRAC * self.set.salt) | ~np.isfinite(potential)
        even_j = np.broadcast_to((current / area.sum())[:, None], j.shape)
        return np.where(lost[:, None], even_j, j), np.where(lost, LOST_V, potential)

    def _exchange(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Exchange current density at the reference [A/m2] and the slope of its logarithm."""
        inside = np.clip(x, *WALLS)
        bare, rise = with_slope(self.set.x_grid, self.set.exchange_a_per_m2, inside)
        beyond = x - inside
        steep = np.where(beyond == 0.0, rise / bare, -np.sign(beyond) / WALL_WIDTH)
        return bare * np.exp(np.maximum(-np.abs(beyond) / WALL_WIDTH, -200.0)), steep

    def _warmth(self, temperature_k: FloatArray) -> FloatArray:
        """Diffusivity over that at the reference temperature."""
        return self._arrhenius(self.set.diffusivity_j_per_mol, temperature_k)

    def _ohmic(self, kappa: FloatArray) -> FloatArray:
        """(M, N, N): fall of the ionic potential from slice 0 to slice i per reaction of slice j."""
        half = 0.5 * self.slice_m / kappa
        between = half[:, 1:] + half[:, :-1]
        depth = np.concatenate([np.zeros((len(kappa), 1)), np.cumsum(between, axis=1)], axis=1)
        i, j = np.meshgrid(np.arange(NODES), np.arange(NODES), indexing="ij")
        # the current that still flows past face k is what the slices behind it take
        fall: FloatArray = self.area * depth[:, np.minimum(i, j)]
        return fall

    def _diffusion_drop(
        self, salt: FloatArray, separator: FloatArray, temperature_k: FloatArray
    ) -> FloatArray:
        """(M, N) fall of the ionic potential from the separator face to each slice by salt diffusion."""
        factor = self._on_salt(self.set.diffusion_factor, salt, temperature_k[:, None])
        near, far = self.slice_m[0], self.width[NODES]
        edge = np.maximum((salt[:, :1] * far + separator[:, None] * near) / (near + far), 1.0)
        fall = np.log(edge / np.maximum(salt, 1.0))
        volt: FloatArray = 2.0 * GAS_CONSTANT * temperature_k[:, None] / FARADAY * factor * fall
        return volt

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
        coupling = self._between(x) * self._warmth(temperature_k[:, None, None])
        coupling *= self.shell_conductance * dt_s
        per_flux = self.set.particle_radius_m**2 / (FARADAY * self.set.concentration_max)
        push = np.zeros_like(x)
        push[..., -1] = per_flux * dt_s[..., 0]
        both = tridiagonal(coupling, self.shell_volume, np.stack([x * self.shell_volume, push]))
        return both[0], both[1]

    def _between(self, x: FloatArray) -> FloatArray:
        """Mean diffusivity between neighbouring shells, over the stoichiometries between theirs."""
        grid = self.set.x_grid
        # never beyond the sampled range: an extrapolated diffusivity runs away
        within = np.clip(x, grid[0], grid[-1])
        integral, local = with_slope(grid, self.integral, within)
        apart = within[..., 1:] - within[..., :-1]
        flat = np.abs(apart) < SAME_X
        value: FloatArray = np.where(
            flat,
            0.5 * (local[..., 1:] + local[..., :-1]),
            (integral[..., 1:] - integral[..., :-1]) / np.where(flat, 1.0, apart),
        )
        return value

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
        # what reacts, less what the ionic current itself carries over the faces
        ionic = np.cumsum(take * self.width, axis=1)[:, :-1]
        number = self._on_salt(self.set.transference, salt, temperature_k[:, None])
        carried = 0.5 * (number[:, 1:] + number[:, :-1]) * ionic
        gained = take * self.width
        gained[:, :-1] -= carried
        gained[:, 1:] += carried
        source = salt * capacity + dt_s / FARADAY * gained
        return np.maximum(tridiagonal(coupling, capacity, source), 1.0)
