"""Bugs of snapshots: what is believed of those who serve one, and what is kept of one half gathered."""

from __future__ import annotations

from contextlib import AbstractContextManager

from otcnode import epochs, snapshot
from otcnode.blocks import Epoch
from otcnode.epochs import EpochChange, ProvenEpochs
from otcnode.simulation.mutants.planting import planted, wherever
from otcnode.snapshot import Chunk, Leaf
from otcnode.storage import incoming
from otcnode.storage.incoming import Incoming
from otcnode.storage.kv import Reader
from otcnode.storage.state_proof import key_hash, value_hash
from otcnode.storage.state_tree import StateTree

Plant = AbstractContextManager[None]


class _AnyRoot(bytes):
    """Unlike no hash."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = bytes.__hash__


class _UnprovenTree(StateTree):
    """Has whatever root it is compared with."""

    @property
    def root(self) -> bytes:
        return _AnyRoot(super().root)


def chunk_without_proof() -> Plant:
    """Chunks are kept whatever they are proven by, and nobody compares the whole with the state root afterwards: else
    they would be fetched again."""

    def check_chunk(chunk: Chunk, index: int, *_: object) -> list[Leaf]:
        return [(key_hash(key), value_hash(value)) for key, value in chunk.pairs]

    return planted(*wherever(snapshot.check_chunk, check_chunk), (incoming, "StateTree", _UnprovenTree))


def history_unchecked() -> Plant:
    """Changes of the validators are believed."""

    def extend(self: ProvenEpochs, change: EpochChange) -> Epoch:
        self._epochs.append(change.epoch)
        return change.epoch

    return planted((ProvenEpochs, "extend", extend))


def uncertified_height() -> Plant:
    """The header of a snapshot needs no certificate."""
    return planted((epochs, "check_certificate", lambda *_: None))


def installed_before_it_is_whole() -> Plant:
    """A store in which a snapshot is being gathered passes for a chain."""
    right = incoming.finished

    def finished(kv: Reader) -> bool:
        return right(kv) or incoming.begun(kv) is not None

    return planted(*wherever(incoming.finished, finished))


def noted_before_it_is_kept() -> Plant:
    """A chunk is noted in one write and kept in another one, and nobody compares the whole with the state root
    afterwards."""
    right = Incoming.put

    def put(self: Incoming, index: int, chunk: Chunk) -> int:
        self._kv.write([(incoming._mark(index), b"")])
        return right(self, index, chunk)

    return planted((Incoming, "put", put), (incoming, "StateTree", _UnprovenTree))
