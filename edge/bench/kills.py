"""Broker and command path killed at random moments: what was acknowledged must be on the disk, and in force.

A SCADA host gives commands, sends again (same id) what was not answered, and after every kill of the edge
the disk is compared with what the host was told. The edge's process is the daemon's own command path without
wires, forked from a server that has imported everything, so that a kill costs a fraction of a second.
"""

from __future__ import annotations

import asyncio
import multiprocessing as mp
import random
import tempfile
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

from edge.bench.flood import good_command
from edge.bench.kill_child import serve, site_at
from edge.bench.site_rig import RigError, mosquitto
from edge.northbound.commander import Commander, NoBrokerError
from edge.store import Store

KILL_WITHIN_S = 0.08
"""A few times what a command takes."""
BURST_MAX = 3
"""Commands on their way at once."""
STOP_SHARE = 0.03
"""Rounds with an emergency stop."""
ANSWER_S = 0.4
GIVE_UP_S = 60.0
FRESH_STATE_KILLS = 60
"""Kills after which a new state directory begins: an emergency stop is for ever."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What earlier commands have left behind, as the host understands it."""

    power: tuple[float, str] | None = None
    """Set point and id of its command."""
    limits: tuple[float | None, float | None] | None = None
    soc: tuple[float, float] = (0.0, 1.0)
    balancing: bool = False
    bypassed: frozenset[str] = frozenset()
    mode: str | None = None

    def after(self, command: Mapping[str, Any]) -> Effect:  # noqa: PLR0911 - one return for each action
        """The same after one more command."""
        args = command["args"]
        match command["action"]:
            case "set_power":
                return replace(self, power=(args["power_w"], command["id"]))
            case "set_limits":
                return replace(self, limits=(args.get("discharge_max_w"), args.get("charge_max_w")))
            case "set_soc_window":
                return replace(self, soc=(args["soc_min_frac"], args["soc_max_frac"]))
            case "start_balancing":
                return replace(self, balancing=args["active"])
            case "bypass_module":
                return replace(self, bypassed=self.bypassed | {args["serial"]})
            case "return_module":
                return replace(self, bypassed=self.bypassed - {args["serial"]})
            case "set_mode":
                return replace(self, mode=args["mode"], power=None)
            case "emergency_stop":
                return replace(self, mode="emergency_stop", power=None)
            case other:
                raise ValueError(other)


@dataclass(slots=True)
class Tally:
    """What is counted."""

    kills_edge: int = 0
    kills_broker: int = 0
    given: int = 0
    acknowledged: int = 0
    sent_again: int = 0
    lost: int = 0
    """Acknowledged, and not on record or not in force."""
    changed: int = 0
    """Answered a second time with another reply."""
    overtaken: int = 0
    """Refused because a later command had arrived first."""
    refused: int = 0
    """Good commands that were refused."""
    bad_chains: int = 0
    unanswered: int = 0
    told: list[str] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Given:
    """A command and what is known of it."""

    command: dict[str, Any]
    accepted: bool | None = None
    """None: no reply yet."""


