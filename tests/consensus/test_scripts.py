"""Every interaction script shows what is checked in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.consensus.script import run_script

SCRIPTS = sorted(Path(__file__).with_name("scripts").glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path, request: pytest.FixtureRequest) -> None:
    expected = path.read_text()
    shown = run_script(expected)
    if request.config.getoption("--rewrite", default=False):
        path.write_text(shown)
        return
    assert shown == expected
