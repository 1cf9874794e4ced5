"""Nothing that honest validators sign, in random runs with restarts, lost records, clocks astray and changes of the
validators, is ever evidence against them: neither one message nor any pair of one author's."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations

import pytest

from otcnode.blocks import Epoch, block_hash
from otcnode.consensus import view_changing
from otcnode.consensus.core import Core
from otcnode.consensus.evidence import check_evidence, double_vote
from otcnode.consensus.messages import (
    Commit,
    Evidence,
    HiddenProof,
    InvalidNewView,
    InvalidViewChange,
    Message,
    NewView,
    Prepare,
    PrePrepare,
    ViewChange,
)
from otcnode.consensus.state import Leaving
from otcnode.errors import ProofError
from tests.consensus.cluster import Cluster, Node, Violation
from tests.consensus.swarm import run
from tests.consensus.toy import CHAIN, fake_verify


class Ear:
    """Everything that was signed, by (epoch, author); whoever relays it."""

    def __init__(self) -> None:
        self.signed: dict[tuple[int, bytes], set[Message]] = defaultdict(set)
        self.epochs: dict[int, Epoch] = {}

    def hear(self, sender: Node, message: Message) -> None:
        epoch = sender.tip_state().epoch
        self.epochs[epoch.number] = epoch
        match message:
            case PrePrepare() if message.epoch == epoch.number:
                author = epoch.primary(message.view)
                vote = Prepare(
                    message.epoch,
                    message.view,
                    message.header.height,
                    block_hash(message.header),
                    author,
                    message.signature,
                )
                self.signed[(message.epoch, author)].add(vote)
            case Prepare() | Commit() | ViewChange():
                self.signed[(message.epoch, message.validator)].add(message)
            case NewView():
                self.signed[(message.epoch, message.validator)].add(message)
                for inside in message.view_changes:
                    self.hear(sender, inside)
            case _:
                pass

    def charges(self, epoch: int, author: bytes) -> list[Evidence]:
        """Everything that a framer could put together of one author's messages."""
        said = self.signed[(epoch, author)]
        asked = [message for message in said if isinstance(message, ViewChange)]
        commits = [message for message in said if isinstance(message, Commit)]
        prepares = [message for message in said if isinstance(message, Prepare)]
        pairs = [*combinations(commits, 2), *combinations(prepares, 2)]
        return [
            *(InvalidViewChange(message) for message in asked),
            *(InvalidNewView(message) for message in said if isinstance(message, NewView)),
            *(HiddenProof(commit, message) for commit in commits for message in asked),
            *(double_vote(*pair) for pair in pairs if (pair[0].view, pair[0].height) == (pair[1].view, pair[1].height)),
        ]


def _framed(seed: int, monkeypatch: pytest.MonkeyPatch, planted: bool = False) -> tuple[list[Evidence], int]:
    """What is evidence against an honest validator of this run, and how much was tried. With a bug planted the run may
    break other promises too."""
    ear = Ear()
    liars: set[bytes] = set()
    right = Cluster.send

    def send(cluster: Cluster, sender: Node, peer: bytes, message: Message) -> None:
        liars.update(cluster.nodes[index].name for index in cluster.liars)
        ear.hear(sender, message)
        right(cluster, sender, peer, message)

    monkeypatch.setattr(Cluster, "send", send)
    try:
        run(seed)
    except Violation:
        if not planted:
            raise
    proven, tried = [], 0
    for epoch, author in sorted(ear.signed):
        if author in liars:
            continue
        for evidence in ear.charges(epoch, author):
            tried += 1
            try:
                check_evidence(evidence, CHAIN, ear.epochs[epoch], fake_verify)
            except ProofError:
                continue
            proven.append(evidence)
    return proven, tried


@pytest.mark.parametrize("first", range(100, 124, 6))
def test_honest_messages_are_never_evidence(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = 0
    for seed in range(first, first + 6):
        with monkeypatch.context() as patch:
            proven, count = _framed(seed, patch)
        assert proven == [], f"seed {seed}"
        tried += count
    assert tried > 100


@pytest.mark.long
@pytest.mark.parametrize("first", range(20_000, 21_000, 50))
def test_nor_in_many_more_runs(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(first, first + 50):
        with monkeypatch.context() as patch:
            assert _framed(seed, patch)[0] == [], f"seed {seed}"


def test_one_that_forgets_its_proofs_is_caught_by_the_same_look(monkeypatch: pytest.MonkeyPatch) -> None:
    right = view_changing.ask_for

    def ask_for(core: Core, view: int, reason: str, leaving: Leaving = Leaving.JUDGEMENT) -> None:
        core.state.proofs.clear()
        right(core, view, reason, leaving)

    monkeypatch.setattr(view_changing, "ask_for", ask_for)
    monkeypatch.setattr(Cluster, "accused", lambda *_: None)
    found = []
    for seed in range(100, 130):
        with monkeypatch.context() as patch:
            found = _framed(seed, patch, planted=True)[0]
        if found:
            break
    assert any(isinstance(evidence, HiddenProof) for evidence in found)
