"""Seeing what an honest validator never signs, in what arrives (see evidence.py for what anyone can check)."""

from __future__ import annotations

from otcnode import limits
from otcnode.codec import encode
from otcnode.consensus import status
from otcnode.consensus.core import Core
from otcnode.consensus.effects import Accuse
from otcnode.consensus.evidence import check_hidden_proof
from otcnode.consensus.messages import Commit, Message, Prepare, ViewChange
from otcnode.consensus.votes import VoteBook
from otcnode.errors import ProofError


def accuse(core: Core, validator: bytes, kind: str, view: int, height: int, *messages: Message) -> None:
    """Once per kind and place; bounded, for a liar can offend at every view."""
    key = (validator, kind, view, height)
    if key not in core.accused and len(core.accused) < limits.accusations_per_height_max:
        core.accused.add(key)
        core.effects.append(Accuse(validator, kind, tuple(encode(message) for message in messages)))


def accuse_double_vote(core: Core, message: Prepare | Commit, book: VoteBook) -> None:
    kind = "double PREPARE" if isinstance(message, Prepare) else "double COMMIT"
    held = book.get(message.height, message.validator, message.view)
    assert held is not None, "a conflict is with a vote that is held"
    first = type(message)(
        message.epoch, message.view, message.height, held.block_hash, message.validator, held.signature
    )
    accuse(core, message.validator, kind, message.view, message.height, first, message)


def look_for_hidden_proofs(core: Core, message: ViewChange) -> None:
    """Compare a VIEW-CHANGE with the COMMITs of its sender that are held."""
    state = core.state
    for height in state.commits.heights():
        for view, _ in state.commits.choices(height):
            commit = status.commit_message(state, height, view, message.validator)
            if commit is not None:
                look_for_hidden_proof(core, message, commit)


def look_for_hidden_proof(core: Core, message: ViewChange, commit: Commit) -> None:
    if commit.view >= message.view or commit.height <= message.committed:
        return
    try:
        check_hidden_proof(commit, message, core.configuration.chain, core.state.epoch, core.verify)
    except ProofError:
        return
    accuse(core, message.validator, "hidden proof", commit.view, commit.height, commit, message)
