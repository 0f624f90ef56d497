"""What people and SCADA ask of the core: each order changes the state and is answered at once."""

from __future__ import annotations

from math import isfinite
from typing import assert_never

from edge.core_captest import start
from edge.core_plan import bounded_w
from edge.core_values import (
    Answer,
    BypassModule,
    ClearFault,
    CoreState,
    EmergencyStop,
    HandsInside,
    HandsOut,
    HoldMaintenance,
    Order,
    SetBalancing,
    SetLimits,
    SetMode,
    SetSocWindow,
    StartCapacityTest,
    StrangeModules,
    TickView,
)
from edge.onsite_orders import on_site_only
from edge.setpoint import PowerCommand, command_power, withdraw
from reconf.arrays import BoolArray
from reconf.estimation.filter import clear_findings
from reconf.protection.envelope import Envelope
from reconf.protection.faults import is_fault, row_of
from reconf.protection.protect import ClearRefused, clear_fault
from reconf.protection.state import not_present
from reconf.protection.suspicion import FINDING_FAULTS, SENSOR, TESTS_OF, fault_of
from reconf.replacing import replace
from reconf.sequences import SiteMode
from reconf.site import Site

ACCEPTED = "accepted"
JOINS_AGAIN = "; the string joins again at once where the site is in run or standby"
OPENS_SITE = "open_site"
HELD = frozenset({SiteMode.FAULT, SiteMode.ESTOP})


def handle(  # noqa: PLR0911 - one return for each kind of order
    site: Site, state: CoreState, view: TickView | None, order: Order, wall_s: float
) -> tuple[CoreState, Answer]:
    """The state after `order`, and the answer to it."""
    if state.maintenance.held and not _in_maintenance(order):
        return state, _no("local_lock", f"maintenance is held on site by {state.maintenance.by}")
    match order:
        case PowerCommand():
            return _power(site, state, view, order, wall_s)
        case SetMode():
            return _mode(state, view, order)
        case ClearFault():
            return _clear(state, view, order)
        case EmergencyStop():
            return _stop(state)
        case HoldMaintenance() | HandsInside() | HandsOut():
            return on_site_only(site, state, view, order, wall_s)
        case BypassModule():
            return _bypass(site, state, order)
        case StartCapacityTest():
            return _capacity_test(site, state, view, order)
        case SetSocWindow() | SetLimits() | SetBalancing() | StrangeModules():
            return _setting(state, order)
        case _:
            assert_never(order)


def _setting(
    state: CoreState, order: SetSocWindow | SetLimits | SetBalancing | StrangeModules
) -> tuple[CoreState, Answer]:
    """What only changes a value, and is never refused."""
    match order:
        case SetSocWindow(soc_min_frac=low, soc_max_frac=high):
            operator = replace(state.operator, soc_min_frac=low, soc_max_frac=high)
            return replace(state, operator=operator), _yes(f"SOC is kept within {low:.0%} and {high:.0%}")
        case SetLimits():
            return _limits(state, order)
        case SetBalancing(active=active):
            return replace(state, balancing=active), _yes("balancing " + ("starts" if active else "ends"))
        case StrangeModules(found=found):
            return replace(state, strange=found), _yes(f"{len(found)} positions hold other modules")
        case _:
            assert_never(order)


def _in_maintenance(order: Order) -> bool:
    """What is taken while somebody works on the site: stopping, and what is asked on site."""
    match order:
        case EmergencyStop() | HoldMaintenance() | HandsInside() | HandsOut() | StrangeModules():
            return True
        case SetMode(mode=mode, on_site=on_site):
            return on_site and mode is SiteMode.OFF
        case ClearFault(on_site=on_site):
            return on_site
        case _:
            return False


def _capacity_test(
    site: Site, state: CoreState, view: TickView | None, order: StartCapacityTest
) -> tuple[CoreState, Answer]:
    running = state.capacity_test is not None and state.capacity_test.running
    if order.active and running:
        return state, _no("already_running", "a capacity test is running; end it first (active=false)")
    test, answer = start(site, view, order)
    return (replace(state, capacity_test=test) if answer.accepted else state), answer


