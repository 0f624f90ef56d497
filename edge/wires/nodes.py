"""What people call a node: serial, position, string or GATEWAY:UNIT."""

from __future__ import annotations

from collections.abc import Sequence

from reconf.commissioning.roster import Place, places_of
from reconf.errors import ConfigError
from reconf.site import Site


def place_called(site: Site, name: str) -> Place:
    """The node that `name` means: a serial, a position's label or a string (its converter).

    Raises:
        ConfigError: none, or more than one.
    """
    found = [p for p in places_of(site) if name in (p.subject, p.label, f"{p.gateway}:{p.unit_id}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"{name!r} means several: {', '.join(f'{p.gateway}:{p.unit_id}' for p in found)}")
    first = site.positions[0]
    raise ConfigError(
        f"nothing is called {name!r}; say a serial ({first.module.serial}), a position ({first.label}), "
        f"a string ({site.strings[0].name}) or GATEWAY:UNIT ({first.gateway}:{first.unit_id})"
    )


def addresses(site: Site, names: Sequence[str]) -> list[tuple[str, int]]:
    """Gateway and unit id of every named node, or of all; units outside the site file by GATEWAY:UNIT.

    Raises:
        ConfigError: a name means nothing.
    """
    if not names:
        return [p.address for p in places_of(site)]
    gateways = {g.name for g in site.gateways}
    out: list[tuple[str, int]] = []
    for name in names:
        gateway, _, unit = name.rpartition(":")
        if gateway in gateways and unit.isdecimal():
            out.append((gateway, int(unit)))
        else:
            out.append(place_called(site, name).address)
    return out
