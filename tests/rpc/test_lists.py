"""Lists of items: who sees which rows, filters, ranges of time, pages bound to one height, past heights."""

from __future__ import annotations

from typing import Any

import pytest

from otcnode.crypto import sha256
from otcnode.genesis import KeyPurpose, Role
from otcnode.ids import Prefix
from otcnode.rpc import format as form
from otcnode.rpc.governing import DUE_SHOWN
from otcnode.rpc.reader import Reader
from otcnode.vm import registry
from otcnode.vm.accounts.operations import CashWithdraw, CashWithdrawResult, CustodyAttest, EntrustAccept, EntrustGrant
from otcnode.vm.accounts.records import HOLDERS, HOLDINGS, WITHDRAWALS, HolderCount, Holding, Powers, Scope
from otcnode.vm.due import DUE, DUE_BY_ITEM, LANE_RELEASE, LANE_REST, DueClass, DueItem, Entries, Place
from otcnode.vm.governance.operations import GovernancePropose
from otcnode.vm.governance.records import RoleSet
from otcnode.vm.keys import MARKER, OPEN_OFFER, OPEN_QUOTE, OPEN_RFQ, integer
from otcnode.vm.operations import Operation
from otcnode.vm.products import records as products
from otcnode.vm.products.records import Redemption, RedemptionStatus, Reference, Subscription, SubscriptionStatus
from otcnode.vm.trades.records import (
    OFFERS,
    QUOTES,
    RFQS,
    TRADING_BY_ACCOUNT,
    TRADING_BY_PRODUCT,
    Offer,
    OfferStatus,
    Quote,
    QuoteStatus,
    Rfq,
    RfqStatus,
    Side,
)
from tests.rpc.calls import Api
from tests.rpc.fake import BANK, CALLBACK, INVESTOR, ISSUER, KYC, OTHER, REGULATOR, START_MS, FakeNode, account_of
from tests.rpc.items import DRAFT, EQUITY, MASTER, NOTE, TRADES, populate

CASH = "CNY@BANK"


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


@pytest.fixture
def api(node: FakeNode) -> Api:
    return Api(node)


async def do(node: FakeNode, by: str, *operations: Operation, purpose: KeyPurpose = KeyPurpose.TRADE) -> None:
    transaction = node.sign(by, *operations, purpose=purpose)
    await node.submit([transaction.raw])
    state = node.transaction(transaction.id)
    assert state.code == "OK", state


async def listed(api: Api, method: str, field: str, by: str, **params: Any) -> list[Any]:
    """All rows, which must be the same in pages of one."""
    token = await api.login(by)
    answer = await api.call(method, params, token)
    rows: list[Any] = answer[field]
    paged: list[Any] = []
    page = await api.call(method, {**params, "limit": 1}, token)
    while True:
        assert len(page[field]) <= 1 and page["height"] == answer["height"]
        paged += page[field]
        if page["next"] is None:
            break
        page = await api.call(method, {**params, "limit": 1, "next": page["next"]}, token)
    assert paged == rows and answer["next"] is None
    return rows


async def refusal(api: Api, method: str, by: str, **params: Any) -> Any:
    return (await api.call(method, params, await api.login(by))).get("code")


# withdrawals


async def withdrawn(node: FakeNode) -> None:
    """INVESTOR asks for 10, 20 and 30 in blocks 2, 3 and 4; the first is paid in block 5."""
    await node.submit([node.deposit(100, "in").raw])
    for amount in (10, 20, 30):
        await do(node, INVESTOR, CashWithdraw(CASH, amount, bytes(32)))
    found = {record.amount: name for name, record in Reader(node.state().view).scan(WITHDRAWALS)}
    await do(node, BANK, CashWithdrawResult(found[10], True, "out", ""))


