"""Ids, integers and times as the API shows and reads them."""

from __future__ import annotations

import typing

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otcnode.codec import Record
from otcnode.errors import DecodeError
from otcnode.ids import Prefix
from otcnode.rpc import format as form
from otcnode.rpc.render import IDS, render, shown_type
from otcnode.types import INTEGER_MAX
from otcnode.vm.accounts.events import CashDeposited, InvestorCertified, LotMoved
from otcnode.vm.events import Event


def test_a_time_is_shown_both_ways() -> None:
    assert form.time(1_800_000_000_007) == form.Time(1_800_000_000_007, "2027-01-15T08:00:00.007Z")
    assert form.time(0).iso == "1970-01-01T00:00:00.000Z"
    assert form.time(253_402_300_799_999).iso == "9999-12-31T23:59:59.999Z"
    assert form.time(253_402_300_800_000) == form.Time(253_402_300_800_000, None)
    assert form.time(INTEGER_MAX).iso is None


@given(st.integers(min_value=0, max_value=253_402_300_799_999))
def test_a_shown_time_reads_back_to_the_millisecond(ms: int) -> None:
    iso = form.time(ms).iso
    assert iso is not None
    assert form.parse_time(iso) == ms == form.parse_time(ms)


def test_an_offset_is_honoured_and_demanded() -> None:
    assert form.parse_time("2027-01-15T16:00:00+08:00") == 1_800_000_000_000
    for wrong in (
        "2027-01-15T16:00:00",
        "yesterday",
        "2027-01-15",
        "1969-12-31T23:59:59Z",
        "2027-01-15T08:00:00.0001Z",
    ):
        with pytest.raises(DecodeError):
            form.parse_time(wrong)


def test_days() -> None:
    assert form.day(0) == "1970-01-01"
    assert form.day(20_833) == "2027-01-15"
    assert form.day(10**9) is None


def test_the_pattern_of_ids_admits_what_is_shown() -> None:
    class Params(msgspec.Struct):
        account: form.AccountText

    shown = form.account(bytes(range(32)))
    assert msgspec.convert({"account": shown}, Params).account == shown
    assert form.parse_id(Prefix.ACCOUNT, shown) == bytes(range(32))
    for wrong in (form.transaction(bytes(32)), shown.upper(), shown[:-1], "acc1" + "b" * 58):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"account": wrong}, Params)


class Sample(Record, frozen=True, tag="sample"):
    product: bytes
    amount: int
    settle_at: int | None
    rate_ppm: int
    maturity: int
    slots: tuple[LotMoved, ...]
    document: bytes


EVENTS = [
    CashDeposited(bytes(32), "CNY@BANK", 2**60, "ref"),
    InvestorCertified(bytes(32), 3, "RETAIL", 1_800_000_000_000, 1),
    Sample(bytes(32), 5, None, 42_000, 20_833, (LotMoved(bytes(32), bytes(32), 1, 0, 0, -5),), bytes(32)),
]


@pytest.mark.parametrize("record", EVENTS, ids=lambda record: type(record).__name__)
def test_a_rendered_record_has_the_type_that_is_announced(record: Record) -> None:
    shown = msgspec.json.decode(msgspec.json.encode(render(record)))
    msgspec.convert(shown, shown_type(type(record)), strict=True)


def test_fields_are_shown_by_their_names() -> None:
    shown = render(EVENTS[2])
    assert shown["type"] == "sample"
    assert shown["product"].startswith("pro1")
    assert shown["amount"] == "5"
    assert shown["settle_at"] is None
    assert shown["rate_ppm"] == 42_000
    assert shown["maturity"] == "2027-01-15"
    assert shown["slots"][0]["change"] == "-5"
    assert shown["document"] == bytes(32)
    assert render(EVENTS[0])["cash"] == "CNY@BANK"


@pytest.mark.parametrize("event", typing.get_args(Event), ids=lambda event: event.__name__)
def test_every_event_has_a_schema_and_names_things_by_their_ids(event: type[Record]) -> None:
    msgspec.json.schema(shown_type(event))
    hints = typing.get_type_hints(event)
    known = {prefix.name.lower() for prefix in Prefix}
    for field in event.__struct_fields__:
        if field in known and bytes in (hints[field], *typing.get_args(hints[field])):
            assert field in IDS, field
