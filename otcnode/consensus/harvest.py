"""What proofs and certificates tell of those who signed them: votes that never came here by themselves.

A vote in them that contradicts one held here, or a COMMIT whose proof its author has hidden, is evidence. An own vote
in them that the record lacks shows that somebody else signs with this key.
"""

from __future__ import annotations

from collections.abc import Sequence

from otcnode.blocks import Certificate, ValidatorSignature, block_hash
from otcnode.consensus import accusing, memory
from otcnode.consensus.core import Core
from otcnode.consensus.messages import Commit, Prepare, Proof
from otcnode.consensus.votes import Added, VoteBook


def from_proofs(core: Core, proofs: Sequence[Proof]) -> None:
    """Of a VIEW-CHANGE that has been checked."""
    epoch = core.state.epoch.number
    for proof in proofs:
        height, name = proof.header.height, block_hash(proof.header)
        for entry in _signed(core, height, proof.signatures):
            vote = Prepare(epoch, proof.view, height, name, entry.validator, entry.signature)
            _judge(core, vote, core.state.prepares)


def from_certificate(core: Core, certificate: Certificate) -> None:
    """That has been checked, and is of a height above the committed one."""
    place = (certificate.epoch, certificate.view, certificate.height, certificate.block_hash)
    for entry in _signed(core, certificate.height, certificate.signatures):
        vote = Commit(*place, entry.validator, entry.signature)
        _judge(core, vote, core.state.commits)
        asked = core.state.view_changes.get(entry.validator)
        if asked is not None and entry.validator != core.state.own:
            accusing.look_for_hidden_proof(core, asked, vote)


def _signed(core: Core, height: int, signatures: tuple[ValidatorSignature, ...]) -> tuple[ValidatorSignature, ...]:
    """None of a height that is decided here: nothing is held to compare them with."""
    return signatures if height > core.state.committed else ()


def _judge(core: Core, vote: Prepare | Commit, book: VoteBook) -> None:
    if vote.validator == core.state.own:
        if not memory.is_own_vote(core.state, vote):
            core.shown_own(vote.view, "a vote in a proof or certificate")
    elif book.judge(vote.height, vote.validator, vote.view, vote.block_hash) is Added.CONFLICT:
        accusing.accuse_double_vote(core, vote, book)
