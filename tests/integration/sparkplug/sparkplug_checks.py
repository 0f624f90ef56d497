"""The edge-node assertions of Sparkplug 3.0.0, by what shows them: checks of what the outside saw."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sparkplug_story import Record, historical, metrics, replies

Check = Callable[[Record], None]
Message = dict[str, Any]
NAME = "spBv1.0/yard/{}/demo"
BASIC = set(range(1, 16))
TYPES = BASIC | {16, 17, 18, 19}
FIELD = {
    1: "intValue",
    3: "intValue",
    4: "longValue",
    10: "doubleValue",
    11: "booleanValue",
    12: "stringValue",
    19: "templateValue",
}
VALUES = (
    "intValue",
    "longValue",
    "floatValue",
    "doubleValue",
    "booleanValue",
    "stringValue",
    "templateValue",
)


def heard(record: Record, *kinds: str) -> list[Message]:
    """Messages of these kinds on any broker and in any of the tellings."""
    everything = [*record.first, *record.second, *record.aliased, *record.templated]
    found = [m for m in everything if "payload" in m and m["topic"].split("/")[2] in kinds]
    assert found, f"no {kinds} was heard at all"
    return found


def tellings(record: Record) -> Iterator[list[Message]]:
    for told in (record.first, record.second, record.aliased, record.templated):
        yield [m for m in told if "payload" in m and m["topic"].split("/")[2] not in ("NCMD", "DCMD")]


def connects(record: Record) -> list[dict[str, Any]]:
    return [connection[0] for connection in [*record.wire, *record.wire_311]]


def bdseq(message: Message) -> int:
    return int(next(m for m in metrics(message) if m.get("name") == "bdSeq")["longValue"])


def topics(record: Record) -> None:
    """Every topic is spBv1.0/group/type/node[/device], the device exactly where it belongs."""
    for told in tellings(record):
        for m in told:
            parts = m["topic"].split("/")
            assert parts[0] == "spBv1.0"
            assert parts[1] == "yard"
            assert parts[3] == "demo"
            assert not set("+#") & set(m["topic"])
            assert (len(parts) == 5) == parts[2].startswith("D"), m["topic"]
            if len(parts) == 5:
                assert parts[4] in ("A", "B")
    for kind in ("NBIRTH", "NDATA", "NDEATH"):
        assert {m["topic"] for m in heard(record, kind)} == {NAME.format(kind)}
    for kind in ("DBIRTH", "DDATA", "DDEATH"):
        assert {m["topic"] for m in heard(record, kind)} <= {f"{NAME.format(kind)}/{d}" for d in "AB"}


def quality_of_service(record: Record) -> None:
    """Births, data and DDEATH leave the node with QoS 0, not retained, on its own wire."""
    sent = [p for c in [*record.wire, *record.wire_311] for p in c if p["packet"] == "publish"]
    assert {p["topic"].split("/")[2] for p in sent} >= {
        "NBIRTH",
        "NDATA",
        "DBIRTH",
        "DDATA",
        "DDEATH",
        "NDEATH",
    }
    for packet in sent:
        assert packet["retain"] is False
        assert packet["qos"] == (1 if "/NDEATH/" in packet["topic"] else 0)


def sequence(record: Record) -> None:
    """One counter for node and devices: NBIRTH 0, then +1, 255 is followed by 0; NDEATH has none."""
    wrapped = False
    for told in tellings(record):
        last: int | None = None
        for m in told:
            kind, seq = m["topic"].split("/")[2], m["payload"].get("seq")
            if kind == "NDEATH":
                assert seq is None
            elif kind == "NBIRTH":
                assert seq == 0
                last = 0
            else:
                assert last is not None, f"{m['topic']} before any NBIRTH"
                assert seq == (last + 1) % 256, m["topic"]
                wrapped, last = wrapped or seq < last, seq
    assert wrapped, "the counter never came round"


def birth_order(record: Record) -> None:
    """NBIRTH first, then all DBIRTHs, then data."""
    for told in tellings(record):
        kinds = [m["topic"].split("/")[2] for m in told]
        born = [k for k, kind in enumerate(kinds) if kind == "NBIRTH"]
        assert born
        assert not {"NDATA", "DDATA", "DBIRTH", "DDEATH"} & set(kinds[: born[0]])
        for k in born:
            assert kinds[k + 1 : k + 3] == ["DBIRTH", "DBIRTH"]


def births_are_whole(record: Record) -> None:
    """Every metric that is ever said stood in the birth, with name, type, and a value or is_null."""
    for message in heard(record, "NBIRTH", "DBIRTH"):
        names = [m["name"] for m in metrics(message)]
        assert len(names) == len(set(names))
        assert len({n.lower() for n in names}) == len(names), "names that differ by case only"
        for metric in metrics(message):
            assert metric["datatype"] in TYPES
            has = [v for v in VALUES if v in metric]
            assert bool(metric.get("isNull")) != bool(has), metric
            assert len(has) <= 1
            if has:
                assert has[0] == FIELD[metric["datatype"]], metric
    for told in tellings(record):
        known: dict[str, set[Any]] = {}
        for m in told:
            kind, device = m["topic"].split("/")[2], m["topic"].split("/")[4:]
            key = "/".join(device)
            if kind.endswith("BIRTH"):
                known[key] = {x["name"] for x in metrics(m)} | {x.get("alias") for x in metrics(m)}
            elif kind.endswith("DATA"):
                assert {x.get("name", x.get("alias")) for x in metrics(m)} <= known[key]
    assert any(m.get("isNull") for message in heard(record, "NBIRTH") for m in metrics(message))


def rebirth_metric(record: Record) -> None:
    """Node Control/Rebirth stands in every NBIRTH: Boolean, false, without alias."""
    for message in heard(record, "NBIRTH"):
        metric = next(m for m in metrics(message) if m["name"] == "Node Control/Rebirth")
        assert metric["datatype"] == 11
        assert metric["booleanValue"] is False
        assert "alias" not in metric


def will(record: Record) -> None:
    """CONNECT carries NDEATH as will: QoS 1, not retained, bdSeq and nothing else, no seq."""
    for connect in connects(record):
        told = connect["will"]
        assert told["topic"] == NAME.format("NDEATH")
        assert told["qos"] == 1
        assert told["retain"] is False
        assert "seq" not in told["payload"]
        assert [m["name"] for m in told["payload"]["metrics"]] == ["bdSeq"]
        assert told["payload"]["metrics"][0]["datatype"] == 4


def birth_sequence(record: Record) -> None:
    """bdSeq begins at 0, grows by one with every CONNECT (restart included), and is the will's in NBIRTH."""
    wills = [bdseq(c[0]["will"]) for c in record.wire]
    assert wills == list(range(len(wills)))
    assert len(wills) >= 5
    for told in (record.first, record.second):
        for message in told:
            kind = message["topic"].split("/")[2]
            if kind in ("NBIRTH", "NDEATH"):
                assert bdseq(message) in wills
                metric = next(m for m in metrics(message) if m["name"] == "bdSeq")
                assert metric["datatype"] == 4
    births = [bdseq(m) for m in record.first if "/NBIRTH/" in m["topic"]]
    assert births[0] == births[1], "rebirth: same bdSeq"
    for connection in record.wire:
        births = [p for p in connection if p.get("topic") == NAME.format("NBIRTH")]
        assert len(births) <= 2


