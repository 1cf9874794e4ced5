"""Snapshots on their own: whatever is true is accepted, whatever is not is refused by its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otcnode import limits
from otcnode.blocks import (
    HEADER_VERSION,
    Certificate,
    Epoch,
    Header,
    ValidatorSignature,
    block_hash,
    commit_preimage,
    validators_hash,
)
from otcnode.codec import decode, encode
from otcnode.crypto import SignatureCheck, SigningKey, sha256, verify
from otcnode.epochs import EpochChange
from otcnode.errors import ProofError
from otcnode.genesis import ChainParameters
from otcnode.snapshot import (
    CHANGES_PER_STEP,
    SIGNATURES_PER_STEP,
    SNAPSHOT_VERSION,
    Chunk,
    Manifest,
    check_chunk,
    check_manifest,
    chunk_depth_for,
    chunks_of,
    decode_chunk,
    decode_manifest,
    make_chunk,
    manifest_steps,
    part_of,
)
from otcnode.storage.kv import MemoryKeyValue
from otcnode.storage.leaves import depth_of
from otcnode.storage.state_proof import key_hash, value_hash
from otcnode.storage.state_tree import StateTree, TreeHashes

CHAIN = sha256(b"snapshot tests")


def tree_of(state: dict[bytes, bytes], buckets: int) -> TreeHashes:
    tree = StateTree.load(MemoryKeyValue(), buckets)
    tree.adopt(tree.speculate(state))
    return tree.hashes()


def chunks(state: dict[bytes, bytes], hashes: TreeHashes, chunk_depth: int) -> list[Chunk]:
    parts: list[list[tuple[bytes, bytes]]] = [[] for _ in range(chunks_of(chunk_depth))]
    for key, value in state.items():
        parts[part_of(key_hash(key), chunk_depth)].append((key, value))
    return [make_chunk(index, pairs, hashes.siblings(chunk_depth, index)) for index, pairs in enumerate(parts)]


# ---- chunks

STATES = st.dictionaries(st.binary(max_size=8), st.binary(max_size=40), max_size=60)
DEPTHS = st.sampled_from([(16, 0), (16, 1), (256, 0), (256, 1), (256, 2), (4096, 1)])


@settings(max_examples=60, deadline=None)
@given(STATES, DEPTHS)
def test_the_chunks_of_a_state_are_that_state(state: dict[bytes, bytes], depths: tuple[int, int]) -> None:
    buckets, chunk_depth = depths
    hashes = tree_of(state, buckets)
    found: dict[bytes, bytes] = {}
    for index, chunk in enumerate(chunks(state, hashes, chunk_depth)):
        again = decode_chunk(encode(chunk))
        assert again == chunk
        leaves = check_chunk(again, index, chunk_depth, depth_of(buckets), hashes.root)
        assert leaves == [(key_hash(key), value_hash(value)) for key, value in again.pairs]
        found.update(again.pairs)
    assert found == state


Change = Callable[[Chunk], Chunk]


def _pairs(change: Callable[[tuple[tuple[bytes, bytes], ...]], Sequence[tuple[bytes, bytes]]]) -> Change:
    return lambda chunk: msgspec.structs.replace(chunk, pairs=tuple(change(chunk.pairs)))


FALSE_CHUNKS: dict[str, tuple[Change, str]] = {
    "a value is another": (_pairs(lambda pairs: [(pairs[0][0], b"other"), *pairs[1:]]), "not a part of the state"),
    "a pair is missing": (_pairs(lambda pairs: pairs[1:]), "not a part of the state"),
    "all pairs are missing": (_pairs(lambda pairs: ()), "not a part of the state"),
    "the last pair twice": (_pairs(lambda pairs: [*pairs, pairs[-1]]), "not in order, each once"),
    "the wrong order": (_pairs(lambda pairs: pairs[::-1]), "not in order, each once"),
    "another index": (lambda chunk: msgspec.structs.replace(chunk, index=chunk.index + 1), "instead of chunk"),
    "a short path": (lambda chunk: msgspec.structs.replace(chunk, siblings=chunk.siblings[:-1]), "does not lead"),
    "a torn hash": (
        lambda chunk: msgspec.structs.replace(chunk, siblings=(chunk.siblings[0][:-1], *chunk.siblings[1:])),
        "does not lead",
    ),
    "a false hash": (
        lambda chunk: msgspec.structs.replace(chunk, siblings=(bytes(480), *chunk.siblings[1:])),
        "not a part of the state",
    ),
}

STATE = {b"key %d" % number: b"value %d" % number for number in range(400)}


@pytest.mark.parametrize("case", FALSE_CHUNKS)
def test_a_false_chunk_is_refused_by_its_name(case: str) -> None:
    change, words = FALSE_CHUNKS[case]
    hashes = tree_of(STATE, 4096)
    true = chunks(STATE, hashes, 1)[7]
    assert len(true.pairs) > 10
    with pytest.raises(ProofError, match=words):
        check_chunk(change(true), 7, 1, 3, hashes.root)


def test_a_key_of_another_chunk_is_named() -> None:
    hashes = tree_of(STATE, 4096)
    mine, other = chunks(STATE, hashes, 1)[7:9]
    false = msgspec.structs.replace(mine, pairs=(*mine.pairs, *other.pairs))
    with pytest.raises(ProofError, match="holds a key of another chunk"):
        check_chunk(false, 7, 1, 3, hashes.root)


def test_a_chunk_of_another_place_or_state_is_refused() -> None:
    hashes = tree_of(STATE, 4096)
    good = chunks(STATE, hashes, 2)
    moved = msgspec.structs.replace(good[7], index=8)
    with pytest.raises(ProofError):
        check_chunk(moved, 8, 2, 3, hashes.root)
    other = tree_of({**STATE, b"key 1": b"other"}, 4096)
    with pytest.raises(ProofError, match="not a part of the state"):
        check_chunk(good[7], 7, 2, 3, other.root)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_chunk_with_any_byte_changed_is_refused_or_says_the_same(data: st.DataObject) -> None:
    hashes = tree_of(STATE, 256)
    raw = bytearray(encode(chunks(STATE, hashes, 1)[3]))
    cut = data.draw(st.integers(0, len(raw)))
    if cut < len(raw):
        raw[cut] ^= data.draw(st.integers(1, 255))
    else:
        del raw[data.draw(st.integers(0, len(raw) - 1)) :]
    with pytest.raises(ProofError):
        check_chunk(decode_chunk(bytes(raw)), 3, 1, 2, hashes.root)


@given(st.binary(max_size=300))
def test_junk_is_a_proof_error(raw: bytes) -> None:
    for read in (decode_chunk, decode_manifest):
        with pytest.raises(ProofError):
            read(raw)


def test_chunks_are_as_many_as_keep_them_small() -> None:
    target = limits.snapshot_chunk_bytes
    sizes = (0, target, target + 1, 16 * target + 1, 10**15)
    assert [chunk_depth_for(size, 1, 4) for size in sizes] == [0, 0, 1, 2, 4]
    most = limits.snapshot_chunk_pairs
    keys = (0, most, most + 1, 16 * most + 1, 10**15)
    assert [chunk_depth_for(1, count, 4) for count in keys] == [0, 0, 1, 2, 4]


def test_a_chunk_of_too_many_pairs_is_refused_before_any_is_decoded() -> None:
    """What would be its pairs is not even there."""
    most = limits.snapshot_chunk_pairs_max
    for count, words in ((most, "truncated"), (most + 1, f"length <= {most}")):
        with pytest.raises(ProofError, match=words):
            decode_chunk(b"\x93\x00\xdd" + count.to_bytes(4, "big"))


@pytest.mark.parametrize("place", ["order", "twice", "part"])
def test_nothing_is_hashed_behind_the_first_key_that_is_not_in_its_place(place: str) -> None:
    hashes = tree_of(STATE, 4096)
    mine, other = chunks(STATE, hashes, 1)[7:9]
    first, second = mine.pairs[:2]
    begin = {"order": (second, first), "twice": (first, first), "part": (other.pairs[0],)}[place]
    unhashable = (None, None)
    false = msgspec.structs.replace(mine, pairs=(*begin, unhashable, *mine.pairs[2:]))
    with pytest.raises(ProofError, match="another chunk" if place == "part" else "not in order"):
        check_chunk(false, 7, 1, 3, hashes.root)


# ---- manifests

KEYS = tuple(sorted((SigningKey(sha256(b"validator %d" % number)) for number in range(7)), key=lambda key: key.public))
SETS = (KEYS[:4], KEYS[1:5], KEYS[1:6])
"""The validators of epochs 1, 11 and 21."""
NUMBERS = (1, 11, 21)
PARAMETERS = ChainParameters().consensus


def names(keys: Sequence[SigningKey]) -> tuple[bytes, ...]:
    return tuple(key.public for key in keys)


def epoch_of(place: int) -> Epoch:
    return Epoch(NUMBERS[place], names(SETS[place]), PARAMETERS)


def signed(header: Header, epoch: int, keys: Sequence[SigningKey]) -> Certificate:
    name = block_hash(header)
    message = commit_preimage(CHAIN, epoch, 0, header.height, name)
    signatures = tuple(ValidatorSignature(key.public, key.sign(message)) for key in keys)
    return Certificate(epoch, 0, header.height, name, signatures)


def header_at(height: int, epoch: Epoch, following: Epoch) -> Header:
    empty = bytes(32)
    return Header(
        HEADER_VERSION, CHAIN, height, empty, height, epoch.validators[0], 0, empty, empty, tree_of(STATE, 256).root,
        validators_hash(epoch), validators_hash(following),
    )  # fmt: skip


def change(place: int) -> EpochChange:
    """To the epoch at `place`."""
    header = header_at(NUMBERS[place] - 1, epoch_of(place - 1), epoch_of(place))
    return EpochChange(header, signed(header, NUMBERS[place - 1], SETS[place - 1]), epoch_of(place))


FIRST = epoch_of(0)


@cache
def manifest_at(height: int) -> Manifest:
    place = max(place for place, number in enumerate(NUMBERS) if number <= height)
    following = place + 1 if height + 1 in NUMBERS else place
    header = header_at(height, epoch_of(place), epoch_of(following))
    certificate = signed(header, NUMBERS[place], SETS[place])
    changes = tuple(change(place) for place in range(1, following + 1))
    return Manifest(SNAPSHOT_VERSION, CHAIN, changes, header, certificate, 1, len(STATE), 1_000)


@pytest.mark.parametrize(("height", "epochs"), [(5, 1), (10, 2), (11, 2), (20, 3), (30, 3)])
def test_a_manifest_proves_its_header_and_the_validators_above(height: int, epochs: int) -> None:
    manifest = decode_manifest(encode(manifest_at(height)))
    proven = check_manifest(manifest, CHAIN, FIRST, 2)
    assert proven.block_hash == block_hash(manifest.header)
    assert proven.epochs == tuple(epoch_of(place) for place in range(epochs))


def _replaced(height: int, **fields: object) -> Manifest:
    return msgspec.structs.replace(manifest_at(height), **fields)


def _without_certificate_of(height: int, keys: Sequence[SigningKey], epoch: int) -> Manifest:
    return _replaced(height, certificate=signed(manifest_at(height).header, epoch, keys))


def _altered(**fields: object) -> EpochChange:
    last = change(2)
    return msgspec.structs.replace(last, epoch=msgspec.structs.replace(last.epoch, **fields))


def _strangers_history() -> Manifest:
    """Validators that the genesis' never named, certified by themselves."""
    first = change(1)
    false = msgspec.structs.replace(first, certificate=signed(first.header, 1, KEYS[3:]))
    return _replaced(30, changes=(false, change(2)))


