"""Nodes that keep the rules of RM1 and RC1 in the small: watchdogs, latches, precharge, lost writes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from guard_site import MODULE_V, image, silent

from reconf.actuation import Receipt, SlotCommand, VerifiedCommand
from reconf.devices.rc1 import Rc1Status
from reconf.devices.rm1 import Rm1Status
from reconf.readings import Channel, SiteImage
from reconf.site import Site

RC1_S, RM1_S = 3.0, 6.0


class Nodes:
    """What the hardware of a site really does; one object, moved by `write`, `beat` and `tick`."""

    def __init__(self, site: Site, *, latched: bool = True) -> None:
        t = site.topology
        self.site = site
        self.inserted = np.zeros(t.n_modules, np.bool_)
        self.closed = np.zeros(t.n_strings, np.bool_)
        self.precharging = np.zeros(t.n_strings, np.bool_)
        self.mode = np.zeros(t.n_strings, np.int64)
        self.power_w = np.zeros(t.n_strings)
        self.latched_m = np.full(t.n_modules, latched)
        self.latched_s = np.full(t.n_strings, latched)
        self.beaten_m, self.beaten_s = np.zeros(t.n_modules), np.zeros(t.n_strings)
        self.welded = np.zeros(t.n_strings, np.bool_)
        self.now_s = 0.0
        self.beating = (np.zeros(t.n_modules, np.bool_), np.zeros(t.n_strings, np.bool_))
        self.closings: list[tuple[float, int]] = []
        """(time, string) of every contactor that closed."""
        self.shorted = 0
        """Times a string stood wholly bypassed behind a closed contactor."""

    def voltage_v(self) -> np.ndarray:
        return self.site.topology.sum_by_string(self.inserted * MODULE_V)

    def window(self) -> np.ndarray:
        converters = [s.converter for s in self.site.strings]
        volts = self.voltage_v()
        return (volts >= [c.voltage_min_v for c in converters]) & (
            volts <= [c.voltage_max_v for c in converters]
        )

    def read(self, quiet_m: np.ndarray, quiet_s: np.ndarray) -> SiteImage:
        shut = self.closed | self.welded
        seen = image(self.site, self.inserted, closed=shut, time_s=self.now_s)
        # each string its own: none flows through a contactor that is open
        flows = np.where(shut & (self.power_w != 0.0), 10.0, 0.0)
        through = np.where(self.inserted, flows[self.site.topology.string_of], 0.0)
        status_m = seen.modules.status | np.where(self.latched_m, int(Rm1Status.WATCHDOG_EXPIRED), 0)
        status_s = seen.strings.status | np.where(self.latched_s, int(Rc1Status.WATCHDOG_EXPIRED), 0)
        status_s |= np.where(self.precharging, int(Rc1Status.PRECHARGING), 0)
        status_s |= np.where(self.mode != 0, int(Rc1Status.RUNNING), 0)
        seen = replace(
            seen,
            modules=replace(seen.modules, status=status_m, current_a=Channel.of(through)),
            strings=replace(seen.strings, status=status_s, current_a=Channel.of(flows)),
        )
        return silent(seen, modules=np.flatnonzero(quiet_m), strings=np.flatnonzero(quiet_s))

    def write(self, step: VerifiedCommand, lost_m: np.ndarray, lost_s: np.ndarray) -> Receipt:
        asked = step.command
        takes_m = ~lost_m & ~self.latched_m
        self.inserted = np.where(takes_m, asked.inserted, self.inserted)
        takes_s = ~lost_s & ~self.latched_s
        self.closed &= ~takes_s | asked.contactor
        self.precharging = np.where(takes_s, asked.contactor & ~self.closed, self.precharging)
        self.mode = np.where(takes_s, asked.mode, self.mode)
        self.power_w = np.where(takes_s, asked.power_w, self.power_w)
        self._look()
        return Receipt(self.now_s, ~lost_m, ~lost_s, 0)

    def beat(self, modules: np.ndarray, strings: np.ndarray) -> None:
        """Heartbeats of these nodes, now and until the next call."""
        self.beating = (modules, strings)
        self.beaten_m = np.where(modules, self.now_s, self.beaten_m)
        self.beaten_s = np.where(strings, self.now_s, self.beaten_s)

    def clear(self, modules: np.ndarray, strings: np.ndarray) -> SlotCommand:
        """CLEAR after zeroing; what then stands in the cleared nodes is the safe command."""
        self.inserted = self.inserted & ~modules
        self.latched_m = self.latched_m & ~modules
        self.latched_s = self.latched_s & ~strings
        self.closed = self.closed & ~strings
        self._look()
        return SlotCommand.safe(self.inserted.size, self.closed.size)

    def tick(self, dt_s: float) -> None:
        """Time passes in small parts: precharge ends, watchdogs expire; earned heartbeats go on coming."""
        parts = max(1, round(dt_s / 0.5))
        for _ in range(parts):
            self._pass(dt_s / parts)

    def _pass(self, dt_s: float) -> None:
        self.now_s += dt_s
        self.beat(*self.beating)
        closes = self.precharging & self.window()
        self.closings += [(self.now_s, int(s)) for s in np.flatnonzero(closes & ~self.closed)]
        self.closed = self.closed | closes
        self.precharging = self.precharging & ~closes
        dead_s = self.now_s - self.beaten_s > RC1_S
        self.latched_s = self.latched_s | dead_s
        for name in ("closed", "precharging"):
            setattr(self, name, getattr(self, name) & ~dead_s)
        self.mode = np.where(dead_s, 0, self.mode)
        self.power_w = np.where(dead_s, 0.0, self.power_w)
        dead_m = self.now_s - self.beaten_m > RM1_S
        self.latched_m = self.latched_m | dead_m
        self.inserted = self.inserted & ~dead_m
        self._look()

    def _look(self) -> None:
        kept = self.site.topology.sum_by_string(self.inserted * 1.0)
        self.shorted += int(np.count_nonzero((kept == 0) & (self.closed | self.welded)))