async def test_withdrawals_are_for_the_holder_and_the_custodian(node: FakeNode, api: Api) -> None:
    await withdrawn(node)

    async def amounts(by: str, **params: Any) -> list[str]:
        rows = await listed(api, "withdrawal_list", "withdrawals", by, **params)
        return [row["withdrawal"]["amount"] for row in rows]

    for by in (INVESTOR, BANK):
        assert await amounts(by) == ["10", "20", "30"]
        assert await amounts(by, status="LOCKED") == ["20", "30"]
        assert await amounts(by, cash="USD@REG") == []
        assert await amounts(by, **{"from": START_MS + 3_000, "to": START_MS + 4_000}) == ["20"]
        assert await amounts(by, status="LOCKED", at_height=2) == ["10"]
    assert await amounts(REGULATOR, party=form.account(account_of(INVESTOR))) == ["10", "20", "30"]
    assert sorted(await amounts(REGULATOR)) == ["10", "20", "30"]
    assert await amounts(OTHER) == []
    assert await refusal(api, "withdrawal_list", OTHER, party=form.account(account_of(INVESTOR))) == -32003
    assert (await api.call("withdrawal_list"))["code"] == -32002


async def test_a_page_of_withdrawals_is_of_the_height_it_began_at(node: FakeNode, api: Api) -> None:
    await withdrawn(node)
    token = await api.login(INVESTOR)
    first = await api.call("withdrawal_list", {"limit": 2}, token)
    await do(node, INVESTOR, CashWithdraw(CASH, 1, bytes(32)))
    second = await api.call("withdrawal_list", {"limit": 2, "next": first["next"]}, token)
    assert [row["withdrawal"]["amount"] for row in second["withdrawals"]] == ["30"]
    assert (second["height"], second["next"]) == (first["height"], None)
    node.first_kept = 6
    pruned = await api.call("withdrawal_list", {"limit": 2, "next": first["next"]}, token)
    assert (pruned["code"], pruned["data"]) == (-32008, {"first": 6})


# reconciliation


async def test_reconciliations_are_for_the_custodian_and_the_supervisors(node: FakeNode, api: Api) -> None:
    await node.submit([node.deposit(100, "in").raw])
    await do(node, BANK, CustodyAttest(CASH, 1, 100, bytes(32)))
    await do(node, BANK, CustodyAttest(CASH, 1, 97, bytes(32)))
    for by in (BANK, REGULATOR):
        rows = await listed(api, "recon_list", "reconciliations", by)
        assert [(row["difference"], row["attestation"]["height"]) for row in rows] == [("0", 1), ("-3", 1)]
        assert all(row["deposits_stopped"] for row in rows)
        broken = await listed(api, "recon_list", "reconciliations", by, broken=True)
        assert broken == rows[1:]
        assert await listed(api, "recon_list", "reconciliations", by, broken=False, cash=CASH) == rows[:1]
        assert await listed(api, "recon_list", "reconciliations", by, to=START_MS + 2_000) == []
        (then,) = await listed(api, "recon_list", "reconciliations", by, at_height=2)
        assert then["deposits_stopped"] is False
    assert await listed(api, "recon_list", "reconciliations", INVESTOR) == []


# entrustments


async def test_entrustments_are_for_principal_and_agent(node: FakeNode, api: Api) -> None:
    powers = Powers((Scope.TRADE,), None, None, None, 5, 10, 0, START_MS + 86_400_000, bytes(32), False)
    await do(node, INVESTOR, EntrustGrant(account_of(OTHER), powers), purpose=KeyPurpose.MANAGE)
    (row,) = await listed(api, "entrustment_list", "entrustments", INVESTOR)
    assert row["entrustment"]["agent"] == form.account(account_of(OTHER))
    assert row["entrustment"]["powers"]["total_cap"] == "10"
    name = form.parse_id(Prefix.ENTRUSTMENT, row["id"])
    await do(node, OTHER, EntrustAccept(name), purpose=KeyPurpose.MANAGE)
    for by, side, another in ((INVESTOR, "principal", "agent"), (OTHER, "agent", "principal")):
        (found,) = await listed(api, "entrustment_list", "entrustments", by, side=side, status="ACTIVE")
        assert found["id"] == row["id"]
        assert await listed(api, "entrustment_list", "entrustments", by, side=another) == []
        assert await listed(api, "entrustment_list", "entrustments", by, status="PROPOSED") == []
        assert len(await listed(api, "entrustment_list", "entrustments", by, status="PROPOSED", at_height=1)) == 1
        assert await listed(api, "entrustment_list", "entrustments", by, **{"from": START_MS + 1_001}) == []
    assert await listed(api, "entrustment_list", "entrustments", KYC) == []
    assert len(await listed(api, "entrustment_list", "entrustments", REGULATOR)) == 1
    foreign = form.account(account_of(INVESTOR))
    assert await refusal(api, "entrustment_list", ISSUER, party=foreign) == -32003


