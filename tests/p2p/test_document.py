"""The table of bounds in the protocol's document is that of the code."""

from __future__ import annotations

import re
from pathlib import Path

from otcnode import limits

DOCUMENT = Path(__file__).parents[2] / "docs" / "protocol.md"


def test_the_bounds_in_the_document_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", DOCUMENT.read_text(), re.MULTILINE)
    assert len(rows) >= 25
    assert {name: int(value) for name, value in rows} == {name: getattr(limits, name) for name, _ in rows}


def test_the_rates_in_the_document_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| (\w+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", DOCUMENT.read_text(), re.MULTILINE)
    found = {name: tuple(int(value) for value in values) for name, *values in rows}
    assert found == {
        name: (limits.channel_message_bytes_max[name], *rates, limits.channel_queue_bytes_max[name])
        for name, rates in limits.channel_rate_per_second.items()
    }
