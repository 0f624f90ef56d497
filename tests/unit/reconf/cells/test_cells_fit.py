"""Fitting: logs in, parameters out; on made logs with known truth, and on the real Leaf cell."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from edge.cli.fit import app
from reconf.cells import load_cell_model, read_cell_model
from reconf.cells.fit_ecm import fit_ecm, full_charge_sample, prepare
from reconf.cells.fit_logs import TestLog, read_log
from reconf.cells.fit_ocv import fit_ocv
from reconf.cells.fit_score import score_cells
from reconf.cells.fit_thermal import fit_thermal, heat_w, simulate
from reconf.cells.fit_write import simulate_v
from reconf.errors import DataFileError

LEAF = Path(__file__).resolve().parents[4] / ".." / "shared" / "data" / "nissan_leaf_cell_module"
needs_leaf = pytest.mark.skipif(not LEAF.is_dir(), reason="no ../shared/data/nissan_leaf_cell_module")


def log_of(time_s, current_a, voltage_v, temperature=None):
    moved = np.concatenate(([0.0], np.cumsum(current_a[1:] * np.diff(time_s)))) / 3600.0
    warm = np.empty((len(time_s), 0)) if temperature is None else temperature[:, None]
    return TestLog("made", time_s, current_a, voltage_v, moved, np.empty((len(time_s), 0)), warm)


def made_pulse_log(capacity_ah=30.0):
    """A pulse test of the Leaf model: 10 A down to empty with a 30 A pulse and a rest every 10 %."""
    current = [0.0] * 30
    for _ in range(10):
        current += [30.0] * 30 + [0.0] * 40 + [10.0] * 990 + [0.0] * 600
    current = np.array(current)
    time_s = np.arange(len(current), dtype=float)
    model = load_cell_model("leaf_lmo")
    log = log_of(time_s, current, np.zeros(len(current)))
    voltage = simulate_v(model, log, capacity_ah)
    return TestLog(
        "made", time_s, current, voltage, log.discharged_ah, log.cell_voltage_v, log.temperature_degc
    )


def test_ecm_fit_finds_the_parameters_behind_a_made_log():
    log = made_pulse_log()
    model = load_cell_model("leaf_lmo")
    fit = fit_ecm([prepare(log, 25.0, 30.0, full_charge_sample(log, 0.5))], 30.0)
    assert fit.rmse_v["made"] < 0.001
    middle = (fit.soc_frac > 0.15) & (fit.soc_frac < 0.95)
    truth = model.curve("r0_ohm_ah", fit.soc_frac[middle]) / 30.0
    assert fit.r0_ohm[middle] == pytest.approx(truth, rel=0.06)
    inside = (fit.ocv_soc_frac > 0.12) & (fit.ocv_soc_frac < 0.98)
    assert fit.ocv_v[inside] == pytest.approx(model.ocv_v(fit.ocv_soc_frac[inside]), abs=0.006)


def test_ocv_fit_cancels_leads_and_drop():
    model = load_cell_model("leaf_lmo")
    down = np.full(3000, 2.0)
    current = np.concatenate(([0.0], down, np.zeros(20), -down))
    time_s = np.arange(len(current)) * 18.0
    log = log_of(time_s, current, np.zeros(len(current)))
    voltage = model.ocv_v(1.0 - log.discharged_ah / 30.0) - 0.12 * current  # 120 mohm of leads
    fit = fit_ocv(log_of(time_s, current, voltage))
    inside = (fit.soc_frac > 0.04) & (fit.soc_frac < 0.97)
    assert fit.ocv_v[inside] == pytest.approx(model.ocv_v(fit.soc_frac[inside]), abs=0.004)
    assert np.interp(0.5, fit.soc_frac, fit.half_gap_v) == pytest.approx(0.24, abs=0.002)
    assert fit.branches == 2


def test_ocv_fit_finds_where_a_charge_tapers_however_densely_the_taper_is_logged():
    model = load_cell_model("leaf_lmo")
    down, steady, taper = np.full(3000, 2.0), np.full(2000, 2.0), np.geomspace(1.99, 0.2, 4000)
    spare_s = (
        (3000 - 2000) * 18.0 * 2.0 / taper.sum()
    )  # the taper fills what the steady part left, second by second
    interval_s = np.concatenate(
        (np.full(3001, 18.0), np.full(20, 18.0), np.full(2000, 18.0), np.full(4000, spare_s))
    )
    current = np.concatenate(([0.0], down, np.zeros(20), -steady, -taper))
    log = log_of(np.cumsum(interval_s), current, np.zeros(len(current)))
    voltage = model.ocv_v(1.0 - log.discharged_ah / 30.0) - 0.1 * current
    voltage[-4000:] = voltage[-4001]
    fit = fit_ocv(log_of(log.time_s, current, voltage))
    top = (fit.soc_frac > 0.5) & (fit.soc_frac < 0.97)
    assert fit.ocv_v[top] == pytest.approx(model.ocv_v(fit.soc_frac[top]), abs=0.004)
    assert fit.drop_at_1c_v == pytest.approx(0.1 * 30.0, rel=0.03)


def test_ocv_fit_refuses_a_fast_log():
    current = np.concatenate(([0.0], np.full(3000, 30.0)))
    log = log_of(np.arange(3001) * 1.2, current, np.linspace(4.0, 3.0, 3001))
    with pytest.raises(DataFileError, match="slow"):
        fit_ocv(log)


def test_thermal_fit_finds_capacity_and_cooling_again():
    model = load_cell_model("leaf_lmo")
    current = np.concatenate((np.full(2400, 30.0), np.zeros(4800)))
    time_s = np.arange(7200, dtype=float)
    log = log_of(time_s, current, np.zeros(7200), np.full(7200, 20.0))
    voltage = simulate_v(model, log, 30.0) * 4
    first = TestLog(
        "made", time_s, current, voltage, log.discharged_ah, log.cell_voltage_v, log.temperature_degc
    )
    truth = (3000.0, 600.0, 3000.0 / 270.0, 1.5)
    surface = simulate(time_s, heat_w(first, model, 30.0, 1.0, 4), 20.0, 20.0, truth)
    warm = TestLog("made", time_s, current, voltage, log.discharged_ah, log.cell_voltage_v, surface[:, None])
    fit = fit_thermal(warm, model, 30.0, cells=4)
    total = fit.parameters.heat_capacity_core_j_per_k_ah + fit.parameters.heat_capacity_surface_j_per_k_ah
    assert total * 120.0 == pytest.approx(3600.0, rel=0.03)
    assert fit.parameters.conductance_surface_ambient_w_per_k_ah * 120.0 == pytest.approx(1.5, rel=0.05)
    assert fit.cooling_identified
    short = fit_thermal(warm.window(0, 200), model, 30.0, cells=4)
    assert not short.cooling_identified


HEADERS = {
    "named": "time_s,current_a,voltage_v\n",
    "bitrode": "Total Time,Cycle,Current,Voltage,Amp-Hours\n",
    "units": "Time(s),Current(A),Voltage(V),Capacity(Ah)\n",
}


@pytest.mark.parametrize("kind", sorted(HEADERS))
def test_logs_read_alike_whatever_the_header(kind, tmp_path):
    lines = []
    for k in range(200):
        current = -10.0 if k >= 20 else 0.0
        voltage = 4.0 - (0.05 if k >= 20 else 0.0) - 1e-4 * k
        ah = round(min(0.0, -(k - 19) * 10.0 / 3600.0), 5) if k >= 20 else 0.0
        row = {
            "named": [k, current, voltage],
            "bitrode": [k, 1, current, voltage, ah],
            "units": [k, current, voltage, ah],
        }[kind]
        lines.append(",".join(str(x) for x in row))
    path = tmp_path / "log.csv"
    path.write_text("Some Test,of a cycler\n,\n" + HEADERS[kind] + "\n".join(lines) + "\n", encoding="utf-8")
    log = read_log(path)
    assert len(log.time_s) == 200
    assert log.current_a[100] == 10.0
    assert log.discharged_ah[-1] == pytest.approx(0.5, abs=0.01)


def test_a_log_that_makes_no_sense_names_file_and_line(tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text("time_s,current_a,voltage_v\n0,1,4.0\n1,1,four\n", encoding="utf-8")
    with pytest.raises(DataFileError, match=r"bad\.csv:3"):
        read_log(path)
    path.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(DataFileError, match="no header"):
        read_log(path)


def test_command_writes_a_file_that_loads(tmp_path):
    log = made_pulse_log()
    path = tmp_path / "pulse.csv"
    rows = zip(log.time_s, log.current_a, log.voltage_v, strict=True)
    path.write_text(
        "time_s,current_a,voltage_v\n" + "\n".join(f"{t},{i},{v:.5f}" for t, i, v in rows), encoding="utf-8"
    )
    out, plot = tmp_path / "mine.yaml", tmp_path / "fit.png"
    done = CliRunner().invoke(
        app,
        [
            "ecm",
            str(path),
            "--capacity-ah",
            "30",
            "--base",
            "leaf_lmo",
            "--out",
            str(out),
            "--plot",
            str(plot),
        ],
    )
    assert done.exit_code == 0, done.output
    assert "mV rms" in done.output
    assert plot.stat().st_size > 10_000
    mine, truth = read_cell_model(out), load_cell_model("leaf_lmo")
    soc = np.linspace(0.15, 0.95, 50)
    assert mine.ocv_v(soc) == pytest.approx(truth.ocv_v(soc), abs=0.015)
    refused = CliRunner().invoke(app, ["ecm", str(tmp_path / "absent.csv")])
    assert refused.exit_code == 2


@pytest.mark.needs_data
@needs_leaf
def test_leaf_hppc_is_fitted_within_2_mv():
    log = read_log(LEAF / "NissanLeaf-cell-Low-Current-HPPC-25C-2.csv")
    start = full_charge_sample(log, 0.5)
    assert log.voltage_v[start] > 4.15  # after the rest that follows the charge
    fit = fit_ecm([prepare(log, 25.0, 30.54, start)], 30.54)
    print(f"Leaf HPPC 25 degC: {1e3 * next(iter(fit.rmse_v.values())):.2f} mV rms")
    assert next(iter(fit.rmse_v.values())) < 0.002


@pytest.mark.needs_data
@needs_leaf
@pytest.mark.parametrize(("name", "bound_v"), [("1_0c", 0.009), ("0_3c", 0.007)])
def test_leaf_model_follows_three_real_modules(name, bound_v):
    log = read_log(LEAF / f"module123-irdischarge-65ah-{name}.csv")
    thin = slice(None, None, max(1, len(log.time_s) // 1400))
    part = TestLog(
        log.name, log.time_s[thin], log.current_a[thin], log.voltage_v[thin], log.discharged_ah[thin],
        log.cell_voltage_v[thin], log.temperature_degc[thin],
    )  # fmt: skip
    score = score_cells(load_cell_model("leaf_lmo"), part, 66.0)
    print(f"Leaf modules {name}: {np.round(1e3 * score.rmse_v, 1)} mV rms")
    assert (score.rmse_v < bound_v).all()
    assert int(np.argmin(score.capacity_ah * score.start_soc_frac)) == 0  # cell 1 ends the discharge
