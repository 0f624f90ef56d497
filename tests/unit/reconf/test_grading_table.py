import pytest

from reconf.errors import DataFileError
from reconf.grading.table import VOLTAGE_COLUMNS, pair_rows, read_pulse_table

HEADER = "ID," + ",".join(VOLTAGE_COLUMNS)


def row(name="a", voltage="3.7"):
    return name + "," + ",".join([voltage] * 21)


def test_reads_rows_and_ignores_soc():
    table = read_pulse_table("t.csv", [HEADER + ",SOC", row() + ",40", row("b", "3.6") + ",20"])
    assert table.ids == ("a", "b")
    assert table.voltage_v.shape == (2, 21)
    assert table.temperature_degc is None


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "t.csv:1: the file is empty"),
        ([HEADER], "header but no row"),
        (["ID,U1,U2", "a,1,2"], "t.csv:1: columns U3, U4"),
        (["ID;U1;U2"], "semicolon"),
        ([HEADER, row(voltage="3,7").replace(",", ";")], "t.csv:2: 1 fields"),
        ([HEADER, row(voltage="x")], "t.csv:2: column U1: 'x' is not a number"),
        ([HEADER, row(voltage="nan")], "t.csv:2: column U1: 'nan' is not a number"),
        ([HEADER + ",temperature_degc", row() + ",inf"], "t.csv:2: column temperature_degc: 'inf' is not"),
        ([HEADER, row(), row(voltage="3700")], "t.csv:3: column U1: 3700 V is no cell voltage"),
        ([HEADER, row() + ",9"], "t.csv:2: 23 fields where the header has 22"),
    ],
)
def test_says_line_and_column(lines, message):
    with pytest.raises(DataFileError, match=message.replace("(", r"\(")):
        read_pulse_table("t.csv", lines)


def test_nothing_in_an_ignored_column_stops_a_table():
    table = read_pulse_table("t.csv", [HEADER + ",SOC,SOH", row() + ",,unknown", row("b") + ",40,0.8"])
    assert table.ids == ("a", "b")


def test_many_complaints_are_cut():
    with pytest.raises(DataFileError, match=r"and 22 more"):
        read_pulse_table("t.csv", [HEADER, row(voltage="x"), row(voltage="y")])


def test_pairs_put_the_lower_charge_first():
    lines = [
        HEADER + ",ah_since_first",
        row("a", "3.8") + ",0",
        row("a", "3.6") + ",2",
        row("b", "3.5") + ",0",
        row("b", "3.9") + ",-2",
    ]
    pairs = pair_rows("t.csv", read_pulse_table("t.csv", lines))
    assert list(pairs.first_v[:, 0]) == [3.6, 3.5]
    assert list(pairs.moved_ah) == [2.0, 2.0]


def test_a_pair_needs_two_rows_and_the_column():
    with pytest.raises(DataFileError, match="ah_since_first"):
        pair_rows("t.csv", read_pulse_table("t.csv", [HEADER, row()]))
    with pytest.raises(DataFileError, match=r"t.csv:2: ID a has one row"):
        pair_rows("t.csv", read_pulse_table("t.csv", [HEADER + ",ah_since_first", row() + ",0"]))