FALSE_MANIFESTS: dict[str, tuple[Callable[[], Manifest], str]] = {
    "another version": (lambda: _replaced(5, version=2), "of version 2"),
    "another chain": (lambda: _replaced(5, chain=bytes(32)), "another chain"),
    "too deep": (lambda: _replaced(5, chunk_depth=3), "at depth 3"),
    "no quorum": (lambda: _without_certificate_of(5, SETS[0][:2], 1), "2 signatures, a quorum is 3"),
    "signed by strangers": (lambda: _without_certificate_of(5, KEYS[3:], 1), "not a validator"),
    "a change left out": (lambda: _replaced(30, changes=(change(2),)), "other validators than those proven"),
    "the last change left out": (lambda: _replaced(30, changes=(change(1),)), "other validators than those proven"),
    "the announced change left out": (lambda: _replaced(20, changes=(change(1),)), "the header announces are missing"),
    "no history": (lambda: _replaced(30, changes=()), "other validators than those proven"),
    "a false history": (_strangers_history, "not a validator of this epoch"),
    "a change twice": (lambda: _replaced(30, changes=(change(1), change(1), change(2))), "does not follow"),
    "a later change": (lambda: _replaced(5, changes=(change(1),)), "above the height of the snapshot"),
    "another header": (lambda: _replaced(5, header=manifest_at(6).header), "for another block"),
    "other validators": (
        lambda: _replaced(30, changes=(change(1), _altered(validators=names(KEYS)))),
        "names other validators",
    ),
    "validators out of order": (
        lambda: _replaced(30, changes=(change(1), _altered(validators=names(SETS[2])[::-1]))),
        "not sorted",
    ),
    "other parameters": (
        lambda: _replaced(30, changes=(change(1), _altered(parameters=msgspec.structs.replace(PARAMETERS, window=9)))),
        "names other validators",
    ),
    "another number": (lambda: _replaced(30, changes=(change(1), _altered(number=22))), "by the header of height 21"),
}