def deaths_match(record: Record) -> None:
    """Each NDEATH names the bdSeq of its session and holds nothing else."""
    for message in heard(record, "NDEATH"):
        assert [m["name"] for m in metrics(message)] == ["bdSeq"]
    last = None
    for message in record.second:
        if "/NBIRTH/" in message["topic"]:
            last = bdseq(message)
        elif "/NDEATH/" in message["topic"] and last is not None:
            assert bdseq(message) == last


def clean_311(record: Record) -> None:
    """MQTT 3.1.1: clean session."""
    assert record.wire_311
    for connection in record.wire_311:
        assert connection[0]["version"] == 4
        assert connection[0]["clean"] is True


def clean_50(record: Record) -> None:
    """MQTT 5: clean start, session expiry 0 (absent is 0)."""
    for connection in record.wire:
        assert connection[0]["version"] == 5
        assert connection[0]["clean"] is True
        assert (connection[0].get("properties") or {}).get("sessionExpiryInterval", 0) == 0


def subscriptions(record: Record) -> None:
    """NCMD, DCMD of each device and STATE, with QoS 1, before anything is said."""
    for connection in record.wire:
        first = next(k for k, p in enumerate(connection) if p["packet"] == "publish")
        asked = {s["topic"]: s["qos"] for p in connection[:first] for s in p.get("subscriptions") or ()}
        wanted = {NAME.format("NCMD"), NAME.format("DCMD") + "/A", NAME.format("DCMD") + "/B"}
        assert wanted <= set(asked)
        assert set(asked.values()) == {1}
    assert any(
        s["topic"] == "spBv1.0/STATE/scada" for p in record.wire[0] for s in p.get("subscriptions") or ()
    )


