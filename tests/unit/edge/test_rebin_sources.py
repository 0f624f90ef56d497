"""Where re-binning takes its measured values from, and what it says where there are none."""

import pytest

from edge.binning import read_lot
from edge.rebin import Labour, Question, measured_from_payloads, measured_from_state, propose, without_placed
from edge.store.store import Store
from reconf.config import load_site
from reconf.errors import DataFileError, ReconfError
from reconf.rebinning.pack import pack_of, spares_of

SITE = load_site("demo")


def payloads(capacity=45.0):
    return {
        s: {"serial": s, "capacity_ah": capacity, "capacity_std_ah": 0.5, "resistance_ohm": 0.02}
        for s in SITE.topology.serials[:10]
    }


def test_published_values_become_measured_ones_and_the_rest_counts_as_graded():
    source = measured_from_payloads(SITE, payloads(), "127.0.0.1:1883")
    assert len(source.known) == 10
    pack = pack_of(SITE, source.known)
    assert pack.measured.sum() == 10
    assert pack.lot.capacity_ah[0] == 45.0
    assert pack.lot.capacity_ah[20] == pytest.approx(48.0)
    assert pack.lot.resistance_ohm[0] == pytest.approx(0.02)


def test_nothing_known_is_told():
    nothing = {s: {**row, "capacity_ah": None} for s, row in payloads().items()}
    with pytest.raises(DataFileError, match="nothing was published"):
        measured_from_payloads(SITE, nothing, "broker:1883")


def test_a_state_directory_without_this_site_is_told(tmp_path):
    with pytest.raises(ReconfError):
        measured_from_state(tmp_path / "none", frozenset(SITE.topology.serials))
    with Store.open(tmp_path):
        pass
    with pytest.raises(DataFileError, match="has 'reconf run"):
        measured_from_state(tmp_path, frozenset(SITE.topology.serials))


def test_spares_follow_from_the_window_as_the_site_file_means_it():
    # the demo's window begins at 730 V: 21 of 24 modules of 12 cells at 2.9 V
    assert spares_of(SITE, 0) in (3, 4)


def test_a_visit_that_costs_more_than_all_moves_earn_is_not_proposed():
    weak = {0, 1, 24, 25}  # two in each string: far below what the trim converters can make up for
    known = {
        s: {"capacity_ah": 15.0 if k in weak else 50.0, "capacity_std_ah": 0.2}
        for k, s in enumerate(SITE.topology.serials)
    }
    source = measured_from_payloads(SITE, known, "broker")
    cheap = propose(SITE, source, None, Question(Labour(minutes_per_position=0.0), spares=0, draws=40))
    assert cheap.steps
    dear = Labour(minutes_per_position=0.0, visit_cost=1e7)
    assert not propose(SITE, source, None, Question(dear, spares=0, draws=40)).steps


def test_modules_of_the_site_are_not_on_its_shelf(tmp_path):
    table = tmp_path / "lot.csv"
    rows = [f"{SITE.topology.serials[0]},NMC,12,60,50", "SPARE-1,NMC,12,60,55"]
    table.write_text("serial,chemistry,n_cells,rated_capacity_ah,capacity_ah\n" + "\n".join(rows) + "\n")
    lot = without_placed(read_lot(table), frozenset(SITE.topology.serials))
    assert lot is not None
    assert lot.serials == ("SPARE-1",)
    assert without_placed(lot, frozenset({"SPARE-1"})) is None