# governance


async def test_proposals_are_for_those_who_decide(node: FakeNode, api: Api) -> None:
    action = RoleSet(account_of(OTHER), (Role.DEALER,))
    await do(node, REGULATOR, GovernancePropose(action, "grown", bytes(32)), purpose=KeyPurpose.MANAGE)
    for by in (REGULATOR, KYC, CALLBACK):
        (row,) = await listed(api, "governance_list", "proposals", by, status="PROPOSED", kind="ROLE_SET")
        assert row["proposal"]["action"] == {
            "type": "ROLE_SET",
            "account": form.account(account_of(OTHER)),
            "roles": ["DEALER"],
        }
        assert await listed(api, "governance_list", "proposals", by, kind="PARAM_SET") == []
        assert await listed(api, "governance_list", "proposals", by, at_height=0) == []
        assert await listed(api, "governance_list", "proposals", by, **{"from": START_MS + 1_001}) == []
    assert await refusal(api, "governance_list", INVESTOR) == -32003
    assert (await api.call("governance_list"))["code"] == -32002


# products: holders, subscriptions, redemptions


async def test_holders_are_for_the_issuer_and_as_of_a_height(node: FakeNode, api: Api) -> None:
    populate(node)
    node.put(HOLDERS, NOTE, HolderCount(1, 1))
    await node.commit()
    node.put(HOLDINGS, NOTE + account_of(OTHER), Holding(5, 0, 1, (), 1, 1, b""))
    node.put(HOLDERS, NOTE, HolderCount(2, 2))
    names = {form.account(account_of(name)): name for name in (INVESTOR, OTHER)}

    async def holders(by: str, **params: Any) -> dict[str, str]:
        rows = await listed(api, "product_holders", "holders", by, product=form.product(NOTE), **params)
        return {names[row["account"]]: row["balance"] for row in rows}

    for by in (ISSUER, REGULATOR):
        assert await holders(by) == {INVESTOR: "100", OTHER: "5"}
        assert await holders(by, at_height=0) == {INVESTOR: "100"}
    whole = await api.call("product_holders", {"product": form.product(NOTE), "limit": 1}, await api.login(ISSUER))
    assert (whole["accounts"], whole["ultimate_holders"], len(whole["holders"])) == (2, 2, 1)
    for by in (INVESTOR, OTHER, BANK):
        for product in (NOTE, bytes(32)):
            assert await refusal(api, "product_holders", by, product=form.product(product)) == -32003
    assert await refusal(api, "product_holders", ISSUER, product=form.product(bytes(32))) == -32003


def put_subscription(node: FakeNode, place: int, who: str, product: bytes, status: SubscriptionStatus) -> bytes:
    name = sha256(b"subscription" + bytes([place]))
    record = Subscription(
        product, account_of(who), DRAFT, None, 10, 1_000, 0, 1, place, status, "", START_MS + place, START_MS + place
    )
    node.put(products.SUBSCRIPTIONS, name, record)
    node.put(products.SUBSCRIPTIONS_BY_ACCOUNT, account_of(who) + product + products.descending(place), Reference(name))
    if status is not SubscriptionStatus.CANCELLED:
        node.put(products.SUBSCRIPTIONS_BY_PRODUCT, product + integer(place), Reference(name))
    return name


