"""Steps of commissioning that only read: who answers, who they are, how the line is, what they measure."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from edge.modbus import wiretime
from edge.modbus.failures import FailureKind, NodeError
from edge.modbus.southbound import Southbound
from edge.modbus.transport import Link
from edge.wires.scan import ALL_IDS, Scanner
from reconf.arrays import BoolArray, FloatArray
from reconf.commissioning.backstop import trip_remarks
from reconf.commissioning.cells import judge_cells
from reconf.commissioning.line import ENOUGH_ERRORS, UnitCount, judge_line
from reconf.commissioning.outcome import Finding, StepOutcome, concluded
from reconf.commissioning.roster import Answerer, Deviation, Difference, Place, compare, places_of
from reconf.commissioning.temperature import fit_rack
from reconf.devices.rc1 import Rc1Status
from reconf.errors import ConfigError
from reconf.readings import SiteImage
from reconf.site import GatewaySpec, Site

IDENTITY_KINDS = frozenset(
    {
        Difference.WRONG_SERIAL,
        Difference.SWAPPED,
        Difference.DUPLICATE,
        Difference.WRONG_CELLS,
        Difference.WRONG_CHEMISTRY,
        Difference.WRONG_CAPACITY,
    }
)
LINE_EXCHANGES = 1000
"""Per line: five errors among them are beyond chance."""
LINE_MOST_S = 20.0
"""Wire time per line: slow serial lines get fewer exchanges."""
WATCH_S = 2.0
"""Who feeds a converter changes its heartbeat at least every 0.75 s, a module's every 1.5 s."""
WATCH_EVERY_S = 0.25
REST_C = 0.02
"""A module that carries more than this is not at rest [1/h]."""
DRIFT_K = 0.6


@dataclass(slots=True)
class Readings:
    """What the reading steps know, shared between them."""

    answerers: list[Answerer] = field(default_factory=list)
    images: list[SiteImage] = field(default_factory=list)

    @property
    def last(self) -> SiteImage:
        """The last image."""
        return self.images[-1]


# ---- who answers -------------------------------------------------------------------------------


async def find_nodes(site: Site, say: Callable[[str], None]) -> list[Answerer]:
    """Everybody the site file knows; where somebody is missing, every unit id of that line."""
    expected: dict[str, tuple[int, ...]] = {}
    for place in places_of(site):
        expected[place.gateway] = (*expected.get(place.gateway, ()), place.unit_id)
    lines = [g for g in site.gateways if g.name in expected]
    scans = await asyncio.gather(
        *(Scanner([g], expected=expected, ids=expected[g.name]).run() for g in lines)
    )
    answerers = [a for (scan,) in scans for a in scan.answerers]
    dark = [scan for (scan,) in scans if scan.unreachable]
    if dark:
        raise ConfigError("; ".join(f"{_endpoint(s.gateway)} is not reachable" for s in dark))
    known = {(a.gateway, a.unit_id) for a in answerers}
    short = {p.gateway for p in places_of(site) if p.address not in known}
    if short:
        ids = {g.name: tuple(u for u in ALL_IDS if (g.name, u) not in known) for g in site.gateways}
        scanners = [Scanner([g], ids=ids[g.name]) for g in site.gateways if g.name in short]
        most_s = max(s.budget_s for s in scanners)
        say(
            f"somebody is missing on {', '.join(sorted(short))}: trying every unit id, {most_s:.0f} s at most"
        )
        for (scan,) in await asyncio.gather(*(s.run() for s in scanners)):
            answerers += scan.answerers
    return answerers


def _endpoint(g: GatewaySpec) -> str:
    return f"{g.name} ({g.device if g.kind == 'rtu' else f'{g.host}:{g.port}'})"


def finding_of(d: Deviation) -> Finding:
    """A deviation as a finding; somebody extra fails nothing."""
    extra = d.kind is Difference.EXTRA
    position = d.position or f"{d.gateway} unit {d.unit_id}"
    return Finding(d.subject, position, d.expected, d.found, d.remedy, fault=not extra)


