"""Which check shows which edge-node assertion, and the table of it that stands in the docs."""

from __future__ import annotations

from collections.abc import Mapping

import sparkplug_checks as checks
from sparkplug_checks import Check

BIRTH = "message-flow-edge-node-birth-publish-"
DEVICE_BIRTH = "message-flow-device-birth-publish-"
OB = "operational-behavior-"
NAMESPACE = "topic-structure-namespace-"

SHOWN: tuple[tuple[Check, str], ...] = (
    (
        checks.topics,
        f"""intro-group-id-string intro-group-id-chars intro-edge-node-id-string intro-edge-node-id-chars
        intro-device-id-string intro-device-id-chars topic-structure {NAMESPACE}a {NAMESPACE}valid-group-id
        {NAMESPACE}valid-edge-node-id {NAMESPACE}valid-device-id {NAMESPACE}unique-device-id
        {NAMESPACE}device-id-associated-message-types {NAMESPACE}device-id-non-associated-message-types
        case-sensitivity-sparkplug-ids {BIRTH}nbirth-topic {DEVICE_BIRTH}dbirth-topic
        {DEVICE_BIRTH}dbirth-match-edge-node-topic topics-nbirth-topic topics-ndata-topic topics-ndeath-topic
        topics-dbirth-topic topics-ddata-topic topics-ddeath-topic""",
    ),
    (
        checks.quality_of_service,
        f"""{BIRTH}nbirth-qos {BIRTH}nbirth-retained {DEVICE_BIRTH}dbirth-qos {DEVICE_BIRTH}dbirth-retained
        topics-nbirth-mqtt topics-ndata-mqtt topics-dbirth-mqtt topics-ddata-mqtt topics-ddeath-mqtt
        payloads-nbirth-qos payloads-nbirth-retain payloads-ndata-qos payloads-ndata-retain
        payloads-dbirth-qos payloads-dbirth-retain payloads-ddata-qos payloads-ddata-retain""",
    ),
    (
        checks.sequence,
        f"""{BIRTH}nbirth-payload-seq {DEVICE_BIRTH}dbirth-payload-seq topics-nbirth-seq-num
        topics-ndata-seq-num topics-dbirth-seq topics-ddata-seq-num topics-ddeath-seq-num topics-ndeath-seq
        payloads-nbirth-seq payloads-ndata-seq payloads-ndata-seq-inc payloads-dbirth-seq
        payloads-dbirth-seq-inc payloads-ddata-seq payloads-ddata-seq-inc payloads-ddeath-seq
        payloads-ddeath-seq-inc payloads-ddeath-seq-number payloads-ndeath-seq
        payloads-sequence-num-always-included payloads-sequence-num-incrementing
        payloads-sequence-num-req-nbirth""",
    ),
    (
        checks.birth_order,
        f"""principles-birth-certificates-order {DEVICE_BIRTH}nbirth-wait payloads-dbirth-order
        payloads-ndata-order payloads-ddata-order""",
    ),
    (
        checks.births_are_whole,
        f"""case-sensitivity-metric-names {OB}data-publish-nbirth {OB}data-publish-nbirth-values
        {OB}data-publish-dbirth {OB}data-publish-dbirth-values topics-nbirth-metric-reqs
        topics-nbirth-metrics topics-dbirth-metric-reqs topics-dbirth-metrics payloads-metric-datatype-req
        payloads-metric-datatype-value payloads-metric-datatype-value-type""",
    ),
    (
        checks.rebirth_metric,
        f"""topics-nbirth-rebirth-metric payloads-nbirth-rebirth-req {OB}data-commands-rebirth-name
        {OB}data-commands-rebirth-name-aliases {OB}data-commands-rebirth-datatype
        {OB}data-commands-rebirth-value""",
    ),
    (
        checks.will,
        f"""{BIRTH}will-message {BIRTH}will-message-topic {BIRTH}will-message-payload
        {BIRTH}will-message-qos {BIRTH}will-message-will-retained payloads-ndeath-will-message
        payloads-ndeath-will-message-qos payloads-ndeath-will-message-retain""",
    ),
    (
        checks.birth_sequence,
        f"""{BIRTH}will-message-payload-bdSeq {BIRTH}nbirth-payload-bdSeq topics-nbirth-bdseq-included
        topics-nbirth-bdseq-matching topics-nbirth-bdseq-increment payloads-nbirth-bdseq
        payloads-nbirth-bdseq-repeat""",
    ),
    (checks.deaths_match, "topics-ndeath-payload payloads-ndeath-bdseq"),
    (checks.clean_311, "principles-persistence-clean-session-311"),
    (checks.clean_50, "principles-persistence-clean-session-50"),
    (checks.subscriptions, "message-flow-edge-node-ncmd-subscribe message-flow-device-dcmd-subscribe"),
    (checks.session_first, f"{BIRTH}connect"),
    (
        checks.waits_for_host,
        f"""{BIRTH}phid-wait {BIRTH}phid-wait-id {BIRTH}phid-wait-online {BIRTH}phid-wait-timestamp
        {OB}edge-node-birth-sequence-wait""",
    ),
    (
        checks.host_offline,
        f"""{BIRTH}phid-offline {OB}edge-node-termination-host-offline
        {OB}edge-node-termination-host-offline-reconnect {OB}edge-node-termination-host-offline-timestamp""",
    ),
    (
        checks.walks,
        f"""{OB}primary-application-state-with-multiple-servers-single-server
        {OB}primary-application-state-with-multiple-servers-state-subs
        {OB}primary-application-state-with-multiple-servers-walk""",
    ),
    (
        checks.stops,
        f"""{OB}edge-node-intentional-disconnect-ndeath {OB}edge-node-intentional-disconnect-packet
        payloads-ndeath-will-message-publisher payloads-ndeath-will-message-publisher-disconnect-mqtt311""",
    ),
    (checks.stops_50, "payloads-ndeath-will-message-publisher-disconnect-mqtt50"),
    (checks.string_lost, f"{OB}device-ddeath payloads-ddeath-timestamp"),
    (
        checks.by_exception,
        f"""principles-rbe-recommended {OB}data-publish-nbirth-change {OB}data-publish-dbirth-change
        topics-ndata-payload topics-ddata-payload""",
    ),
    (
        checks.times,
        f"""{OB}data-publish-nbirth-order {OB}data-publish-dbirth-order topics-nbirth-timestamp
        topics-ndata-timestamp topics-dbirth-timestamp topics-ddata-timestamp payloads-timestamp-in-UTC
        payloads-metric-timestamp-in-UTC payloads-name-birth-data-requirement payloads-nbirth-timestamp
        payloads-ndata-timestamp payloads-dbirth-timestamp payloads-ddata-timestamp""",
    ),
    (
        checks.rebirth,
        f"""{OB}data-commands-rebirth-action-1 {OB}data-commands-rebirth-action-2
        {OB}data-commands-rebirth-action-3""",
    ),
    (checks.names, "payloads-name-requirement"),
    (
        checks.aliases,
        "payloads-alias-uniqueness payloads-alias-birth-requirement payloads-alias-data-cmd-requirement",
    ),
    (checks.data_types, "payloads-metric-datatype-not-req"),
    (
        checks.properties,
        """payloads-propertyset-keys-array-size payloads-propertyset-values-array-size
        payloads-metric-propertyvalue-type-type payloads-metric-propertyvalue-type-value
        payloads-metric-propertyvalue-type-req""",
    ),
    (
        checks.templates,
        """topics-nbirth-templates payloads-template-definition-nbirth-only
        payloads-template-definition-is-definition payloads-template-definition-ref
        payloads-template-definition-members payloads-template-definition-nbirth
        payloads-template-instance-is-definition payloads-template-instance-ref
        payloads-template-instance-members payloads-template-instance-members-birth
        payloads-template-instance-members-data payloads-template-is-definition
        payloads-template-is-definition-definition payloads-template-is-definition-instance
        payloads-template-ref-definition payloads-template-ref-instance""",
    ),
    (checks.decodes, f"{BIRTH}nbirth-payload {DEVICE_BIRTH}dbirth-payload"),
)

