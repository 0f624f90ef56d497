"""Sequences that must never be got wrong: pure state machines as tables."""

from reconf.sequences.beginning import adopt
from reconf.sequences.modes import MODE_TABLE, SiteMode
from reconf.sequences.overlay import hold_zero
from reconf.sequences.phases import OUTPUTS, PHASE_TABLE, Phase
from reconf.sequences.sequencer import Sequencer
from reconf.sequences.state import (
    SequenceEvent,
    SequencerActions,
    SequencerInputs,
    SequencerOutcome,
    SequencerState,
)

__all__ = [
    "MODE_TABLE",
    "OUTPUTS",
    "PHASE_TABLE",
    "Phase",
    "SequenceEvent",
    "Sequencer",
    "SequencerActions",
    "SequencerInputs",
    "SequencerOutcome",
    "SequencerState",
    "SiteMode",
    "adopt",
    "hold_zero",
]
