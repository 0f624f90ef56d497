"""Families of hostile plans: where, in which state and with what knowledge they strike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edge.bench.hostile_site import drawn_site, hostile_site, master_site
from reconf.site import Site


@dataclass(frozen=True, slots=True)
class Family:
    """What is drawn in its scenes; what is not named is as in `usual`."""

    name: str
    text: str
    soc_frac: tuple[float, float] = (0.03, 0.98)
    warm_degc: tuple[float, float] = (-10.0, 46.0)
    soh: tuple[float, float] | None = None
    """Of every module; None: as the site file says, with its doubt."""
    doubtful: bool = True
    """The state is estimated with errors, too: charge, temperatures, open-circuit voltage, polarisation."""
    shapes: bool = False
    """Strings, modules, converters and interval are drawn anew."""
    weak: bool = False
    """A group in every other module has less charge, more resistance, another state of charge."""
    loaded: bool = False
    """The command in force is one at power, and has been for a while."""
    trims: bool = False
    """Every plan trims, bypassed modules and stopped converters among them."""
    duty: bool = False
    """Nodes switch by themselves, not in step with each other."""
    lost: bool = False
    """Nodes are silent, their switches in either state; switches are stuck; converters do not answer."""
    joining: bool = False
    """Contactors are open, links live or dead, some welded; plans close them."""
    master: bool = False
    """One string holds the bus."""
    walls: bool = True
    """All is known that verify asks for, so that a plan refused although it is harmless was refused by doubt
    in R, Q, R_th or the state. Where nodes are silent, switch by themselves or wait to be joined, verify has
    to refuse what it cannot know, and those plans are counted in their family only."""
    blind: bool = False
    """The envelope lets through all that the safety tiers would: verify alone stands before harm."""

    def site(self, strings: int, rng: np.random.Generator) -> Site:
        """A site for one scene."""
        if self.shapes:
            return drawn_site(strings, rng)
        make: Callable[[int], Site] = master_site if self.master else hostile_site
        return make(strings)


FAMILIES: tuple[Family, ...] = (
    Family(
        "usual", "twelve modules of twelve groups, R, Q and R_th 15 % off, the state known", doubtful=False
    ),
    Family("doubt", "the state estimated with errors, too"),
    Family("shapes", "strings, modules, converters and intervals of every size", shapes=True),
    Family("aged", "modules from 60 to 100 % of their charge in one string", soh=(0.6, 1.0)),
    Family("weak", "a weak cell group in every other module", weak=True),
    Family("empty", "1 to 5 % of the charge left", soc_frac=(0.01, 0.05)),
    Family("full", "95 to 99 % charged", soc_frac=(0.95, 0.99)),
    Family("cold", "-36 to 0 degC", warm_degc=(-36.0, 0.0)),
    Family("hot", "40 to 50 degC", warm_degc=(40.0, 50.5)),
    Family("loaded", "from power either way, polarised", loaded=True),
    Family("trims", "trims on every module, bypassed and stopped ones among them", trims=True),
    Family("duty", "nodes that switch by themselves", duty=True, walls=False),
    Family("lost", "silent nodes, stuck switches, converters that do not answer", lost=True, walls=False),
    Family("joining", "contactors to close, links live or dead, contacts welded", joining=True, walls=False),
    Family("master", "a string that holds the bus", master=True),
    Family(
        "blind", "an envelope that lets everything through up to the safety tiers", soc_frac=(0.01, 0.99),
        warm_degc=(-36.0, 50.5), blind=True, walls=False,
    ),
)  # fmt: skip
BY_NAME = {family.name: family for family in FAMILIES}