async def test_subscriptions_are_for_investor_and_issuer(node: FakeNode, api: Api) -> None:
    populate(node)
    status = SubscriptionStatus
    put_subscription(node, 1, INVESTOR, NOTE, status.CANCELLED)
    put_subscription(node, 2, INVESTOR, NOTE, status.LOCKED)
    put_subscription(node, 3, OTHER, NOTE, status.LOCKED)
    put_subscription(node, 4, INVESTOR, EQUITY, status.SETTLED)

    async def places(by: str, **params: Any) -> list[int]:
        rows = await listed(api, "subscription_list", "subscriptions", by, **params)
        return [row["subscription"]["sequence"] for row in rows]

    note = form.product(NOTE)
    assert sorted(await places(INVESTOR)) == [1, 2, 4]
    assert await places(INVESTOR, product=note) == [2, 1]
    assert await places(INVESTOR, status="LOCKED") == [2]
    assert await places(OTHER, product=note) == [3]
    assert await places(ISSUER, product=note) == [2, 3]
    assert await places(ISSUER, product=note, party=form.account(account_of(INVESTOR))) == [2, 1]
    assert await places(ISSUER) == []
    assert sorted(await places(REGULATOR)) == [1, 2, 3, 4]
    assert await places(REGULATOR, contract=form.contract(MASTER)) == []
    foreign = form.account(account_of(INVESTOR))
    assert await refusal(api, "subscription_list", OTHER, party=foreign, product=note) == -32003
    assert await refusal(api, "subscription_list", ISSUER, party=foreign) == -32003


async def test_redemptions_are_for_holder_and_issuer(node: FakeNode, api: Api) -> None:
    populate(node)
    for place, (who, status) in enumerate(
        ((INVESTOR, RedemptionStatus.PAID), (OTHER, RedemptionStatus.REQUESTED), (INVESTOR, RedemptionStatus.REQUESTED))
    ):
        name = sha256(b"redemption" + bytes([place]))
        at = START_MS + place
        record = Redemption(NOTE, account_of(who), None, place + 1, at, at + 9, status, "", 0, at, at)
        node.put(products.REDEMPTIONS, name, record)
        part = products.REQUESTED_PART if status is RedemptionStatus.REQUESTED else products.DECIDED_PART
        node.put(products.REDEMPTIONS_BY_PRODUCT, NOTE + part + name, MARKER)
        for party in (who, ISSUER):
            node.put(products.REDEMPTIONS_BY_PARTY, account_of(party) + integer(at) + name, MARKER)

    async def quantities(by: str, **params: Any) -> list[str]:
        rows = await listed(api, "redemption_list", "redemptions", by, **params)
        return [row["redemption"]["quantity"] for row in rows]

    assert await quantities(INVESTOR) == ["1", "3"]
    assert await quantities(ISSUER) == ["1", "2", "3"]
    assert await quantities(ISSUER, **{"from": START_MS + 1, "to": START_MS + 2}) == ["2"]
    assert sorted(await quantities(ISSUER, product=form.product(NOTE), status="REQUESTED")) == ["2", "3"]
    assert await quantities(OTHER, product=form.product(NOTE)) == ["2"]
    assert await quantities(BANK) == []
    assert sorted(await quantities(REGULATOR)) == ["1", "2", "3"]
    assert await refusal(api, "redemption_list", OTHER, party=form.account(account_of(INVESTOR))) == -32003


# offers and requests for quotes


def put_offer(node: FakeNode, place: int, whitelist: tuple[bytes, ...], status: OfferStatus = OfferStatus.OPEN) -> None:
    name, at = sha256(b"offer" + bytes([place])), START_MS + place
    record = Offer(
        account=account_of(INVESTOR),
        entrustment=None,
        side=Side.BUY,
        product=NOTE,
        quantity=place + 1,
        price=1_000_000,
        contract=MASTER,
        min_fill=1,
        all_or_none=False,
        not_before=0,
        until=START_MS + 100,
        whitelist=whitelist,
        cash_cap=777,
        remaining=place + 1,
        status=status,
        created_at=at,
        ended_at=None,
    )
    node.put(OFFERS, name, record)
    node.put(TRADING_BY_ACCOUNT, record.account + OPEN_OFFER + integer(at) + name, MARKER)
    node.put(TRADING_BY_PRODUCT, NOTE + OPEN_OFFER + integer(at) + name, MARKER)