@pytest.mark.parametrize("case", FALSE_MANIFESTS)
def test_a_false_manifest_is_refused_by_its_name(case: str) -> None:
    make, words = FALSE_MANIFESTS[case]
    with pytest.raises(ProofError, match=words):
        check_manifest(make(), CHAIN, FIRST, 2)


def test_a_validators_return_is_not_hidden() -> None:
    """Epochs A, B, A: the validators of the last are those of the first, but it is another epoch."""
    again = msgspec.structs.replace(FIRST, number=21)
    back = header_at(20, epoch_of(1), again)
    header = header_at(30, again, again)
    whole = _replaced(
        30,
        header=header,
        certificate=signed(header, 21, SETS[0]),
        changes=(change(1), EpochChange(back, signed(back, 11, SETS[1]), again)),
    )
    assert len(check_manifest(whole, CHAIN, FIRST, 2).epochs) == 3
    with pytest.raises(ProofError, match="other validators than those proven"):
        check_manifest(msgspec.structs.replace(whole, changes=()), CHAIN, FIRST, 2)


def _long_history(changes: int) -> Manifest:
    """By turns of two sets of validators, every ten blocks."""
    sets = [SETS[place % 2] for place in range(changes + 1)]
    numbers = [1 + 10 * place for place in range(changes + 1)]
    epochs = [
        msgspec.structs.replace(FIRST, number=number, validators=names(keys))
        for number, keys in zip(numbers, sets, strict=True)
    ]
    made = []
    for below, above, keys in zip(epochs, epochs[1:], sets, strict=False):
        header = header_at(above.number - 1, below, above)
        made.append(EpochChange(header, signed(header, below.number, keys), above))
    header = header_at(numbers[-1] + 5, epochs[-1], epochs[-1])
    return _replaced(30, changes=tuple(made), header=header, certificate=signed(header, numbers[-1], sets[-1]))


