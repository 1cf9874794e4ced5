"""The records of a store, and reading them one by one: what both the store and the tools that look into it stand on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, TypeVar

import msgspec

from otcnode.blocks import Certificate, Epoch, Header, block_hash
from otcnode.codec import Record, decode
from otcnode.epochs import EpochChange
from otcnode.errors import ConfigurationError, DecodeError, OtherFormat, StorageDamage
from otcnode.storage.kv import Reader
from otcnode.storage.schema import FORMAT, HEIGHT_BYTES, Meta, Table, height_key
from otcnode.types import BlockHash, ChainId, Hash, Height, Natural, TransactionId

T = TypeVar("T")

ADVICE = "stop the node and run: otcnode db verify"
ADVICE_MISSING = "run otcnode db restore, or delete the directory and let the node sync"
ADVICE_RESTORE = "this store cannot be trusted: run otcnode db restore, or delete it and let the node sync"


class ChainMeta(Record, frozen=True):
    """What a store is for; written once."""

    format: Natural
    chain: ChainId
    buckets: Natural
    genesis_state_root: Hash


class Head(Record, frozen=True):
    """Written with every block. States are known from `history_first` to `height`, whole blocks from `blocks_first` to
    `height`; where that is the height above, there are none yet. The header and certificate below `blocks_first` are
    kept, so no state is known below it: 1 ≤ blocks_first ≤ history_first + 1."""

    height: Height
    block_hash: BlockHash
    history_first: Height
    blocks_first: Height


class Indexed(Record, frozen=True):
    """What the indexes hold of one block: ids in TRANSACTION, keys in INDEX."""

    transactions: tuple[TransactionId, ...]
    keys: tuple[bytes, ...]


class StoredReceipts(Record, frozen=True):
    """The leaves under the receipts root: `automatic_count` of due items, then one per transaction."""

    automatic_count: Natural
    receipts: tuple[bytes, ...]


class Tip(NamedTuple):
    """The last committed block; block 0 is the genesis, which has neither header nor certificate."""

    height: int
    block_hash: bytes
    header: Header | None
    certificate: Certificate | None


def damaged(place: str) -> StorageDamage:
    return StorageDamage(f"{place} is damaged or missing; {ADVICE}")


def advised(damage: StorageDamage, advice: str) -> StorageDamage:
    """The same damage with the advice for whoever met it where the general one, which is about a running node's chain,
    does not help. A disk that is full is not meant."""
    text = str(damage)
    for general in (ADVICE, ADVICE_MISSING):
        text = text.replace(general, advice)
    return type(damage)(text)


def read_record(reader: Reader, key: bytes, kind: type[T], place: str) -> T:
    """The record of this kind under `key`. Raises StorageDamage if it is missing or does not decode."""
    raw = reader.get(key)
    if raw is None:
        raise damaged(place)
    try:
        return decode(kind, raw)
    except DecodeError:
        raise damaged(place) from None


def read_chain_meta(reader: Reader, chain: bytes) -> ChainMeta:
    """Raises ConfigurationError if there is no chain, or another one, OtherFormat if its format is not ours."""
    if not holds_chain(reader):
        raise ConfigurationError("this data directory holds no chain yet")
    found = _format_of(reader.get(Meta.CHAIN.value))
    if found not in (None, FORMAT):
        raise OtherFormat(
            f"this data directory has format {found}, this version reads {FORMAT}: restore a snapshot "
            "(otcnode db restore --replace), or delete data/chain and let the node sync"
        )
    meta = read_record(reader, Meta.CHAIN.value, ChainMeta, "the description of the chain")
    if meta.chain != chain:
        raise ConfigurationError(
            f"this data directory is of chain {meta.chain.hex()[:16]}…, the genesis file of {chain.hex()[:16]}…"
        )
    return meta


def _format_of(raw: bytes | None) -> int | None:
    """What every version writes first, whatever follows it."""
    try:
        fields = msgspec.msgpack.decode(raw or b"", type=tuple[Any, ...])
    except msgspec.DecodeError:
        return None
    return fields[0] if fields and isinstance(fields[0], int) else None


def holds_chain(reader: Reader) -> bool:
    """Whether there is a chain at all, be it damaged. Its description is asked for by name: no scan is to be trusted
    alone where what says that there is nothing lets a genesis be written over it."""
    return reader.get(Meta.CHAIN.value) is not None or next(reader.scan(b"", limit=1), None) is not None


def read_tip(reader: Reader, head: Head) -> Tip:
    if head.height == 0:
        return Tip(0, head.block_hash, None, None)
    header = read_record(reader, height_key(Table.HEADER, head.height), Header, f"header {head.height}")
    if block_hash(header) != head.block_hash:
        raise damaged(f"header {head.height}")
    key = height_key(Table.CERTIFICATE, head.height)
    certificate = read_record(reader, key, Certificate, f"certificate {head.height}")
    return Tip(head.height, head.block_hash, header, certificate)


def state_root_at(reader: Reader, meta: ChainMeta, height: int) -> bytes:
    """What the header of a height that is kept says, or the description of the chain of the genesis."""
    if height == 0:
        return meta.genesis_state_root
    return read_record(reader, height_key(Table.HEADER, height), Header, f"header {height}").state_root


def read_epochs(reader: Reader) -> dict[int, Epoch]:
    """By the first height each decides. Raises StorageDamage if one does not decode or the first is missing."""
    try:
        epochs = [decode(Epoch, raw) for _, raw in reader.scan(Table.EPOCH.value)]
    except DecodeError:
        raise damaged("an epoch") from None
    if not epochs or epochs[0].number != 1:
        raise damaged("the first epoch")
    return {epoch.number: epoch for epoch in epochs}


def read_changes(reader: Reader, epochs: Iterable[Epoch]) -> tuple[EpochChange, ...]:
    """How each of these epochs was announced. Raises StorageDamage if a header or certificate is missing or does not
    decode."""
    changes = []
    for epoch in epochs:
        below = epoch.number - 1
        header = read_record(reader, height_key(Table.HEADER, below), Header, f"header {below}")
        certificate = read_record(reader, height_key(Table.CERTIFICATE, below), Certificate, f"certificate {below}")
        changes.append(EpochChange(header, certificate, epoch))
    return tuple(changes)


def locations(height: int, count: int) -> list[bytes]:
    """How the index of transactions names the places of a block, in order."""
    at = height.to_bytes(HEIGHT_BYTES, "big")
    return [at + position.to_bytes(4, "big") for position in range(count)]