async def test_offers_are_disclosed_to_those_they_are_for(node: FakeNode, api: Api) -> None:
    put_offer(node, 0, ())
    put_offer(node, 1, (account_of(OTHER),))
    put_offer(node, 2, (), OfferStatus.FILLED)

    async def offers(by: str, **params: Any) -> list[dict[str, Any]]:
        rows = await listed(api, "offer_list", "offers", by, product=form.product(NOTE), **params)
        return [row["offer"] for row in rows]

    async def quantities(by: str, **params: Any) -> list[str]:
        return [offer["quantity"] for offer in await offers(by, **params)]

    assert await quantities(INVESTOR) == await quantities(REGULATOR) == ["1", "2", "3"]
    assert await quantities(OTHER) == ["1", "2"]
    assert await quantities(ISSUER) == ["1"]
    assert await quantities(OTHER, party=form.account(account_of(INVESTOR)), **{"from": START_MS + 1}) == ["2"]
    assert await quantities(INVESTOR, side="SELL") == []
    assert await quantities(INVESTOR, status="FILLED") == ["3"]
    for offer in await offers(OTHER):
        assert offer["cash_cap"] is offer["whitelist"] is offer["entrustment"] is None
    assert [(offer["cash_cap"], offer["whitelist"]) for offer in await offers(INVESTOR)][1] == (
        "777",
        [form.account(account_of(OTHER))],
    )
    assert len(await listed(api, "offer_list", "offers", OTHER)) == 2
    assert (await api.call("offer_list"))["code"] == -32002


def put_request(node: FakeNode) -> bytes:
    """INVESTOR asked OTHER and ISSUER; both quoted, ISSUER sealed."""
    name, at = sha256(b"rfq"), START_MS + 5
    responders = tuple(sorted((account_of(OTHER), account_of(ISSUER))))
    record = Rfq(
        requester=account_of(INVESTOR),
        side=Side.BUY,
        product=NOTE,
        quantity=10,
        contract=MASTER,
        responders=responders,
        until=at + 10,
        settle_at=None,
        quotes=2,
        status=RfqStatus.FILLED,
        trade=TRADES[0],
        created_at=at,
        ended_at=at + 1,
    )
    node.put(RFQS, name, record)
    for party in (record.requester, *responders):
        node.put(TRADING_BY_ACCOUNT, party + OPEN_RFQ + integer(at) + name, MARKER)
    node.put(TRADING_BY_PRODUCT, NOTE + OPEN_RFQ + integer(at) + name, MARKER)
    for place, (responder, price, status) in enumerate(
        ((OTHER, 987_654, QuoteStatus.DONE_AWAY), (ISSUER, None, QuoteStatus.HIT))
    ):
        quote = Quote(
            rfq=name,
            responder=account_of(responder),
            firm=True,
            price=price,
            agent=None,
            commitment=None if price else bytes(32),
            cash_cap=0,
            until=at + 9,
            sequence=place,
            status=status,
            counter_price=None,
            created_at=at + place,
            ended_at=at + 1,
        )
        quoted = sha256(b"quote" + bytes([place]))
        node.put(QUOTES, quoted, quote)
        node.put(TRADING_BY_PRODUCT, name + OPEN_QUOTE + integer(at + place) + quoted, MARKER)
    return name


async def test_a_losing_price_stays_between_the_two_it_concerns(node: FakeNode, api: Api) -> None:
    name = put_request(node)

    async def request(by: str) -> Any:
        (row,) = await listed(api, "rfq_list", "requests", by)
        return row

    def prices(row: Any) -> list[Any]:
        return [quote["quote"]["price"] for quote in row["quotes"]]

    for by in (INVESTOR, REGULATOR):
        row = await request(by)
        assert prices(row) == ["987654", None]
        assert (row["rfq"]["quotes"], len(row["rfq"]["responders"])) == (2, 2)
    loser, winner = await request(OTHER), await request(ISSUER)
    assert prices(loser) == ["987654"] and loser["quotes"][0]["quote"]["status"] == "DONE_AWAY"
    assert prices(winner) == [None] and "987654" not in str(winner)
    for row in (loser, winner):
        assert row["rfq"]["responders"] is row["rfq"]["quotes"] is None
    assert await listed(api, "rfq_list", "requests", BANK) == []
    for asked in (name, bytes(32)):
        assert await refusal(api, "rfq_list", BANK, rfq=form.rfq(asked)) == -32003
    assert len(await listed(api, "rfq_list", "requests", OTHER, rfq=form.rfq(name))) == 1
    assert await listed(api, "rfq_list", "requests", OTHER, status="OPEN") == []
    assert await listed(api, "rfq_list", "requests", INVESTOR, product=form.product(EQUITY)) == []
    assert await listed(api, "rfq_list", "requests", INVESTOR, to=START_MS + 5) == []


