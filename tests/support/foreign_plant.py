"""A whole plant that is not ours, on Modbus TCP (pyModbusTCP) or on ptys (own RTU framing), as a program.

    python tests/support/foreign_plant.py --write-site plant.yaml --time-scale 10 --modules 12 --seed 3

prints one JSON object with the endpoint of every gateway, then one with the plant's account for every line on
stdin, and ends with stdin. Each string has a gateway of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import select
import sys
import threading
import time
import tty
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from foreign_nodes import Node, Nodes, RefusalError, Written
from foreign_physics import OCV_LFP, OCV_NMC, Design, Physics
from pyModbusTCP.server import DataHandler, ModbusServer

RC1_UNIT = 201
TIMING = "{tick_s: 1.0, slot_s: 2.0, interval_s: 30.0}"
GATEWAY_TARGET_SILENT = 0x0B
READS, WRITES = (3, 4), (6, 16)
CHEMISTRIES = {"NMC": (2, OCV_NMC, "nmc_generic"), "LFP": (3, OCV_LFP, "lfp_generic")}


class Handler(DataHandler):
    """Hands requests on to the unit they are for."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__()
        self.gateway = gateway

    def _answered(self, unit: int, work: Callable[[Node], list[int] | None]) -> DataHandler.Return:
        try:
            return DataHandler.Return(0, self.gateway.asked(unit, work))
        except RefusalError as refusal:
            return DataHandler.Return(refusal.code)

    def read_h_regs(self, address, count, srv_info):
        return self._answered(srv_info.recv_frame.mbap.unit_id, lambda n: n.read("holding", address, count))

    def read_i_regs(self, address, count, srv_info):
        return self._answered(srv_info.recv_frame.mbap.unit_id, lambda n: n.read("input", address, count))

    def write_h_regs(self, address, words_l, srv_info):
        unit = srv_info.recv_frame.mbap.unit_id
        return self._answered(unit, lambda n: self.gateway.write(unit, n, address, words_l))


@dataclass
class Gateway:
    """One string's nodes behind one address."""

    name: str
    units: dict[int, Node]
    lock: threading.Lock
    closed: Callable[[], bool]
    writes: list[Written]
    endpoint: str = ""
    silent: set[int] = field(default_factory=set)

    def asked(self, unit: int, work: Callable[[Node], list[int] | None]) -> list[int] | None:
        if unit not in self.units or unit in self.silent:
            raise RefusalError(GATEWAY_TARGET_SILENT)
        with self.lock:
            return work(self.units[unit])

    def write(self, unit: int, node: Node, address: int, words: list[int]) -> None:
        self.writes.append(Written(time.monotonic(), self.name, unit, address, tuple(words), self.closed()))
        node.write(address, words)


def crc16(data: bytes) -> bytes:
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1
    return crc.to_bytes(2, "little")


