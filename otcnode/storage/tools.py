"""Verifying a store that no node is using: everything in it against the certified headers.

What storage keeps without knowing its form is judged by those who know it (`Judges`); `otcnode.audit` brings them
together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

from otcnode import merkle
from otcnode.blocks import (
    Certificate,
    Epoch,
    Header,
    block_hash,
    check_certificate,
    validators_hash,
)
from otcnode.codec import decode
from otcnode.errors import ConfigurationError, DecodeError, ProofError, StorageDamage
from otcnode.genesis import genesis_block_hash
from otcnode.storage.documents import ADVICE_DOCUMENT
from otcnode.storage.kv import Reader
from otcnode.storage.leaves import hashes_of_leaves, read_bucket_hashes
from otcnode.storage.progress import Progress, silent
from otcnode.storage.records import (
    ADVICE_RESTORE,
    ChainMeta,
    Head,
    Indexed,
    StoredReceipts,
    locations,
    read_chain_meta,
    read_epochs,
    read_record,
    state_root_at,
)
from otcnode.storage.schema import HEIGHT_BYTES, Meta, Table, height_key, terminated
from otcnode.storage.state_proof import key_hash, value_hash
from otcnode.storage.state_tree import StateTree
from otcnode.storage.state_view import CommittedState, is_replaced_value, replaced_value
from otcnode.vm.documents.records import sealed_name
from otcnode.vm.view import StateView

TransactionsRoot = Callable[[tuple[bytes, ...]], tuple[bytes, tuple[bytes, ...]]]
"""The transactions root and the transaction ids of raw transactions."""
IndexEntries = Callable[[int, StoredReceipts, StateView], list[tuple[bytes, bytes]]]
"""The index entries of the block at a height, in the order in which they are written, by its receipts and by the
committed state. Raises DecodeError if either is not of the ledger's form."""
CheckEvidence = Callable[[bytes, bytes, Mapping[int, Epoch]], None]
"""Judges evidence by name, bytes and the known epochs. Raises StorageDamage."""


class Judges(NamedTuple):
    """Those who know the form of what storage does not; without one, what it would judge is not looked into."""

    transactions_root: TransactionsRoot | None = None
    index_entries: IndexEntries | None = None
    check_evidence: CheckEvidence | None = None


NOBODY = Judges()


class IndexDiffers(StorageDamage):
    """The index is not what receipts and state say: if the state is in order, it is the index that is wrong."""


STEP = 256
BLOCKS_PER_STEP = 16
BLOCKS = "blocks"
"""The name of the part that takes longest; its progress is in heights."""


class Verified(NamedTuple):
    """What was found in order."""

    height: int
    blocks_first: int
    transactions: int
    state_keys: int
    history_entries: int
    index_entries: int
    evidence: int


def verify(
    reader: Reader, chain: bytes, judges: Judges = NOBODY, progress: Progress = silent, first: int | None = None
) -> Verified:
    """Check every hash, root and certificate, the whole state, every value in the history, and with `judges` the
    bodies, every index entry and the evidence.

    Of blocks below `first`, which were checked before, only the headers are read. Raises StorageDamage naming the first
    place that is wrong, ConfigurationError if the store is of another chain, or `first` is one that nobody has stopped
    at.
    """
    meta = read_chain_meta(reader, chain)
    head = read_record(reader, Meta.HEAD.value, Head, "the head")
    if first is not None and first > head.height + 1:
        raise ConfigurationError(f"the last block is {head.height}: none would be checked from {first} on")
    try:
        transactions = _verify_blocks(reader, meta, head, judges, progress, first or 1)
    except IndexDiffers:
        _verify_state(reader, meta, head, progress)
        raise
    index = _verify_tables_end(reader, head, transactions, progress)
    state_keys, tree = _verify_state(reader, meta, head, progress)
    history = _verify_history(reader, meta, head, tree, progress)
    evidence = _verify_evidence(reader, judges.check_evidence, progress)
    return Verified(head.height, head.blocks_first, transactions, state_keys, history, index, evidence)