# the due queue


def test_every_kind_of_due_item_is_known_here() -> None:
    assert set(DUE_SHOWN) == set(registry.DUE_KINDS)


async def test_what_is_due_is_listed_in_the_order_in_which_it_will_run(node: FakeNode, api: Api) -> None:
    populate(node)
    entries = [
        (LANE_REST, 50, DueClass.SETTLEMENT, "trade.settle", TRADES[3], None),
        (LANE_RELEASE, 50, DueClass.RELEASE, "trade.expire", TRADES[0], None),
        (LANE_REST, 50, DueClass.COUPON, "product.pay", NOTE, NOTE),
        (LANE_RELEASE, 70, DueClass.RELEASE, "account.pending_end", account_of(OTHER), None),
        (LANE_REST, 60, DueClass.ISSUANCE, "product.close", EQUITY, EQUITY),
    ]
    for sequence, (lane, due_ms, kind, name, item, product) in enumerate(entries):
        key = lane + integer(due_ms) + bytes([kind]) + integer(sequence)
        node.put(DUE, key, DueItem(name, item, product, 1))
        node.put(DUE_BY_ITEM, item, Entries((Place(key, name),)))

    async def kinds(by: str, **params: Any) -> list[str]:
        return [row["kind"] for row in await listed(api, "due_list", "items", by, **params)]

    everything = ["trade.expire", "product.pay", "trade.settle", "product.close", "account.pending_end"]
    assert await kinds(REGULATOR) == everything
    assert await kinds(REGULATOR, **{"from": 50, "to": 60}) == everything[:3]
    assert await kinds(REGULATOR, **{"from": 51}) == everything[3:]
    assert await kinds(INVESTOR) == ["trade.expire", "product.pay", "product.close"]
    assert await kinds(OTHER) == ["product.pay", "trade.settle", "product.close"]
    assert await kinds(OTHER, product=form.product(EQUITY)) == ["product.close"]
    assert await kinds(OTHER, item=form.trade(TRADES[3])) == ["trade.settle"]
    assert await kinds(OTHER, item=form.trade(TRADES[0])) == []
    assert await kinds(OTHER, item=form.trade(TRADES[3]), **{"from": 51}) == []
    assert await kinds(OTHER, item="00" * 32) == []
    assert (await api.call("due_list", {"item": "tra1nonsense"}, await api.login(OTHER)))["code"] == -32602
    assert (await api.call("due_list", {"item": "nonsense"}, await api.login(OTHER)))["code"] == -32602
    anybody = await api.call("due_list", {})
    assert [row["kind"] for row in anybody["items"]] == ["product.pay", "product.close"]
    assert anybody["items"][0] == {
        "due": {"ms": 50, "iso": "1970-01-01T00:00:00.050Z"},
        "due_class": 2,
        "kind": "product.pay",
        "item": form.product(NOTE),
        "product": form.product(NOTE),
    }


# blocks


@pytest.mark.parametrize(
    ("params", "heights"),
    [
        ({}, [1, 2, 3, 4, 5]),
        ({"newest_first": True}, [5, 4, 3, 2, 1]),
        ({"from": START_MS + 2_000, "to": START_MS + 4_000}, [2, 3]),
        ({"from": START_MS + 1_001, "newest_first": True}, [5, 4, 3, 2]),
        ({"to": START_MS + 1_000}, []),
        ({"from": START_MS + 5_001}, []),
        ({"at_height": 2}, [1, 2]),
    ],
)
async def test_blocks_are_listed_by_time(node: FakeNode, api: Api, params: dict[str, Any], heights: list[int]) -> None:
    for _ in range(5):
        await node.commit()
    rows = await listed(api, "block_list", "blocks", OTHER, **params)
    assert [row["height"] for row in rows] == heights
    for row in rows:
        assert row["block_hash"] == (await api.call("header_get", {"height": row["height"]}))["block_hash"]
