"""Which strikes of the reaction bench are trials, and what is told of those that nobody answers."""

from __future__ import annotations

import asyncio
import struct

import numpy as np
import pytest

from edge.bench.reaction import EXCESS_V, POSITIONS, reaction_site
from edge.bench.reaction_watch import UNSEEN, Strike, Watch, WatchedServer
from reconf.devices import rm1
from reconf.site import Chemistry
from reconf.twin.firmware import NodeBank
from reconf.twin.firmware_rm1 import INSERT
from reconf.twin.plant import Plant
from reconf.twin.truth import draw_truth

CONVERTER = 201
BLOCK = rm1.INPUT_FIXED + 4


class Bench:
    """One string of the bench with its nodes awake, every module inserted."""

    def __init__(self) -> None:
        site = reaction_site(1, 0.5)
        rng = np.random.default_rng(1)
        self.bank = NodeBank(site, Plant(site, draw_truth(site, rng, soc_frac=0.5)), rng)
        self.now_s = 0.0
        safety_v = site.limits[Chemistry.NMC]["cell_voltage_v", "max"].safety
        self.watch = Watch(site, self.bank, lambda: self.now_s, safety_v, 0.5)
        self.server = WatchedServer(self.bank, self.watch)
        for unit in (1, 2, 3, 4, CONVERTER):
            self.write(unit, rm1.HEARTBEAT, 1)
            clear = rm1.CLEAR if unit != CONVERTER else 8
            self.write(unit, clear, rm1.CLEAR_CODE)
        for unit in (1, 2, 3, 4):
            self.write(unit, INSERT, 1)
        self.step()

    def step(self) -> None:
        """A quarter of a second: the registers take a new measurement set."""
        self.now_s += 0.25
        self.bank.step(0.25, 0.25)
        self.watch.after_step()

    def write(self, unit: int, address: int, word: int) -> None:
        self.server.serve("line", unit, struct.pack(">BHH", 6, address, word))

    def read(self, unit: int) -> None:
        self.server.serve("line", unit, struct.pack(">BHH", 4, 0, BLOCK))

    def strike(self, module: int = 1) -> Strike:
        return self.watch.begin(module, 0, 2, EXCESS_V, 0.25)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_module_whose_bypass_is_written_but_not_yet_done_is_not_struck(bench: Bench):
    # its fault asks for nothing that was not asked already: nobody would write anything, and 1 of some 1,000
    # strikes at random moments falls into those 50 ms
    everyone = np.arange(POSITIONS)
    bench.write(2, INSERT, 0)
    assert bench.bank.plant.inputs.inserted[1]
    assert bench.watch.candidates(everyone).tolist() == [0, 2, 3]
    bench.step()
    assert bench.watch.candidates(everyone).tolist() == [0, 2, 3]
    bench.write(2, INSERT, 1)
    assert bench.watch.candidates(everyone).tolist() == [0, 2, 3]
    bench.step()
    assert bench.watch.candidates(everyone).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("only_out", "word", "hit"), [(True, 1, False), (True, 0, True), (False, 1, True)])
async def test_a_strike_may_wait_for_a_switch_write_or_for_a_bypass_alone(bench: Bench, only_out, word, hit):
    waiting = asyncio.create_task(bench.watch.switching(0, only_out=only_out))
    await asyncio.sleep(0)
    bench.write(2, rm1.HEARTBEAT, 9)
    await asyncio.sleep(0)
    assert not waiting.done()
    bench.write(2, INSERT, word)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert waiting.done() is hit
    waiting.cancel()


def test_a_write_answers_once_a_reading_has_shown_the_strike(bench: Bench):
    strike = bench.strike()
    bench.step()
    bench.read(2)
    bench.write(2, INSERT, 0)
    assert strike.done.is_set()
    assert not strike.void
    assert strike.shown_s <= strike.read_s <= strike.answered_s


def test_a_converter_that_is_stopped_answers_too(bench: Bench):
    strike = bench.strike()
    bench.step()
    bench.read(2)
    bench.write(CONVERTER, 2, 0)
    assert strike.done.is_set()
    assert not strike.void


def test_a_bypass_before_any_reading_could_show_the_strike_is_the_schedules(bench: Bench):
    strike = bench.strike()
    bench.step()
    bench.write(2, INSERT, 0)
    assert strike.void == UNSEEN
    bench.watch.end(strike)
    assert bench.watch.voids == {UNSEEN: 1}


def test_writes_to_others_answer_nothing(bench: Bench):
    strike = bench.strike()
    bench.step()
    bench.read(2)
    bench.write(1, INSERT, 0)
    bench.write(2, rm1.HEARTBEAT, 7)
    assert not strike.done.is_set()


def test_what_was_on_the_wire_is_told_of_a_strike_that_nobody_answers(bench: Bench):
    strike = bench.strike()
    bench.step()
    bench.read(2)
    bench.write(2, INSERT, 1)
    bench.watch.end(strike)
    told = bench.watch.told(strike)
    assert [entry["what"] for entry in told["trace"]] == ["struck", "read", "write", "ended"]
    struck, read, write, ended = told["trace"]
    assert struck["insert"] == ended["insert"] == 1
    assert read["highest_cell_v"] > bench.watch.safety_v
    assert read["at_ticks"] == 0.5
    assert write["registers"] == {INSERT: 1}
    assert not write["refused"]
    assert not bench.bank.plant.faults.cell_voltage_offset_v.any()
