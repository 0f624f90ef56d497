"""The running daemon as `rebin apply` sees it: its on-site door."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge.cli.door import left
from edge.onsite.client import DoorError, ask, whoami
from edge.rebin_apply import VOLTAGE_LIMIT_V, JobError, Status
from reconf.rebinning.swap import NodeSeen

LEAVING_S = 30.0
"""Wall time that strings may take to be left."""
ANSWER_S = 60.0
"""Wall time a daemon may take to come up, and a node that was just plugged in to be heard again."""
POLL_S = 0.5


class DaemonDoor:
    """Implements `edge.rebin_apply.Door` over the Unix socket in the state directory.

    Args:
        folder: state directory of the daemon.
        site: its name.
        by: who works; a permit belongs to a person.
        answer_s: wall time to wait for a daemon that starts.
    """

    def __init__(self, folder: Path, site: str, by: str = "", answer_s: float = ANSWER_S) -> None:
        self._folder, self._site, self._by, self._answer_s = folder, site, by or whoami(), answer_s

    def _ask(self, action: str, args: dict[str, Any] | None = None) -> dict[str, Any]:
        """What an accepted action answers.

        Raises:
            JobError: refused, or nobody answers.
        """
        try:
            reply = ask(self._folder, self._site, action, args, by=self._by)
        except DoorError as error:
            raise JobError(str(error)) from error
        if not reply.accepted:
            raise JobError(reply.text)
        return dict(reply.data)

    def _nodes(self) -> Mapping[str, Any]:
        """Rows of the daemon's nodes; waits for a daemon that is being started."""
        end_s = time.monotonic() + self._answer_s
        while True:
            try:
                rows: Mapping[str, Any] = self._ask("nodes")["nodes"]
            except JobError:
                if time.monotonic() > end_s:
                    raise
                time.sleep(POLL_S)
            else:
                return rows

    def status(self) -> Status:
        """How the site stands."""
        rows = self._nodes()
        data = self._ask("status")
        strings = data["strings"]
        parts = []
        for s in strings:
            volts = "voltage not known" if s["voltage_v"] is None else f"{s['voltage_v']:.1f} V"
            parts.append(f"string {s['name']} reads {s['contactor'] or 'nothing'}, {volts}")
        low = all(s["voltage_v"] is not None and abs(s["voltage_v"]) < VOLTAGE_LIMIT_V for s in strings)
        return Status(
            maintenance=bool(data["maintenance"]["held"]),
            hands_inside=any(p["by"] == self._by for p in data["maintenance"]["permits"]),
            serials={label: str(row["expected"]) for label, row in rows.items()},
            open_and_low=bool(strings) and left(data) and low,
            text="; ".join(parts),
        )

    def nodes(self, *, patient: bool) -> Mapping[str, NodeSeen | None]:
        """Every node, read now; `patient`: one that was just plugged in is given time to be heard."""
        end_s = time.monotonic() + self._answer_s
        while True:
            rows = self._nodes()
            seen = {label: _node(row["node"]) for label, row in rows.items()}
            silent = [label for label, node in seen.items() if node is None]
            if not (silent and patient) or time.monotonic() > end_s:
                return seen
            time.sleep(POLL_S)

    def take(self) -> None:
        """Take the maintenance lock, and wait until every string is left."""
        self._ask("maintenance_take")
        end_s = time.monotonic() + LEAVING_S
        while not left(self._ask("status")):
            if time.monotonic() > end_s:
                raise JobError(
                    "maintenance is taken, but not every contactor reads open: look at the strings"
                )
            time.sleep(POLL_S)

    def inside(self, *, disconnect_locked: bool, measured_v: float) -> str:
        """Ask for a permit; empty when it is given, else why not."""
        args = {"disconnect_locked": disconnect_locked, "measured_v": measured_v}
        try:
            self._ask("hands_inside", args)
        except JobError as error:
            return str(error)
        return ""

    def out(self) -> None:
        """Give the permit back."""
        self._ask("hands_out")

    def release(self) -> None:
        """Release the maintenance lock."""
        self._ask("maintenance_release")


def _node(row: Mapping[str, Any] | None) -> NodeSeen | None:
    """A node's row; None where it does not answer, or its readings are not of this tick."""
    if row is None or not row["fresh"]:
        return None
    return NodeSeen(
        serial=str(row["serial"]),
        n_cells=int(row["n_cells"]),
        chemistry_code=int(row["chemistry_code"]),
        rated_capacity_ah=float(row["rated_capacity_ah"]),
        cell_voltage_v=tuple(0.0 if v is None else float(v) for v in row["cell_voltage_v"]),
        status=int(row["status"]),
    )
