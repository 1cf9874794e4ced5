"""Reading products, contracts, trades and positions: who sees which rows, and how they look."""

from __future__ import annotations

from typing import Any

import pytest

from otcnode.rpc import format as form
from tests.rpc.calls import Api
from tests.rpc.fake import BANK, CALLBACK, INVESTOR, ISSUER, OTHER, REGULATOR, START_MS, FakeNode, account_of
from tests.rpc.items import DRAFT, EQUITY, MASTER, NOTE, TRADES, populate


@pytest.fixture
def api() -> Api:
    node = FakeNode()
    populate(node)
    return Api(node)


async def test_products_are_open_to_everybody(api: Api) -> None:
    shown = await api.call("product_get", {"product": form.product(NOTE)})
    product, terms = shown["product"]["product"], shown["product"]["terms"]
    assert shown["product"]["units"] == {"issued": "100", "redeemed": "0"}
    assert (product["status"], product["issuer"], product["unpaid"]) == (
        "ACTIVE",
        form.account(account_of(ISSUER)),
        ["2027-07-15"],
    )
    assert terms["offered"] == str(2**62)
    assert (terms["rate_ppm"], terms["face"], terms["issue_price"]) == (45_000, "10000", "1000000")
    assert (terms["value_date"], terms["pay_dates"]) == ("2027-01-15", ["2027-07-15", "2028-01-15"])
    assert terms["open"] == {"ms": START_MS, "iso": "2027-01-15T08:00:00.000Z"}
    assert terms["cooling_off"] == {"period_ms": 86_400_000, "callback": True}
    assert terms["contract"] == form.contract(MASTER)
    assert (await api.call("product_get", {"product": form.product(bytes(32))}))["code"] == -32001


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, {NOTE, EQUITY}),
        ({"status": "OPEN"}, {EQUITY}),
        ({"type": "FIXED_NOTE"}, {NOTE}),
        ({"issuer": form.account(account_of(ISSUER))}, {NOTE, EQUITY}),
        ({"issuer": form.account(account_of(ISSUER)), "status": "ACTIVE"}, {NOTE}),
        ({"issuer": form.account(account_of(BANK))}, set()),
        ({"status": "OPEN", "type": "FIXED_NOTE"}, set()),
    ],
)
async def test_products_are_listed_by_filters_and_pages(
    api: Api, filters: dict[str, Any], expected: set[bytes]
) -> None:
    whole = await api.call("product_list", filters)
    assert {entry["id"] for entry in whole["products"]} == {form.product(name) for name in expected}
    paged: list[Any] = []
    following = None
    for _ in range(4):
        page = await api.call("product_list", {**filters, "limit": 1, **({"next": following} if following else {})})
        paged += page["products"]
        following = page["next"]
        if following is None:
            break
    assert paged == whole["products"]


async def test_a_contract_is_for_its_parties(api: Api) -> None:
    draft = {"contract": form.contract(DRAFT)}
    shown = await api.call("contract_get", draft, await api.login(INVESTOR))
    assert shown["waiting_for"] == [1]
    assert shown["contract"]["effective"] == {"type": "COOLING_OFF", "period_ms": 86_400_000, "callback": False}
    assert shown["text"]["terms"] == [
        {"name": "amount", "value": {"integer": str(2**60)}},
        {"name": "law", "value": "42"},
    ]
    assert shown["signatures"][0]["signature"]["by"] == form.account(account_of(ISSUER))
    for name in (REGULATOR, CALLBACK, ISSUER):
        assert "contract" in await api.call("contract_get", draft, await api.login(name))
    for name in (OTHER, BANK):
        token = await api.login(name)
        refusals = [
            await api.call("contract_get", {"contract": form.contract(contract)}, token)
            for contract in (DRAFT, bytes(32))
        ]
        assert refusals[0] == refusals[1] and refusals[0]["code"] == -32003
    assert (await api.call("contract_get", draft))["code"] == -32002
    joinable = await api.call("contract_get", {"contract": form.contract(MASTER)}, await api.login(OTHER))
    assert joinable["contract"]["open"] is True


async def test_contracts_are_listed_by_party_and_by_whose_turn_it_is(api: Api) -> None:
    def names(answer: Any) -> list[str]:
        return [entry["id"] for entry in answer["contracts"]]

    investor, issuer, other = [await api.login(name) for name in (INVESTOR, ISSUER, OTHER)]
    assert names(await api.call("contract_list", {}, investor)) == [form.contract(DRAFT)]
    assert len(names(await api.call("contract_list", {}, issuer))) == 2
    waiting = {"waiting_for": form.account(account_of(INVESTOR))}
    regulator = await api.login(REGULATOR)
    for token in (investor, regulator, await api.login(CALLBACK)):
        assert names(await api.call("contract_list", waiting, token)) == [form.contract(DRAFT)]
    assert (await api.call("contract_list", waiting, issuer))["code"] == -32003
    assert (await api.call("contract_list", {"waiting_for": form.account(account_of(REGULATOR))}, issuer))[
        "code"
    ] == -32003
    assert names(await api.call("contract_list", {"waiting_for": form.account(account_of(ISSUER))}, issuer)) == []
    assert len(names(await api.call("contract_list", {}, regulator))) == 2
    assert names(await api.call("contract_list", {"open": True}, regulator)) == [form.contract(MASTER)]
    assert names(await api.call("contract_list", {"kind": "MASTER"}, issuer)) == [form.contract(MASTER)]
    assert names(await api.call("contract_list", {"subject": form.product(EQUITY)}, issuer)) == []
    assert names(await api.call("contract_list", {}, other)) == []
    foreign = {"party": form.account(account_of(INVESTOR))}
    assert (await api.call("contract_list", foreign, other))["code"] == -32003
    assert names(await api.call("contract_list", foreign, await api.login(REGULATOR))) == [form.contract(DRAFT)]


