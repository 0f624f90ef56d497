"""Site outputs of a verified command: what protection asks, and no less than the image itself says."""

from __future__ import annotations

from math import isfinite

from reconf.protection.envelope import Envelope, SiteOutputs
from reconf.readings import SiteImage


def safe_outputs(image: SiteImage, envelope: Envelope) -> SiteOutputs:
    """The sounder is on where the site must be left or a detector speaks; gas is extracted, not in a fire.

    A cooling demand that is not a number is taken as full: too much cooling harms nothing.
    """
    inputs, asked = image.inputs, envelope.outputs
    alarm = (
        asked.alarm
        or envelope.site_open
        or inputs.gas_alarm
        or inputs.smoke_alarm
        or inputs.fire_alarm
        or inputs.emergency_stop
    )
    # a panel that falls quiet by itself may have burnt: the fire is over when somebody has cleared it on site
    fire = inputs.fire_alarm or any(fault.fault == "fire_alarm" for fault in envelope.faults)
    cooling = min(max(asked.cooling_frac, 0.0), 1.0) if isfinite(asked.cooling_frac) else 1.0
    return SiteOutputs(
        cooling_frac=cooling,
        alarm=alarm,
        ventilate=(asked.ventilate or inputs.gas_alarm) and not fire,
    )
