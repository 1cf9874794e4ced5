"""The state root depends on the content alone, and proofs prove exactly what is there."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otcnode.codec import decode, encode
from otcnode.crypto import tagged_hash
from otcnode.storage.kv import MemoryKeyValue
from otcnode.storage.state_proof import StateProof, verify_state_proof
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
    steps=st.lists(st.tuples(writes, st.sampled_from(["stack", "drop", "commit", "restart"])), max_size=12),
)
def test_any_speculations_commits_and_discards_give_the_naive_root(
    buckets: int, steps: list[tuple[dict[bytes, bytes | None], str]]
) -> None:
    kv = MemoryKeyValue()
    tree = StateTree.load(kv, buckets)
    committed: dict[bytes, bytes] = {}
    flight: list[tuple[TreeChanges, dict[bytes, bytes]]] = []
    adopted: TreeChanges | None = None
    for changes, action in steps:
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