def trades_of(answer: Any) -> list[int]:
    known = {form.trade(name): place for place, name in enumerate(TRADES)}
    return [known[entry["id"]] for entry in answer["trades"]]


async def test_trades_are_for_their_parties(api: Api) -> None:
    investor, other, issuer, regulator = [await api.login(name) for name in (INVESTOR, OTHER, ISSUER, REGULATOR)]
    assert trades_of(await api.call("trade_list", {}, investor)) == [0, 1, 2]
    assert trades_of(await api.call("trade_list", {}, other)) == [3]
    assert trades_of(await api.call("trade_list", {}, issuer)) == [0, 1, 2, 3]
    assert sorted(trades_of(await api.call("trade_list", {}, regulator))) == [0, 1, 2, 3]
    foreign = {"party": form.account(account_of(INVESTOR))}
    assert (await api.call("trade_list", foreign, other))["code"] == -32003
    assert trades_of(await api.call("trade_list", foreign, regulator)) == [0, 1, 2]
    one = {"trade": form.trade(TRADES[0])}
    assert trades_of(await api.call("trade_list", one, investor)) == [0]
    refusals = [await api.call("trade_list", {"trade": form.trade(name)}, other) for name in (TRADES[0], bytes(32))]
    assert refusals[0] == refusals[1] and refusals[0]["code"] == -32003
    assert (await api.call("trade_list", {}))["code"] == -32002
    assert trades_of(await api.call("trade_list", {"product": form.product(NOTE)}, other)) == [3]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"from": START_MS + 1}, [1, 2, 3]),
        ({"from": START_MS + 1, "to": START_MS + 3}, [1, 2]),
        ({"to": "2027-01-15T08:00:00.001Z"}, [0]),
        ({"from": "2027-01-15T16:00:00.002+08:00", "to": START_MS + 10}, [2, 3]),
        ({"from": START_MS + 2, "to": START_MS + 2}, []),
        ({"status": "FAILED"}, [1]),
        ({"product": form.product(EQUITY)}, []),
        ({"product": form.product(NOTE), "from": START_MS + 3}, [3]),
    ],
)
@pytest.mark.parametrize("name", [ISSUER, REGULATOR])
async def test_trades_are_found_by_filters(api: Api, filters: dict[str, Any], expected: list[int], name: str) -> None:
    token = await api.login(name)
    assert sorted(trades_of(await api.call("trade_list", filters, token))) == expected
    first = await api.call("trade_list", {**filters, "limit": 1}, token)
    rest = await api.call("trade_list", {**filters, "next": first["next"]}, token) if first["next"] else {"trades": []}
    assert sorted(trades_of(first) + trades_of(rest)) == expected


async def test_a_trade_shows_why_it_failed(api: Api) -> None:
    answer = await api.call("trade_list", {"status": "FAILED"}, await api.login(INVESTOR))
    trade = answer["trades"][0]["trade"]
    assert (trade["failure"], trade["price"], trade["accrued"], trade["settle_at"]) == (
        "E_FROZEN",
        "1000050",
        "5",
        None,
    )


async def test_times_without_an_offset_are_refused(api: Api) -> None:
    token = await api.login(INVESTOR)
    for wrong in ("2027-01-15T08:00:00", "x"):
        assert (await api.call("trade_list", {"from": wrong}, token))["code"] == -32602


async def test_positions_show_lots_and_locks_to_the_holder_and_units_to_the_issuer(api: Api) -> None:
    account = {"account": form.account(account_of(INVESTOR))}
    own = await api.call("account_positions", account, await api.login(INVESTOR))
    (position,) = own["products"]
    assert (position["balance"], position["available"], position["locked"]) == ("100", "60", "40")
    assert [lot["quantity"] for lot in position["lots"]] == ["60", "40"]
    assert [lot["lockup_until"] and lot["lockup_until"]["ms"] for lot in position["lots"]] == [START_MS + 1, None]
    assert {(lock["asset"], lock["amount"]) for lock in own["locks"]} == {(form.product(NOTE), "40"), ("CNY@BANK", "7")}
    issuer = await api.call("account_positions", account, await api.login(ISSUER))
    assert issuer["products"] == own["products"]
    assert issuer["cash"] == [] and issuer["locks"] == []
    assert (await api.call("account_positions", account, await api.login(OTHER)))["code"] == -32003
