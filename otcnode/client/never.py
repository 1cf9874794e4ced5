"""When a client may say of a transaction that it never happens, and what it says where it may not. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from otcnode.blocks import Epoch
from otcnode.client.errors import ClientError, NodeLied, OutcomeUnknown
from otcnode.rpc.service import Frozen
from otcnode.types import NodeId


class Word(Frozen, frozen=True):
    """What a node has signed, checked: no block holds the transaction up to one that is final and past its validity.
    `epoch`: who decides there."""

    epoch: Epoch
    node: NodeId

    @property
    def counts(self) -> bool:
        return self.node in self.epoch.validators


class Pruned(ClientError):
    """A node that keeps too few blocks for a word."""

    def __init__(self) -> None:
        super().__init__("has pruned blocks that may hold it")


class Unproven(OutcomeUnknown):
    """Nodes call it dead, and what all of them say together proves nothing."""

    def __init__(self, transaction_id: bytes, words: Mapping[str, Word | ClientError]) -> None:
        super().__init__(transaction_id, _told(words))
        self.all_told = all(isinstance(word, Word | Pruned | NodeLied) for word in words.values())
        """Asking again can bring nothing new."""


def proves_never(words: Iterable[Word]) -> bool:
    """Whether f + 1 validators of one epoch gave theirs: then an honest one did."""
    signed: defaultdict[Epoch, set[NodeId]] = defaultdict(set)
    for word in words:
        if word.counts:
            signed[word.epoch].add(word.node)
    return any(len(nodes) >= epoch.weak_quorum for epoch, nodes in signed.items())


def _told(words: Mapping[str, Word | ClientError]) -> str:
    given = [word for word in words.values() if isinstance(word, Word)]
    needed = max((word.epoch.weak_quorum for word in given), default=None)
    proof = "f + 1 validators" if needed is None else f"{needed} different validators"
    asked = "; ".join(f"{url}: {_one(word)}" for url, word in words.items())
    return (
        f"it is called over without having happened, and only the signed words of {proof} prove that. "
        f"Asked: {asked}. Give the client the URLs of more validators"
    )


def _one(word: Word | ClientError) -> str:
    if isinstance(word, ClientError):
        return word.about_node
    return "has signed that no block holds it" + ("" if word.counts else ", which counts for nothing: no validator")