BEYOND: tuple[Check, ...] = (checks.module_lost, checks.will_is_sent, checks.commands, checks.history)
"""Checks of what the specification leaves open."""

NOT_APPLICABLE: tuple[tuple[str, str], ...] = (
    (
        "a matter of the installation: group and node must be unique in it",
        f"""intro-edge-node-id-uniqueness {NAMESPACE}unique-edge-node-descriptor
        payloads-nbirth-edge-node-descriptor""",
    ),
    ("allows, demands nothing", f"{NAMESPACE}duplicate-device-id-across-edge-node"),
    (
        "no DataSet is published",
        """payloads-dataset-column-size payloads-dataset-column-num-headers payloads-dataset-types-def
        payloads-dataset-types-num payloads-dataset-types-type payloads-dataset-types-value
        payloads-dataset-parameter-type-req payloads-template-dataset-value""",
    ),
    (
        "the template has no parameters and no version",
        """payloads-template-version payloads-template-definition-parameters
        payloads-template-definition-parameters-default payloads-template-instance-parameters
        payloads-template-parameter-name-required payloads-template-parameter-name-type
        payloads-template-parameter-value-type payloads-template-parameter-type-value
        payloads-template-parameter-type-req payloads-template-parameter-value""",
    ),
    (
        "no property `Quality` is published: a value that is not good is null",
        "payloads-propertyset-quality-value-type payloads-propertyset-quality-value-value",
    ),
)

HEAD = """# Sparkplug 3.0.0: assertions on edge nodes

Every assertion of the Eclipse Sparkplug Specification 3.0.0 on edge nodes, what shows it, and the result of
the last run. The evidence is not our own codec: payloads are decoded by `sparkplug-payload`, packets on the
node's wire by `mqtt-packet`, both locked in `tests/outside/sparkplug`; brokers are real ones. Each name in
the third column is a check of `tests/integration/sparkplug`; the same test keeps this table current.
Assertions on host applications and brokers are not listed.
{passed} of {applicable} that apply pass; {rest} do not apply.

| assertion | applies | shown by | result |
|---|---|---|---|
"""


def table(results: Mapping[str, bool]) -> str:
    """The page of the docs, from the results of the checks by name."""
    rows: dict[str, str] = {}
    passed = 0
    for check, ids in SHOWN:
        name = check.__name__
        for one in ids.split():
            assert one not in rows, one
            rows[one] = f"yes | {name} | {'pass' if results[name] else 'FAIL'}"
            passed += results[name]
    applicable = len(rows)
    for reason, ids in NOT_APPLICABLE:
        for one in ids.split():
            assert one not in rows, one
            rows[one] = f"no: {reason} | | "
    lines = [f"| `tck-id-{one}` | {rows[one]} |" for one in sorted(rows)]
    head = HEAD.format(passed=passed, applicable=applicable, rest=len(rows) - applicable)
    return head + "\n".join(lines) + "\n"
