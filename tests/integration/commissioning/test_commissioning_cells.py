"""The gain of sorting and of time-sharing on real retired cells, and large lots in time."""

from pathlib import Path

import pytest

from edge.bench.binning import run, run_cells

DATA = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "retired_cell_pulses"


@pytest.mark.needs_data
@pytest.mark.skipif(not DATA.exists(), reason=f"no pulse tables in ../shared/data/{DATA.name}")
def test_six_strings_of_twelve_from_eighty_retired_cells():
    got = run_cells(DATA / "LMO_10Ah_W_5000.csv.gz", 6, 12, 500, 1)
    share = {k: v["mean"] for k, v in got["utilisation"].items()}
    assert got["cells"] == 80
    assert share["random_fixed"] == pytest.approx(0.72, abs=0.01)
    assert share["sorted_fixed"] == pytest.approx(0.96, abs=0.005)
    assert share["shared_11_of_12"] == pytest.approx(0.97, abs=0.005)
    assert share["shared_10_of_12"] == pytest.approx(0.999, abs=0.001)
    for one in got["utilisation"].values():
        assert one["cells_90"][0] < one["mean"] < one["cells_90"][1]


def test_ten_thousand_modules_in_ten_seconds():
    got = run(10_000, 1)
    assert got["seconds"] < 10.0
    assert -1e-9 <= got["gap"] < 0.001
    assert got["objective"] <= got["bound"] * (1 + 1e-9)