def verify_documents(reader: Reader, progress: Progress = silent) -> int:
    """Of the database of documents: each has the hash that names it, and a height at which it was kept; returns their
    number. Those that the state names and that are not here yet are no damage."""
    count, skip = 0, len(Table.DOCUMENT.value)
    kept = reader.scan(Table.DOCUMENT_KEPT.value)
    for stored, raw in _counted(reader, Table.DOCUMENT, "documents", progress):
        count += 1
        name = stored[skip:]
        if sealed_name(raw) != name:
            raise StorageDamage(f"document {name.hex()} has other bytes than its name says; {ADVICE_DOCUMENT}")
        key, height = next(kept, (b"", b""))
        if key != Table.DOCUMENT_KEPT.value + name or len(height) != HEIGHT_BYTES:
            raise StorageDamage(f"when document {name.hex()} was kept is damaged or missing; {ADVICE_DOCUMENT}")
    if next(kept, None) is not None:
        raise StorageDamage(f"a document is missing that was kept; {ADVICE_DOCUMENT}")
    reader.get(Meta.DOCUMENTS.value)
    return count


def _verify_evidence(reader: Reader, check: CheckEvidence | None, progress: Progress) -> int:
    epochs, count = read_epochs(reader), 0
    for stored, raw in _counted(reader, Table.EVIDENCE, "evidence", progress):
        count += 1
        if check is not None:
            check(stored[len(Table.EVIDENCE.value) :], raw, epochs)
    return count


def wrong(place: str) -> StorageDamage:
    return StorageDamage(f"{place}; {ADVICE_RESTORE}")


def _verify_blocks(
    reader: Reader,
    meta: ChainMeta,
    head: Head,
    judges: Judges,
    progress: Progress,
    first: int,
) -> int:
    """Every block follows from the one below it; returns the number of transactions."""
    state = CommittedState(reader)
    if not 1 <= head.blocks_first <= min(head.history_first, head.height) + 1:
        raise wrong(f"the head keeps blocks from {head.blocks_first} on, and states from {head.history_first} on")
    epochs = read_epochs(reader)
    _verify_epochs(reader, meta, head, epochs)
    below = head.blocks_first - 1
    parent, parent_header = genesis_block_hash(meta.chain, meta.genesis_state_root), None
    if below:
        parent_header = _verify_header(reader, meta, below, _epoch_of(epochs, below))
        parent = block_hash(parent_header)
    transactions = 0
    for height in range(head.blocks_first, head.height + 1):
        epoch = _epoch_of(epochs, height)
        known = height < first
        header = _read_header(reader, meta, height) if known else _verify_header(reader, meta, height, epoch)
        if header.parent != parent:
            raise wrong(f"header {height} does not follow the one below it")
        _verify_link(header, parent_header, epoch)
        if not known:
            _verify_block(reader, header, judges, state)
        parent, parent_header = block_hash(header), header
        transactions += header.transaction_count
        if height % BLOCKS_PER_STEP == 0 or height == head.height:
            progress(BLOCKS, height, head.height)
    if parent != head.block_hash:
        raise wrong("the head names another block than the last")
    return transactions


def _epoch_of(epochs: Mapping[int, Epoch], height: int) -> Epoch:
    return epochs[max(number for number in epochs if number <= height)]


def _verify_epochs(reader: Reader, meta: ChainMeta, head: Head, epochs: Mapping[int, Epoch]) -> None:
    """The last header of every epoch is certified by its validators and names those of the next."""
    for before, number in pairwise(sorted(epochs)):
        if number > head.height + 1:
            raise wrong(f"epoch {number} begins beyond the height above the committed one")
        end = _verify_header(reader, meta, number - 1, epochs[before])
        if end.next_validators_hash != validators_hash(epochs[number]):
            raise wrong(f"header {end.height} names other validators than epoch {number}")


def _read_header(reader: Reader, meta: ChainMeta, height: int) -> Header:
    header = read_record(reader, height_key(Table.HEADER, height), Header, f"header {height}")
    if header.height != height or header.chain != meta.chain:
        raise wrong(f"header {height} is of another height or chain")
    return header


def _verify_header(reader: Reader, meta: ChainMeta, height: int, epoch: Epoch) -> Header:
    """A header that is in its place and certified."""
    header = _read_header(reader, meta, height)
    certificate = read_record(reader, height_key(Table.CERTIFICATE, height), Certificate, f"certificate {height}")
    if certificate.height != height or certificate.block_hash != block_hash(header):
        raise wrong(f"certificate {height} is of another block")
    try:
        check_certificate(certificate, header.chain, epoch)
    except ProofError as error:
        raise wrong(f"certificate {height}: {error}") from None
    return header