class Campaign:
    """One edge, one broker, one host."""

    def __init__(self, folder: Path, rng: random.Random, stack: AsyncExitStack) -> None:
        self.tally = Tally()
        self._folder, self._rng, self._stack = folder, rng, stack
        self._context: ForkServerContext = mp.get_context("forkserver")
        self._context.set_forkserver_preload(["edge.bench.kill_child"])
        self._edge: ForkServerProcess | None = None
        self._broker: asyncio.subprocess.Process | None = None
        self._port = 0
        self._sequence = int(time.time() * 1e3)
        self._begin_state()

    def _begin_state(self) -> None:
        """A new state directory."""
        self._state = self._folder / f"state-{self.tally.kills_edge}-{self.tally.kills_broker}"
        self._settled = Effect()
        """After every command before the first that is open."""
        self._line: list[Given] = []
        """The commands since, in order: of those without an answer nobody knows whether they are in force."""
        self._replies: dict[str, dict[str, Any]] = {}

    async def run(self, kills: int) -> Tally:
        """So many kills, one after the other."""
        self._broker, self._port = await mosquitto(self._stack, self._folder)
        for number in range(kills):
            if number % FRESH_STATE_KILLS == FRESH_STATE_KILLS - 1:
                await self._finish()
                self._end_edge()
                self._begin_state()
            await self._round(edge=self._rng.random() < 0.6)
        await self._finish()
        self._end_edge()
        self._compare()
        return self.tally

    async def _round(self, *, edge: bool) -> None:
        """A few commands, and one kill while they are on their way."""
        self._start_edge()
        commander = await self._connected()
        async with commander:
            await self._answered(commander)
            new = self._burst()
            self._line += [Given(command) for command in new]
            asking = [asyncio.create_task(self._give(commander, command)) for command in new]
            await asyncio.sleep(self._rng.uniform(0.0, KILL_WITHIN_S))
            if edge:
                self._end_edge()
                self.tally.kills_edge += 1
            else:
                await self._kill_broker()
                self.tally.kills_broker += 1
            await asyncio.gather(*asking)
        if edge:
            self._compare()
        else:
            self._broker, self._port = await mosquitto(self._stack, self._folder, self._port)

    async def _give(self, commander: Commander, command: dict[str, Any]) -> bool:
        """Send once; whether it was answered."""
        try:
            reply = await commander.give(command, ANSWER_S)
        except NoBrokerError:
            return False
        if reply is None:
            return False
        self._acknowledge(command, reply)
        return True

    def _acknowledge(self, command: dict[str, Any], reply: dict[str, Any]) -> None:
        """Note a reply: everything given before has been settled too."""
        self.tally.acknowledged += command["id"] not in self._replies
        before = self._replies.setdefault(command["id"], reply)
        if before != reply:
            self.tally.changed += 1
            self.tally.told.append(f"{before} then {reply}")
        for given in self._line:
            if given.command is command:
                given.accepted = reply["result"] != "refused"
        if reply["result"] == "refused":
            # one that never reached the edge before a later one did comes too late: given anew, not again
            overtaken = reply["reason"] == "out_of_sequence" and self._overtaken(command)
            self.tally.overtaken += overtaken
            self.tally.refused += not overtaken
            if not overtaken:
                self.tally.told.append(str(reply))
        while self._line and self._line[0].accepted is not None:
            first = self._line.pop(0)
            if first.accepted:
                self._settled = self._settled.after(first.command)

    def _overtaken(self, command: dict[str, Any]) -> bool:
        """Whether a later command has been accepted."""
        return any(g.accepted and g.command["sequence"] > command["sequence"] for g in self._line)

    def _possible(self) -> list[Effect]:
        """What may be in force: each command without an answer has been taken, or has not."""
        possible = [self._settled]
        for given in self._line:
            taken = [effect.after(given.command) for effect in possible]
            possible = taken if given.accepted else possible if given.accepted is False else possible + taken
        return possible

    async def _answered(self, commander: Commander) -> None:
        """Send what is open again, in order, until all of it is answered."""
        end_s = time.monotonic() + GIVE_UP_S
        for command in [given.command for given in self._line if given.accepted is None]:
            self.tally.sent_again += 1
            while not await self._give(commander, command):
                if time.monotonic() > end_s:
                    self.tally.unanswered += 1
                    return

    async def _finish(self) -> None:
        """Everything answered, without another kill."""
        self._start_edge()
        async with await self._connected() as commander:
            await self._answered(commander)

    async def _connected(self) -> Commander:
        """A host that is not connected yet; the broker is there."""
        if self._broker is None or self._broker.returncode is not None:
            self._broker, self._port = await mosquitto(self._stack, self._folder, self._port)
        return Commander(site_at(self._port), identifier="kills-host")

    def _burst(self) -> list[dict[str, Any]]:
        """A few commands at once; an emergency stop alone, since it overtakes others."""
        if self._settled.mode != "emergency_stop" and self._rng.random() < STOP_SHARE:
            return [self._made("emergency_stop", {})]
        return [self._draw() for _ in range(self._rng.randint(1, BURST_MAX))]

    def _draw(self) -> dict[str, Any]:
        """A good command."""
        rng = self._rng
        kinds: list[tuple[str, dict[str, Any]]] = [
            ("set_power", {"power_w": round(rng.uniform(-5e4, 5e4), 1)}),
            ("set_limits", {"discharge_max_w": round(rng.uniform(0.0, 5e4), 1)}),
            ("set_soc_window", {"soc_min_frac": round(rng.uniform(0.0, 0.4), 3), "soc_max_frac": 0.9}),
            ("start_balancing", {"active": rng.random() < 0.5}),
            ("bypass_module", {"serial": f"DEMO-A{rng.randint(1, 24):02d}"}),
            ("return_module", {"serial": f"DEMO-A{rng.randint(1, 24):02d}"}),
            ("set_mode", {"mode": "standby"}),
        ]
        if self._settled.mode == "emergency_stop":
            kinds.pop()
        return self._made(*rng.choice(kinds))

    def _made(self, action: str, args: dict[str, Any]) -> dict[str, Any]:
        self._sequence += 1
        self.tally.given += 1
        return good_command(action, **args) | {"sequence": self._sequence}

    def _compare(self) -> None:
        """What the disk has must be what the host was told, or a little more."""
        with Store.open(self._state) as store:
            ledger = store.ledger
            for identifier, reply in self._replies.items():
                if reply["result"] == "refused":
                    continue
                stored = ledger.reply(identifier)
                if stored is None or stored.reply != reply:
                    self._lose(f"{reply} is on disk as {stored}")
            possible = self._possible()
            found = stored_effect(
                {k: ledger.get(k) for k in ("setpoint", "limits", "operator", "bypassed", "mode")}
            )
            if found not in possible:
                self._lose(f"{found} is none of {possible}")
            check = ledger.verify_audit()
            if check.first_bad is not None:
                self.tally.bad_chains += 1
                self.tally.told.append(check.text)

    def _lose(self, text: str) -> None:
        self.tally.lost += 1
        self.tally.told.append(text)

    # ---- processes -----------------------------------------------------------------------------

    def _start_edge(self) -> None:
        if self._edge is None:
            self._edge = self._context.Process(target=serve, args=(self._port, str(self._state)), daemon=True)
            self._edge.start()

    def _end_edge(self) -> None:
        """SIGKILL."""
        if self._edge is not None:
            self._edge.kill()
            self._edge.join()
            self._edge = None

    async def _kill_broker(self) -> None:
        """SIGKILL."""
        if self._broker is None:
            raise RigError("no broker")
        self._broker.kill()
        await self._broker.wait()