def _yes(text: str, curtailed_to_w: float | None = None) -> Answer:
    return Answer(accepted=True, reason=ACCEPTED, text=text, curtailed_to_w=curtailed_to_w)


def _no(reason: str, text: str) -> Answer:
    return Answer(accepted=False, reason=reason, text=text)


def _power(
    site: Site, state: CoreState, view: TickView | None, order: PowerCommand, wall_s: float
) -> tuple[CoreState, Answer]:
    after = replace(state, setpoint=command_power(state.setpoint, order))
    if view is None:
        return after, _yes("accepted; nothing has been read yet")
    limited_w = bounded_w(order.power_w, state.limits, wall_s)
    can_w = deliverable_w(view.envelope, limited_w, site.timing.interval_s)
    if abs(can_w - order.power_w) > 0.5:
        held = abs(can_w - limited_w) <= 0.5  # the envelope would have borne what the temporary limits leave
        why = _temporary(state, wall_s) if held else capability_reason(view.envelope, order.power_w)
        text = f"accepted; now bounded to {can_w:.0f} W of {order.power_w:.0f} W: {why}"
        return after, Answer(accepted=True, reason="curtailed", text=text, curtailed_to_w=can_w)
    if view.mode is not SiteMode.RUN:
        return after, _yes(f"accepted; the site is in mode {view.mode.value}, power flows in mode run")
    return after, _yes(f"accepted: {order.power_w:.0f} W")


def deliverable_w(envelope: Envelope, power_w: float, horizon_s: float) -> float:
    """`power_w` within what the envelope can hold for at least `horizon_s`."""
    able = envelope.capability
    at = next((i for i, h in enumerate(able.horizon_s) if h >= horizon_s), len(able.horizon_s) - 1)
    return min(max(power_w, -able.charge_w[at]), able.discharge_w[at])


def _temporary(state: CoreState, wall_s: float) -> str:
    """The temporary limits as the reason."""
    left_s = state.limits.deadline_wall_s - wall_s
    until = f", for {left_s:.0f} s more" if isfinite(left_s) else ""
    return f"temporary limits set by command (set_limits){until}"


def capability_reason(envelope: Envelope, power_w: float) -> str:
    """Why the envelope does not hold more in the direction of `power_w`, in one sentence."""
    other = "charge" if power_w > 0.0 else "discharge"
    severe = [f for f in envelope.faults if f.severity in {"open_site", "open_string", "derate"}]
    if severe:
        return f"{severe[0].fault} on {severe[0].subject} ({severe[0].evidence})"
    first = next((r for r in envelope.reasons if other not in r.limit.split("_")), None)
    if first is not None:
        return f"{first.text} ({first.subject}, {first.limit})"
    return "what modules and converters can hold for an interval"


def _mode(state: CoreState, view: TickView | None, order: SetMode) -> tuple[CoreState, Answer]:
    mode = SiteMode.ESTOP if state.pending.emergency_stop else view.mode if view is not None else None
    if order.mode is SiteMode.MAINTENANCE:
        return state, _no("local_lock", "maintenance is taken and released on site only")
    if order.mode not in {SiteMode.RUN, SiteMode.STANDBY, SiteMode.OFF}:
        return state, _no("malformed", f"mode {order.mode.value!r} cannot be asked for")
    if mode in HELD and order.mode is not SiteMode.OFF:
        told = orphaned(state, mode) or "clear the fault first"
        return state, _no("fault_latched", f"the site is in mode {mode.value}; {told}")
    after = replace(state, pending=replace(state.pending, mode=order.mode))
    if order.mode is not SiteMode.RUN:
        after = replace(after, setpoint=withdraw(after.setpoint))
    if mode in HELD:
        told = f"every string is open or being left; mode {mode.value} stands until it is cleared"
        return after, _yes(told)
    return after, _yes(f"the site goes to mode {order.mode.value}")


