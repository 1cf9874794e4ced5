"""Chains of small blocks for the tests: real headers and roots, opaque transactions and receipts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from otcnode import merkle
from otcnode.blocks import (
    HEADER_VERSION,
    Certificate,
    Entry,
    Epoch,
    Header,
    ValidatorSignature,
    block_hash,
    commit_preimage,
    transactions_root,
    validators_hash,
)
from otcnode.crypto import SigningKey, sha256
from otcnode.genesis import ChainParameters
from otcnode.storage.kv import KeyValue, Write
from otcnode.storage.state_tree import TreeChanges
from otcnode.storage.store import Store

CHAIN = sha256(b"a chain")
KEY = SigningKey(bytes(32))
JOINER = SigningKey(sha256(b"joiner"))
VALIDATORS = (KEY.public,)
EPOCH = Epoch(1, VALIDATORS, ChainParameters().consensus)
BUCKETS = 256
GENESIS = {b"account/" + bytes([n]): b"genesis %d" % n for n in range(20)}
HISTORY_BLOCKS = 1_000


def create(kv: KeyValue, history_blocks: int = HISTORY_BLOCKS) -> Store:
    return Store.create(kv, CHAIN, GENESIS, BUCKETS, EPOCH, history_blocks)


def reopen(kv: KeyValue, history_blocks: int = HISTORY_BLOCKS) -> Store:
    """Open it and read all of the state tree, as a node has done some ticks after its start."""
    store = Store.open(kv, CHAIN, history_blocks)
    while store.tree.read_ahead(100):
        pass
    return store


def transactions_of(height: int) -> list[bytes]:
    return [b"transaction %d of block %d" % (position, height) for position in range(height % 4)]


def writes_of(height: int) -> dict[bytes, bytes | None]:
    """Deterministic writes that replace, add and delete keys, some of which are prefixes of others."""
    return {
        b"account/" + bytes([height % 20]): None if height % 7 == 0 else b"height %d" % height,
        b"block\x00" * (height % 3) + b"\x00": b"%d" % height,
        b"new/%d" % height: b"born",
        b"new/%d" % (height - 3): None,
    }


def append(
    store: Store,
    writes: Mapping[bytes, bytes | None] | None = None,
    transactions: Sequence[bytes] | None = None,
    index: Sequence[Write] = (),
    next_epoch: Epoch | None = None,
    changes: TreeChanges | None = None,
) -> Header:
    """Commit the next block, by default the one that follows from the height alone."""
    tip = store.tip
    height = tip.height + 1
    writes = writes_of(height) if writes is None else writes
    raw = transactions_of(height) if transactions is None else transactions
    entries = [Entry(sha256(body), sha256(body + b"signed")) for body in raw]
    receipts = [b"automatic receipt of %d" % height, *(b"receipt of " + body for body in raw)]
    changes = store.tree.speculate(writes) if changes is None else changes
    after = next_epoch or EPOCH
    header = Header(
        version=HEADER_VERSION,
        chain=CHAIN,
        height=height,
        parent=tip.block_hash,
        time_ms=1_000 * height,
        proposer=KEY.public,
        transaction_count=len(raw),
        transactions_root=transactions_root(entries),
        receipts_root=merkle.root(receipts),
        state_root=changes.root,
        validators_hash=validators_hash(store.epoch_of(height)),
        next_validators_hash=validators_hash(after),
    )
    store.commit(
        header=header,
        certificate=certify(header, store.epoch_of(height)),
        entries=entries,
        transactions=raw,
        receipts=receipts,
        automatic_count=1,
        state_writes=writes,
        tree_changes=changes,
        index_writes=index,
        next_epoch=next_epoch,
    )
    return header


def certify(header: Header, epoch: Epoch) -> Certificate:
    name = block_hash(header)
    message = commit_preimage(CHAIN, epoch.number, 0, header.height, name)
    signatures = tuple(
        ValidatorSignature(key.public, key.sign(message))
        for key in sorted((KEY, JOINER), key=lambda key: key.public)
        if key.public in epoch.validators
    )
    return Certificate(epoch.number, 0, header.height, name, signatures)


def expected_state(height: int) -> dict[bytes, bytes]:
    """The state after the block at `height`, by replaying the writes one by one."""
    state = dict(GENESIS)
    for below in range(1, height + 1):
        for key, value in writes_of(below).items():
            if value is None:
                state.pop(key, None)
            else:
                state[key] = value
    return state
