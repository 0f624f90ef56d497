"""From the validated site file to the frozen `Site`."""

from __future__ import annotations

import re
from dataclasses import replace

from reconf.config.model import (
    Converter,
    IoInputs,
    IoOutputs,
    IoUnit,
    LimitOverride,
    PositionGroup,
    RtuGateway,
    SinglePosition,
    SiteFile,
    String,
    TcpGateway,
)
from reconf.config.model_links import Mqtt, Sparkplug
from reconf.protection.limits import LimitTable, default_limits
from reconf.site import (
    AllocatorSpec,
    BusSpec,
    Chemistry,
    ConverterSpec,
    EconomicsSpec,
    FallbackSpec,
    GatewaySpec,
    InputsSpec,
    IoPointSpec,
    IoUnitSpec,
    ModuleSpec,
    PositionSpec,
    Site,
    StringSpec,
    ThermalSpec,
    TimingSpec,
)
from reconf.site_links import IssuerSpec, MqttSpec, SparkplugSpec, SunSpecSpec

NOT_OF_THE_MODULE = {
    "count", "exceptions", "first_unit_id", "gateway", "label", "module_type", "r_on_ohm", "serial",
    "unit_id",
}  # fmt: skip
"""Keys of a position entry that say nothing about the module's kind."""


_NUMBER = re.compile(r"\{n(:0?\d{1,2}d)?\}")


def expand(entry: PositionGroup | SinglePosition) -> list[SinglePosition]:
    """The single positions an entry of `positions` stands for.

    Raises:
        ValueError: a pattern of label or serial is not one.
    """
    if isinstance(entry, SinglePosition):
        return [entry]
    common = entry.model_dump(exclude={"count", "exceptions", "first_unit_id"}, exclude_none=True)
    singles = []
    for n in range(1, entry.count + 1):
        fields = common | {
            "unit_id": entry.first_unit_id + n - 1,
            "label": fill(entry.label, n),
            "serial": fill(entry.serial, n),
        }
        if n in entry.exceptions:
            fields |= entry.exceptions[n].model_dump(exclude_none=True)
        singles.append(SinglePosition.model_validate(fields))
    return singles


def fill(pattern: str, n: int) -> str:
    """Put the number `n` into a pattern such as `A{n:02d}`."""
    if re.search(r"[{}]", _NUMBER.sub("", pattern)):
        raise ValueError("a pattern with no other braces than {n} or {n:02d}")
    return _NUMBER.sub(lambda match: match[0].format(n=n), pattern)


def merge_limits(table: LimitTable, overrides: list[LimitOverride]) -> LimitTable:
    """The table with the numbers of `overrides` put in; unknown rows are left to the checks."""
    merged = dict(table)
    for override in overrides:
        key = (override.quantity, override.side)
        if key in merged:
            changes = override.model_dump(exclude={"quantity", "side"}, exclude_none=True)
            merged[key] = replace(merged[key], **changes)
    return merged


def build_site(model: SiteFile, source_file: str = "") -> Site:
    """The frozen site of a file that has passed every check."""
    used = {Chemistry(t.chemistry) for t in model.module_types.values()}
    used |= {m.chemistry for s in model.strings for m in (_module(p, model) for p in _positions(s))}
    limits = {
        chemistry: merge_limits(default_limits(chemistry), model.limits.get(chemistry.value, []))
        for chemistry in sorted(used)
    }
    return Site(
        name=model.site,
        gateways=tuple(_gateway(g) for g in model.gateways),
        strings=tuple(_string(s, model) for s in model.strings),
        bus=BusSpec(**model.bus.model_dump()),
        limits=limits,
        timing=TimingSpec(**model.timing.model_dump()),
        economics=EconomicsSpec(**model.economics.model_dump()),
        allocator=AllocatorSpec(**model.allocator.model_dump()),
        mqtt=_mqtt(model.mqtt),
        sunspec=SunSpecSpec(**model.sunspec.model_dump()),
        sparkplug=_sparkplug(model.sparkplug),
        fallback=FallbackSpec(
            action=model.fallback.action,
            heartbeat_timeout_s=model.fallback.heartbeat_timeout_s,
            ramp_w_per_s=model.fallback.ramp_w_per_s,
            schedule=tuple((s.from_s, s.power_w) for s in model.fallback.schedule),
        ),
        thermal=ThermalSpec(**model.thermal.model_dump()),
        inputs=InputsSpec(insulation_monitor=any(u.inputs.insulation_ohm for u in model.site_io)),
        io=tuple(io_unit(u) for u in model.site_io),
        twin_seed=model.twin.seed,
        twin_soh_cv=model.twin.soh_cv,
        source_file=source_file,
    )


def io_unit(model: IoUnit) -> IoUnitSpec:
    """A site I/O unit with its wiring."""

    def wired(section: IoInputs | IoOutputs) -> tuple[IoPointSpec, ...]:
        points = ((name, getattr(section, name)) for name in type(section).model_fields)
        return tuple(
            IoPointSpec(name, p.point, p.bits, p.active == "low", p.full)
            for name, p in points
            if p is not None
        )

    return IoUnitSpec(
        model.name, model.gateway, model.unit_id, model.profile, wired(model.inputs), wired(model.outputs)
    )


def _gateway(model: TcpGateway | RtuGateway) -> GatewaySpec:
    """A gateway; a serial one carries one request at a time."""
    if isinstance(model, RtuGateway):
        return GatewaySpec(connections=1, **model.model_dump())
    return GatewaySpec(**model.model_dump())


def _positions(string: String) -> list[SinglePosition]:
    """All positions of a string in wiring order."""
    return [single for entry in string.positions for single in expand(entry)]


def _module(position: SinglePosition, model: SiteFile) -> ModuleSpec:
    """The module at a position: its type, and what the position says differently."""
    fields = model.module_types[position.module_type].model_dump()
    fields |= position.model_dump(exclude=NOT_OF_THE_MODULE, exclude_none=True)
    return ModuleSpec(serial=position.serial, chemistry=Chemistry(fields.pop("chemistry")), **fields)


def _string(string: String, model: SiteFile) -> StringSpec:
    """A string with its positions."""
    positions = tuple(
        PositionSpec(
            label=p.label,
            gateway=p.gateway,
            unit_id=p.unit_id,
            module=_module(p, model),
            r_on_ohm=string.r_on_ohm if p.r_on_ohm is None else p.r_on_ohm,
        )
        for p in _positions(string)
    )
    return StringSpec(name=string.name, converter=_converter(string), positions=positions)


def _converter(string: String) -> ConverterSpec:
    """The converter; its current rating is never above the string's fuse."""
    model: Converter = string.converter
    return ConverterSpec(**model.model_dump())


def _sparkplug(model: Sparkplug) -> SparkplugSpec:
    """The Sparkplug node."""
    return SparkplugSpec(brokers=tuple(model.brokers), **model.model_dump(exclude={"brokers"}))


def _mqtt(model: Mqtt) -> MqttSpec:
    """The broker."""
    fields = model.model_dump(exclude={"issuers", "require_signature"})
    return MqttSpec(
        require_signature=tuple(model.require_signature),
        issuers=tuple(IssuerSpec(**i.model_dump()) for i in model.issuers),
        **fields,
    )