def orphaned(state: CoreState, mode: SiteMode | None) -> str:
    """How a mode is left that outlived its fault; empty where the fault is there, or the mode is no such one.

    The fault went with its module: one that burnt is taken out of the site file, with its latch.
    """
    if mode not in HELD or any(s.severity == OPENS_SITE for s in state.protection.statuses):
        return ""
    gone = [s for s in state.protection.elsewhere if _opens_site(s.fault)]
    named = ", ".join(f"{s.fault} of {s.subject}" for s in gone) or "what opened it is on no record"
    fault = gone[0].fault if gone else "emergency_stop"
    return f"{named}, which is not in this site any more: clear {fault} on site"


def _opens_site(fault: str) -> bool:
    return is_fault(fault) and row_of(fault).severity == OPENS_SITE


def _clear(state: CoreState, view: TickView | None, order: ClearFault) -> tuple[CoreState, Answer]:
    if order.fault in FINDING_FAULTS:
        return _believe(state, order)
    outcome = clear_fault(state.protection, order.fault, order.subject, on_site=order.on_site)
    if isinstance(outcome, ClearRefused):
        told = orphaned(state, None if view is None else view.mode)
        if told and order.on_site and _opens_site(order.fault):
            after = replace(state, pending=replace(state.pending, cleared=True))
            return after, _yes(f"{order.fault} is not present any more: the site goes to mode off")
        return state, _no("not_cleared", f"{outcome.reason}; {told}" if told else outcome.reason)
    before = state.pending
    # several clears may come within one tick: each node still has to be told
    pending = replace(
        before,
        cleared=True,
        clear_modules=_either(before.clear_modules, outcome.clear_modules),
        clear_strings=_either(before.clear_strings, outcome.clear_strings),
    )
    return replace(state, protection=outcome.state, pending=pending), _yes(
        f"{order.fault} is cleared{JOINS_AGAIN if row_of(order.fault).severity == 'open_string' else ''}"
    )


def _either(waiting: BoolArray | None, added: BoolArray) -> BoolArray:
    return added if waiting is None else waiting | added


def _believe(state: CoreState, order: ClearFault) -> tuple[CoreState, Answer]:
    """Sensors and cells that the estimator has given up are believed again."""
    memory = state.filter
    found = () if memory is None else memory.integrity.findings + memory.anomaly.findings
    named = {f.serial for f in found if fault_of(f) == order.fault and order.subject in {None, f.serial}}
    if memory is None or not named:
        told = not_present(order.fault, order.subject, "module", state.protection.statuses)
        return state, _no("not_cleared", told)
    for serial in sorted(named):
        memory = clear_findings(
            memory, serial, sensors=order.fault == SENSOR, cells=TESTS_OF.get(order.fault, frozenset())
        )
    return replace(state, filter=memory), _yes(
        f"{order.fault} is cleared: {', '.join(sorted(named))} believed again"
    )


def _stop(state: CoreState) -> tuple[CoreState, Answer]:
    pending = replace(state.pending, emergency_stop=True, mode=None)
    after = replace(state, pending=pending, setpoint=withdraw(state.setpoint))
    return after, _yes("emergency stop: every string is being left; cleared on site only")


def _bypass(site: Site, state: CoreState, order: BypassModule) -> tuple[CoreState, Answer]:
    if order.serial not in site.topology.serials:
        return state, _no("unknown_module", f"there is no module {order.serial!r}")
    kept = state.operator.bypass - {order.serial}
    bypass = kept | {order.serial} if order.bypassed else kept
    after = replace(state, operator=replace(state.operator, bypass=frozenset(bypass)))
    return after, _yes(f"{order.serial} " + ("is kept bypassed" if order.bypassed else "may take part again"))


def _limits(state: CoreState, order: SetLimits) -> tuple[CoreState, Answer]:
    operator = replace(state.operator, max_discharge_w=order.discharge_max_w, max_charge_w=order.charge_max_w)
    return replace(state, limits=order, operator=operator), _yes("temporary limits are in force")