def answers_outcome(site: Site, readings: Readings) -> StepOutcome:
    """Step `answers`: presence from the roster, contactors from the converters."""
    deviations = compare(site, readings.answerers)
    findings = [finding_of(d) for d in deviations if d.kind not in IDENTITY_KINDS]
    findings += _contactors(site, readings.last)
    return concluded("answers", len(places_of(site)), tuple(findings))


def identity_outcome(site: Site, readings: Readings) -> StepOutcome:
    """Step `identity`; a node's own trips that do not fit the limits are remarks."""
    found = [finding_of(d) for d in compare(site, readings.answerers) if d.kind in IDENTITY_KINDS]
    found += _trips(site, readings.answerers)
    return concluded("identity", sum(a.kind == "rm1" for a in readings.answerers), tuple(found))


def _trips(site: Site, answerers: Sequence[Answerer]) -> list[Finding]:
    """Remarks on the trips of nodes that are those of the site file."""
    at = {(a.gateway, a.unit_id): a for a in answerers}
    found: list[Finding] = []
    for place in places_of(site):
        a, module = at.get(place.address), place.module
        if a is None or module is None or a.serial != module.serial:
            continue
        found += [
            Finding(place.subject, place.label, r.expected, r.found, r.remedy, fault=False)
            for r in trip_remarks(module.chemistry, site.limits[module.chemistry], a.trips)
        ]
    return found


def _contactors(site: Site, image: SiteImage) -> list[Finding]:
    """Converters that are not fit to be tried."""
    told = (
        (Rc1Status.HARDWARE_FAULT, "hardware fault (latched)", "read the converter's own log"),
        (Rc1Status.EMERGENCY_STOP, "emergency-stop input active", "release the button, if all is safe"),
        (
            Rc1Status.CONTACTOR_MISMATCH,
            "contactor mismatch",
            "isolate the string: the contactor may be welded",
        ),
        (Rc1Status.OVER_TEMPERATURE, "over-temperature", "let it cool, look at its fan"),
    )
    return [
        Finding(spec.name, f"converter {spec.name}", "ready", text, remedy)
        for s, spec in enumerate(site.strings)
        for bit, text, remedy in told
        if image.strings.answered[s] and image.strings.status[s] & int(bit)
    ]


async def watch(
    site: Site, watch_s: float = WATCH_S, wall: Callable[[], float] = time.monotonic
) -> list[SiteImage]:
    """Look at the site for a while, reading only; refuse one that is in use.

    Raises:
        ConfigError: a contactor is closed, or somebody else feeds the nodes.
    """
    images: list[SiteImage] = []
    async with Southbound(site, read_only=True, wall=wall) as south:
        began = wall()
        # longer where a line garbles answers: each node should have been read whole once more
        while not images or wall() - began < watch_s * (1.0 if _all_answer(images[-1]) else 2.0):
            images.append(await south.read(wall() - began, len(images)))
            await asyncio.sleep(min(WATCH_EVERY_S, watch_s / 8.0))
    closed = _ever(images, int(Rc1Status.CONTACTOR_CLOSED | Rc1Status.PRECHARGING))
    if closed.any():
        names = ", ".join(site.strings[s].name for s in np.flatnonzero(closed))
        raise ConfigError(
            f"string {names}: the contactor reads closed. Leave the string first "
            "(`reconf mode off`, or `reconf stop`); nothing was written"
        )
    fed = _fed_by_others(images)
    if fed:
        raise ConfigError(
            f"somebody else feeds the heartbeat of {', '.join(_names(site, fed))}: "
            "stop the daemon, or whatever else controls this site; nothing was written"
        )
    return images


def _all_answer(image: SiteImage) -> bool:
    return bool(image.modules.answered.all() and image.strings.answered.all())


