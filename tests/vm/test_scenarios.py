"""The stories under tests/scenarios hold; what cannot be played or does not hold says why and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from otcnode.cli.scenario import read
from otcnode.vm.scenario.runner import Played, play

STORIES = sorted((Path(__file__).parent.parent / "scenarios").glob("*.toml"))


@pytest.mark.parametrize("story", STORIES, ids=lambda path: path.stem)
def test_every_story_holds(story: Path) -> None:
    steps = list(play(str(story), read))
    assert len(steps) > 3
    for played in steps:
        assert played.held, shown(played)


def shown(played: Played) -> str:
    lines = [f"{m.where}: expected {m.expected}, actual {m.actual}" for m in played.mismatches]
    return f"{played.file}, step {played.step!r}: " + "; ".join(lines)
