"""Seeing what an honest validator never signs, in what arrives (see evidence.py for what anyone can check), and naming
the peer that hands over what no honest node passes on."""

from __future__ import annotations

from collections.abc import Iterable

from otcnode import limits
from otcnode.consensus import status
from otcnode.consensus.core import Core, Seen
from otcnode.consensus.effects import Accuse, Blame
from otcnode.consensus.events import KnownOffence
from otcnode.consensus.evidence import (
    Offence,
    check_evidence,
    claimed_offence,
    double_vote,
    epoch_of,
    is_large,
    shows_proof,
)
from otcnode.consensus.messages import Accusation, Commit, Evidence, HiddenProof, Prepare, ViewChange
from otcnode.consensus.votes import VoteBook
from otcnode.errors import ProofError


def accuse(core: Core, evidence: Evidence, source: bytes | None = None) -> None:
    """Once per offence, and bounded for each validator. Raises ProofError if it proves none: nobody is accused of
    anything that others could not check."""
    offence = check_evidence(evidence, core.configuration.chain, core.state.epoch, core.verify)
    if _is_news(core, offence, evidence):
        seen = Seen(core.state.committed, core.state.now.ledger_ms)
        core.offences.setdefault(offence.validator, {})[offence] = seen
        core.large_offences[offence.validator] += is_large(evidence)
        core.effects.append(Accuse(offence, evidence, source))


def recall(core: Core, offences: Iterable[KnownOffence]) -> None:
    """What was seen before this replica was started, and since the time of the committed block, was not forgotten."""
    state = core.state
    for known in offences:
        seen_at = state.committed if known.seen_ms >= state.tip.time_ms else 0
        core.offences.setdefault(known.offence.validator, {})[known.offence] = Seen(seen_at, known.seen_ms)
        core.large_offences[known.offence.validator] += known.large


def _is_news(core: Core, offence: Offence, evidence: Evidence) -> bool:
    """What no transaction can hold has a room of its own: who fills it is still accused of everything else."""
    known, large = core.offences.get(offence.validator, {}), core.large_offences[offence.validator]
    if offence in known:
        return False
    if is_large(evidence):
        return large < limits.large_offences_per_validator_max
    return len(known) - large < limits.offences_per_validator_max


def on_accusation(core: Core, sender: bytes, message: Accusation) -> None:
    """What another node has seen. Of an epoch that is over, the shell judges, for it knows who voted then; of one to
    come, nothing can be checked yet. What would tell nothing new is not verified."""
    if epoch_of(message.evidence) != core.state.epoch.number:
        return
    if not _is_news(core, claimed_offence(message.evidence, core.state.epoch), message.evidence):
        return
    try:
        accuse(core, message.evidence, sender)
    except ProofError as error:
        blame(core, sender, f"an accusation that proves nothing: {error}")


def blame(core: Core, peer: bytes, reason: str) -> None:
    """`peer` is whoever handed it over: the author may be framed, but whoever relays checks first."""
    core.effects.append(Blame(peer, reason))


def accuse_double_vote(core: Core, message: Prepare | Commit, book: VoteBook) -> None:
    held = book.get(message.height, message.validator, message.view)
    assert held is not None, "a conflict is with a vote that is held"
    first = type(message)(
        message.epoch, message.view, message.height, held.block_hash, message.validator, held.signature
    )
    accuse(core, double_vote(first, message))


def look_for_hidden_proofs(core: Core, message: ViewChange) -> None:
    """Compare a VIEW-CHANGE with the COMMITs of its sender that are held."""
    state = core.state
    for height in state.commits.heights():
        for view, _ in state.commits.choices(height):
            commit = status.commit_message(state, height, view, message.validator)
            if commit is not None:
                look_for_hidden_proof(core, message, commit)


def look_for_hidden_proof(core: Core, message: ViewChange, commit: Commit) -> None:
    if not shows_proof(commit, message):
        accuse(core, HiddenProof(commit, message))
