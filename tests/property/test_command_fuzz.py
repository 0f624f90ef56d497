"""Nothing that is not a command is taken, and nothing makes the contract fail."""

from __future__ import annotations

import json
import os
import random
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.northbound.actions import ARGS
from edge.northbound.contract import Accept, Known, Refuse, judge
from reconf.site_links import IssuerSpec

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
KNOWN = Known(
    site="demo",
    utc=NOW,
    issuers={"watch": IssuerSpec("watch", "observer"), "scada": IssuerSpec("scada", "operator")},
    sequences={"scada": 1000},
)
"""The issuer `scada` has used every sequence up to 1000, so that honest-looking old commands are replays."""

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
WORDS = st.sampled_from(
    [
        "id",
        "issuer",
        "sequence",
        "issued_at",
        "expires_at",
        "action",
        "args",
        "site",
        "signature",
        "power_w",
        *ARGS,
    ]
)
NEAR_COMMANDS = st.fixed_dictionaries(
    {},
    optional={
        "id": st.sampled_from(["6f1c2d3e-0000-4000-8000-000000000001", ""]) | JSON,
        "issuer": st.sampled_from(["scada", "watch", "nobody"]) | JSON,
        "sequence": st.integers(max_value=1000) | JSON.filter(lambda v: not isinstance(v, int)),
        "issued_at": st.sampled_from(["2026-01-31T11:59:59Z", "2026-01-31T12:10:00Z", "2026-01-31"]) | JSON,
        "expires_at": st.sampled_from(["2026-01-31T12:05:00Z", "2025-01-31T12:05:00Z"]) | JSON,
        "action": st.sampled_from([a for a in ARGS if a != "emergency_stop"]) | JSON,
        "args": st.dictionaries(WORDS | st.text(max_size=5), JSON, max_size=3) | JSON,
        "site": st.sampled_from(["demo", "other"]) | JSON,
        "signature": st.text(max_size=200) | JSON,
        "extra": JSON,
    },
)


def refused(payload: bytes) -> bool:
    verdict = judge(payload, retained=False, known=KNOWN)
    if isinstance(verdict, Accept):
        return False
    assert isinstance(verdict, Refuse)
    assert verdict.reason
    assert len(verdict.text) < 1000
    return True


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=400))
def test_random_bytes_are_refused(payload: bytes) -> None:
    assert refused(payload)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(JSON)
def test_random_json_is_refused(value: Any) -> None:
    assert refused(json.dumps(value).encode())


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(NEAR_COMMANDS)
def test_almost_commands_are_refused(value: dict[str, Any]) -> None:
    assert refused(json.dumps(value).encode())


def mutants(seed: int, count: int) -> int:
    """How many honest commands with random bytes changed were accepted though nobody sent them."""
    rng = random.Random(seed)
    honest = json.dumps(
        {
            "id": "6f1c2d3e-0000-4000-8000-000000000001",
            "issuer": "scada",
            "sequence": 1000,
            "issued_at": "2026-01-31T11:59:59Z",
            "expires_at": "2026-01-31T12:05:00Z",
            "action": "set_power",
            "args": {"power_w": 1000},
            "site": "demo",
        }
    ).encode()
    accepted = 0
    for _ in range(count):
        mutant = bytearray(honest)
        for _ in range(rng.randint(1, 4)):
            match rng.randrange(4):
                case 0:
                    mutant[rng.randrange(len(mutant))] = rng.randrange(256)
                case 1:
                    del mutant[rng.randrange(len(mutant))]
                case 2:
                    mutant.insert(rng.randrange(len(mutant)), rng.choice(b'{}[]",:\\0 e-'))
                case _:
                    start = rng.randrange(len(mutant))
                    mutant[start:start] = mutant[start : start + rng.randrange(40)]
        verdict = judge(bytes(mutant), retained=False, known=KNOWN)
        # a digit changed or added in `sequence` makes a fresh command: unsigned issuers can be forged by
        # whoever may publish here, which is what the broker's access list and signatures are for
        fresh = isinstance(verdict, Accept) and (verdict.envelope.sequence or 0) > 1000
        accepted += isinstance(verdict, Accept) and not fresh
    return accepted


def test_mutated_commands_are_refused() -> None:
    assert mutants(1, 20_000) == 0


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_million_mutants_are_refused() -> None:
    count = int(os.environ.get("RECONF_FUZZ", "1000000"))
    assert mutants(2, count) == 0
