"""What a daemon is put together from."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from edge.clock import Clock
from edge.core_state import SavedCore
from edge.keeper import Keeper
from edge.modbus.southbound import Southbound
from edge.northbound.link import MqttLink
from edge.notify import Notifier
from edge.worker import OptimizerWorker
from reconf.site import Site


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything the daemon is made of."""

    site: Site
    clock: Clock
    south: Southbound
    worker: OptimizerWorker
    link: MqttLink | None
    keeper: Keeper
    executor: ThreadPoolExecutor
    saved: SavedCore
    notifier: Notifier
    read_only: bool = False
    clock_trusted: bool = True