def _verify_link(header: Header, parent: Header | None, epoch: Epoch) -> None:
    names = validators_hash(epoch)
    if header.validators_hash != names or (parent is not None and parent.next_validators_hash != names):
        raise wrong(f"header {header.height} names other validators than epoch {epoch.number}")
    if parent is not None and header.time_ms <= parent.time_ms:
        raise wrong(f"header {header.height} is not later than the one below it")


def _verify_block(reader: Reader, header: Header, judges: Judges, state: StateView) -> None:
    height, name = header.height, block_hash(header)
    if reader.get(Table.BLOCK_HASH.value + name) != height.to_bytes(HEIGHT_BYTES, "big"):
        raise wrong(f"the index of block hashes lacks block {height}")
    stored = read_record(reader, height_key(Table.RECEIPTS, height), StoredReceipts, f"receipts {height}")
    if merkle.root(stored.receipts) != header.receipts_root:
        raise wrong(f"receipts {height} have another root than the header")
    if len(stored.receipts) - stored.automatic_count != header.transaction_count:
        raise wrong(f"receipts {height} are not one per transaction")
    _verify_body(reader, header, judges.transactions_root)
    _verify_index(reader, height, stored, judges.index_entries, state)


def _verify_body(reader: Reader, header: Header, transactions_root: TransactionsRoot | None) -> None:
    height = header.height
    body = read_record(reader, height_key(Table.BODY, height), tuple[bytes, ...], f"body {height}")
    if len(body) != header.transaction_count:
        raise wrong(f"body {height} has {len(body)} transactions, its header says {header.transaction_count}")
    names = _read_indexed(reader, height).transactions
    if len(names) != header.transaction_count:
        raise wrong(f"{_listed(height)} has {len(names)} transactions of {header.transaction_count}")
    for name, location in zip(names, locations(height, len(names)), strict=True):
        if reader.get(Table.TRANSACTION.value + name) != location:
            raise wrong(f"the index of transactions lacks {name.hex()} of block {height}")
    if transactions_root is None:
        return
    root, found = transactions_root(body)
    if root != header.transactions_root:
        raise wrong(f"body {height} has another root than the header")
    if found != names:
        raise wrong(f"{_listed(height)} names other transactions than the body")


def _verify_index(
    reader: Reader, height: int, stored: StoredReceipts, index_entries: IndexEntries | None, state: StateView
) -> None:
    """The entries of a block are those that its list names and, where they can be made anew, what its receipts say."""
    keys = _read_indexed(reader, height).keys
    values = [reader.get(Table.INDEX.value + key) for key in keys]
    for key, value in zip(keys, values, strict=True):
        if value is None:
            raise wrong(f"the index lacks the entry {key.hex()} of block {height}")
    if index_entries is None:
        return
    try:
        entries = index_entries(height, stored, state)
    except DecodeError as error:
        raise IndexDiffers(f"the index of block {height} cannot be made anew ({error}); {ADVICE_RESTORE}") from None
    if tuple(key for key, _ in entries) != keys:
        raise IndexDiffers(f"the index of block {height} lacks what its receipts say, or says more; {ADVICE_RESTORE}")
    for (key, expected), value in zip(entries, values, strict=True):
        if value != expected:
            text = f"the index entry {key.hex()} of block {height} is not what its receipts say"
            raise IndexDiffers(f"{text}; {ADVICE_RESTORE}")


def _listed(height: int) -> str:
    return f"the list of index entries of block {height}"


def _read_indexed(reader: Reader, height: int) -> Indexed:
    return read_record(reader, height_key(Table.INDEXED, height), Indexed, _listed(height))


def _counted(reader: Reader, table: Table, part: str, progress: Progress) -> Iterator[tuple[bytes, bytes]]:
    count = 0
    for count, pair in enumerate(reader.scan(table.value), 1):
        if count % (STEP * 64) == 0:
            progress(part, count, 0)
        yield pair
    progress(part, count, count)