def _ever(images: Sequence[SiteImage], bits: int) -> BoolArray:
    """(S,) converters that ever showed one of `bits`."""
    seen: BoolArray = np.any([i.strings.answered & ((i.strings.status & bits) != 0) for i in images], axis=0)
    return seen


def _fed_by_others(images: Sequence[SiteImage]) -> list[tuple[str, int]]:
    """Nodes whose heartbeat moves although we feed nobody."""
    out: list[tuple[str, int]] = []
    for kind in ("strings", "modules"):
        echoes = np.array([getattr(i, kind).heartbeat_echo for i in images])
        answered = np.array([getattr(i, kind).answered for i in images])
        held = np.where(answered, echoes, -1)
        for k in range(echoes.shape[1]):
            values = {int(v) for v in held[:, k] if v >= 0}
            if len(values) > 1:
                out.append((kind, k))
    return out


def _names(site: Site, nodes: Sequence[tuple[str, int]]) -> list[str]:
    names = [site.strings[k].name if kind == "strings" else site.positions[k].label for kind, k in nodes]
    return names if len(names) <= 4 else [*names[:4], f"{len(names) - 4} more"]


# ---- the line ----------------------------------------------------------------------------------


async def line_outcome(
    site: Site,
    readings: Readings,
    exchanges: int = LINE_EXCHANGES,
    progress: Callable[[], None] = lambda: None,
) -> StepOutcome:
    """Step `line`: count errors on every line at once, one connection each."""
    known = {(a.gateway, a.unit_id) for a in readings.answerers}
    by_line = {
        g: [p for p in places_of(site) if p.gateway == g.name and p.address in known] for g in site.gateways
    }
    lines = [g for g, places in by_line.items() if places]
    counted = await asyncio.gather(*(_count(g, by_line[g], exchanges, progress) for g in lines))
    findings = [
        f for g, c in zip(lines, counted, strict=True) for f in judge_line(g.name, g.kind == "rtu", c)
    ]
    figures = {}
    for gateway, counts in zip(lines, counted, strict=True):
        figures[f"{gateway.name}_exchanges"] = float(sum(c.exchanges for c in counts))
        figures[f"{gateway.name}_errors"] = float(sum(c.failed for c in counts))
    return concluded("line", len(lines), tuple(findings), figures=figures)


async def _count(
    gateway: GatewaySpec, places: Sequence[Place], exchanges: int, progress: Callable[[], None]
) -> list[UnitCount]:
    """Ask the units of one line in turn; stops early once there is no doubt left."""
    words = 18
    if gateway.kind == "rtu":
        exchanges = min(exchanges, int(LINE_MOST_S / wiretime.read_s(gateway, words)))
    asked: Counter[int] = Counter()
    errors: dict[int, Counter[str]] = {p.unit_id: Counter() for p in places}
    failed = 0
    async with Link(gateway, wall=time.monotonic, read_only=True) as link:
        for k in range(exchanges):
            place = places[k % len(places)]
            count = words if place.kind == "rm1" else 17
            asked[place.unit_id] += 1
            try:
                await link.read(place.unit_id, "input", 0, count)
            except NodeError as error:
                if error.kind is not FailureKind.REFUSED:
                    errors[place.unit_id][error.kind.value] += 1
                    failed += 1
            progress()
            if failed >= ENOUGH_ERRORS:
                break
    return [
        UnitCount(p.unit_id, p.subject, p.label, asked[p.unit_id], dict(errors[p.unit_id]))
        for p in places
        if asked[p.unit_id]
    ]


# ---- what they measure -------------------------------------------------------------------------


def voltage_outcome(site: Site, readings: Readings) -> StepOutcome:
    """Step `voltage`."""
    image = readings.last
    return concluded("voltage", int(image.modules.answered.sum()), judge_cells(site, image))


