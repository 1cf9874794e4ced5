"""Every key on disk begins with one of these bytes. Heights are 8 bytes, big-endian, so that keys sort by height.

A change to any of them is a change of FORMAT.
"""

from __future__ import annotations

from enum import Enum

FORMAT = 5
"""The version of this layout; a store of another format is refused."""

HEIGHT_BYTES = 8


class Table(bytes, Enum):
    """First byte of the keys of a table."""

    META = b"m"
    """name → record: see `Meta`."""
    HEADER = b"h"
    """height → canonical Header. Of blocks that are no longer kept, those stay that a light verifier follows the
    validator sets by (the last of each epoch), and the one below the first kept block."""
    BODY = b"b"
    """height → canonical array of the raw transactions."""
    CERTIFICATE = b"c"
    """height → canonical Certificate; kept as long as the header."""
    RECEIPTS = b"r"
    """height → canonical array [automatic count, receipts], automatic ones first."""
    BLOCK_HASH = b"n"
    """block hash → height."""
    TRANSACTION = b"x"
    """transaction id → height ‖ position in the block (4 bytes)."""
    EPOCH = b"e"
    """first height it decides → canonical Epoch."""
    STATE = b"s"
    """state key → its value at the committed height."""
    HISTORY = b"v"
    """state key (terminated, see `terminated`) ‖ height → the value that the block at this height replaced: one byte
    1 and the value, or one byte 0 where the key was absent."""
    TOUCHED = b"w"
    """height → canonical array of the state keys with a HISTORY entry of this height (to prune and to roll back)."""
    TREE = b"t"
    """hash of a state key → hash of its value: the leaves of the state tree, in the order of its buckets."""
    BUCKET = b"u"
    """number of a bucket of the state tree (4 bytes) → hash of its leaves; an empty bucket has no entry."""
    INDEX = b"i"
    """index entries, opaque here."""
    INDEXED = b"k"
    """height → canonical `store.Indexed`: the entries of TRANSACTION and INDEX that are of this block (to prune and to
    roll back)."""
    EVIDENCE = b"o"
    """name → evidence of misbehaviour that this node has kept, opaque here; no part of the chain."""

    DOCUMENT = b"d"
    """In the database of documents: name of a sealed document → its bytes, which have that hash."""
    DOCUMENT_KEPT = b"y"
    """There: name of a document that is here → the committed height at which it was kept. A state of a lower height
    that does not name it says nothing."""


class Meta(bytes, Enum):
    """The records of table META."""

    CHAIN = b"m/chain"
    """The canonical `store.ChainMeta`: format, chain id, number of buckets, genesis state root."""
    HEAD = b"m/head"
    """The canonical `store.Head`: committed height, block hash, first heights of the history and of the blocks."""
    INCOMING = b"m/incoming"
    """Only in a store in which a snapshot is being gathered: its canonical `snapshot.Manifest`."""
    INCOMING_CHUNK = b"m/incoming-chunk/"
    """Only there, then 4 bytes: this chunk has been written."""
    FIRST_WAY_UP = b"m/first-way-up"
    """Empty; there from the beginning, from the genesis or a snapshot, until the node has once caught up. A store
    that an earlier version began has none."""
    DOCUMENTS = b"m/documents"
    """Only in the database of documents: those that earlier versions kept in the chain's have been moved here."""


def height_key(table: Table, height: int) -> bytes:
    return table + height.to_bytes(HEIGHT_BYTES, "big")


def terminated(key: bytes) -> bytes:
    """`key` in a form that no other key's form is a prefix of, with the same order (zero bytes become 00 ff and the
    end is 00 01). Without the last two bytes it is the form of a prefix."""
    return key.replace(b"\x00", b"\x00\xff") + b"\x00\x01"


def unterminated(form: bytes) -> bytes:
    assert form.endswith(b"\x00\x01")
    return form[:-2].replace(b"\x00\xff", b"\x00")