def _verify_tables_end(reader: Reader, head: Head, transactions: int, progress: Progress) -> int:
    """No table speaks of a block that is not kept, and the indexes have no entry too many; returns the number of those
    in INDEX."""
    for table in (Table.HEADER, Table.BODY, Table.CERTIFICATE, Table.RECEIPTS, Table.TOUCHED, Table.INDEXED):
        beyond = next(reader.scan(table.value, height_key(table, head.height)), None)
        if beyond is not None:
            raise wrong(f"table {table.name} has entries above the committed height {head.height}")
    kept = head.height - head.blocks_first + 1
    for table in (Table.BODY, Table.RECEIPTS, Table.INDEXED):
        lowest = next(reader.scan(table.value, limit=1), None)
        if lowest is not None and lowest[0] < height_key(table, head.blocks_first):
            raise wrong(f"table {table.name} has entries below the first kept height {head.blocks_first}")
    if sum(1 for _ in _counted(reader, Table.BLOCK_HASH, "block hashes", progress)) != kept:
        raise wrong("the index of block hashes has entries too many")
    found = 0
    for _, place in _counted(reader, Table.TRANSACTION, "transactions", progress):
        found += 1
        if not head.blocks_first <= int.from_bytes(place[:HEIGHT_BYTES], "big") <= head.height:
            raise wrong("the index of transactions points below the first kept or above the committed height")
    if found != transactions:
        raise wrong(f"the index of transactions has {found} entries, the chain {transactions} transactions")
    listed = 0
    for height in range(head.blocks_first, head.height + 1):
        listed += len(_read_indexed(reader, height).keys)
    entries = sum(1 for _ in _counted(reader, Table.INDEX, "index", progress))
    if entries != listed:
        raise wrong(f"the index has {entries} entries, the blocks wrote {listed}")
    return entries


def _verify_state(reader: Reader, meta: ChainMeta, head: Head, progress: Progress) -> tuple[int, StateTree]:
    """Every key is in the tree with its value, the tree has no others, and its root is the header's; the
    hashes that are kept of its buckets are those of its leaves. Returns the number of keys, and the tree."""
    keys = 0
    for stored, value in _counted(reader, Table.STATE, "state", progress):
        keys += 1
        if reader.get(Table.TREE.value + key_hash(stored[1:])) != value_hash(value):
            raise wrong(f"the state key {stored[1:].hex()} has another value than the state tree")
    if sum(1 for _ in _counted(reader, Table.TREE, "state tree", progress)) != keys:
        raise wrong("the state tree has keys that the state has not")
    hashes = hashes_of_leaves(reader, meta.buckets)
    tree = StateTree(reader, meta.buckets, hashes)
    if tree.root != state_root_at(reader, meta, head.height):
        raise wrong(f"the state has another root than header {head.height}")
    kept = read_bucket_hashes(reader, meta.buckets)
    different = min((bucket for bucket, _ in hashes.items() ^ kept.items()), default=None)
    if different is not None:
        raise wrong(f"the hash of bucket {different} of the state tree is not that of its leaves")
    return keys, tree


def _verify_history(reader: Reader, meta: ChainMeta, head: Head, tree: StateTree, progress: Progress) -> int:
    """Exactly the entries that the lists of touched keys name, of the heights that are kept. What they hold, put back
    block by block into `tree`, which is that of the committed state and of no use afterwards, gives the state root of
    every header down to the lowest height whose state is known."""
    lowest = next(reader.scan(Table.TOUCHED.value, limit=1), None)
    if lowest is not None and lowest[0] <= height_key(Table.TOUCHED, head.history_first):
        raise wrong("the history has a block outside its window")
    named, whole = 0, head.height - head.history_first
    for height in range(head.height, head.history_first, -1):
        replaced = _replaced(reader, height)
        named += len(replaced)
        changes = tree.speculate(replaced)
        if changes.root != state_root_at(reader, meta, height - 1):
            raise wrong(f"the history of block {height} does not give back the state below it")
        tree.adopt(changes)
        if height % BLOCKS_PER_STEP == 0 or height == head.history_first + 1:
            progress("history", head.height + 1 - height, whole)
    if sum(1 for _ in _counted(reader, Table.HISTORY, "history entries", progress)) != named:
        raise wrong("the history has entries too many")
    return named


def _replaced(reader: Reader, height: int) -> dict[bytes, bytes | None]:
    """By key, what the block replaced."""
    at = height.to_bytes(HEIGHT_BYTES, "big")
    raw = reader.get(Table.TOUCHED.value + at)
    try:
        touched = () if raw is None else decode(tuple[bytes, ...], raw)
    except DecodeError:
        raise wrong(f"the list of keys of block {height} is damaged") from None
    replaced: dict[bytes, bytes | None] = {}
    for key in touched:
        entry = reader.get(Table.HISTORY.value + terminated(key) + at)
        if entry is None:
            raise wrong(f"the history lacks the state key {key.hex()}")
        if not is_replaced_value(entry):
            raise wrong(f"the history of block {height} has no value for the state key {key.hex()}")
        replaced[key] = replaced_value(entry)
    return replaced