def temperature_outcome(site: Site, readings: Readings) -> StepOutcome:
    """Step `temperature`: means over what was watched, string by string."""
    images, topology = readings.images, site.topology
    first, last = images[0], images[-1]
    answered = last.modules.answered
    mean = _mean_temperature(images)
    findings: list[Finding] = []
    figures: dict[str, float] = {}
    for s, spec in enumerate(site.strings):
        rows = topology.slice_of(s)
        readable = np.where(answered[rows, None], mean[rows], np.nan)
        findings += [_unreadable(site, i) for i in range(rows.start, rows.stop) if _blind(answered, mean, i)]
        if not np.isfinite(readable).any():
            continue
        fit = fit_rack(readable)
        figures[f"{spec.name}_slope_k_per_position"] = round(fit.slope_k, 4)
        figures[f"{spec.name}_spread_k"] = round(fit.spread_k, 3)
        if fit.restless:
            remedy = "let the rack rest (an hour or more, fans off, doors closed) and repeat this step"
            found = f"{fit.spread_k:.2f} K about a line of {fit.slope_k:+.2f} K a position"
            findings.append(
                Finding(spec.name, f"string {spec.name}", "temperatures on a line", found, remedy)
            )
            continue
        for place, sensor in np.argwhere(fit.wrong):
            i = rows.start + int(place)
            line = fit.start_degc + fit.slope_k * float(place)
            findings.append(_off(site, i, int(sensor), float(mean[i, sensor]), line, fit.allowed_k))
    findings += _restless(site, first, last)
    return concluded("temperature", int(answered.sum()), tuple(findings), figures=figures)


def _mean_temperature(images: Sequence[SiteImage]) -> FloatArray:
    """(M, 2) mean of good readings, NaN where there is none."""
    stack = np.stack(
        [np.where(i.modules.temperature_degc.good, i.modules.temperature_degc.value, np.nan) for i in images]
    )
    count = np.isfinite(stack).sum(axis=0)
    total = np.nansum(stack, axis=0)
    mean: FloatArray = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean


def _blind(answered: BoolArray, mean: FloatArray, i: int) -> bool:
    return bool(answered[i] and np.isnan(mean[i]).any())


def _unreadable(site: Site, i: int) -> Finding:
    p = site.positions[i]
    remedy = "sensor broken or unplugged: replace it"
    return Finding(p.module.serial, p.label, "two temperatures", "a sensor reads nothing", remedy)


def _off(site: Site, i: int, sensor: int, value: float, line: float, allowed: float) -> Finding:
    p = site.positions[i]
    expected = f"{line:.1f} degC within {allowed:.1f} K (the rack's line at this position)"
    found = f"TEMPERATURE_{sensor + 1} reads {value:.1f} degC, {value - line:+.1f} K off"
    remedy = "sensor off, loose or of another type: press it on, else replace it; compare by hand"
    return Finding(p.module.serial, p.label, expected, found, remedy)


def _restless(site: Site, first: SiteImage, last: SiteImage) -> list[Finding]:
    """Modules that carry current, or whose temperature moves while it is watched."""
    current_c = np.abs(last.modules.current_a.value) / site.topology.rated_capacity_ah
    drift = np.abs(last.modules.temperature_degc.value - first.modules.temperature_degc.value).max(axis=1)
    out: list[Finding] = []
    for i, p in enumerate(site.positions):
        if not (last.modules.answered[i] and first.modules.answered[i]):
            continue
        if current_c[i] > REST_C:
            found = f"{last.modules.current_a.value[i]:+.2f} A flow with the contactor open"
            remedy = "look for what draws it: a trim converter, a load on the terminals, a sensor's offset"
            out.append(Finding(p.module.serial, p.label, "no current at rest", found, remedy))
        elif drift[i] > DRIFT_K:
            found = f"moves by {drift[i]:.1f} K in {last.time_s - first.time_s:.0f} s"
            remedy = "not at rest: wait, then repeat this step"
            out.append(Finding(p.module.serial, p.label, "a steady temperature", found, remedy, fault=False))
    return out
