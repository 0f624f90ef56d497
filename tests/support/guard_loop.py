"""Sequencer, staging and verify against `guard_nodes`, tick by tick."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from guard_nodes import Nodes
from guard_site import envelope, estimate

from reconf.actuation import Refused, SlotCommand
from reconf.sequences import Phase, Sequencer, SequencerInputs, adopt, hold_zero
from reconf.site import Site
from reconf.switching import stage
from reconf.verify import History, verify_steps


class Loop:
    """One site under the sequences; `tick` is one tick of 1 s."""

    def __init__(self, site: Site, nodes: Nodes, saved_mode=None, tick_s: float = 1.0) -> None:
        self.tick_s = tick_s
        self.site, self.nodes = site, nodes
        t = site.topology
        self.none_m, self.none_s = np.zeros(t.n_modules, np.bool_), np.zeros(t.n_strings, np.bool_)
        self.sequencer = Sequencer(site)
        seen = nodes.read(self.none_m, self.none_s)
        self.state = self.sequencer.initial(seen, nodes.now_s, saved_mode)
        self.in_force = adopt(site, seen)
        self.receipt = None
        self.verified = True
        self.phases: list[tuple[Phase, ...]] = []
        self.unsafe_bypass = 0
        self.refused = []
        self.outcome = None

    def tick(
        self,
        *,
        quiet_m=None,
        quiet_s=None,
        lost_m=None,
        lost_s=None,
        power_w=1500.0,
        limit_a=40.0,
        envelope_=None,
        **asks,
    ):
        def or_none(mask, none):
            return none if mask is None else mask

        seen = self.nodes.read(or_none(quiet_m, self.none_m), or_none(quiet_s, self.none_s))
        allowed = envelope_ or envelope(self.site)
        t = self.site.topology
        proposal = replace(
            self.in_force,
            inserted=np.ones(t.n_modules, np.bool_) & (allowed.insertion != 1),
            power_w=np.full(t.n_strings, power_w),
            current_limit_a=np.full(t.n_strings, limit_a),
        )
        self.outcome = self.sequencer.step(
            self.state,
            SequencerInputs(
                seen, allowed, self.in_force, proposal, self.nodes.now_s, self.nodes.now_s,
                receipt=self.receipt, verified=self.verified, **asks,
            ),
        )  # fmt: skip
        self.state = self.outcome.state
        actions = self.outcome.actions
        steps = self._judge(seen, allowed, History(unsure=actions.unsure_modules))
        self.verified = bool(steps)
        self.receipt = None
        for step in steps:
            before = self.nodes.inserted.copy()
            receipt = self.nodes.write(step, or_none(lost_m, self.none_m), or_none(lost_s, self.none_s))
            self._watch(before)
            self.in_force = self._merged(step.command, receipt.module_confirmed, receipt.string_confirmed)
            first = self.receipt or receipt
            self.receipt = replace(
                receipt,
                module_confirmed=first.module_confirmed & receipt.module_confirmed,
                string_confirmed=first.string_confirmed & receipt.string_confirmed,
            )
            if not (receipt.module_confirmed.all() and receipt.string_confirmed.all()):
                break
        self.nodes.beat(actions.heartbeat_modules, actions.heartbeat_strings)
        if actions.clear_modules.any() or actions.clear_strings.any():
            safe = self.nodes.clear(actions.clear_modules, actions.clear_strings)
            self.in_force = self._merged(safe, actions.clear_modules, actions.clear_strings)
        self.phases.append(tuple(Phase(int(p)) for p in self.state.phase))
        self.nodes.tick(self.tick_s)
        return self.outcome

    def _judge(self, seen, allowed, history):
        """The proposal; without the strings a violation names; at last everything at power 0."""
        believed, wanted = estimate(self.site), self.outcome.command
        for _ in range(2):
            steps = stage(self.site, seen, believed, allowed, self.in_force, wanted) or (wanted,)
            answer = verify_steps(
                self.site, seen, believed, allowed, self.in_force, steps, dt_s=self.tick_s, history=history
            )
            if not isinstance(answer, Refused):
                return answer
            self.refused.append({v.rule for v in answer.violations})
            named = self._named(answer)
            calm = hold_zero(self.in_force)
            self_force, self.in_force = self.in_force, wanted
            wanted = self._merged(calm, named[self.site.topology.string_of], named)
            self.in_force = self_force
        calm = hold_zero(self.in_force)
        answer = verify_steps(
            self.site, seen, believed, allowed, self.in_force, (calm,), dt_s=self.tick_s, history=history
        )
        assert not isinstance(answer, Refused), "power 0 was refused"
        return answer

    def _named(self, answer: Refused) -> np.ndarray:
        """(S,) strings of the violations."""
        mask = self.none_s.copy()
        for violation in answer.violations:
            for k, string in enumerate(self.site.strings):
                serials = [p.module.serial for p in string.positions]
                mask[k] |= violation.subject in {string.name, "site", *serials}
        return mask

    def _merged(self, command: SlotCommand, modules: np.ndarray, strings: np.ndarray) -> SlotCommand:
        """What is in force, with `command` on some nodes."""
        by_module = {"inserted", "duty_mode", "duty_frac", "trim_current_a"}
        return SlotCommand(
            **{
                name: np.where(
                    modules if name in by_module else strings,
                    getattr(command, name),
                    getattr(self.in_force, name),
                )
                for name in SlotCommand.__dataclass_fields__
            }
        )

    def _watch(self, before: np.ndarray) -> None:
        """Count strings that were bypassed by command behind a closed contactor."""
        sums = self.site.topology.sum_by_string
        emptied = (sums(before * 1.0) > 0) & (sums(self.nodes.inserted * 1.0) == 0)
        self.unsafe_bypass += int(np.count_nonzero(emptied & (self.nodes.closed | self.nodes.welded)))

    def run(self, ticks: int, **asks):
        """Several ticks; asks go with the first."""
        self.tick(**asks)
        for _ in range(ticks - 1):
            self.tick()
        return self

    def order(self, string: int = 0) -> list[str]:
        """Phases of a string in order, without repetition."""
        names = [row[string].name for row in self.phases]
        return [name for k, name in enumerate(names) if k == 0 or name != names[k - 1]]
