"""Random runs keep every promise; and with a bug planted, some run breaks one."""

from __future__ import annotations

import pytest

from otcnode import blocks
from otcnode.blocks import Certificate, Epoch
from otcnode.consensus import committing, memory, view_change, view_changing
from otcnode.consensus.core import Core
from otcnode.consensus.record import RecordEntry
from otcnode.consensus.view_change import Selection
from otcnode.consensus.votes import VoteBook
from tests.consensus.cluster import Violation
from tests.consensus.swarm import run


@pytest.mark.parametrize("first", range(0, 60, 5))
def test_random_faults_break_nothing_and_the_healed_quorum_finishes(first: int) -> None:
    for seed in range(first, first + 5):
        run(seed)


@pytest.mark.parametrize("seed", [10_643, 11_294])
def test_runs_in_which_the_next_validators_were_cut_off_below_their_epoch(seed: int) -> None:
    """Those whose epoch had ended still had work waiting, and no conclusion said for what."""
    run(seed)


@pytest.mark.long
@pytest.mark.parametrize("first", range(10_000, 13_000, 50))
def test_many_more_random_faults(first: int) -> None:
    for seed in range(first, first + 50):
        run(seed)


def _found(seeds: int, count: int = 4) -> bool:
    for seed in range(seeds):
        try:
            run(seed, count)
        except (Violation, AssertionError):
            return True
    return False


def test_finds_a_quorum_that_is_one_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = blocks.quorum
    monkeypatch.setattr(blocks, "quorum", lambda count: max(1, honest(count) - 1))
    assert _found(60)


def test_finds_a_record_that_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(_self: Core, _entry: RecordEntry) -> None:
        return None

    monkeypatch.setattr(Core, "save", forgetful)
    assert _found(60)


def test_finds_votes_of_two_views_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def mixed(commits: VoteBook, epoch: Epoch, height: int) -> Certificate | None:
        for view, block in commits.choices(height):
            signed = {
                entry.validator: entry
                for other, name in commits.choices(height)
                if name == block
                for entry in commits.signatures(height, other, block)
            }
            if len(signed) >= epoch.quorum:
                ordered = tuple(signed[name] for name in sorted(signed))
                return Certificate(epoch.number, view, height, block, ordered)
        return None

    monkeypatch.setattr(committing, "certificate_from", mixed)
    assert _found(60)


def test_finds_a_new_view_that_forgets_what_was_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = view_change.select

    def forgetful(messages: tuple[object, ...]) -> Selection:
        return Selection(honest(messages).base, ())  # type: ignore[arg-type]

    for module in (view_change, view_changing, memory):
        monkeypatch.setattr(module, "select", forgetful)
    assert _found(60)
