"""The bodies of blocks: asking for them, learning them, serving them."""

from __future__ import annotations

from otcnode import limits
from otcnode.consensus import accusing, memory
from otcnode.consensus.candidates import Candidate
from otcnode.consensus.core import Core
from otcnode.consensus.effects import Fetch
from otcnode.consensus.events import Fetched
from otcnode.consensus.messages import Bodies, BodyRequest, Entries
from otcnode.consensus.state import State
from otcnode.types import BlockHash


def on_body_request(core: Core, sender: bytes, message: BodyRequest) -> None:
    """Bodies are kept and served until their height is committed, whatever their expiry; to validators, for all others
    have no use for a block before it is final."""
    candidate = core.state.candidates.get(message.block_hash)
    if candidate is None or candidate.entries is None or sender not in core.state.others:
        return
    if len(message.positions) > len(candidate.entries):
        return
    key = (sender, bool(message.positions))
    now_ms = core.state.now.monotonic_ms
    next_ms, pause_ms = candidate.served_ms.get(key, (now_ms, limits.resend_after_ms // 2))
    if now_ms < next_ms:
        return
    # An answer can be lost; whoever asks for the same again and again is answered ever more rarely.
    candidate.served_ms[key] = (now_ms + pause_ms, min(2 * pause_ms, limits.serve_again_ms_max))
    if not message.positions:
        core.send(sender, Entries(candidate.height, candidate.block_hash, candidate.entries))
        return
    wanted = sorted(set(message.positions) & set(candidate.bodies))
    held = tuple((position, candidate.bodies[position]) for position in wanted)
    if held:
        core.send(sender, Bodies(candidate.height, candidate.block_hash, held))


def gather(core: Core, candidate: Candidate) -> bool:
    """The entries first, then what the pool has of the bodies, then the rest from peers; whether all of it is here."""
    if candidate.entries is None:
        request_missing(core, candidate)
        return False
    if not candidate.searched:
        candidate.searched = True
        if not candidate.complete:
            core.effects.append(Fetch(candidate.block_hash, candidate.entries))
    return candidate.complete


def request_missing(core: Core, candidate: Candidate) -> None:
    """Ask the primary first, then the others in turn."""
    state = core.state
    if candidate.complete or not state.others:
        return
    now_ms = state.now.monotonic_ms
    if candidate.requested_ms is not None and now_ms - candidate.requested_ms < limits.resend_after_ms:
        return
    first = state.primary if candidate.source is None else candidate.source
    heard = [name for name in state.others if state.is_heard(name)] or list(state.others)
    if first in heard and (candidate.source is not None or candidate.requests == 0):
        peer = first
    else:
        peer = heard[candidate.requests % len(heard)]
    candidate.source = None
    candidate.requested_ms = now_ms
    candidate.requests += 1
    positions = () if candidate.entries is None else candidate.missing
    core.send(peer, BodyRequest(candidate.height, candidate.block_hash, positions))


def _is_wanted(state: State, candidate: Candidate, proved: set[BlockHash]) -> bool:
    certificate = state.certificates.get(candidate.height)
    decided = None if certificate is None else certificate.block_hash
    return candidate.block_hash in (state.accepted.get(candidate.height), decided) or candidate.block_hash in proved


def ask_again(core: Core) -> None:
    """Once in a while, for what is still missing of the blocks that matter."""
    proved = memory.proved_for_view(core.state)
    for candidate in core.state.candidates.values():
        if candidate.searched and _is_wanted(core.state, candidate, proved):
            request_missing(core, candidate)


def learn_entries(core: Core, sender: bytes, message: Entries) -> None:
    candidate = core.state.candidates.get(message.block_hash)
    if candidate is None or candidate.entries is not None:
        return
    if candidate.learn_entries(message.entries):
        candidate.source, candidate.requested_ms = sender, None
    else:
        accusing.blame(core, sender, "entries that are not what the header commits to")


def learn_bodies(core: Core, sender: bytes, message: Bodies) -> None:
    candidate = core.state.candidates.get(message.block_hash)
    if candidate is not None and not candidate.learn_bodies(message.transactions, _bytes_max(core)):
        accusing.blame(core, sender, "a body that is not what its entry names")


def learn_from_pool(core: Core, event: Fetched) -> None:
    """What the pool does not have is asked of peers."""
    candidate = core.state.candidates.get(event.block_hash)
    if candidate is not None:
        named = candidate.learn_bodies(event.transactions, _bytes_max(core))
        assert named, "the pool names bodies by their full hashes"
        request_missing(core, candidate)


def _bytes_max(core: Core) -> int:
    return core.state.parameters.block_bytes_max
