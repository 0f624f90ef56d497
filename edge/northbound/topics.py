"""Topic names of one site."""

from __future__ import annotations

from dataclasses import dataclass

from reconf.errors import ConfigError
from reconf.site import Site

_FORBIDDEN = frozenset("+#/\x00")


def level(name: str) -> str:
    """`name` as one level of a topic.

    Raises:
        ConfigError: MQTT gives a meaning to a character of it.
    """
    if not name or _FORBIDDEN & set(name):
        raise ConfigError(f"{name!r} cannot be part of a topic: no '/', '+' or '#', and not empty")
    return name


@dataclass(frozen=True, slots=True)
class Topics:
    """Topics of one site; `reconf/<site>/...`."""

    base: str

    @classmethod
    def of(cls, site: Site) -> Topics:
        """Topics of `site`."""
        return cls(f"{level(site.mqtt.topic_root)}/{level(site.name)}")

    @property
    def status(self) -> str:
        """Retained: how the site is."""
        return f"{self.base}/status"

    @property
    def availability(self) -> str:
        """Retained: `online`, or `offline` as the will."""
        return f"{self.base}/availability"

    @property
    def command(self) -> str:
        """What the site is told; never retained."""
        return f"{self.base}/command"

    @property
    def emergency_stop(self) -> str:
        """Emergency stops and nothing else, heard over a connection of their own; never retained."""
        return f"{self.base}/emergency_stop"

    @property
    def reply(self) -> str:
        """What it answers."""
        return f"{self.base}/reply"

    @property
    def event(self) -> str:
        """Transitions, each once."""
        return f"{self.base}/event"

    @property
    def heartbeat(self) -> str:
        """Sign of life from SCADA, where the site expects one."""
        return f"{self.base}/heartbeat"

    @property
    def gap(self) -> str:
        """Honest notice of telemetry that was lost."""
        return f"{self.base}/gap"

    def string(self, name: str) -> str:
        """One string."""
        return f"{self.base}/string/{level(name)}"

    def module(self, serial: str) -> str:
        """One module, by serial."""
        return f"{self.base}/module/{level(serial)}"