class SerialLine(threading.Thread):
    """Modbus RTU on a pty: one thread, one request at a time, silence for units that are not there."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(daemon=True)
        self.gateway = gateway
        self._fd, self._slave = pty.openpty()
        tty.setraw(self._fd)
        tty.setraw(self._slave)
        gateway.endpoint = os.ttyname(self._slave)
        self._ending = False

    def run(self) -> None:
        data = b""
        while not self._ending:
            ready, _, _ = select.select([self._fd], [], [], 0.2 if not data else 0.004)
            if ready:
                data += os.read(self._fd, 512)
                continue
            if len(data) >= 4 and crc16(data[:-2]) == data[-2:]:
                answer = self._answer(data[0], data[1:-2])
                if answer is not None:
                    frame = data[:1] + answer
                    os.write(self._fd, frame + crc16(frame))
            data = b""

    def _answer(self, unit: int, pdu: bytes) -> bytes | None:
        function = pdu[0]
        address, second = int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
        gateway = self.gateway
        try:
            if function in READS:
                table = "holding" if function == 3 else "input"
                words = gateway.asked(unit, lambda n: n.read(table, address, second)) or []
                return bytes([function, 2 * len(words)]) + b"".join(w.to_bytes(2, "big") for w in words)
            if function not in WRITES:
                return bytes([function | 0x80, 1])
            words = [second]
            if function == 16:
                words = [int.from_bytes(pdu[k : k + 2], "big") for k in range(6, 6 + pdu[5], 2)]
            gateway.asked(unit, lambda n: gateway.write(unit, n, address, words))
            return pdu[:5]
        except RefusalError as refusal:
            return None if refusal.code == GATEWAY_TARGET_SILENT else bytes([function | 0x80, refusal.code])

    def stop(self) -> None:
        self._ending = True
        self.join(2.0)
        os.close(self._fd)
        os.close(self._slave)


class Plant:
    """Physics, nodes and gateways; time passes while it is entered."""

    def __init__(
        self,
        design: Design,
        *,
        seed: int = 1,
        chemistry: str = "NMC",
        kind: str = "tcp",
        wall: Callable[[], float] = time.monotonic,
    ) -> None:
        self.design, self.chemistry, self.kind = design, chemistry, kind
        self.physics = Physics(design, seed)
        self.nodes = Nodes(self.physics, "FRGN-", CHEMISTRIES[chemistry][0], seed, wall)
        self.lock = threading.Lock()
        self.writes: list[Written] = []
        self.time_scale = 1.0
        """0: time stands until somebody calls `nodes.run_to`."""
        self.gateways = [self._gateway(s) for s in range(design.strings)]
        self.services: list[ModbusServer | SerialLine] = []
        self._ending = threading.Event()
        self._pacer = threading.Thread(target=self._pace, daemon=True)

    def _gateway(self, s: int) -> Gateway:
        d = self.design
        mine: dict[int, Node] = {k + 1: self.nodes.rm1[s * d.modules + k] for k in range(d.modules)}
        mine[RC1_UNIT] = self.nodes.rc1[s]
        converter = self.physics.converters[s]
        return Gateway(f"far-{s}", mine, self.lock, lambda: converter.closed, self.writes)

    def __enter__(self) -> Self:
        if self.time_scale > 0.0:
            self._pacer.start()
        for gateway in self.gateways:
            if self.kind == "rtu":
                line = SerialLine(gateway)
                line.start()
                self.services.append(line)
                continue
            server = ModbusServer("127.0.0.1", 0, no_block=True, data_hdl=Handler(gateway))
            server.start()
            gateway.endpoint = f"127.0.0.1:{server._service.socket.getsockname()[1]}"
            self.services.append(server)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ending.set()
        if self._pacer.is_alive():
            self._pacer.join(2.0)
        for service in self.services:
            service.stop()

    def _pace(self) -> None:
        last_s = time.monotonic()
        while not self._ending.wait(0.01):
            now_s = time.monotonic()
            with self.lock:
                self.nodes.run_to(self.physics.time_s + min(now_s - last_s, 0.5) * self.time_scale)
            last_s = now_s

    def report(self) -> dict:
        """The account, in a form that JSON takes."""
        a, p = self.physics.account, self.physics
        return {
            "time_s": p.time_s,
            "string_kwh": a.string_kwh,
            "held_kwh": p.held_kwh(),
            "cell_v": a.cell_v,
            "rate_c": a.rate_c,
            "temperature_degc": a.temperature_degc,
            "shorts": a.shorts,
            "outside": a.outside,
            "opened_under_load": a.opened_under_load,
            "trips": a.trips,
            "power_w": [c.power_w for c in p.converters],
            "closed": [c.closed for c in p.converters],
            "inserted": [n.was_in for n in self.nodes.rm1],
            "soc_min": p.soc.min(axis=1).round(4).tolist(),
            "capacity_ah": p.capacity_ah.min(axis=1).round(2).tolist(),
            "writes": len(self.writes),
        }

    def site_yaml(self, name: str = "foreign", timing: str = TIMING) -> str:
        """The site file somebody would write who knows the name plates, not the modules."""
        d = self.design
        rtu = "kind: rtu, device: {}, baudrate: 115200, timeout_s: 0.2"
        tcp = "kind: tcp, host: 127.0.0.1, port: {}, connections: 3, timeout_s: 0.5"
        reached = [
            rtu.format(g.endpoint) if self.kind == "rtu" else tcp.format(5020 + k)
            for k, g in enumerate(self.gateways)
        ]
        names = (g.name for g in self.gateways)
        gateways = "\n".join(f"  - {{name: {n}, {way}}}" for n, way in zip(names, reached, strict=True))
        strings = "\n".join(self._string_yaml(s) for s in range(d.strings))
        return f"""
