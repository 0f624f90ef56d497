"""Checks across the sections of a site file. Each returns complaints; none stops at the first."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Iterable, Iterator

from reconf.config.build import merge_limits
from reconf.config.checks_io import check_site_io
from reconf.config.checks_strings import check_strings
from reconf.config.draft import Draft
from reconf.config.findings import Complaint, KeyPath
from reconf.config.messages import near
from reconf.config.model import Bus, Fallback, RtuGateway, Timing
from reconf.config.model_links import ACTIONS, Mqtt, Sparkplug, SunSpec
from reconf.loopback import is_loopback
from reconf.protection.limits import check_tiers, default_limits, loosened


def cross_check(draft: Draft) -> list[Complaint]:
    """Everything that only shows when sections are held against each other (paths are those of the file)."""
    found: list[Complaint] = []
    found += _gateways(draft)
    found += check_strings(draft)
    found += _limits(draft)
    found += check_site_io(draft)
    if draft.bus:
        found += _bus(draft.bus, draft)
    if draft.timing:
        found += _timing(draft.timing, draft)
    if draft.mqtt:
        found += _mqtt(draft.mqtt)
    if draft.sunspec:
        found += _sunspec(draft.sunspec)
    if draft.sparkplug:
        found += _sparkplug(draft.sparkplug, draft)
    if draft.fallback:
        found += _fallback(draft.fallback, draft)
    if draft.allocator and draft.allocator.soc_min_frac >= draft.allocator.soc_max_frac:
        value = f"{draft.allocator.soc_min_frac:g}"
        allowed = f"less than soc_max_frac, {draft.allocator.soc_max_frac:g}"
        found.append(Complaint(("allocator", "soc_min_frac"), value, allowed))
    return [Complaint(draft.in_file(c.path), c.found, c.allowed) for c in found]


def _gateways(draft: Draft) -> Iterator[Complaint]:
    """Names and end points stand once."""
    names = [((("gateways", i, "name")), g.name) for i, g in enumerate(draft.gateways)]
    yield from twice(names, "gateway name")
    ends: list[tuple[KeyPath, str]] = [
        (("gateways", i, "device"), g.device)
        if isinstance(g, RtuGateway)
        else (("gateways", i, "port"), f"{g.host}:{g.port}")
        for i, g in enumerate(draft.gateways)
    ]
    yield from twice(ends, "end point")


def twice(items: Iterable[tuple[KeyPath, str]], what: str) -> Iterator[Complaint]:
    """A complaint for every value that was there before."""
    first: dict[str, KeyPath] = {}
    for path, value in items:
        if value in first:
            yield Complaint(path, f"{what} {value!r} a second time", f"each {what} once")
        else:
            first[value] = path


def _limits(draft: Draft) -> Iterator[Complaint]:
    """Overrides name existing rows once, and the tiers still agree afterwards."""
    for chemistry, overrides in draft.limits.items():
        table = default_limits(chemistry)
        rows = [f"{o.quantity} {o.side}" for o in overrides]
        paths: list[KeyPath] = [("limits", chemistry, i) for i in range(len(rows))]
        yield from twice(zip(paths, rows, strict=True), "limit")
        known = [f"{q} {s}" for q, s in table]
        for path, row in zip(paths, rows, strict=True):
            if row not in known:
                yield Complaint(path, f"limit {row!r}", f"one of: {', '.join(known)}{near(row, known)}")
        merged = merge_limits(table, overrides)
        told = [(s, "operating inside recommended inside safety") for s in check_tiers(merged)]
        told += [(s, "as tight as the chemistry's own limit, or tighter") for s in loosened(table, merged)]
        for sentence, allowed in told:
            quantity = sentence.split(":", 1)[0].split(" ", 1)[0]
            own = [p for p, row in zip(paths, rows, strict=True) if sentence.startswith(row)]
            alike = [p for p, row in zip(paths, rows, strict=True) if row.split(" ")[0] == quantity]
            row, _, words = sentence.partition(": ")
            path = next(iter([*own, *alike]), ("limits", chemistry))
            yield Complaint(path, f"{row}: {words}", allowed)


def _bus(bus: Bus, draft: Draft) -> Iterator[Complaint]:
    """The master exists and the window holds the nominal value."""
    names = ["pcs", *(s.name for s in draft.strings if s.converter)]
    if bus.master not in names:
        allowed = f"{', '.join(names)}{near(bus.master, names)}"
        yield Complaint(("bus", "master"), repr(bus.master), allowed)
    if not bus.min_v < bus.nominal_v < bus.max_v:
        found = f"{bus.nominal_v:g} V in a window of {bus.min_v:g}..{bus.max_v:g} V"
        yield Complaint(("bus", "nominal_v"), found, "min_v < nominal_v < max_v")


def _timing(timing: Timing, draft: Draft) -> Iterator[Complaint]:
    """Tick, slot and interval are whole multiples of each other."""
    for small, large in (("tick_s", "slot_s"), ("slot_s", "interval_s")):
        one, other = float(getattr(timing, small)), float(getattr(timing, large))
        times = other / one
        if times < 1.0 - 1e-9 or not math.isclose(times, round(times), abs_tol=1e-6):
            allowed = f"a whole multiple of {small}, {one:g} s"
            yield Complaint(("timing", large), f"{other:g} s", allowed)
    if draft.allocator and draft.allocator.deadline_s >= timing.interval_s:
        yield Complaint(
            ("allocator", "deadline_s"),
            f"{draft.allocator.deadline_s:g} s",
            f"less than interval_s, {timing.interval_s:g} s",
        )


def _mqtt(mqtt: Mqtt) -> Iterator[Complaint]:
    """Nobody commands from afar unnamed or in plain text."""
    local = is_loopback(mqtt.host)
    if not local and not mqtt.ca_file and not mqtt.insecure:
        allowed = "ca_file for TLS, or insecure: true for plain text on a network nobody else is on"
        yield Complaint(("mqtt", "host"), f"{mqtt.host!r} without TLS", allowed)
    if not local and not mqtt.issuers:
        yield Complaint(
            ("mqtt",), "no issuers for a broker elsewhere", "issuers: who may command, and as what"
        )
    if bool(mqtt.cert_file) != bool(mqtt.key_file):
        present = "cert_file" if mqtt.cert_file else "key_file"
        yield Complaint(("mqtt", present), f"{present} alone", "cert_file and key_file together")
    if (mqtt.cert_file or mqtt.key_file) and not mqtt.ca_file:
        yield Complaint(("mqtt", "cert_file"), "a client certificate without ca_file", "ca_file as well")
    if mqtt.password_file and not mqtt.username:
        yield Complaint(("mqtt", "password_file"), "a password without username", "username as well")
    names = [((("mqtt", "issuers", i, "name")), issuer.name) for i, issuer in enumerate(mqtt.issuers)]
    yield from twice(names, "issuer")
    yield from _signatures(mqtt)


def _sunspec(sunspec: SunSpec) -> Iterator[Complaint]:
    """The server is secured, or says that it is not."""
    files = {name: getattr(sunspec, name) for name in ("cert_file", "key_file", "client_ca_file")}
    given = [name for name, path in files.items() if path]
    if given and len(given) < len(files):
        yield Complaint(("sunspec", given[0]), f"{' and '.join(given)} alone", f"{', '.join(files)} together")
    if sunspec.port and not given and not sunspec.insecure and not is_loopback(sunspec.host):
        allowed = f"{', '.join(files)}, or insecure: true on a network nobody else is on"
        yield Complaint(("sunspec", "host"), f"{sunspec.host!r} without TLS", allowed)


def _sparkplug(sparkplug: Sparkplug, draft: Draft) -> Iterator[Complaint]:
    """Brokers can be found, the issuer is known, and aliases and templates are not mixed."""
    for i, broker in enumerate(sparkplug.brokers):
        host, _, port = broker.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            yield Complaint(("sparkplug", "brokers", i), repr(broker), "HOST:PORT with a port of 1..65535")
        elif draft.mqtt and not draft.mqtt.ca_file and not draft.mqtt.insecure and not is_loopback(host):
            allowed = "mqtt.ca_file, or mqtt.insecure: true on a network nobody else is on"
            yield Complaint(("sparkplug", "brokers", i), f"{broker!r} without TLS", allowed)
    if sparkplug.aliases and sparkplug.modules == "templates":
        yield Complaint(("sparkplug", "aliases"), "true with modules: templates", "one of the two")
    issuers = [issuer.name for issuer in draft.mqtt.issuers] if draft.mqtt else []
    if sparkplug.issuer and issuers and sparkplug.issuer not in issuers:
        yield Complaint(("sparkplug", "issuer"), repr(sparkplug.issuer), ", ".join(issuers))


def _signatures(mqtt: Mqtt) -> Iterator[Complaint]:
    """Keys can be read, and whoever must sign has one."""
    for i, action in enumerate(mqtt.require_signature):
        if action not in ACTIONS:
            allowed = f"{', '.join(ACTIONS)}{near(action, ACTIONS)}"
            yield Complaint(("mqtt", "require_signature", i), repr(action), allowed)
    for i, issuer in enumerate(mqtt.issuers):
        path: KeyPath = ("mqtt", "issuers", i)
        if issuer.public_key and _key_bytes(issuer.public_key) != 32:
            yield Complaint((*path, "public_key"), repr(issuer.public_key), "base64 of 32 bytes")
        if mqtt.require_signature and issuer.role != "observer" and not issuer.public_key:
            yield Complaint(
                path,
                f"issuer {issuer.name!r} without public_key",
                "a public_key, since signatures are required",
            )
    if mqtt.require_signature and not mqtt.issuers:
        yield Complaint(
            ("mqtt", "require_signature"), "signatures required of nobody", "issuers with public keys"
        )


def _key_bytes(text: str) -> int:
    """Length of a base64 key, -1 if it is none."""
    try:
        return len(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        return -1


def _fallback(fallback: Fallback, draft: Draft) -> Iterator[Complaint]:
    """A schedule that is to be followed exists, is in order, and can be delivered."""
    steps = fallback.schedule
    if fallback.action == "schedule" and not steps:
        yield Complaint(
            ("fallback", "action"), "'schedule' without steps", "fallback.schedule: [{from_s, power_w}, ...]"
        )
    for i in range(1, len(steps)):
        if steps[i].from_s <= steps[i - 1].from_s:
            allowed = f"later than the step before, {steps[i - 1].from_s:g} s"
            yield Complaint(("fallback", "schedule", i, "from_s"), f"{steps[i].from_s:g} s", allowed)
    rating_w = sum(s.converter.power_rating_w for s in draft.strings if s.converter)
    for i, step in enumerate(steps):
        if all(s.converter for s in draft.strings) and rating_w < abs(step.power_w):
            allowed = f"at most the converters' {rating_w:g} W together"
            yield Complaint(("fallback", "schedule", i, "power_w"), f"{step.power_w:g} W", allowed)
