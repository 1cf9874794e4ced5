"""The state root: a fixed number of buckets by key hash under a 16-ary hash tree, kept whole in memory.

The tree is one bytearray in heap order: the children of node i are nodes 16·i + 1 … 16·i + 16, side by side, so a
node's hash is one SHA-256 over one slice. It is rebuilt at start from the hashes of the buckets, which are kept on disk
and which the root covers. What a bucket holds is read from disk when it is first needed, or ahead of that, checked
against its hash, and is in memory from then on. The hashes are defined in state_proof.py, the tables in leaves.py.

A block in flight speculates: its changes lie beside the tree until they are adopted at commit, or are dropped.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from typing import NamedTuple

from otcnode.storage.kv import Reader, Write
from otcnode.storage.leaves import (
    bucket_writes,
    depth_of,
    leaf_writes,
    read_bucket,
    read_bucket_hashes,
    read_buckets,
    shift_of,
)
from otcnode.storage.records import damaged
from otcnode.storage.state_proof import (
    BUCKET_PREFIX,
    HASH_BYTES,
    KEY_PREFIX,
    NODE_PREFIX,
    PAIR_BYTES,
    StateProof,
    bucket_hash,
    key_hash,
    node_hash,
    value_hash,
)

GROUP_BYTES = 16 * HASH_BYTES
_FIRST_BYTES = struct.Struct(f">I{HASH_BYTES - 4}x")
"""Of a key's hash the number that names its bucket."""
_put_hash = struct.Struct(f"{HASH_BYTES}s").pack_into
"""Write a hash into a bytearray: half as dear as assigning to a slice of it, which makes another bytearray first."""


class TreeChanges:
    """What some writes change in the tree, on top of the committed state or of other changes. Never altered by its
    holder; it leaves no trace when it is dropped."""

    __slots__ = ("_below", "_groups", "_hashes", "_pages", "_pairs", "_parent_root", "_sequence", "root")

    def __init__(
        self,
        root: bytes,
        parent_root: bytes,
        sequence: int,
        below: tuple[TreeChanges, ...],
        pairs: dict[bytes, bytes | None],
        pages: dict[int, bytes],
        hashes: dict[int, bytes],
        groups: dict[int, bytearray],
    ) -> None:
        self.root = root
        """The state root after these writes."""
        self._parent_root = parent_root
        self._sequence = sequence
        self._below = below
        """The changes in flight under these, nearest first; emptied at adoption, so that no chain of them grows."""
        self._pairs = pairs
        self._pages = pages
        self._hashes = hashes
        self._groups = groups


class TreeHashes(NamedTuple):
    """The tree of one height, without the leaves."""

    depth: int
    nodes: bytes
    """In heap order, as in the tree."""

    @property
    def root(self) -> bytes:
        return self.nodes[:HASH_BYTES]

    def siblings(self, depth: int, index: int) -> tuple[bytes, ...]:
        """From the `index`-th node at `depth` up, at every level the 15 other hashes of its group, joined."""
        node = (16**depth - 1) // 15 + index
        siblings = []
        while node:
            parent, place = divmod(node - 1, 16)
            start = (16 * parent + 1) * HASH_BYTES
            cut = start + place * HASH_BYTES
            siblings.append(self.nodes[start:cut] + self.nodes[cut + HASH_BYTES : start + GROUP_BYTES])
            node = parent
        return tuple(siblings)


