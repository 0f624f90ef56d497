"""Site files: the shipped ones load, broken ones are told apart line by line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML
from typer.testing import CliRunner

from edge.cli.main import app
from edge.northbound.actions import ARGS
from reconf.config import SiteFileError, load_site, parse_site, site_schema
from reconf.config.document import reference
from reconf.config.model_links import ACTIONS
from reconf.devices.site_io import (
    INPUT_SIGNALS,
    OUTPUT_SIGNALS,
    UnitCodec,
    UnitReading,
    load_io_profile,
    site_inputs,
)
from reconf.errors import ConfigError
from reconf.shipped import find_site_file
from reconf.site import Chemistry

GOOD = """\
site: yard
gateways:
  - {name: g1, kind: tcp, host: 127.0.0.1, port: 502}
bus: {nominal_v: 400, min_v: 380, max_v: 420}
module_types:
  t: {chemistry: NMC, cell_model: nmc_generic, n_cells: 12, rated_capacity_ah: 60, soh_frac: 0.8}
strings:
  - name: A
    fuse_a: 80
    converter: {gateway: g1, unit_id: 201, power_rating_w: 5000, current_rating_a: 60, voltage_min_v: 100, voltage_max_v: 210}
    positions:
      - {count: 3, gateway: g1, first_unit_id: 1, label: "A{n}", serial: "S{n:03d}", module_type: t}
      - {label: X, gateway: g1, unit_id: 9, serial: ODD, module_type: t, soh_frac: 0.5, n_cells: 10}
