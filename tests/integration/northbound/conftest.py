"""A real mosquitto, started and stopped by the tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from northbound_broker_tools import Mosquitto


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    if shutil.which("mosquitto") is None:
        pytest.skip("mosquitto is not installed; `make setup-test` installs it")
    broker = Mosquitto(tmp_path)
    yield broker
    broker.kill()
