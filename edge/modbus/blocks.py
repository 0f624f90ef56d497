"""The last whole block of every node, how fresh it is, and the image made of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from reconf.arrays import BoolArray, ByteArray, FloatArray, IntArray
from reconf.devices.marks import NodeMarks
from reconf.devices.rc1 import Rc1Codec, Rc1Status
from reconf.devices.rm1 import Rm1Codec
from reconf.readings import Quality, SiteImage, SiteInputs
from reconf.registers import WordArray


@dataclass(frozen=True, slots=True)
class Freshness:
    """When a block stops being believed."""

    frozen_after_s: float = 0.5
    """Control time a SAMPLE_COUNTER may stand still: nodes promise a new set every 0.5 s."""
    frozen_after_wall_s: float = 0.25
    """And wall time: with a scaled clock half a control second is below any scheduler's jitter."""
    lost_after_s: float = 30.0
    """Control time after which an old value is no longer called stale but lost."""


class BlockStore:
    """Input blocks of all nodes of one kind (N nodes, W registers)."""

    def __init__(self, n_nodes: int, n_words: int, counter_word: int, freshness: Freshness) -> None:
        self.words: WordArray = np.zeros((n_nodes, n_words), dtype=np.uint16)
        self._counter_word = counter_word
        self._freshness = freshness
        self._sampled_s: FloatArray = np.full(n_nodes, -np.inf)
        self._landed: BoolArray = np.zeros(n_nodes, dtype=np.bool_)
        self._counter: IntArray = np.full(n_nodes, -1, dtype=np.int64)
        self._changed_s: FloatArray = np.full(n_nodes, -np.inf)
        self._changed_wall_s: FloatArray = np.full(n_nodes, -np.inf)

    def begin(self) -> None:
        """A tick begins: nothing has landed yet."""
        self._landed[:] = False

    def land(self, row: int, payload: bytes, asked_s: float) -> None:
        """A whole block came; `asked_s` is the control time at which it was asked for."""
        fresh = np.frombuffer(payload, dtype=">u2")
        self.words[row, : fresh.size] = fresh
        self._sampled_s[row] = asked_s
        self._landed[row] = True

    def marks(self, now_s: float, wall_s: float) -> NodeMarks:
        """Freshness of every node at the end of a tick."""
        counter = self.words[:, self._counter_word].astype(np.int64)
        moved = self._landed & (counter != self._counter)
        self._counter[moved] = counter[moved]
        self._changed_s[moved] = self._sampled_s[moved]
        self._changed_wall_s[moved] = wall_s
        f = self._freshness
        frozen = (
            self._landed
            & (self._sampled_s > self._changed_s + f.frozen_after_s)
            & (wall_s > self._changed_wall_s + f.frozen_after_wall_s)
        )
        age_s = np.maximum(now_s - np.where(frozen, self._changed_s, self._sampled_s), 0.0)
        quality: ByteArray = np.where(self._landed, np.uint8(Quality.GOOD), np.uint8(Quality.STALE))
        quality[frozen] = Quality.FROZEN
        quality[age_s > f.lost_after_s] = Quality.NO_ANSWER
        return NodeMarks(answered=self._landed & ~frozen, age_s=age_s, quality=quality)


class ImageMaker:
    """Blocks of modules and converters -> `SiteImage`."""

    def __init__(self, rm1: Rm1Codec, rc1: Rc1Codec, n_strings: int, freshness: Freshness) -> None:
        self.rm1 = rm1
        self.rc1 = rc1
        sample_rm1 = rm1.profile.register("input", "SAMPLE_COUNTER").address
        sample_rc1 = rc1.profile.register("input", "SAMPLE_COUNTER").address
        self.modules = BlockStore(rm1.n_cells.size, rm1.block.count, sample_rm1, freshness)
        self.strings = BlockStore(n_strings, rc1.block.count, sample_rc1, freshness)

    def begin(self) -> None:
        """A tick begins."""
        self.modules.begin()
        self.strings.begin()

    def image(self, tick: int, now_s: float, wall_s: float, inputs: SiteInputs) -> SiteImage:
        """All readings as they stand; `inputs` are those of the site I/O units."""
        strings = self.rc1.readings(self.strings.words, self.strings.marks(now_s, wall_s))
        stop = strings.answered & ((strings.status & Rc1Status.EMERGENCY_STOP) != 0)
        return SiteImage(
            tick=tick,
            time_s=now_s,
            modules=self.rm1.readings(self.modules.words, self.modules.marks(now_s, wall_s)),
            strings=strings,
            inputs=replace(inputs, emergency_stop=inputs.emergency_stop or bool(stop.any())),
        )
