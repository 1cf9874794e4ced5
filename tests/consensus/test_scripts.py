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


@pytest.mark.parametrize(
    "line", ["show forged=yes", "ask from=3 to=0 view=1 forged", "open from=1 to=0 view=1 lie=big"]
)
def test_a_command_that_does_not_know_a_word_says_so(line: str) -> None:
    with pytest.raises((AssertionError, ValueError)):
        run_script(f"nodes 4\n{line}\n----\n")


def test_a_block_without_output_is_a_mistake() -> None:
    with pytest.raises(AssertionError, match="nobody runs"):
        run_script("nodes 4\n----\n\nadvance 10\n")
