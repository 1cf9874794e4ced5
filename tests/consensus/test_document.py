"""The table of rules names only what exists."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from otcnode.consensus.explain import Cause

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docs" / "consensus.md").read_text()
ROWS = [line.strip("| ").split(" | ") for line in TEXT.splitlines() if line.startswith("|")]


def test_every_script_it_names_is_there() -> None:
    cells = [row[2] for row in ROWS if len(row) == 3 and row[2] != "shown by" and "---" not in row[0]]
    named = {name for cell in cells for name in re.findall(r"`([a-z_]+)`", cell)}
    scripts = {path.stem for path in (Path(__file__).parent / "scripts").glob("*.txt")}
    assert len(named) > 20 and named <= scripts, sorted(named - scripts)


def test_every_function_it_names_is_there() -> None:
    cells = [row[1] for row in ROWS if len(row) == 3]
    found = {match for cell in cells for match in re.findall(r"`([a-z_]+)\.(_?[a-z_]+)`", cell)} - {("core", "save")}
    assert len(found) > 20
    for module, name in sorted(found):
        if name == "py":
            assert (ROOT / "otcnode" / "consensus" / f"{module}.py").exists(), module
            continue
        place = importlib.import_module("otcnode." + module if module == "blocks" else "otcnode.consensus." + module)
        owners = [place, *(value for value in vars(place).values() if isinstance(value, type))]
        assert any(hasattr(owner, name) for owner in owners), f"{module}.{name}"


def test_operators_are_told_of_every_cause() -> None:
    lines = (ROOT / "docs" / "operations.md").read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.strip() == "| kind | what it says | what to do |")
    table = [line.split("`")[1] for line in lines[start + 2 : start + 2 + len(Cause)]]
    assert sorted(table) == sorted(Cause)