site: {name}
gateways:
{gateways}
bus: {{master: pcs, nominal_v: {d.bus_v}, min_v: {0.9 * d.bus_v}, max_v: {1.1 * d.bus_v}}}
timing: {timing}
module_types:
  salvaged:
    chemistry: {self.chemistry}
    cell_model: {CHEMISTRIES[self.chemistry][2]}
    n_cells: {d.cells}
    n_parallel: 1
    rated_capacity_ah: {d.rated_ah}
    soh_frac: 0.80
    soh_std_frac: 0.10
    resistance_scale: 1.3
    trim_rating_a: {d.trim_a}
    trim_efficiency_frac: 0.92
strings:
{strings}
mqtt: {{host: 127.0.0.1, port: 1883}}
fallback: {{action: zero}}
"""

    def _string_yaml(self, s: int) -> str:
        d = self.design
        fixed, linear, quadratic = d.loss
        return f"""  - name: {"ABCDEFGH"[s]}
    fuse_a: 100.0
    r_on_ohm: {d.r_on_ohm}
    converter:
      gateway: far-{s}
      unit_id: {RC1_UNIT}
      power_rating_w: {d.power_w}
      current_rating_a: {d.current_a}
      voltage_min_v: {d.window_v[0]}
      voltage_max_v: {d.window_v[1]}
      loss_fixed_w: {fixed}
      loss_linear_frac: {linear}
      loss_quadratic_w_per_a2: {quadratic}
    positions:
      - {{count: {d.modules}, gateway: far-{s}, first_unit_id: 1, label: "{"ABCDEFGH"[s]}{{n:02d}}",
         serial: "FRGN-{s}-{{n:02d}}", module_type: salvaged}}"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--strings", type=int, default=1)
    parser.add_argument("--modules", type=int, default=12)
    parser.add_argument("--cells", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cv", type=float, default=0.13)
    parser.add_argument("--soc", type=float, default=0.95)
    parser.add_argument("--soc-std", type=float, default=0.0)
    parser.add_argument("--trim", type=float, default=0.0)
    parser.add_argument("--ocv-std", type=float, default=0.0)
    parser.add_argument("--noise", type=float, default=1.0)
    parser.add_argument("--resting", type=int, default=2, help="modules that may rest when nearly empty")
    parser.add_argument("--chemistry", choices=sorted(CHEMISTRIES), default="NMC")
    parser.add_argument("--kind", choices=["tcp", "rtu"], default="tcp")
    parser.add_argument("--time-scale", type=float, default=1.0)
    parser.add_argument("--timing", default=TIMING)
    parser.add_argument("--write-site", type=Path, required=True)
    a = parser.parse_args()
    low, high = (2.9, 4.28) if a.chemistry == "NMC" else (2.5, 3.75)
    window = (low * a.cells * (a.modules - a.resting), high * a.cells * a.modules)
    limits = (2.5, 4.3) if a.chemistry == "NMC" else (2.0, 3.9)
    design = Design(
        strings=a.strings, modules=a.modules, cells=a.cells, soh_cv=a.cv, soc=a.soc, soc_std=a.soc_std,
        trim_a=a.trim, ocv=CHEMISTRIES[a.chemistry][1], ocv_std_v=a.ocv_std, noise=a.noise, window_v=window,
        trip_v=limits, cut_v=3.0 if a.chemistry == "NMC" else 2.5,
        power_w=100.0 * round(4.0 * a.cells * a.modules * 60.0 / 100.0),
    )  # fmt: skip
    plant = Plant(replace(design), seed=a.seed, chemistry=a.chemistry, kind=a.kind)
    plant.time_scale = a.time_scale
    with plant:
        a.write_site.write_text(plant.site_yaml(timing=a.timing), encoding="utf-8")
        print(json.dumps({g.name: g.endpoint for g in plant.gateways}), flush=True)
        for line in sys.stdin:
            if line.strip() == "writes":
                told = [(w.at_s, w.gateway, w.unit, w.address, w.words, w.closed) for w in plant.writes]
                print(json.dumps(told), flush=True)
            else:
                with plant.lock:
                    print(json.dumps(plant.report()), flush=True)


if __name__ == "__main__":
    main()