def session_first(record: Record) -> None:
    """CONNECT is the first packet of every connection; births come after it."""
    for connection in [*record.wire, *record.wire_311]:
        assert connection[0]["packet"] == "connect"
        assert [p["packet"] for p in connection].count("connect") == 1


def waits_for_host(record: Record) -> None:
    """No birth without the configured host, for another host, or while it says offline."""
    assert record.facts["births_without_host"] == 0
    assert record.facts["births_while_offline"] == 0
    first = next(k for k, m in enumerate(record.first) if "/NBIRTH/" in m["topic"])
    states = [m for m in record.first[:first] if m["topic"] == "spBv1.0/STATE/scada"]
    assert '"online":true' in states[-1]["state"]


def host_offline(record: Record) -> None:
    """Offline, not older than the last online: NDEATH, disconnect, next broker. Older: nothing."""
    assert record.facts["deaths_by_old_state"] == 0
    states = [k for k, m in enumerate(record.first) if m.get("state", "").endswith('"timestamp":1001}')]
    after = [m["topic"].split("/")[2] for m in record.first[states[0] :]]
    assert "NDEATH" in after
    assert next(m for m in record.second if "/NBIRTH/" in m["topic"])
    ended = record.wire[2]
    assert ended[-1]["packet"] == "disconnect"


def walks(record: Record) -> None:
    """Brokers in turn, never two at a time."""
    assert record.facts["one_at_a_time"]
    assert len(record.wire) >= 5


def stops(record: Record) -> None:
    """An intended stop says NDEATH, then DISCONNECT."""
    for connection in record.wire_311:
        assert connection[-2]["topic"] == NAME.format("NDEATH")
        assert connection[-1]["packet"] == "disconnect"
    intended = [c for c in record.wire if c[-1]["packet"] == "disconnect"]
    assert intended
    for connection in intended:
        said = [p for p in connection if p["packet"] == "publish"]
        assert said[-1]["topic"] == NAME.format("NDEATH")


def stops_50(record: Record) -> None:
    """On MQTT 5 DISCONNECT has reason 4, `Disconnect with Will Message`."""
    reasons = [c[-1]["reason"] for c in record.wire if c[-1]["packet"] == "disconnect"]
    assert reasons
    assert set(reasons) == {4}


def will_is_sent(record: Record) -> None:
    """A cut wire: the broker says NDEATH with the bdSeq of the birth before."""
    deaths = [m for m in record.second if "/NDEATH/" in m["topic"]]
    assert len(deaths) > record.facts["deaths_before_cut"]


def string_lost(record: Record) -> None:
    """A string that does not answer: DDEATH with seq and time, then no data, and DBIRTH when it is back."""
    at = next(k for k, m in enumerate(record.first) if "/DDEATH/" in m["topic"])
    death = record.first[at]
    assert death["topic"].endswith("/B")
    assert death["payload"]["seq"] > 0
    assert death["payload"]["timestamp"] > 0
    assert record.facts["data_of_lost"] == 0
    assert any(m["topic"].endswith("DBIRTH/demo/B") for m in record.first[at:])


def module_lost(record: Record) -> None:
    """A module that does not answer: its metrics become null, the string lives on."""
    data = [m for m in record.first if m["topic"].endswith("/DDATA/demo/A") and not historical(m)]
    null = [x for m in data for x in metrics(m) if x.get("isNull")]
    assert null
    assert len({x["name"].split("/")[1] for x in null}) == 1
    assert not any(v in x for x in null for v in VALUES)


def by_exception(record: Record) -> None:
    """Nothing is said while nothing changes; data hold what changed only."""
    assert record.facts["said_without_change"] == 0
    live = [m for m in record.first if m["topic"].endswith("/NDATA/demo") and not historical(m)]
    assert [x["name"] for x in metrics(live[0])] == ["Power/Asked"] or "Control/SetPower" in {
        x["name"] for x in metrics(live[0])
    }
    assert all(len(metrics(m)) <= 7 for m in live)


def times(record: Record) -> None:
    """Every message and every metric has its time in UTC; live metrics are in order."""
    for told in tellings(record):
        for m in told:
            sent = m["payload"]["timestamp"]
            assert abs(sent - m["at"]) < 60_000, "milliseconds of UTC"
            stamps = [x["timestamp"] for x in metrics(m)]
            assert all(t <= sent for t in stamps)
            if not historical(m):
                assert stamps == sorted(stamps)
            for x in metrics(m):
                inner = x.get("templateValue", {}).get("metrics", [])
                assert all("timestamp" in y for y in inner)


