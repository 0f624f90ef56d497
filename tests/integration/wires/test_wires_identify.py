"""Identify over real sockets, and the commands as people call them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from wires_rig import wired_site, wires

from edge.cli.main import main
from edge.store.store import take
from edge.wires.identify import Prover, blink
from edge.wires.looking import RackOptions
from edge.wires.report import check_report
from reconf.commissioning.insertion import Switch
from reconf.errors import TransportError

RACK = RackOptions(module_watchdog_s=3.0, string_watchdog_s=1.5, time_scale=10.0, look_every_s=0.03)


async def test_the_lamp_is_written_and_read_back():
    async with wires(wired_site(n_modules=3)) as w:
        await blink(w.site.gateways[0], 2, 30)
        assert [pdu.hex() for _, _, pdu in w.written()] == ["060007001e"]
        with pytest.raises(TransportError):
            await blink(w.site.gateways[0], 99, 30)


@pytest.mark.parametrize(
    ("fault", "switch"),
    [
        ("crossed@W-A3", Switch.BACKWARDS),
        ("stuck-bypassed@W-A3", Switch.STUCK_BYPASSED),
    ],
)
async def test_a_module_is_proven_over_two_others_and_left_bypassed(fault, switch):
    async with wires(wired_site(n_modules=6), [fault]) as w:
        proof = await Prover(w.site, 2, RACK).run()
        assert proof.tried.switch is switch
        assert len(proof.base) == 2
        assert "A3" not in proof.base
        await asyncio.sleep(0.15)
        assert not (w.bank.plant.inputs.inserted & (w.bank.rm1.faults.stuck != 1)).any()


# ---- as commands -------------------------------------------------------------------------------

SITE = """
site: bench
gateways: [{name: line-0, kind: tcp, host: 127.0.0.1, port: PORT, timeout_s: 1.0}]
bus: {master: pcs, nominal_v: 400.0, min_v: 360.0, max_v: 440.0}
module_types:
  m:
    {chemistry: NMC, cell_model: nmc_generic, n_cells: 4, n_parallel: 1, rated_capacity_ah: 60.0,
     soh_frac: 0.8, soh_std_frac: 0.05, resistance_scale: 1.2, trim_rating_a: 5.0, trim_efficiency_frac: 0.92}
strings:
  - name: A
    fuse_a: 80.0
    r_on_ohm: 0.0005
    converter:
      {gateway: line-0, unit_id: 201, power_rating_w: 4000.0, current_rating_a: 60.0, voltage_min_v: 50.0,
       voltage_max_v: 90.0, loss_fixed_w: 5.0, loss_linear_frac: 0.01, loss_quadratic_w_per_a2: 0.02}
    positions:
      - {count: 5, gateway: line-0, first_unit_id: 1, label: "A{n:02d}", serial: "W-A{n}", module_type: m}
"""


def called(*arguments: object) -> int:
    """Exit code of a command, called here: it speaks into this process's stdout and stderr."""
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    return int(ended.value.code or 0)


async def started(*arguments: object) -> asyncio.subprocess.Process:
    """A command as a process of its own, where signals matter."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "edge.cli", *map(str, arguments)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


def bench_site(folder: Path, w) -> Path:
    """A site file for the twin of `w`, which has the same strings."""
    path = folder / "bench.yaml"
    path.write_text(SITE.replace("PORT", str(w.site.gateways[0].port)))
    return path


async def test_commands_ask_before_writing_refuse_a_site_in_use_and_sign_what_they_found(tmp_path, capsys):
    site = wired_site(n_modules=5)
    async with wires(site, time_scale=10.0) as w:
        file, state = bench_site(tmp_path, w), tmp_path / "state"
        scan = await asyncio.to_thread(called, "scan", "--site", file, "--json", "-", "--ids", "1..20")
        assert scan == 1  # the converter was not among the ids tried
        assert [d["kind"] for d in json.loads(capsys.readouterr().out)["differences"]] == ["missing"]
        assert await asyncio.to_thread(called, "identify", "A03", "--site", file) == 1
        assert "--yes" in capsys.readouterr().err
        handle = take(state)
        refused = await asyncio.to_thread(called, "commission", "--site", file, "--state-dir", state, "--yes")
        assert refused == 2
        assert "another process owns" in capsys.readouterr().err
        os.close(handle)
        assert not w.written()
        key = tmp_path / "me.pem"
        key.touch(mode=0o600)
        key.write_bytes(
            Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        report = tmp_path / "c.json"
        skipped = ("--skip=switch", "--skip=watchdog", "--skip=trim", "--skip=line")
        written = ("--report", report, "--report", tmp_path / "c.pdf", "--report", tmp_path / "c.html")
        process = await started(
            *("commission", "--site", file, "--state-dir", state, "--yes", "--time-scale", 10),
            *("--key", key, *written, *skipped),
        )
        _, stderr = await asyncio.wait_for(process.communicate(), 60.0)
        assert process.returncode == 1, stderr.decode()
        found, fits = check_report(report)
        assert fits
        assert found["verdict"] == "incomplete"
        assert (tmp_path / "c.pdf").read_bytes().startswith(b"%PDF")
        assert "not closed before" in (tmp_path / "c.html").read_text()
        report.write_text(report.read_text().replace('"incomplete"', '"pass"'))
        assert not check_report(report)[1]


async def test_ctrl_c_in_the_middle_of_commissioning_leaves_the_site_open_and_bypassed(tmp_path: Path):
    site = wired_site(n_modules=5)
    async with wires(site, time_scale=10.0) as w:
        file = bench_site(tmp_path, w)
        process = await started(
            *("commission", "--site", file, "--yes", "--time-scale", 10, "--skip", "line"),
            *("--state-dir", tmp_path / "state"),
        )
        for _ in range(2000):  # the command has to start first
            if w.bank.plant.inputs.inserted.any():
                break
            await asyncio.sleep(0.05)
        assert w.bank.plant.inputs.inserted.any()
        process.send_signal(signal.SIGINT)
        _, stderr = await asyncio.wait_for(process.communicate(), 60.0)
        assert process.returncode == 130, stderr.decode()
        assert "left open and bypassed" in stderr.decode()
        await asyncio.sleep(0.15)
        assert not w.bank.plant.inputs.inserted.any()
        assert (tmp_path / "state" / "commissioning.json").is_file()


def test_a_site_cannot_be_proven_without_a_site_file(capsys):
    assert called("identify", "--tcp", "127.0.0.1:1", "--unit", "3", "--prove", "--yes") == 2
    assert "needs a site file" in capsys.readouterr().err
