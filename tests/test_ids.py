"""Identifiers survive being read aloud, and mistyping is noticed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otcnode import ids
from otcnode.errors import DecodeError

identifiers = st.binary(min_size=32, max_size=32)


@given(st.sampled_from(ids.Prefix), identifiers)
def test_parse_inverts_show(prefix: ids.Prefix, raw: bytes) -> None:
    assert ids.parse(prefix, ids.show(prefix, raw)) == raw


@given(identifiers, st.data())
def test_one_mistyped_character_is_noticed(raw: bytes, data: st.DataObject) -> None:
    text = ids.show(ids.Prefix.ACCOUNT, raw)
    position = data.draw(st.integers(4, len(text) - 1))
    other = data.draw(st.sampled_from([c for c in "qpzry9x8gf2tvdw0s3jn54khce6mua7l" if c != text[position]]))
    with pytest.raises(DecodeError):
        ids.parse(ids.Prefix.ACCOUNT, text[:position] + other + text[position + 1 :])


@given(identifiers)
def test_another_kind_of_thing_is_refused(raw: bytes) -> None:
    with pytest.raises(DecodeError):
        ids.parse(ids.Prefix.CONTRACT, ids.show(ids.Prefix.ACCOUNT, raw))


# BIP-350, "Test vectors for Bech32m": valid strings, and the same with a wrong checksum.
VALID = [
    "a1lqfn3a",
    "abcdef1l7aum6echk45nj3s0wdvt2fg8x9yrzpqzd3ryx",
    "split1checkupstagehandshakeupstreamerranterredcaperredlc445v",
    "?1v759aa",
]


@pytest.mark.parametrize("text", VALID)
def test_the_checksum_is_that_of_bip_350(text: str) -> None:
    head, _, body = text.rpartition("1")
    values = bytes("qpzry9x8gf2tvdw0s3jn54khce6mua7l".index(character) for character in body)
    assert ids._polymod(values, ids._head_check(head)) == ids._BECH32M
    wrong = values[:-1] + bytes([values[-1] ^ 1])
    assert ids._polymod(wrong, ids._head_check(head)) != ids._BECH32M


@pytest.mark.parametrize("text", ["", "acc", "acc1", "acc1qqqqqq", "ACC1QQQQ", "acc1b", "1", "acc1" + "q" * 200])
def test_noise_is_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        ids.parse(ids.Prefix.ACCOUNT, text)


def test_padding_that_is_not_zero_is_refused_although_its_checksum_is_right() -> None:
    with pytest.raises(DecodeError, match="32 bytes"):
        ids.parse(ids.Prefix.ACCOUNT, "acc1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqpg2qdcp")