"""  # noqa: E501 - one line of the file is one line here, so that line numbers can be counted


def findings(text: str) -> list[str]:
    with pytest.raises(SiteFileError) as caught:
        parse_site(text, "f.yaml")
    return [str(f) for f in caught.value.findings]


def one(text: str) -> str:
    found = findings(text)
    assert len(found) == 1, found
    return found[0]


def test_a_good_file_is_understood() -> None:
    site = parse_site(GOOD, "f.yaml")
    assert [p.module.serial for p in site.positions] == ["S001", "S002", "S003", "ODD"]
    assert [p.unit_id for p in site.positions] == [1, 2, 3, 9]
    assert [p.label for p in site.positions] == ["A1", "A2", "A3", "X"]
    assert site.modules[3].soh_frac == 0.5
    assert site.topology.n_cells.tolist() == [12, 12, 12, 10]
    assert site.limits[Chemistry.NMC]["cell_voltage_v", "max"].safety == 4.25
    assert site.mqtt.protocol == "5"


@pytest.mark.parametrize("name", ["demo", "leaf_yard", "container"])
def test_shipped_files_load_and_satisfy_their_schema(name: str) -> None:
    site = load_site(name)
    raw = YAML(typ="safe", pure=True).load(find_site_file(name).read_text())
    Draft202012Validator(site_schema()).validate(raw)
    assert site.source_file.endswith(f"{name}.yaml")


def test_demo_is_as_promised() -> None:
    site = load_site("demo")
    assert [len(s.positions) for s in site.strings] == [24, 24]
    assert {(m.chemistry, m.n_cells, m.rated_capacity_ah, m.trim_rating_a) for m in site.modules} == {
        (Chemistry.NMC, 12, 60.0, 5.0)
    }
    assert (site.timing.tick_s, site.timing.slot_s, site.timing.interval_s) == (5.0, 10.0, 60.0)
    assert site.twin_soh_cv == 0.13
    assert site.mqtt.protocol == "3.1.1"
    for string in site.strings:
        empty_v = 21 * 12 * site.limits[Chemistry.NMC]["cell_voltage_v", "min"].operating
        assert string.converter.voltage_min_v < empty_v
        assert string.converter.voltage_max_v > 24 * 12 * 4.2


def test_leaf_yard_is_as_promised() -> None:
    site = load_site("leaf_yard")
    assert {(g.kind, g.baudrate) for g in site.gateways} == {("rtu", 115200)}
    assert len(site.gateways) == 4
    assert len(site.modules) == 96
    assert np.all(site.topology.n_cells == 2)
    assert site.timing.tick_s == 2.0


def test_container_has_every_signal_and_output_wired() -> None:
    site = load_site("container")
    assert {p.signal for u in site.io for p in u.inputs} == set(INPUT_SIGNALS)
    assert {p.signal for u in site.io for p in u.outputs} == set(OUTPUT_SIGNALS)
    loops = {p.signal for u in site.io for p in u.inputs if p.active_low}
    assert loops == {"emergency_stop", "gas_alarm", "smoke_alarm", "fire_alarm"}, "a broken wire is an alarm"
    assert site.inputs.insulation_monitor
    assert site.thermal.cooling == "fan"
    assert site.thermal.cooling_power_w > 0.0
    panel = {u.gateway for u in site.io}
    assert not panel & {p.gateway for s in site.strings for p in s.positions}, "it has a line of its own"


def test_duplicate_serial_is_found_across_strings() -> None:
    text = one(GOOD.replace("serial: ODD", "serial: S002"))
    assert text.startswith("f.yaml:13: strings[0].positions[1].serial: found serial 'S002' a second time")


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("unit_id: 9", "unit_id: 2", 13, "unit id 2 on gateway 'g1'"),
        ("unit_id: 9", "unit_id: 201", 13, "at most 200"),
        ("unit_id: 201", "unit_id: 7", 10, "at least 201"),
        ("n_cells: 12,", "n_cells: 16,", 6, "at most 15"),
        ("module_type: t, soh", "module_type: s, soh", 13, "found 's'; allowed: t"),
        ("power_rating_w: 5000", "power_rating_w: 5 kW", 10, "write 5000"),
        ("power_rating_w: 5000", 'power_rating_w: "5000"', 10, "without quotes"),
        ("power_rating_w: 5000", "power_rating_w: 13000", 10, "at most voltage_max_v * current_rating_a"),
        ("current_rating_a: 60", "current_rating_a: 90", 10, "at most the string's fuse, 80 A"),
        (
            "voltage_min_v: 100, voltage_max_v: 210",
            "voltage_min_v: 300, voltage_max_v: 310",
            10,
            "no number of",
        ),
        ("voltage_min_v: 100, voltage_max_v: 210", "voltage_min_v: 300, voltage_max_v: 210", 10, "less than"),
        ("soh_frac: 0.5", "soh_frac: 50", 13, "write 0.5"),
        ("nominal_v: 400", "nominal_v: 300", 4, "min_v < nominal_v < max_v"),
        ("bus: {", "bus: {master: B, ", 4, "found 'B'; allowed: pcs, A"),
        ("cell_model: nmc_generic", "cell_model: lfp_generic", 6, "a model of LFP"),
        ("cell_model: nmc_generic", "cell_model: nmc_generik", 6, "did you mean 'nmc_generic'"),
        ("gateway: g1, first", "gateway: g2, first", 12, "found 'g2'"),
        ('serial: "S{n:03d}"', 'serial: "S"', 12, "a pattern with {n}"),
        ('serial: "S{n:03d}"', 'serial: "S{n.x}"', 12, "no other braces"),
        ("first_unit_id: 1,", "first_unit_id: 199,", 12, "at most 198"),
        ("kind: tcp", "kind: udp", 3, "found 'udp'; allowed: 'tcp' or 'rtu'"),
        ("site: yard", "site: a/b", 1, "matching"),
    ],
)
def test_each_mistake_has_its_line_and_remedy(old: str, new: str, line: int, words: str) -> None:
    assert old in GOOD
    text = one(GOOD.replace(old, new, 1))
    assert text.startswith(f"f.yaml:{line}: "), text
    assert words in text


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("timing: {tick_s: 2, slot_s: 3, interval_s: 30}\n", "timing.slot_s: found 3 s"),
        ("timing: {tick_s: 2, slot_s: 1, interval_s: 30}\n", "whole multiple of tick_s"),
        ("timming: {}\n", "did you mean 'timing'"),
        ("allocator: {soc_min_frac: 0.5, soc_max_frac: 0.5}\n", "less than soc_max_frac"),
        ("fallback: {action: schedule}\n", "'schedule' without steps"),
        ("mqtt: {host: 10.0.0.1, issuers: [{name: s}]}\n", "without TLS"),
        ("mqtt: {password_file: /x}\n", "username as well"),
        ("mqtt: {issuers: [{name: s, public_key: abc}]}\n", "base64 of 32 bytes"),
        (
            "limits:\n  NMC:\n    - {quantity: temperature_degc, side: max, safety: 40}\n",
            "recommended 49 must lie inside safety 40",
        ),
        (
            "limits:\n  NMC:\n    - {quantity: temperature, side: max}\n",
            "did you mean 'temperature_degc max'",
        ),
    ],
)
def test_sections_are_checked_against_each_other(extra: str, words: str) -> None:
    found = findings(GOOD + extra)
    assert any(words in text for text in found), found
    assert all(int(text.split(":")[1]) >= 14 for text in found), found


IO = """\
site_io:
  - name: block
    gateway: g1
    unit_id: 240
    profile: io16
    inputs: {emergency_stop: {point: DI1, active: low}, ambient_degc: {point: AI1}}
    outputs: {alarm: {point: DO1}, cooling: {point: AO1, full: 10}}
  - name: monitor
    gateway: g1
    unit_id: 241
    profile: imd
    inputs: {insulation_ohm: {point: INSULATION}, insulation_device_fault: {point: STATUS, bit: 2}}