class StateTree:
    """The tree of the committed state."""

    def __init__(self, reader: Reader, buckets: int, hashes: Mapping[int, bytes]) -> None:
        """The tree over `hashes` of those of the `buckets` (a power of 16) that are not empty. `reader` has the leaves
        of the committed state, now and after every adoption."""
        self._reader = reader
        self._depth = depth_of(buckets)
        self._shift = shift_of(self._depth)
        self._first_leaf = (buckets - 1) // 15
        self._sequence = 0
        self._pages: list[bytes | None] = [b""] * buckets
        """Per bucket: key hash ‖ value hash of its keys, ascending. None: not read yet."""
        self._ahead = 0
        """The buckets below have all been read."""
        level = bytearray(bucket_hash(b"") * buckets)
        for bucket, digest in hashes.items():
            level[bucket * HASH_BYTES : (bucket + 1) * HASH_BYTES] = digest
            self._pages[bucket] = None
        self._tree = _tree_over(bytes(level))

    @classmethod
    def load(cls, reader: Reader, buckets: int) -> StateTree:
        """The tree over the hashes of buckets that are kept on disk; no leaf is read. Raises StorageDamage if what is
        there has not the form of hashes; whether they are the right ones is for the root to say."""
        return cls(reader, buckets, read_bucket_hashes(reader, buckets))

    def read_ahead(self, buckets_max: int) -> bool:
        """Read and check the next buckets that nobody has asked for yet; whether any are left. Raises StorageDamage
        naming one that is not what its hash says."""
        first, end = self._ahead, min(self._ahead + buckets_max, len(self._pages))
        self._read(first, end)
        self._ahead = end
        return end < len(self._pages)

    @property
    def root(self) -> bytes:
        return bytes(self._tree[:HASH_BYTES])

    @property
    def buckets(self) -> int:
        return len(self._pages)

    def speculate(self, writes: Mapping[bytes, bytes | None], parent: TreeChanges | None = None) -> TreeChanges:
        """The changes that `writes` make on top of `parent`, or of the committed state. `parent` must be in flight
        on the committed state, or be what was adopted last. Raises StorageDamage naming a bucket that is not what its
        hash says."""
        stack = self._in_flight(parent)
        parent_root = parent.root if parent is not None else self.root
        pairs: dict[bytes, bytes | None] = {}
        pages: dict[int, bytes] = {}
        sha256, shift = hashlib.sha256, self._shift
        names = [sha256(KEY_PREFIX + key).digest() for key in writes]
        # Each value once: keys whose presence says everything all have the same.
        digests = {value: None if value is None else value_hash(value) for value in set(writes.values())}
        numbers = _FIRST_BYTES.iter_unpack(b"".join(names))
        for name, value, (number,) in zip(names, writes.values(), numbers, strict=True):
            bucket, digest = number >> shift, digests[value]
            page = pages.get(bucket)
            if page is None:
                page = self._page(bucket, stack)
            edited = _edit(page, name, digest)
            if edited != page:
                pages[bucket] = edited
                pairs[name] = digest
        hashes = {bucket: sha256(BUCKET_PREFIX + page).digest() for bucket, page in pages.items()}
        groups, root = self._climb(hashes, stack)
        return TreeChanges(
            root or parent_root, parent_root, self._sequence + len(stack) + 1, stack, pairs, pages, hashes, groups
        )

    def batch(self, changes: TreeChanges) -> list[Write]:
        """What commits `changes` on disk; to be written together with the block."""
        return leaf_writes(changes._pairs.items()) + bucket_writes(changes._hashes)

    def adopt(self, changes: TreeChanges) -> None:
        """Make `changes`, which are on disk now, part of the committed state."""
        assert changes._sequence == self._sequence + 1 and changes._parent_root == self.root, "not on this state"
        for bucket, page in changes._pages.items():
            self._pages[bucket] = page
        self._put_groups(changes._groups, changes.root)
        self._sequence += 1
        changes._below = ()

    def prove(self, key: bytes) -> StateProof:
        """The proof of what the committed state holds, or does not hold, under `key`. Raises StorageDamage if
        its bucket is not what its hash says."""
        name = key_hash(key)
        bucket = int.from_bytes(name[:4], "big") >> self._shift
        siblings = []
        node = self._first_leaf + bucket
        while node:
            parent, place = divmod(node - 1, 16)
            group = self._group(parent, ())
            siblings.append(bytes(group[: place * HASH_BYTES] + group[(place + 1) * HASH_BYTES :]))
            node = parent
        return StateProof(self._page(bucket, ()), tuple(siblings))

    def hashes(self) -> TreeHashes:
        """The hashes of all nodes as they are now, whatever is committed later."""
        return TreeHashes(self._depth, bytes(self._tree))

    def _in_flight(self, parent: TreeChanges | None) -> tuple[TreeChanges, ...]:
        """`parent` and what is under it, without what has been adopted since."""
        if parent is None:
            return ()
        stack = tuple(changes for changes in (parent, *parent._below) if changes._sequence > self._sequence)
        bottom_root = stack[-1]._parent_root if stack else parent.root
        assert bottom_root == self.root and parent._sequence == self._sequence + len(stack), "not on this state"
        return stack

    def _page(self, bucket: int, stack: tuple[TreeChanges, ...]) -> bytes:
        for changes in stack:
            page = changes._pages.get(bucket)
            if page is not None:
                return page
        committed = self._pages[bucket]
        return self._take(bucket, read_bucket(self._reader, self._shift, bucket)) if committed is None else committed

    def _read(self, first: int, end: int) -> None:
        """Bring what the committed state has in these buckets, where it is not in memory yet, from the disk."""
        unread = [bucket for bucket in range(first, end) if self._pages[bucket] is None]
        if not unread:
            return
        found = dict(read_buckets(self._reader, self._shift, unread[0], unread[-1] + 1))
        for bucket in unread:
            self._take(bucket, found.get(bucket, b""))

    def _take(self, bucket: int, page: bytes) -> bytes:
        """What was read of a bucket, once it is what its hash says."""
        start = (self._first_leaf + bucket) * HASH_BYTES
        if bucket_hash(page) != self._tree[start : start + HASH_BYTES]:
            raise damaged(f"bucket {bucket} of the state tree")
        self._pages[bucket] = page
        return page

    def _group(self, parent: int, stack: tuple[TreeChanges, ...]) -> bytearray:
        """A copy of the 16 hashes below node `parent`, joined."""
        for changes in stack:
            group = changes._groups.get(parent)
            if group is not None:
                return group[:]
        start = (16 * parent + 1) * HASH_BYTES
        return self._tree[start : start + GROUP_BYTES]

    def _climb(
        self, hashes: Mapping[int, bytes], stack: tuple[TreeChanges, ...]
    ) -> tuple[dict[int, bytearray], bytes | None]:
        """The changed groups of 16 siblings by parent node, and the root (None: no bucket has changed)."""
        changed: dict[int, bytearray] = {}
        # By the node's number less one, which is 16 · its parent's number + its place in the group.
        level = {self._first_leaf - 1 + bucket: digest for bucket, digest in hashes.items()}
        sha256, put_hash = hashlib.sha256, _put_hash
        while level and -1 not in level:
            groups = {parent: self._group(parent, stack) for parent in {below >> 4 for below in level}}
            for below, digest in level.items():
                put_hash(groups[below >> 4], (below & 15) * HASH_BYTES, digest)
            changed.update(groups)
            level = {parent - 1: sha256(NODE_PREFIX + group).digest() for parent, group in groups.items()}
        return changed, level.get(-1)

    def _put_groups(self, groups: Mapping[int, bytearray], root: bytes | None) -> None:
        for parent, group in groups.items():
            start = (16 * parent + 1) * HASH_BYTES
            self._tree[start : start + GROUP_BYTES] = group
        if root is not None:
            self._tree[:HASH_BYTES] = root


