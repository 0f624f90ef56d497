"""`reconf demo` as a newcomer starts it, on a site of a third of the size, from a fifth of the charge."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from edge.demo_processes import DemoError, DemoSetup, Processes
from reconf.config import load_site
from reconf.shipped import find_site_file

pytestmark = pytest.mark.timeout(300)

KEYS = {
    "delivered_kwh", "delivered_bus_kwh", "converter_loss_kwh", "ideal_kwh", "utilisation",
    "fixed_series_kwh", "sorted_series_kwh", "recharge_kwh", "round_trip", "violations", "intervals",
    "fallback_intervals", "solve_ms_p50", "solve_ms_p99", "tick_ms_p99",
}  # fmt: skip


@pytest.fixture
def small_demo(tmp_path: Path) -> Path:
    """The shipped demo with 8 modules in a string, of which two may rest until the end."""
    text = find_site_file(Path("demo")).read_text(encoding="utf-8")
    for old, new in (
        ("count: 24", "count: 8"),
        ("voltage_min_v: 730.0", "voltage_min_v: 208.0"),
        ("voltage_max_v: 1230.0", "voltage_max_v: 410.0"),
        ("power_rating_w: 40000.0", "power_rating_w: 14000.0"),
        ("loss_fixed_w: 60.0", "loss_fixed_w: 20.0"),
    ):
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "small_demo.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def command(site: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "edge.cli", "demo", "--site", str(site), "--soc", "0.2", *more]


def test_one_cycle_gives_the_promised_figures_and_a_picture(small_demo: Path, tmp_path: Path) -> None:
    picture = tmp_path / "run.png"
    done = subprocess.run(
        command(small_demo, "--once", "--json", "-", "--png", str(picture), "--time-scale", "150"),
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    figures = json.loads(done.stdout)  # nothing but JSON on stdout
    assert figures.keys() >= KEYS
    assert figures["violations"] == 0
    assert figures["intervals"] > 10
    # on a busy machine answers come late; that there are none is for the demo itself to show
    assert figures["fallback_intervals"] < figures["intervals"]
    assert 0.0 < figures["fixed_series_kwh"] < figures["sorted_series_kwh"] < figures["ideal_kwh"]
    assert 0.85 < figures["utilisation"] <= 1.01
    assert figures["utilisation"] == pytest.approx(figures["delivered_kwh"] / figures["ideal_kwh"], abs=1e-4)
    assert figures["fixed_series_kwh"] < figures["delivered_kwh"]
    assert figures["delivered_bus_kwh"] < figures["delivered_kwh"], "the converters lose some"
    assert figures["recharge_kwh"] > 0.5 * figures["delivered_kwh"]
    assert 0.85 < figures["round_trip"] < 1.0
    assert figures["solve_ms_p50"] <= figures["solve_ms_p99"]
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_nothing_outlives_a_demo_that_is_killed(small_demo: Path) -> None:
    with subprocess.Popen(
        command(small_demo, "--time-scale", "20"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as demo:
        mine: dict[int, psutil.Process] = {}
        end = time.monotonic() + 200.0
        # broker, twin and daemon, and the daemon's own: its worker and those who hear commands
        while len(mine) < 5 or not any("spawn_main" in " ".join(_line(p)) for p in mine.values()):
            assert demo.poll() is None
            assert time.monotonic() < end
            time.sleep(0.2)
            mine |= {p.pid: p for p in psutil.Process(demo.pid).children(recursive=True)}
        time.sleep(1.0)
        mine |= {p.pid: p for p in psutil.Process(demo.pid).children(recursive=True)}
        demo.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(list(mine.values()), timeout=80.0)
    try:
        assert alive == []
    finally:
        for process in alive:
            process.kill()


def _line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


async def test_a_start_that_fails_leaves_no_process(tmp_path: Path) -> None:
    before = set(psutil.Process().children())
    setup = DemoSetup(tmp_path / "none.yaml", load_site("demo"), 60.0, 1, 0.5, tmp_path)
    with pytest.raises(DemoError, match="twin ended by itself"):
        async with Processes(setup):
            pytest.fail("there is no such site file")
    assert set(psutil.Process().children()) == before
    assert (tmp_path / "broker.log").exists(), "the broker had been started"
