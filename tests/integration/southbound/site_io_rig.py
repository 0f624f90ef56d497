"""A small site with site I/O: alarms on one unit, an insulation monitor beside it."""

from __future__ import annotations

from dataclasses import replace

from reconf.site import GatewaySpec, InputsSpec, IoPointSpec, IoUnitSpec, Site, ThermalSpec

IO_UNIT, IMD_UNIT = 101, 102
IO_GATEWAY = "gateway-io"


def with_site_io(site: Site, gateway: str = IO_GATEWAY) -> Site:
    """`site` with a remote I/O block and an insulation monitor, on a gateway of their own or on another's."""
    block = IoUnitSpec(
        "block", gateway, IO_UNIT, "io16",
        inputs=(
            IoPointSpec("emergency_stop", "DI1", active_low=True),
            IoPointSpec("gas_alarm", "DI2"),
            IoPointSpec("smoke_alarm", "DI3"),
            IoPointSpec("fire_alarm", "DI4"),
            IoPointSpec("door_open", "DI5"),
            IoPointSpec("ventilation_failed", "DI6"),
            IoPointSpec("cooling_failed", "DI7"),
            IoPointSpec("ambient_degc", "AI1"),
        ),
        outputs=(
            IoPointSpec("alarm", "DO1"),
            IoPointSpec("ventilate", "DO2", active_low=True),
            IoPointSpec("cooling", "AO1", full=10.0),
        ),
    )  # fmt: skip
    monitor = IoUnitSpec(
        "monitor", gateway, IMD_UNIT, "imd",
        inputs=(
            IoPointSpec("insulation_ohm", "INSULATION"),
            IoPointSpec("insulation_device_fault", "STATUS", bits=(2,)),
        ),
    )  # fmt: skip
    gateways = site.gateways
    if gateway not in {g.name for g in gateways}:
        gateways = (*gateways, GatewaySpec(gateway, "tcp", port=0))
    return replace(
        site,
        gateways=gateways,
        io=(block, monitor),
        inputs=InputsSpec(insulation_monitor=True),
        thermal=ThermalSpec(cooling="fan"),
    )