def stored_effect(stored: Mapping[str, Any]) -> Effect:
    """What a state directory says, in the host's terms."""
    power, limits, operator = stored["setpoint"], stored["limits"], stored["operator"] or {}
    return Effect(
        power=None if power is None else (power["power_w"], power["command_id"]),
        limits=None if limits is None else (limits["discharge_max_w"], limits["charge_max_w"]),
        soc=(operator.get("soc_min_frac", 0.0), operator.get("soc_max_frac", 1.0)),
        balancing=operator.get("balancing", False),
        bypassed=frozenset(stored["bypassed"] or ()),
        mode=stored["mode"],
    )


def run(kills: int = 1000, seed: int = 1) -> dict[str, Any]:
    """So many kills, broker and edge in turn at random."""
    began_s = time.monotonic()
    tally = asyncio.run(_run(kills, seed))
    return {
        "kills": tally.kills_edge + tally.kills_broker,
        "kills_edge": tally.kills_edge,
        "kills_broker": tally.kills_broker,
        "commands": tally.given,
        "acknowledged": tally.acknowledged,
        "sent_again": tally.sent_again,
        "lost_acknowledged": tally.lost,
        "reply_changed": tally.changed,
        "overtaken": tally.overtaken,
        "refused": tally.refused,
        "unanswered": tally.unanswered,
        "bad_audit_chains": tally.bad_chains,
        "told": tally.told[:5],
        "seconds": round(time.monotonic() - began_s, 1),
    }


async def _run(kills: int, seed: int) -> Tally:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        return await Campaign(folder, random.Random(seed), stack).run(kills)
