"""docs/api.md is what the methods say."""

from __future__ import annotations

from pathlib import Path

from otcnode.rpc.methods import METHODS
from otcnode.rpc.reference import api_reference

COMMITTED = Path(__file__).parents[2] / "docs" / "api.md"


def test_the_committed_document_is_current() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == api_reference(), "run: make reference"


def test_every_method_has_its_row() -> None:
    rows = [line for line in api_reference().splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == list(METHODS)
