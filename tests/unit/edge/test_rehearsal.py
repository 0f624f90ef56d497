"""A rehearsal goes through everything that a compiler has to see."""

import subprocess
import sys

from edge.interval import Rung
from edge.rehearsal import rehearse

# In a process of its own: what is compiled, or loaded, in the first minutes of a site after the rehearsal?
AFTER = """
import numpy as np
from edge.rehearsal import rehearse
rehearse()
from numba.core.dispatcher import Dispatcher
late, usual = [], Dispatcher.compile
def listening(self, sig):
    late.append(self.py_func.__name__)
    return usual(self, sig)
Dispatcher.compile = listening
from edge.bench.closed_loop import Loop
from edge.bench.faults import fault_site
from optimizer.fallback import largest_remaining
from optimizer.result import Late
from reconf.twin.truth import draw_truth
site = fault_site()
count = 0
def answers(site, question):
    global count
    count += 1
    return Late(question.interval, 0.0) if count in (1, 2, 3, 6) else largest_remaining(site, question)
truth = draw_truth(site, np.random.default_rng(1), soc_frac=0.6)
loop = Loop(site, truth, lambda t: 8e3 if t < 100 else -4e3, allocate=answers)
loop.start()
rungs = {loop.step().view.rung.name for _ in range(200)}
print(sorted(rungs), sorted(set(late)))
"""


def test_the_rule_and_the_optimizer_are_rehearsed():
    assert {Rung.NORMAL, Rung.RULE} <= rehearse()


def test_nothing_is_compiled_in_the_first_minutes_of_a_site():
    said = subprocess.run([sys.executable, "-c", AFTER], capture_output=True, text=True, check=True).stdout
    assert said.strip().endswith("[]"), said
    assert "RULE" in said
