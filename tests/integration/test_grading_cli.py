"""`reconf grade pulses` and `reconf bench soh` on the real retired cells."""

import csv
import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge.bench.soh import run
from edge.grading import load_models, train_all
from reconf.grading.artefact import dumps, loads

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data" / "retired_cell_pulses"
needs_data = pytest.mark.skipif(not DATA.exists(), reason=f"no pulse tables in ../shared/data/{DATA.name}")


def reconf(*args):
    return subprocess.run(
        [sys.executable, "-m", "edge.cli", *map(str, args)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )


def table(name):
    with gzip.open(DATA / name, "rt") as stream:
        return list(csv.DictReader(stream))


def grade(tmp_path, *args):
    out = tmp_path / "graded.csv"
    done = reconf("grade", "pulses", *args, "--out", out)
    assert done.returncode == 0, done.stderr
    with out.open() as stream:
        return list(csv.DictReader(stream))


@pytest.mark.needs_data
@needs_data
def test_grades_a_known_type_with_an_interval(tmp_path):
    got = grade(tmp_path, "--chemistry", "LMO", "--rated-ah", "10", DATA / "LMO_10Ah_W_5000.csv.gz")
    truth = np.array([float(r["SOH"]) for r in table("LMO_10Ah_W_5000.csv.gz")])
    soh, low, high = (np.array([float(r[k]) for r in got]) for k in ("soh", "soh_low", "soh_high"))
    assert list(got[0]) == ["ID", "soh", "soh_low", "soh_high", "in_domain"]
    assert np.abs(soh - truth).mean() < 0.02
    assert ((low <= truth) & (truth <= high)).mean() > 0.9
    assert np.mean([r["in_domain"] == "true" for r in got]) > 0.95


@pytest.mark.needs_data
@needs_data
def test_another_type_is_flagged_with_a_wide_interval(tmp_path):
    got = grade(tmp_path, "--chemistry", "LMO", "--rated-ah", "10", DATA / "LFP_35Ah_W_5000.csv.gz")
    assert all(r["in_domain"] == "false" for r in got)
    assert all(float(r["soh_high"]) - float(r["soh_low"]) > 0.5 for r in got)


@pytest.mark.needs_data
@needs_data
def test_cold_rows_are_out_of_domain(tmp_path):
    rows = table("LMO_10Ah_W_5000.csv.gz")[:4]
    source = tmp_path / "cold.csv"
    with source.open("w", newline="") as stream:
        writer = csv.DictWriter(
            stream, ["ID", *[f"U{i}" for i in range(1, 22)], "temperature_degc"], extrasaction="ignore"
        )
        writer.writeheader()
        for r, t in zip(rows, (25, 10, 29, 35), strict=True):
            writer.writerow({**r, "ID": f"c{t}", "temperature_degc": t})
    got = grade(tmp_path, "--chemistry", "LMO", "--rated-ah", "10", source)
    assert [r["in_domain"] for r in got] == ["true", "false", "true", "false"]


@pytest.mark.needs_data
@needs_data
def test_two_pulses_are_paired_by_id(tmp_path):
    rows = [r for r in table("LFP_35Ah_W_5000.csv.gz") if float(r["SOC"]) in (20.0, 40.0)]
    source = tmp_path / "two.csv"
    with source.open("w", newline="") as stream:
        writer = csv.DictWriter(
            stream, ["ID", *[f"U{i}" for i in range(1, 22)], "ah_since_first"], extrasaction="ignore"
        )
        writer.writeheader()
        for r in rows:
            writer.writerow({**r, "ah_since_first": 0 if float(r["SOC"]) == 20.0 else -7.0})
    got = grade(tmp_path, "--chemistry", "LFP", "--rated-ah", "35", "--two-pulse", source)
    truth = {r["ID"]: float(r["SOH"]) for r in rows}
    assert len(got) == len(truth)
    assert np.mean([abs(float(r["soh"]) - truth[r["ID"]]) for r in got]) < 0.015


@pytest.mark.needs_data
@needs_data
def test_training_gives_the_shipped_artefact():
    shipped = load_models()
    again = loads("again", train_all(DATA))
    for a, b in zip(shipped, again, strict=True):
        assert (a.chemistry, a.rated_ah, a.pulses) == (b.chemistry, b.rated_ah, b.pulses)
        assert a.width == pytest.approx(b.width, rel=1e-3)


@pytest.mark.needs_data
@needs_data
def test_cell_disjoint_errors_meet_the_published_level():
    got = run(DATA, shufflings=(1,))
    worst_mae = {"LMO10": 2.5, "NMC21": 1.0, "LFP35": 2.9, "NMC2.1": 3.3}
    worst_mape = {"LMO10": 1.66, "LFP35": 2.19, "NMC21": 1.16}
    for name, limit in worst_mae.items():
        one = got["types"][name]["one_pulse"]
        assert one["mae_points"] < limit, (name, one)
        assert 0.87 <= one["coverage90"] <= 0.96, (name, one)
        assert one["mean_width_points"] <= 5 * one["mae_points"], (name, one)
        assert one["known_flagged"] <= 0.05, (name, one)
    for name, limit in worst_mape.items():
        assert got["types"][name]["two_pulse"]["mape_percent"] <= limit, name
    assert got["out_of_domain_flagged"] >= 0.95


def test_the_artefact_is_small_and_survives_a_round_trip():
    models = load_models()
    text = dumps(models, "test")
    assert len(text) < 600_000
    assert dumps(loads("x", text), "test") == text


def test_bad_files_get_a_message_not_a_traceback(tmp_path):
    latin = tmp_path / "latin.csv"
    latin.write_bytes("ID,U1\nZelle\xe4,3".encode("latin-1"))
    for path, message in ((latin, "not UTF-8"), (tmp_path / "none.csv", "cannot be read")):
        done = reconf("grade", "pulses", "--chemistry", "LMO", "--rated-ah", "10", path)
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    done = reconf("grade", "pulses", "--chemistry", "NCA", "--rated-ah", "10", latin)
    assert done.returncode == 2
    assert "trained: LFP 35 Ah" in done.stderr


def test_json_goes_to_stdout_alone():
    done = reconf("bench", "soh", "--data", "nowhere", "--json", "-")
    assert done.returncode == 2
    assert done.stdout == ""
    with pytest.raises(json.JSONDecodeError):
        json.loads(done.stdout)
