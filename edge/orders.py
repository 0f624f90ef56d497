"""From the command contract to orders of the core, and the core's answers back."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import TypeAlias

from edge import core_values as core
from edge.northbound import actions as wire
from edge.northbound.gate import AcceptedCommand, Outcome
from edge.setpoint import PowerCommand
from reconf.sequences import SiteMode

NOT_AVAILABLE = Outcome("refused", "not_available", "this site cannot do that by command")

Translated: TypeAlias = "core.Order | Outcome"


def translate(  # noqa: PLR0911 - one return for each action
    command: AcceptedCommand, *, now_s: float, wall_s: float, utc: datetime
) -> Translated:
    """The order that a command asks for, or the outcome where the core is not needed.

    Args:
        command: passed the contract.
        now_s: control time, for what reverts after a time.
        wall_s: monotonic wall time, for what has a date.
        utc: the date now; turned into `wall_s` here, once.
    """
    args, deadline_s = command.args, command.deadline_wall_s
    match args:
        case wire.SetPower():
            return PowerCommand(
                power_w=args.power_w,
                ramp_w_per_s=args.ramp_w_per_s or math.inf,
                deadline_wall_s=deadline_s,
                revert_at_s=math.inf if args.revert_s is None else now_s + args.revert_s,
                command_id=command.envelope.id,
            )
        case wire.SetSchedule():
            first_s = wall_s + (args.start - utc) / timedelta(seconds=1)
            steps = tuple((first_s + k * args.step_s, p) for k, p in enumerate(args.power_w))
            ends_s = first_s + len(args.power_w) * args.step_s
            return PowerCommand(
                power_w=args.power_w[0],
                deadline_wall_s=min(deadline_s, ends_s),
                command_id=command.envelope.id,
                schedule=steps,
            )
        case wire.SetLimits():
            return core.SetLimits(
                math.inf if args.discharge_max_w is None else args.discharge_max_w,
                math.inf if args.charge_max_w is None else args.charge_max_w,
                deadline_s,
            )
        case wire.SetMode():
            return core.SetMode(SiteMode(args.mode))
        case wire.ClearFault():
            return core.ClearFault(args.fault, args.subject)
        case wire.EmergencyStop():
            return core.EmergencyStop(command.envelope.issuer)
        case wire.BypassModule():
            return core.BypassModule(args.serial)
        case wire.ReturnModule():
            return core.BypassModule(args.serial, bypassed=False)
        case wire.SetSocWindow():
            return core.SetSocWindow(args.soc_min_frac, args.soc_max_frac)
        case wire.StartBalancing():
            return core.SetBalancing(args.active)
        case wire.StartCapacityTest():
            return core.StartCapacityTest(args.string, args.current_c, args.active)
        case _:
            return NOT_AVAILABLE


def outcome_of(answer: core.Answer) -> Outcome:
    """The core's answer for the reply."""
    return Outcome(
        "accepted" if answer.accepted else "refused", answer.reason, answer.text, answer.curtailed_to_w
    )