def test_a_long_history_is_judged_in_small_pieces_and_all_of_it() -> None:
    changes = 3 * CHANGES_PER_STEP
    manifest = _long_history(changes)
    steps = manifest_steps(manifest, CHAIN, FIRST, 2)
    pieces: list[list[SignatureCheck]] = []
    while True:
        try:
            pieces.append(next(steps))
        except StopIteration as end:
            assert len(end.value.epochs) == changes + 1
            break
    signatures = sum(len(change.certificate.signatures) for change in manifest.changes)
    assert sum(map(len, pieces)) == signatures + len(manifest.certificate.signatures)
    assert max(map(len, pieces)) < SIGNATURES_PER_STEP + 4 and len(pieces) > 3
    assert all(verify(*check) for piece in pieces for check in piece)
    assert len(check_manifest(manifest, CHAIN, FIRST, 2).epochs) == changes + 1
    (false, *others), last = pieces[-2], pieces[-1]
    assert others and last
    change = next(c for c in manifest.changes if c.certificate.signatures[0].signature == false.signature)
    forged = msgspec.structs.replace(change.certificate.signatures[0], signature=bytes(64))
    certificate = msgspec.structs.replace(change.certificate, signatures=(forged, *change.certificate.signatures[1:]))
    altered = [msgspec.structs.replace(c, certificate=certificate) if c is change else c for c in manifest.changes]
    with pytest.raises(ProofError, match="the signature of validator"):
        check_manifest(msgspec.structs.replace(manifest, changes=tuple(altered)), CHAIN, FIRST, 2)


def test_the_records_are_canonical() -> None:
    manifest = manifest_at(30)
    assert decode(Manifest, encode(manifest)) == manifest
