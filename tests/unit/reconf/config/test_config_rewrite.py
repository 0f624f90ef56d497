"""Modules change places in a site file; everything else stays as it was written."""

import difflib
from dataclasses import replace
from pathlib import Path

import pytest

from reconf.config.load import parse_site
from reconf.config.rewrite import with_modules
from reconf.errors import ConfigError
from reconf.shipped import find_site_file

DEMO = Path(find_site_file("demo")).read_text()

SINGLES = """\
site: yard   # keep me
gateways:
  - {name: g, kind: tcp, host: 127.0.0.1}
bus: {master: pcs, nominal_v: 800.0, min_v: 720.0, max_v: 880.0}
module_types:
  a: {chemistry: NMC, cell_model: nmc_generic, n_cells: 12, rated_capacity_ah: 60.0}
  b: {chemistry: NMC, cell_model: nmc_generic, n_cells: 12, rated_capacity_ah: 50.0, trim_rating_a: 5.0}
strings:
  - name: A
    converter:
      {gateway: g, unit_id: 201, power_rating_w: 9000.0, current_rating_a: 60.0, voltage_min_v: 60.0,
       voltage_max_v: 160.0}
    positions:
      # the weak one
      - {label: A1, gateway: g, unit_id: 1, serial: M1, module_type: a, soh_frac: 0.7}
      - {label: A2, gateway: g, unit_id: 2, serial: "M2", module_type: a, trim_rating_a: 3.0}
      - label: A3  # in block style
        gateway: g
        unit_id: 3
        serial: M3
        module_type: b
"""


def swapped(text, a, b):
    site = parse_site(text, "x.yaml")
    by = {p.label: p.module for p in site.positions}
    return with_modules(text, "x.yaml", {a: by[b], b: by[a]}), by


@pytest.mark.parametrize(
    ("text", "a", "b"), [(DEMO, "A03", "B17"), (SINGLES, "A1", "A3"), (SINGLES, "A2", "A3")]
)
def test_two_modules_change_places_with_all_that_is_known_of_them(text, a, b):
    after, before = swapped(text, a, b)
    there = {p.label: p for p in parse_site(after, "x.yaml").positions}
    old = {p.label: p for p in parse_site(text, "x.yaml").positions}
    assert there[a].module == before[b]
    assert there[b].module == before[a]
    for label, position in there.items():
        assert replace(position, module=old[label].module) == old[label]
        if label not in (a, b):
            assert position.module == before[label]
    changed = [
        line for line in difflib.unified_diff(text.splitlines(), after.splitlines(), n=0, lineterm="")
        if line[:1] in "+-" and line[:3] not in ("+++", "---")
    ]  # fmt: skip
    assert len(changed) <= 14
    assert "# keep me" in after or text is DEMO


def test_back_and_forth_holds_the_same_site():
    once, before = swapped(DEMO, "A01", "B01")
    twice, _ = swapped(once, "A01", "B01")
    assert [p.module for p in parse_site(twice, "x").positions] == [
        replace(m, soh_frac=round(m.soh_frac, 4)) for m in before.values()
    ]


def test_a_module_of_a_kind_the_file_does_not_know_gets_a_type():
    site = parse_site(SINGLES, "x.yaml")
    stranger = replace(site.modules[0], serial="NEW", rated_capacity_ah=55.5, soh_frac=0.91)
    after = parse_site(with_modules(SINGLES, "x.yaml", {"A2": stranger}), "x.yaml")
    assert after.modules[1] == stranger


def test_merge_keys_and_exceptions_are_respected():
    text = DEMO.replace(
        "module_type: ev_nmc_12s}\n\n  - name: B",
        'module_type: ev_nmc_12s, exceptions: {3: {soh_frac: 0.5, label: "weak"}}}\n\n  - name: B',
    )
    assert text != DEMO
    after, before = swapped(text, "weak", "B02")
    there = {p.label: p.module for p in parse_site(after, "x").positions}
    assert there["B02"].soh_frac == 0.5
    assert there["weak"] == before["B02"]


def test_what_would_be_no_site_is_refused():
    site = parse_site(SINGLES, "x.yaml")
    with pytest.raises(ConfigError, match="no position is called Z9"):
        with_modules(SINGLES, "x.yaml", {"Z9": site.modules[0]})
    with pytest.raises(ConfigError):
        with_modules(SINGLES, "x.yaml", {"A2": site.modules[0]})  # M1 twice


def test_shipped_sites_survive_a_round_trip():
    for name in ("demo", "leaf_yard", "container"):
        text = Path(find_site_file(name)).read_text()
        assert with_modules(text, name, {}) == text
