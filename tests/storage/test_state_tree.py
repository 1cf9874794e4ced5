"""The state root depends on the content alone, and proofs prove exactly what is there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otcnode.codec import decode, encode
from otcnode.crypto import tagged_hash
from otcnode.errors import StorageDamage
from otcnode.storage.kv import MemoryKeyValue, Write
from otcnode.storage.leaves import hashes_of_leaves, read_bucket_hashes
from otcnode.storage.schema import Table
from otcnode.storage.state_proof import StateProof, key_hash, value_hash, verify_state_proof
from otcnode.storage.state_tree import StateTree, TreeChanges, empty_root

keys = st.integers(0, 200).map(lambda number: b"key %d" % number)
writes = st.dictionaries(keys, st.none() | st.binary(max_size=3), max_size=30)


def naive_root(state: dict[bytes, bytes], buckets: int) -> bytes:
    """The definition, written a second time without any of the code under test."""
    bits = (buckets - 1).bit_length()
    pages: list[list[bytes]] = [[] for _ in range(buckets)]
    for key, value in state.items():
        name = tagged_hash("otcnode/state-key/1", key)
        pages[int.from_bytes(name, "big") >> (256 - bits)].append(name + tagged_hash("otcnode/state-value/1", value))
    level = [tagged_hash("otcnode/state-bucket/1", b"".join(sorted(page))) for page in pages]
    while len(level) > 1:
        level = [tagged_hash("otcnode/state-node/1", b"".join(level[i : i + 16])) for i in range(0, len(level), 16)]
    return level[0]


def apply(state: dict[bytes, bytes], changes: dict[bytes, bytes | None]) -> dict[bytes, bytes]:
    merged = {**state, **changes}
    return {key: value for key, value in merged.items() if value is not None}


@pytest.mark.parametrize("buckets", [16, 256, 4096])
def test_the_empty_root_is_defined(buckets: int) -> None:
    assert empty_root(buckets) == naive_root({}, buckets) == StateTree.load(MemoryKeyValue(), buckets).root


def test_a_known_root() -> None:
    """Pins the format: a change of this value is a change of every chain."""
    tree = StateTree.load(MemoryKeyValue(), 65_536)
    root = tree.speculate({b"alpha": b"1", b"beta": b"", b"": b"2"}).root
    assert root.hex() == naive_root({b"alpha": b"1", b"beta": b"", b"": b"2"}, 65_536).hex()
    assert root.hex() == "be5cd47875806ee2f40610954d3ea486b833fcbf06cf555f2aa24476b561eaa0"


@settings(max_examples=150, deadline=None)
@given(
    buckets=st.sampled_from([16, 256]),
    steps=st.lists(
        st.tuples(
            writes,
            st.sampled_from(["stack", "drop", "commit", "restart"]),
            st.sets(st.integers(0, 15)),
            st.integers(0, 40),
        ),
        max_size=12,
    ),
)
def test_any_speculations_commits_and_discards_give_the_naive_root(
    buckets: int, steps: list[tuple[dict[bytes, bytes | None], str, set[int], int]]
) -> None:
    """Also where buckets have to be read again (their numbers here are of any 16), and where some are read ahead."""
    kv = MemoryKeyValue()
    tree = StateTree.load(kv, buckets)
    committed: dict[bytes, bytes] = {}
    flight: list[tuple[TreeChanges, dict[bytes, bytes]]] = []
    adopted: TreeChanges | None = None
    for changes, action, unloaded, ahead in steps:
        tree._pages = [None if number % 16 in unloaded else page for number, page in enumerate(tree._pages)]
        tree.read_ahead(ahead)
        parent, state = flight[-1] if flight else (adopted, committed)
        state = apply(state, changes)
        speculation = tree.speculate(changes, parent)
        assert speculation.root == naive_root(state, buckets)
        if action != "drop":
            flight.append((speculation, state))
        if action in ("commit", "restart"):
            adopted, committed = flight.pop(0)
            kv.write(tree.batch(adopted))
            tree.adopt(adopted)
        if action == "restart":
            tree, flight, adopted = StateTree.load(kv, buckets), [], None
        assert tree.root == naive_root(committed, buckets)
        assert read_bucket_hashes(kv, buckets) == hashes_of_leaves(kv, buckets)
    assert StateTree.load(kv, buckets).root == naive_root(committed, buckets)


@settings(max_examples=60, deadline=None)
@given(state=st.dictionaries(keys, st.binary(max_size=3), max_size=60), key=keys, value=st.binary(max_size=3))
def test_a_proof_proves_what_is_there_and_nothing_else(state: dict[bytes, bytes], key: bytes, value: bytes) -> None:
    tree = StateTree.load(MemoryKeyValue(), 16)
    tree.adopt(tree.speculate(state))
    proof = decode(StateProof, encode(tree.prove(key)))
    assert verify_state_proof(tree.root, proof, key, state.get(key))
    if state.get(key) != value:
        assert not verify_state_proof(tree.root, proof, key, value)
    if key in state:
        assert not verify_state_proof(tree.root, proof, key, None)


def test_no_changed_byte_of_a_proof_verifies() -> None:
    tree = StateTree.load(MemoryKeyValue(), 256)
    tree.adopt(tree.speculate({b"%d" % number: b"value" for number in range(500)}))
    for key, value in ((b"7", b"value"), (b"absent", None)):
        proof = tree.prove(key)
        assert verify_state_proof(tree.root, proof, key, value)
        for start in range(len(proof.pairs)):
            flipped = bytearray(proof.pairs)
            flipped[start] ^= 1
            assert not verify_state_proof(tree.root, StateProof(bytes(flipped), proof.siblings), key, value)
        for level, joined in enumerate(proof.siblings):
            for start in range(0, len(joined), 7):
                flipped = bytearray(joined)
                flipped[start] ^= 0x80
                siblings = (*proof.siblings[:level], bytes(flipped), *proof.siblings[level + 1 :])
                assert not verify_state_proof(tree.root, StateProof(proof.pairs, siblings), key, value)


def test_a_proof_of_another_shape_is_refused_without_an_error() -> None:
    tree = StateTree.load(MemoryKeyValue(), 256)
    tree.adopt(tree.speculate({b"a": b"1"}))
    good = tree.prove(b"a")
    for pairs, siblings in (
        (good.pairs, ()),
        (good.pairs, good.siblings[:1]),
        (good.pairs, good.siblings * 2),
        (good.pairs, good.siblings * 5),
        (good.pairs[:-1], good.siblings),
        (good.pairs * 2, good.siblings),
        (good.pairs, (good.siblings[0][:-1], good.siblings[1])),
        (good.pairs, (b"", good.siblings[1])),
    ):
        assert not verify_state_proof(tree.root, StateProof(pairs, siblings), b"a", b"1")


def test_an_inner_node_cannot_pass_for_a_bucket() -> None:
    tree = StateTree.load(MemoryKeyValue(), 256)
    tree.adopt(tree.speculate({b"a": b"1"}))
    top = tree.prove(b"a").siblings[1]
    nibble = int(hashlib.sha256(b"\x13otcnode/state-key/1a").hexdigest()[0], 16)
    forged = top[: nibble * 32] + bytes(32) + top[nibble * 32 :]
    assert not verify_state_proof(tree.root, StateProof(forged, (top,)), b"a", None)


class CountingReader:
    """A reader that notes which keys it gives away."""

    def __init__(self, kv: MemoryKeyValue) -> None:
        self._kv = kv
        self.given: list[bytes] = []

    def get(self, key: bytes) -> bytes | None:
        self.given.append(key)
        return self._kv.get(key)

    def scan(
        self, prefix: bytes, after: bytes | None = None, limit: int | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        for key, value in self._kv.scan(prefix, after, limit, reverse):
            self.given.append(key)
            yield key, value

    def close(self) -> None:
        """Nothing is held."""


def kept(state: Mapping[bytes, bytes], buckets: int) -> MemoryKeyValue:
    """A store with this state in its tree."""
    kv = MemoryKeyValue()
    tree = StateTree.load(kv, buckets)
    kv.write(tree.batch(tree.speculate(state)))
    return kv


def test_a_start_reads_no_leaf_and_a_key_its_own_bucket_once() -> None:
    state = {b"%d" % number: b"value" for number in range(500)}
    reader = CountingReader(kept(state, 256))
    tree = StateTree.load(reader, 256)
    assert tree.root == naive_root(state, 256)
    assert {key[:1] for key in reader.given} == {Table.BUCKET.value} and len(reader.given) <= 256
    reader.given.clear()
    own = key_hash(b"7")
    tree.speculate({b"7": b"other"})
    leaves = [key[1:] for key in reader.given if key[1] == own[0]]
    assert own in leaves and len(leaves) < 20
    assert len(reader.given) == len(leaves), "nothing but its own bucket"
    reader.given.clear()
    assert verify_state_proof(tree.root, tree.prove(b"7"), b"7", b"value")
    tree.speculate({b"7": None}, tree.speculate({b"7": b"more"}))
    assert not reader.given


def test_reading_ahead_ends_and_is_bounded_at_each_step() -> None:
    reader = CountingReader(kept({b"%d" % number: b"value" for number in range(2_000)}, 256))
    tree = StateTree.load(reader, 256)
    steps, most = 1, 0
    reader.given.clear()
    while tree.read_ahead(8):
        steps += 1
        most = max(most, len(reader.given))
        reader.given.clear()
    assert steps == 256 / 8 and most < 2 * 2_000 * 8 / 256
    reader.given.clear()
    for number in range(2_000):
        tree.prove(b"%d" % number)
    assert not reader.given and not tree.read_ahead(8)


NEEDS: list[Callable[[StateTree], object]] = [
    lambda tree: tree.prove(b"7"),
    lambda tree: tree.speculate({b"7": b"other"}),
    lambda tree: tree.speculate({b"7": None}),
    lambda tree: tree.read_ahead(10_000),
]
"""All that need the bucket of this key."""


@pytest.mark.parametrize("place", ["key hash", "value hash", "gone", "too many"])
def test_a_leaf_that_is_not_what_it_was_is_named_when_it_is_needed_and_never_served(place: str) -> None:
    kv = kept({b"%d" % number: b"value" for number in range(500)}, 256)
    leaf, digest = Table.TREE.value + key_hash(b"7"), value_hash(b"value")
    tree, bucket = StateTree.load(kv, 256), leaf[1]
    damage: dict[str, list[Write]] = {
        "key hash": [(leaf, None), (leaf[:-1] + bytes([leaf[-1] ^ 1]), digest)],
        "value hash": [(leaf, bytes([digest[0] ^ 0x80]) + digest[1:])],
        "gone": [(leaf, None)],
        "too many": [(leaf + b"?", digest)],
    }
    kv.write(damage[place])
    for read in (tree, StateTree.load(kv, 256)):
        for needed in NEEDS * 2:
            with pytest.raises(StorageDamage, match=f"bucket {bucket} of the state tree is damaged.*otcnode db verify"):
                needed(read)
    other = next(b"%d" % number for number in range(500) if key_hash(b"%d" % number)[0] != bucket)
    assert verify_state_proof(tree.root, tree.prove(other), other, b"value")


def test_a_leaf_of_a_bucket_that_is_empty_is_no_part_of_the_state() -> None:
    state = {b"a": b"1"}
    kv = kept(state, 256)
    kv.write([(Table.TREE.value + key_hash(b"forged"), value_hash(b"rich"))])
    tree = StateTree.load(kv, 256)
    assert verify_state_proof(tree.root, tree.prove(b"forged"), b"forged", None)
    assert tree.speculate({b"forged": b"2"}).root == naive_root({**state, b"forged": b"2"}, 256)


@pytest.mark.parametrize(
    ("key", "value"), [(b"\x00\x00\x01\x00", bytes(32)), (b"\x00" * 3, bytes(32)), (b"\x00" * 4, bytes(31))]
)
def test_what_has_not_the_form_of_a_bucket_s_hash_is_damage(key: bytes, value: bytes) -> None:
    kv = kept({b"a": b"1"}, 256)
    kv.write([(Table.BUCKET.value + key, value)])
    with pytest.raises(StorageDamage, match=r"the hash of bucket (0|256) of the state tree"):
        StateTree.load(kv, 256)


def test_changes_that_are_not_on_the_committed_state_are_refused() -> None:
    tree = StateTree.load(MemoryKeyValue(), 16)
    first, rival = tree.speculate({b"a": b"1"}), tree.speculate({b"a": b"2"})
    above = tree.speculate({b"b": b"1"}, first)
    with pytest.raises(AssertionError):
        tree.adopt(above)
    tree.adopt(first)
    with pytest.raises(AssertionError):
        tree.adopt(rival)
    with pytest.raises(AssertionError):
        tree.speculate({b"c": b"1"}, rival)
    tree.adopt(above)


def test_adopted_changes_hold_on_to_nothing_below_them() -> None:
    tree = StateTree.load(MemoryKeyValue(), 16)
    parent = None
    flight: list[TreeChanges] = []
    for number in range(50):
        parent = tree.speculate({b"a": b"%d" % number}, parent)
        flight.append(parent)
        if len(flight) == 4:
            tree.adopt(flight.pop(0))
        reachable: set[int] = set()
        queue = [parent]
        while queue:
            changes = queue.pop()
            reachable.add(id(changes))
            queue += changes._below
        assert len(reachable) <= 2 * 4
