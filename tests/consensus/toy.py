"""A toy ledger for tests of consensus: the state is a hash chain; one kind of transaction changes the validators."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from msgspec.structs import replace

from otcnode.blocks import (
    HEADER_VERSION,
    ConsensusParameters,
    Entry,
    Epoch,
    Header,
    block_hash,
    transaction_full_hash,
    transactions_root,
    validators_hash,
)

CHAIN = hashlib.sha256(b"toy chain").digest()
GENESIS = hashlib.sha256(b"toy genesis").digest()
CHANGE = b"validators:"
WINDOW = b"window:"
"""What follows, up to a #, is the window from the second height after on."""


def fake_sign(secret: bytes, message: bytes) -> bytes:
    """Stands for a signature; only its owner calls it with its own name."""
    return hashlib.sha512(secret + message).digest()


def fake_verify(public: bytes, message: bytes, signature: bytes) -> bool:
    return hashlib.sha512(public + message).digest() == signature


@dataclass(frozen=True)
class ToyState:
    """After a block: its name and time, the state root, who decides the next height, and a change to come."""

    height: int
    block_hash: bytes
    time_ms: int
    root: bytes
    epoch: Epoch
    coming: Epoch | None
    seen: frozenset[bytes]


def first_state(validators: tuple[bytes, ...], parameters: ConsensusParameters) -> ToyState:
    return ToyState(0, GENESIS, 0, GENESIS, Epoch(1, validators, parameters), None, frozenset())


def entries_of(bodies: tuple[bytes, ...]) -> tuple[Entry, ...]:
    return tuple(Entry(hashlib.sha256(body).digest(), transaction_full_hash(body)) for body in bodies)


def execute(parent: ToyState, bodies: tuple[bytes, ...], time_ms: int, proposer: bytes) -> tuple[Header, ToyState]:
    """The one right header over these bodies, and the state after it."""
    height = parent.height + 1
    epoch, coming = parent.epoch, parent.coming
    if coming is not None and coming.number == height + 1:
        epoch, coming = coming, None
    for body in bodies:
        if body.startswith(WINDOW) and coming is None:
            window = int(body[len(WINDOW) :].split(b"#")[0])
            coming = Epoch(height + 2, epoch.validators, replace(epoch.parameters, window=window))
        if body.startswith(CHANGE) and coming is None:
            # What follows the last whole name only makes the transaction unlike others.
            names = body[len(CHANGE) :]
            names = names[: len(names) // 32 * 32]
            members = tuple(sorted(names[index : index + 32] for index in range(0, len(names), 32)))
            coming = Epoch(height + 2, members, epoch.parameters)
    root = hashlib.sha256(parent.root + b"".join(hashlib.sha256(body).digest() for body in bodies)).digest()
    entries = entries_of(bodies)
    header = Header(
        HEADER_VERSION,
        CHAIN,
        height,
        parent.block_hash,
        time_ms,
        proposer,
        len(bodies),
        transactions_root(entries),
        root,
        root,
        validators_hash(parent.epoch),
        validators_hash(epoch),
    )
    name = block_hash(header)
    return header, ToyState(height, name, time_ms, root, epoch, coming, parent.seen | frozenset(bodies))


def fault_of(parent: ToyState, header: Header, bodies: tuple[bytes, ...]) -> str | None:
    """Why a block is not what its parent and bodies make it."""
    if any(body in parent.seen for body in bodies) or len(set(bodies)) != len(bodies):
        return "a transaction twice"
    if any(body.startswith(b"bad") for body in bodies):
        return "an inadmissible transaction"
    expected, _ = execute(parent, bodies, header.time_ms, header.proposer)
    return None if expected == header else "another root"
