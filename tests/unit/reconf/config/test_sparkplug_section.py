"""The `sparkplug` section of a site file."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconf.config import SiteFileError, load_site
from reconf.shipped import find_site_file
from reconf.site_links import SparkplugSpec

DEMO = find_site_file("demo")


def with_section(folder: Path, text: str) -> Path:
    path = folder / "site.yaml"
    path.write_text(DEMO.read_text() + f"\nsparkplug: {text}\n")
    return path


def test_section_is_read_and_off_by_default(tmp_path: Path) -> None:
    text = "{group: yard, primary_host: scada, brokers: ['127.0.0.1:1883', '[::1]:1884'], modules: templates}"
    assert load_site(with_section(tmp_path, text)).sparkplug == SparkplugSpec(
        group="yard", primary_host="scada", brokers=("127.0.0.1:1883", "[::1]:1884"), modules="templates"
    )
    assert load_site(DEMO).sparkplug.group == ""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{group: a/b}", "group"),
        ("{group: yard, brokers: [nowhere]}", "HOST:PORT"),
        ("{group: yard, brokers: ['10.0.0.1:1883']}", "without TLS"),
        ("{group: yard, aliases: true, modules: templates}", "one of the two"),
        ("{group: yard, hold_s: 0}", "hold_s"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(SiteFileError, match=told):
        load_site(with_section(tmp_path, text))