thermal: {cooling: fan}
"""


def test_site_io_is_understood() -> None:
    site = parse_site(GOOD + IO, "f.yaml")
    block, monitor = site.io
    assert [(p.signal, p.point, p.active_low) for p in block.inputs] == [
        ("emergency_stop", "DI1", True), ("ambient_degc", "AI1", False)
    ]  # fmt: skip
    assert [(p.signal, p.full) for p in block.outputs] == [("alarm", 1.0), ("cooling", 10.0)]
    assert monitor.inputs[1].bits == (2,)
    assert site.inputs.insulation_monitor
    assert site.thermal.cooling == "fan"
    assert not parse_site(GOOD, "f.yaml").inputs.insulation_monitor


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("{quantity: cell_voltage_v, side: max, safety: 4.5}", "safety 4.5 is looser than 4.25"),
        ("{quantity: cell_voltage_v, side: min, safety: 2.0}", "safety 2 is looser than 2.7"),
        ("{quantity: temperature_degc, side: max, safety: 70}", "safety 70 is looser than 50"),
        ("{quantity: cell_voltage_v, side: max, debounce_s: 5}", "debounce_s 5 is longer than 0"),
    ],
)
def test_a_site_may_tighten_what_cells_bear_and_not_loosen_it(row: str, told: str) -> None:
    with pytest.raises(SiteFileError, match=told):
        parse_site(GOOD + f"limits:\n  NMC:\n    - {row}\n", "f.yaml")


def test_tighter_limits_are_taken() -> None:
    row = "{quantity: cell_voltage_v, side: max, safety: 4.23, debounce_s: 0}"
    site = parse_site(GOOD + f"limits:\n  NMC:\n    - {row}\n", "f.yaml")
    assert site.limits[Chemistry.NMC]["cell_voltage_v", "max"].safety == 4.23


@pytest.mark.parametrize(("status", "known"), [(0, True), (0b11, True), (0b100, False), (0b1000, False)])
def test_a_signal_may_be_any_of_several_bits_of_a_register(status: int, known: bool) -> None:
    """A monitor that has lost its connection to earth reads high: its value is no value."""
    site = parse_site(GOOD + IO.replace("bit: 2", "bit: [2, 3]"), "f.yaml")
    monitor = site.io[1]
    assert monitor.inputs[1].bits == (2, 3)
    codec = UnitCodec(monitor, load_io_profile("imd"))
    values = codec.inputs([(4_400_000).to_bytes(4, "big") + status.to_bytes(2, "big")])
    fresh = [UnitReading((), 0.0), UnitReading(values, 0.0)]
    assert ("insulation_ohm" not in site_inputs(site, fresh, 2.0).unknown) is known


@pytest.mark.parametrize(
    ("degc", "known"),
    [(25.0, True), (-45.0, True), (85.0, True), (-45.1, False), (850.0, False), (-200.0, False)],
)
def test_air_that_no_air_can_be_is_no_value(degc: float, known: bool) -> None:
    """An open thermometer reads 850 degC; held against that, all true sensors were called untrue."""
    site = load_site("container")
    codec = UnitCodec(site.io[0], load_io_profile(site.io[0].profile))
    words = {b.table: bytes(b.size) for b in codec.blocks}
    words["input"] = round(10.0 * degc).to_bytes(2, "big", signed=True)
    values = dict(codec.inputs([words[b.table] for b in codec.blocks]))
    assert np.isfinite(values["ambient_degc"]) == known
    fresh = [UnitReading(tuple(values.items()), 0.0), UnitReading((), 0.0)]
    assert ("ambient_degc" in site_inputs(site, fresh, 2.0).unknown) == (not known)


@pytest.mark.parametrize("bit", ["32", "[2, 32]", "-1"])
def test_a_bit_that_no_register_has_is_found(bit: str) -> None:
    with pytest.raises(ConfigError):
        parse_site(GOOD + IO.replace("bit: 2", f"bit: {bit}"), "f.yaml")


def test_the_example_in_the_docs_loads() -> None:
    text = (Path(__file__).resolve().parents[4] / "docs" / "site-io.md").read_text()
    example = text.split("```yaml\n")[1].split("```")[0].replace("gateways:\n", "")
    gateway, rest = example.split("\n", 1)
    whole = GOOD.replace("gateways:\n", f"gateways:\n{gateway}\n") + rest
    assert len(parse_site(whole, "f.yaml").io) == 2


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("point: DI1", "point: DI99", "one of DI1"),
        ("point: DI1, active: low", "point: AI1", "a bit number of the register"),
        ("ambient_degc: {point: AI1}", "ambient_degc: {point: DI2}", "a register in degC"),
        ("ambient_degc", "aliens", "aliens"),
        ("alarm: {point: DO1}", "alarm: {point: DI3}", "a coil or a holding register"),
        ("profile: imd", "profile: nothing", "a site I/O profile"),
        ("unit_id: 241", "unit_id: 240", "taken by site I/O unit block"),
        ("unit_id: 240", "unit_id: 201", "taken by converter of A"),
        ("name: monitor", "name: block", "each name once"),
        (", cooling: {point: AO1, full: 10}", "", "an output `cooling`"),
    ],
)
def test_each_mistake_in_site_io_is_told(old: str, new: str, words: str) -> None:
    assert old in IO
    assert words in one(GOOD + IO.replace(old, new))


def test_serial_bus_too_slow_for_the_tick() -> None:
    text = find_site_file("leaf_yard").read_text().replace("baudrate: 115200", "baudrate: 9600")
    found = findings(text)
    assert len(found) == 4
    assert all("on the wire for one read of each" in f for f in found)


def test_all_errors_at_once_and_in_order() -> None:
    text = (
        GOOD.replace("port: 502", "port: 99999")
        .replace("n_cells: 12", "n_cells: 0")
        .replace("power_rating_w: 5000", "power_rating_kw: 5")
        .replace("unit_id: 9", "unit_id: 2")
        .replace("serial: ODD", "serial: S001")
        .replace("nominal_v: 400", "nominal_v: 4000")
        + "timing: {tick_s: 1, slot_s: 2.5, interval_s: 30}\neconomics: {currencie: EUR}\nunknown: 1\n"
    )
    found = findings(text)
    assert len(found) == 10, "\n".join(found)
    lines = [int(f.split(":")[1]) for f in found]
    assert lines == sorted(lines)
    assert any("write power_rating_w: 5000" in f for f in found)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "an empty file"),
        ("- 1\n", "a list of 1"),
        ("site: [1\n", "broken YAML"),
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "f.yaml:4: b.c: found key 'c' a second time, first in line 3"),
        ("a: &a [*a]\n", "never ends"),
        ("a\x00: 1\n", "broken YAML"),
        ("site: !!python/object:os.system x\n", "broken YAML"),
    ],
)
def test_broken_yaml_is_told_with_its_line(text: str, words: str) -> None:
    assert words in "\n".join(findings(text))


def test_aliases_cannot_unfold_without_end() -> None:
    lines = ["a0: &a0 [1,1,1,1,1,1,1,1,1,1]"]
    lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert "never ends" in findings("\n".join(lines))[0]


def test_missing_file_names_the_shipped_ones() -> None:
    with pytest.raises(ConfigError, match="demo"):
        load_site("nowhere")


def test_actions_that_may_need_a_signature_are_those_of_the_contract() -> None:
    assert set(ACTIONS) == set(ARGS)


def test_check_command(tmp_path: Path) -> None:
    run = CliRunner().invoke(app, ["check", "demo"])
    assert run.exit_code == 0, run.output
    assert "21..24" in run.output
    bad = tmp_path / "bad.yaml"
    bad.write_text(GOOD.replace("n_cells: 12", "n_cells: 99"))
    run = CliRunner().invoke(app, ["check", str(bad)])
    assert run.exit_code == 2
    assert f"{bad}:6: module_types.t.n_cells" in run.output
    assert CliRunner().invoke(app, ["check"]).exit_code == 2
    assert CliRunner().invoke(app, ["check", "--schema"]).exit_code == 0


def test_reference_in_the_docs_is_current() -> None:
    text = (Path(__file__).resolve().parents[4] / "docs" / "site-file.md").read_text()
    assert reference() in text, (
        "docs/site-file.md is old: put the output of reconf.config.document.reference into it"
    )