def rebirth(record: Record) -> None:
    """A rebirth request is answered by all births with the same bdSeq, and no data before them."""
    asked = next(k for k, m in enumerate(record.first) if "/NCMD/" in m["topic"])
    said = [m for m in record.first[asked + 1 :] if "payload" in m]
    kinds = [m["topic"].split("/")[2] for m in said[:3]]
    assert kinds == ["NBIRTH", "DBIRTH", "DBIRTH"]
    assert bdseq(said[0]) == bdseq(next(m for m in record.first if "/NBIRTH/" in m["topic"]))


def names(record: Record) -> None:
    """Without aliases every metric has its name, births and data alike."""
    for message in [*record.first, *record.second]:
        assert all(m.get("name") for m in metrics(message))


def aliases(record: Record) -> None:
    """With aliases births have both, unique over node and devices; data have the alias only."""
    births = [m for m in record.aliased if m["topic"].split("/")[2].endswith("BIRTH")][:3]
    found = [x["alias"] for m in births for x in metrics(m) if x["name"] != "Node Control/Rebirth"]
    assert len(found) == len(set(found)) > 100
    data = [m for m in record.aliased if m["topic"].split("/")[2].endswith("DATA")]
    assert data
    for message in data:
        assert all("alias" in x and "name" not in x for x in metrics(message))


def data_types(record: Record) -> None:
    """Data types in births, not in data (unless the site file asks for them there)."""
    for told in (record.first, record.second, record.aliased):
        for m in told:
            if m["topic"].split("/")[2].endswith("DATA"):
                assert not any("datatype" in x for x in metrics(m))


def properties(record: Record) -> None:
    """Properties: as many keys as values, a type with each."""
    seen = set()
    for message in heard(record, "NBIRTH", "DBIRTH"):
        for metric in metrics(message):
            told = metric.get("properties")
            if told:
                assert len(told["keys"]) == len(told["values"])
                assert all(v["type"] in BASIC for v in told["values"])
                assert all(FIELD[v["type"]] in v for v in told["values"])
                seen |= set(told["keys"])
    assert seen == {"readOnly", "engUnit", "engLow", "engHigh"}


def templates(record: Record) -> None:
    """One definition in NBIRTH only; instances refer to it, births with all members, data with some."""
    definition, instances, partial = None, 0, 0
    for message in [m for m in record.templated if "payload" in m]:
        kind = message["topic"].split("/")[2]
        for metric in metrics(message):
            template = metric.get("templateValue")
            if template is None:
                continue
            members = {m["name"]: m for m in template["metrics"]}
            if template["isDefinition"]:
                assert kind == "NBIRTH"
                assert "templateRef" not in template
                assert metric["name"] == "Module"
                definition = members
                assert all(m["datatype"] in BASIC for m in members.values())
                continue
            assert definition is not None
            assert template["isDefinition"] is False
            assert template["templateRef"] == "Module"
            assert set(members) <= set(definition)
            if kind == "DBIRTH":
                assert set(members) == set(definition)
                instances += 1
            else:
                partial += len(members) < len(definition)
    assert instances > 10
    assert partial > 0


def commands(record: Record) -> None:
    """NCMD and DCMD reach the command contract as the issuer's commands; replies are metrics."""
    assert record.facts["asked"] == [
        ("plc", "set_power", {"power_w": 5000.0}),
        ("plc", "bypass_module", {"serial": "M1"}),
    ]
    told = replies(record.first)[0]
    assert told["Reply/Result"]["stringValue"] == "accepted"
    assert told["Reply/CurtailedTo"]["doubleValue"] == 1000.0


def history(record: Record) -> None:
    """What nobody heard follows after the next birth, marked historical, in order, with its own times."""
    cut = max(k for k, m in enumerate(record.second) if "/NBIRTH/" in m["topic"])
    late = [m for m in record.second[cut:] if historical(m)]
    values = [
        x["doubleValue"]
        for m in late
        for x in metrics(m)
        if x.get("name") == "Power/Asked" and "doubleValue" in x
    ]
    assert values, "nothing was kept"
    assert values == sorted(values)
    assert all(x["timestamp"] < m["payload"]["timestamp"] for m in late for x in metrics(m))


def decodes(record: Record) -> None:
    """The outside library decodes every payload."""
    for told in tellings(record):
        assert not any("error" in m for m in told)
    sample = next(m for m in record.first if "/DBIRTH/" in m["topic"])
    typed = {m["name"]: m["type"] for m in sample["metrics"]}
    assert typed["Voltage"] == "Double"
    assert typed["State"] == "String"
