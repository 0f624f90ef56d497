"""Random histories that the shipped guard admits; a sample here, every set and age in soak."""

import numpy as np
import pytest

from edge import plating_table
from edge.bench.plating_histories import live, run
from edge.bench.plating_plot import draw
from edge.plating_burst import burst_rates
from edge.plating_follow import follow
from edge.plating_table import MARGIN_V, over_rests
from reconf.electrochem.parameters import load_anode_set

MODEL_V = 0.003
"""What a history may be worse than the ones the table was made from."""


@pytest.mark.parametrize(("name", "kelvin"), [("OKane2022", 263.15), ("Chen2020", 298.15)])
def test_no_admitted_history_comes_near_plating(name, kelvin):
    lived = live(name, kelvin, lives=25, hours=1.0)
    assert lived.lowest_v.min() > MARGIN_V - MODEL_V, lived.at_soc_frac[lived.lowest_v.argmin()]
    # and the guard is not idle: these are the sets that bind here
    assert lived.lowest_v.min() < 0.03


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_no_set_at_any_age_plates_in_any_history():
    found = run()
    assert found["lowest_mv"] > 0.0, found["by_case_mv"]


def test_rests_on_the_way_only_lower_the_rate(monkeypatch):
    monkeypatch.setattr(plating_table, "RESTS", (0.6,))
    parameters, kelvin = load_anode_set("OKane2022"), np.array([298.15, 300.65, 303.15])
    empty, lowest = follow(parameters, kelvin, MARGIN_V), over_rests(parameters, kelvin, MARGIN_V)
    later = np.isfinite(empty.rate_per_h)
    assert (lowest.rate_per_h[later] <= empty.rate_per_h[later] + 1e-12).all()
    between = (empty.soc_frac > 0.6) & (empty.soc_frac < 0.75)
    assert lowest.rate_per_h[between, 0].min() <= 1.0 * empty.rate_per_h[between, 0].min()


def test_a_rested_anode_bears_more_and_the_less_the_colder():
    rates = burst_rates(
        load_anode_set("Chen2020"), np.array([263.15, 298.15]), np.array([0.3, 0.5, 0.8]), MARGIN_V
    )
    assert (np.diff(rates, axis=0) > 0.0).all()
    assert (np.diff(rates, axis=1) < 0.0).all()
    assert rates[1, 2] == pytest.approx(0.65, abs=0.05)


def test_the_comparison_is_drawn(tmp_path):
    rows = [
        {"soc_frac": z, "allowed_per_h": 1.0 - z, "envelope_per_h": 0.9 - z, "dfn_allows_per_h": 1.1 - z}
        for z in (0.2, 0.5, 0.8)
    ]
    unsolved = [{"soc_frac": 0.5, "allowed_per_h": 0.5, "envelope_per_h": 0.4}]
    sets = {"Chen2020": {"263.15": {"by_soc": rows}, "298.15": {"by_soc": unsolved}}}
    draw({"sets": sets}, tmp_path / "guard.png")
    assert (tmp_path / "guard.png").read_bytes().startswith(b"\x89PNG")
