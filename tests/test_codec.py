"""One value has one encoding."""

import subprocess
import sys

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otcnode.codec import Record, decode, encode
from otcnode.errors import DecodeError
from otcnode.types import Bytes32, Natural


class Leaf(Record, frozen=True):
    number: Natural
    name: str
    key: Bytes32 | None


class Apple(Record, frozen=True, tag="apple"):
    leaves: tuple[Leaf, ...]


class Pear(Record, frozen=True, tag="pear"):
    weight: Natural


leaves = st.builds(
    Leaf, st.integers(0, 2**63 - 1), st.text(max_size=20), st.none() | st.binary(min_size=32, max_size=32)
)
fruits = st.builds(Apple, st.lists(leaves, max_size=5).map(tuple)) | st.builds(Pear, st.integers(0, 2**63 - 1))


@given(fruits)
def test_decode_inverts_encode(fruit: Apple | Pear) -> None:
    assert decode(Apple | Pear, encode(fruit)) == fruit


@given(fruits)
def test_an_independent_implementation_reads_the_same(fruit: Apple | Pear) -> None:
    raw = encode(fruit)
    assert msgpack.packb(msgpack.unpackb(raw, use_list=False)) == raw


@given(fruits, st.data())
def test_every_other_byte_string_is_refused_or_another_value(fruit: Apple | Pear, data: st.DataObject) -> None:
    raw = bytearray(encode(fruit))
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] ^= data.draw(st.integers(1, 255))
    try:
        other = decode(Apple | Pear, bytes(raw))
    except DecodeError:
        return
    assert other != fruit and encode(other) == bytes(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        bytes([0x92, 0xA4]) + b"pear",
        bytes([0x92, 0xA4]) + b"pear" + bytes([0xCC, 5]),  # 5 not in its shortest form
        bytes([0xDC, 0, 2, 0xA4]) + b"pear" + bytes([5]),  # array header not in its shortest form
        bytes([0x92, 0xA4]) + b"pear" + bytes([5, 0]),  # a byte too many
        bytes([0x93, 0xA4]) + b"pear" + bytes([5, 0]),  # a field too many
        bytes([0x92, 0xA4]) + b"plum" + bytes([5]),
        bytes([0x92, 0xA4]) + b"pear" + bytes([0xFF]),  # negative
        bytes([0x92, 0xA4]) + b"pear" + bytes([0xCF]) + bytes([0x80] + [0] * 7),  # above 2^63 - 1
        bytes([0x92, 0xA4]) + b"pear" + bytes([0xCA, 0x40, 0xA0, 0, 0]),  # a float
        b"\x91" * 100_000,
    ],
)
def test_what_is_not_canonical_is_refused(raw: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(Apple | Pear, raw)


@given(st.binary(max_size=200))
def test_noise_raises_nothing_but_decode_errors(raw: bytes) -> None:
    try:
        decode(Apple | Pear, raw)
    except DecodeError as error:
        assert str(error)


THREADS = """
import sys, threading, msgspec
from otcnode.client.wire import decode_result
from otcnode.codec import Record, decode, encode

def decoded(kind, value):
    assert {READ} == value

def kinds():
    names = {"Record": Record}
    exec('''
class Leaf(Record, frozen=True, tag="leaf"):
    number: int
class Inner(Record, frozen=True, tag="inner"):
    leaves: tuple[Leaf, ...]
class Outer(Record, frozen=True):
    inner: tuple[Inner | Leaf, ...]
''', names)
    leaf = names["Leaf"](1)
    return names["Outer"], names["Outer"]((names["Inner"]((leaf,)), leaf))

sys.setswitchinterval(1e-6)
for _ in range(60):
    kind, value = kinds()
    threads = [threading.Thread(target=decoded, args=(kind, value)) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
"""
"""Threads meet new types at the same time."""


@pytest.mark.parametrize("read", ["decode(kind, encode(value))", "decode_result(msgspec.json.encode(value), kind)"])
def test_threads_may_meet_a_type_at_the_same_time(read: str) -> None:
    """Programs that use the client in several threads do."""
    program = THREADS.replace("{READ}", read)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
