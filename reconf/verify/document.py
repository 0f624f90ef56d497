"""docs/safety-concept.md: the argument in words, the tables from what runs."""

from __future__ import annotations

from reconf.verify.hazards import hazard_rows
from reconf.verify.rules import RULES

HEAD = """# Safety concept

**This is not a certified safety function.** No part of this software was developed to a functional-safety
standard, and no safety integrity is claimed for it. It prevents harm as long as it works; hardware has to
prevent harm when it does not. A site must be safe with this software stopped at any moment.

## What is relied on

* the node watchdogs (RC1 stops and opens after 3.0 s, RM1 bypasses after 6.0 s without a heartbeat),
* the trips of RM1 (cell over- and under-voltage, over-temperature), which act without any host,
* RC1's own enforcement of its current limit within 20 ms, of its window, and its precharge,
* a fuse and a lockable disconnect per string, and an emergency stop that opens contactors by wire,
* fire and gas detection, extraction and enclosure of the installation.

Software never relies on the trips as its own limit: its safety tiers lie inside them.

## What software cannot do

* It cannot make modules dead: a bypassed module stays charged, and so do its own terminals and cells.
* It cannot break an arc or a short circuit: contacts and fuses have to, at full current, both ways.
* It does not see humidity, water, loose bolts before they heat, or an earth fault behind an open contactor.
* It sees a runaway of a cell only through two surface sensors of its module; gas detection may be sooner.
* Two sensors that share a supply, a reference or a gateway count as one.
* A remote clear re-energises a string. Who works at a string holds the maintenance lock, and isolates.

## What software claims

1. **Nothing reaches a wire unverified.** The southbound side takes a `VerifiedCommand` only, and only
   `reconf.verify` makes one. Verify shares no code with the optimizer or with how the envelope is made.
2. **Verify recomputes.** Currents from power, string voltage and converter losses; string voltage by
   Kirchhoff from the switch states asked; each module's voltage from two independent views (measured
   terminals, believed open circuit) whose hull counts.
3. **Every subset of unfinished writes is safe**, or no worse than what is in force. All bounds are sums
   of each module's own extreme, so the 2^M subsets are covered in closed form.
4. **Leaving is never refused** (argument below).
5. **Contactors close only through precharge**, faults are left only by a clear: model-checked on the
   tables that run. A contactor that opened by itself is not closed again by a write that takes it for
   closed, nor by the sequences before somebody has cleared it.
6. **Heartbeats are earned**, so that whatever stops the line also stops the heartbeats: a fresh image, a
   verified command and a confirmed receipt of this very tick.
7. **Maintenance is a lock**, taken and released on site only, on the disk before it is acknowledged, and
   kept through emergency stops, alarms and restarts; what cannot be read of it counts as held
   (docs/maintenance.md).
8. **What is not known counts as bad**: a wired input without a value forbids closing, an emergency-stop loop
   that cannot be seen opens, a latch that came back from the disk is active until the readings say that its
   cause is gone (docs/site-io.md).

## Why leaving can never be refused

Verify calls a string *resting* when a command asks only less of it than what is in force: mode OFF, or
power mode at exactly 0 W where it ran before; no contactor closed that was not; no trim current raised;
no switch moved, except that modules may be bypassed behind a contactor that was read open in this very
image. For such a string no rule but shape and finite numbers is applied.

That is safe whatever the readings are worth: with the switches where they were, the current can only go
towards zero (the converter is asked for none), an opening contactor interrupts what is left, and a bypass
behind a contactor read open meets no current. None of these writes adds exposure to any module or device,
in any order of arrival and for any subset that arrives. And the leaving sequence consists of such
commands alone: power 0 with MODE 0; contactor open; bypass once it was read open. So no estimate,
envelope or fault can block it (`test_leaving_is_never_refused` feeds it garbage). It is no loophole
either: a command that keeps power, closes something, moves a switch behind a closed contactor or raises a
trim is judged in full.

## Hazards

S severity, O occurrence without these measures, D difficulty of detection (1..5, 5 worst) order the work;
they are judgements. Fault ids are those of docs/faults.md, phases those of docs/sequences.md.
"""

RULES_HEAD = """## Rules of verify
"""

CAMPAIGNS = """## Campaigns

* `reconf bench hostile --plans N`: plans drawn at random, searched by coordinates and along the slope of
  the severity, judged by verify and run on the twin for a whole interval without another look; the twin's
  R, Q and R_th lie up to 15 % from what verify believes; a part of them with writes that never arrived.
  They come in families: states estimated with errors, strings and modules of every size, modules from 60 to
  100 % of their charge in one string, a weak cell group, nearly empty and nearly full, -36 to 0 and 40 to
  50 degC, from a command at power, trims, nodes that switch by themselves, silent nodes with stuck switches,
  contactors to be closed onto live or dead links, a string that holds the bus, and an envelope that lets
  everything through. Harm is any safety tier of cell voltage, temperature (of charging, too), current per
  module and per parallel branch, string voltage; a shorted string; an inrush; closing onto a live link or
  under load. None that verify accepts may do any, and of the drawn plans that stay 5 % inside the limits
  at least 95 % must be accepted where all is known that verify asks for.
* `reconf bench faults`: the catalogue of faults and all pairs of the common ones, in closed loop on the
  twin.
* `reconf bench reaction`: from a register that shows a safety-tier value to the write that answers it, over
  real Modbus: below 1.2 ticks in 99.9 % of all trials. A trial that nobody answers counts as a miss and is
  told in full (`unanswered_trials`): registers, readings, writes and decisions with their times. Moments are
  swept over the tick; `--aim switch` (`bypass`) strikes while a switch (a bypass) is being written. A module
  whose bypass is written and not yet done is not struck, since nothing is left to be written about it, and a
  bypass that came before any reading could show the strike answers nothing (`no_trials`).
* The random walks of `tests/property/test_guard_model_check.py`: silence, lost writes, orders and faults
  in any order against nodes with watchdogs.

The twin is a model: what it cannot show (propagation of a fire, arcs, failures of the hardware protection
itself) is not shown here.
"""


def rule_rows() -> list[str]:
    """The rules as lines of a Markdown table."""
    lines = ["| rule | refused because | unit |", "|---|---|---|"]
    lines += [f"| `{rule.rule}` | {rule.text} | {rule.unit} |" for rule in RULES.values()]
    return lines


def markdown() -> str:
    """The whole page."""
    parts = [
        HEAD,
        "\n".join(hazard_rows()) + "\n",
        RULES_HEAD,
        "\n".join(rule_rows()) + "\n",
        CAMPAIGNS,
    ]
    return "\n".join(parts)