def empty_root(buckets: int) -> bytes:
    """The root of a state without keys."""
    digest = bucket_hash(b"")
    for _ in range(depth_of(buckets)):
        digest = node_hash(digest * 16)
    return digest


def _tree_over(level: bytes) -> bytearray:
    """The whole tree in heap order over the hashes of all buckets, joined."""
    levels = [level]
    while len(level) > HASH_BYTES:
        starts = range(0, len(level), GROUP_BYTES)
        level = b"".join([node_hash(level[start : start + GROUP_BYTES]) for start in starts])
        levels.append(level)
    return bytearray(b"".join(reversed(levels)))


def _edit(page: bytes, name: bytes, digest: bytes | None) -> bytes:
    """The page with the pair of `name` replaced, inserted or (digest None) removed."""
    if not page:
        return page if digest is None else name + digest
    # Nearly always the key is there already, and finding it costs a fifth of a search in Python.
    start = page.find(name)
    if start % PAIR_BYTES:
        start = _place(page, name)
        rest = start + PAIR_BYTES if page.startswith(name, start) else start
    else:
        rest = start + PAIR_BYTES
    if digest is None:
        return page[:start] + page[rest:]
    return b"".join((page[:start], name, digest, page[rest:]))


def _place(page: bytes, name: bytes) -> int:
    """Where the pair of `name` is or belongs."""
    lower, upper = 0, len(page) // PAIR_BYTES
    while lower < upper:
        middle = (lower + upper) // 2
        start = middle * PAIR_BYTES
        if page[start : start + HASH_BYTES] < name:
            lower = middle + 1
        else:
            upper = middle
    return lower * PAIR_BYTES
