"""Cell models: curves, extrapolation, inverse, stacking."""

import numpy as np
import pytest

from reconf.cells import CellBank, arrhenius, cell_model_names, load_cell_model, read_cell_model
from reconf.cells.parameters import parameter_text, parse_cell_model
from reconf.errors import DataFileError, ParameterError
from reconf.site import Chemistry, ModuleSpec

NAMES = cell_model_names()


def module(serial: str, model: str, *, n_cells: int = 12, rated_ah: float = 60.0) -> ModuleSpec:
    chemistry = Chemistry(load_cell_model(model).chemistry)
    return ModuleSpec(serial, chemistry, model, n_cells, 1, rated_ah, 0.8, 0.05, 1.0, 5.0, 0.92)


def test_the_four_models_ship():
    assert {"leaf_lmo", "nmc_generic", "lfp_generic", "nca_generic"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
class TestEveryModel:
    def test_ocv_rises_everywhere_and_meets_the_cutoff(self, name):
        model = load_cell_model(name)
        soc = np.linspace(-0.15, 1.15, 4001)
        assert (np.diff(model.ocv_v(soc)) > 0).all()
        assert model.ocv_v(np.array([0.0]))[0] == pytest.approx(model.voltage_min_v, abs=1e-9)
        full = model.ocv_v(np.array([1.0]))[0]
        assert model.voltage_max_v - 0.12 < full <= model.voltage_max_v + 1e-9

    def test_dives_below_empty(self, name):
        model = load_cell_model(name)
        assert model.ocv_v(np.array([-0.03]))[0] < model.voltage_min_v - 0.5
        assert -1.6 < model.ocv_v(np.array([-0.12]))[0] < -1.0  # reversed, on the copper plateau

    def test_rises_with_age_and_heat_too(self, name):
        model = load_cell_model(name)
        soc = np.linspace(0.0, 1.0, 1001)
        for degc in (-20.0, 60.0):
            for soh in (0.5, 1.0):
                assert (np.diff(model.ocv_v(soc, degc, soh)) > 0).all(), (degc, soh)

    def test_resistance_doubles_in_the_cold(self, name):
        model = load_cell_model(name)
        half = np.array([0.5])
        ratio = sum(model.rc_ohm(half, 0.0)) / sum(model.rc_ohm(half, 25.0))
        assert 1.5 < ratio[0] < 5.0
        assert model.r0_ohm(half, 0.0)[0] > model.r0_ohm(half, 25.0)[0] > model.r0_ohm(half, 45.0)[0]

    def test_every_part_says_where_it_comes_from(self, name):
        sources = load_cell_model(name).sources
        assert sources
        assert all(row["what"] and row["source"] for row in sources)

    def test_validity_is_enforced(self, name):
        model = load_cell_model(name)
        model.require_valid(25.0, 1.0)
        with pytest.raises(ParameterError, match="degC"):
            model.require_valid(90.0, 1.0)
        with pytest.raises(ParameterError, match="C is above"):
            model.require_valid(25.0, -20.0)


def test_arrhenius_is_one_at_25_degc_and_doubles_as_computed_by_hand():
    assert arrhenius(np.array(25.0), 30000.0) == pytest.approx(1.0)
    # 30 kJ/mol from 298.15 to 278.15 K: exp(30000 / 8.314462618 * 2.41163e-4) = 2.387
    assert arrhenius(np.array(5.0), 30000.0) == pytest.approx(2.387, abs=0.002)


def test_only_lfp_has_hysteresis():
    wide = {n: load_cell_model(n).curve("hysteresis_v", np.array([0.5]))[0] for n in NAMES}
    assert wide["lfp_generic"] > 0.01
    assert wide["nmc_generic"] == wide["leaf_lmo"] == 0.0


def test_bank_answers_as_the_single_models_do():
    modules = [module(f"m{k}", name, rated_ah=40.0 + k) for k, name in enumerate(NAMES * 3)]
    bank = CellBank.of(modules)
    soc = np.random.default_rng(3).uniform(-0.08, 1.08, (len(modules), 5))
    point = bank.at(soc)
    for k, spec in enumerate(modules):
        model = load_cell_model(spec.cell_model)
        assert point.ocv_v[k] == pytest.approx(model.ocv_v(soc[k]), abs=1e-12)
        assert point.slope_v[k] == pytest.approx(model.docv_dsoc_v(soc[k]), rel=1e-9)
        assert point.r0_ohm[k] == pytest.approx(
            model.r0_ohm(soc[k]) * model.reference_capacity_ah / spec.rated_capacity_ah, rel=1e-9
        )
        assert bank.ocv_v(soc, 40.0, 0.7)[k] == pytest.approx(model.ocv_v(soc[k], 40.0, 0.7), abs=1e-12)


def test_bank_inverts_the_ocv_at_any_age_and_temperature():
    modules = [module(f"m{k}", name) for k, name in enumerate(NAMES)]
    bank = CellBank.of(modules)
    soc = np.random.default_rng(4).uniform(-0.05, 1.05, (len(modules), 200))
    degc, soh = np.full(len(modules), 10.0), np.full(len(modules), 0.75)
    back = bank.soc_of_ocv(bank.ocv_v(soc, degc, soh), degc, soh)
    assert np.abs(back - soc).max() < 1e-9


def test_bank_masks_the_groups_a_module_does_not_have():
    bank = CellBank.of([module("a", "nmc_generic", n_cells=2), module("b", "leaf_lmo", n_cells=5)])
    assert bank.mask.tolist() == [[True, True, False, False, False], [True] * 5]
    assert bank.heat_capacity_core_j_per_k[1] == pytest.approx(28.2 * 5 * 60.0)


def test_unknown_model_names_those_there_are():
    with pytest.raises(DataFileError, match="nmc_generic"):
        load_cell_model("unobtainium")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("voltage_min_v: 3.0\n", "", "voltage_min_v"),
        ("  ocv_v: [3.0, 3.0686", "  ocv_v: [3.9, 3.0686", "must rise"),
        ("  r0_ohm_ah: [0.047", "  r0_ohm_ah: [-0.047", "positive"),
        ("  soc_frac: [0, 0.0025,", "  soc_frac: [0.001, 0.0025,", "from SOC 0"),
        ("ocv:\n", "ocv: [\n", "not readable"),
    ],
)
def test_a_broken_parameter_file_says_what_is_wrong(old, new, message, tmp_path):
    text = parameter_text("nmc_generic")
    assert old in text
    path = tmp_path / "broken.yaml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(DataFileError, match=message):
        read_cell_model(path)


def test_a_file_anywhere_reads_like_a_shipped_one(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(parameter_text("leaf_lmo"), encoding="utf-8")
    assert read_cell_model(path).curves == pytest.approx(parse_cell_model(path.read_text(), "x").curves)
    with pytest.raises(DataFileError, match="No such file"):
        read_cell_model(tmp_path / "none.yaml")
