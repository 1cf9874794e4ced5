"""Events and statements: who reads which, in order, from any cursor on; and the index they are found by."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

import pytest

from otcnode.rpc import format as form
from otcnode.rpc.events import EVENT_SUBJECTS
from otcnode.types import AccountId
from otcnode.vm.accounts.operations import CashWithdraw
from otcnode.vm.event_index import event_index, height_of, places
from otcnode.vm.events import Event
from otcnode.vm.parties import PARTIES, Records
from otcnode.vm.results import BlockResult
from tests.rpc.calls import Api
from tests.rpc.fake import BANK, INVESTOR, ISSUER, OTHER, REGULATOR, START_MS, FakeNode, MemoryView, account_of

CASH = "CNY@BANK"


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


@pytest.fixture
def api(node: FakeNode) -> Api:
    return Api(node)


async def played(node: FakeNode) -> None:
    """Block 1: deposits to INVESTOR and OTHER; 2: nothing; 3: INVESTOR asks for 30; 4: one more deposit to OTHER."""
    node.automatic = False
    await node.submit([node.deposit(100, "a").raw, node.deposit(50, "b", OTHER).raw])
    await node.commit()
    await node.commit()
    await node.submit([node.sign(INVESTOR, CashWithdraw(CASH, 30, bytes(32))).raw])
    await node.commit()
    await node.submit([node.deposit(7, "c", OTHER).raw])
    await node.commit()


def test_whom_an_event_concerns_and_what_it_tells_about_is_said_of_every_event() -> None:
    assert set(get_args(Event)) == set(PARTIES) == set(EVENT_SUBJECTS)


class _Named(MemoryView):
    """A state that holds nothing."""

    def __init__(self) -> None:
        super().__init__({})


@pytest.mark.parametrize("kind", PARTIES, ids=lambda kind: kind.__name__)
def test_an_event_that_names_accounts_concerns_them_unless_it_is_open(kind: Any) -> None:
    """Fields whose name says that they hold an account; `by` and the like act for a party."""
    fields = [
        name
        for name, hint in get_type_hints(kind, include_extras=True).items()
        if hint == AccountId
        and name in ("account", "principal", "agent", "buyer", "seller", "proposer", "requester", "responder")
    ]
    values = {name: bytes([place]) * 32 for place, name in enumerate(fields, 1)}

    class Stand:
        def __getattr__(self, name: str) -> Any:
            return values.get(name, () if name == "responders" else "X" if name == "cash" else bytes(32))

    found = set(PARTIES[kind](Records(_Named()), Stand()))
    assert set(values.values()) <= found or b"" in found


async def test_the_index_finds_every_event_of_a_party_and_no_other(node: FakeNode) -> None:
    await played(node)
    entries = list(node.event_places(account_of(OTHER), 0))
    assert [height for height, _ in entries] == [1, 4]
    assert [height for height, _ in node.event_places(account_of(OTHER), 1)] == [4]
    numbers = [place.number for place in places(entries[0][1])]
    assert numbers == sorted(numbers) and numbers[0] > 0
    assert event_index(7, BlockResult((), (), (), {}), _Named()) == []
    assert height_of(b"e" + bytes(32) + (7).to_bytes(8, "big")) == 7


async def everything(api: Api, limit: int, token: str | None, **more: Any) -> list[Any]:
    cursor, events = None, []
    for _ in range(1_000):
        params = {"limit": limit, **more, **({"cursor": cursor} if cursor else {})}
        page = await api.call("events_list", params, token)
        events += page["events"]
        cursor = page["cursor"]
        if page["complete"]:
            return events
    raise AssertionError("it never ends")


async def test_events_are_read_once_and_in_order_whatever_the_pages(node: FakeNode, api: Api) -> None:
    await played(node)
    for by in (INVESTOR, REGULATOR, BANK):
        token = await api.login(by)
        whole = await everything(api, 1_000, token)
        cursors = [tuple(int(part) for part in event["cursor"].split(":")) for event in whole]
        assert cursors == sorted(set(cursors)) and whole
        for limit in (1, 2, 3):
            assert await everything(api, limit, token) == whole
        for place, event in enumerate(whole):
            rest = await api.call("events_list", {"cursor": event["cursor"], "limit": 1_000}, token)
            assert rest["events"] == whole[place + 1 :]


async def test_parties_read_their_events_and_nobody_else_s(node: FakeNode, api: Api) -> None:
    await played(node)

    async def seen(by: str | None, **wanted: Any) -> list[tuple[int, str]]:
        token = None if by is None else await api.login(by)
        events = await everything(api, 100, token, **({"filter": wanted} if wanted else {}))
        return [(event["height"], event["event"]["type"]) for event in events]

    everybody = await seen(REGULATOR)
    investor, other = await seen(INVESTOR), await seen(OTHER)
    assert (1, "cash.deposited") in investor and (3, "withdrawal.changed") in investor
    assert {height for height, _ in investor} == {1, 3} and {height for height, _ in other} == {1, 4}
    assert len(investor) < len(everybody)
    assert (3, "withdrawal.changed") in await seen(BANK) and (3, "lock.opened") not in await seen(BANK)
    assert await seen(None) == [] and await seen(ISSUER) == []
    assert await seen(REGULATOR, types=["cash.deposited"]) == [(1, "cash.deposited")] * 2 + [(4, "cash.deposited")]
    mine = form.account(account_of(INVESTOR))
    assert await seen(REGULATOR, account=mine) == investor
    assert await seen(OTHER, account=mine) == []
    assert await seen(INVESTOR, product=form.product(bytes(32))) == []


async def test_an_event_says_where_it_comes_from(node: FakeNode, api: Api) -> None:
    await played(node)
    (event,) = (
        await api.call(
            "events_list", {"filter": {"types": ["withdrawal.changed"]}, "limit": 1}, await api.login(INVESTOR)
        )
    )["events"]
    assert event["time"]["ms"] == START_MS + 3_000
    assert event["transaction"].startswith("tx1") and event["automatic"] is None
    assert event["event"]["status"] == "LOCKED"


@pytest.mark.parametrize(("cursor", "code"), [("9:0", -32005), ("1:4294967296", -32008), ("x", -32602), ("1", -32602)])
async def test_a_cursor_that_is_none_is_refused(node: FakeNode, api: Api, cursor: str, code: int) -> None:
    await played(node)
    assert (await api.call("events_list", {"cursor": cursor}))["code"] == code


async def test_events_of_blocks_that_are_pruned_are_refused_and_the_rest_is_read_on(node: FakeNode, api: Api) -> None:
    await played(node)
    regulator = await api.login(REGULATOR)
    whole = await api.call("events_list", {"limit": 1_000}, regulator)
    node.blocks_first = 3
    for cursor in (None, "1:4294967295", "2:0"):
        for asked in ({"cursor": cursor} if cursor else {}, {"cursor": cursor, "limit": 1}):
            for token in (None, regulator):
                refused = await api.call("events_list", asked, token)
                assert (refused["code"], refused["data"]) == (-32008, {"first": 3})
    assert refused["message"].endswith("go on from 2:4294967295")
    rest = await api.call("events_list", {"cursor": "2:4294967295", "limit": 1_000}, regulator)
    assert rest["events"] == [event for event in whole["events"] if event["height"] >= 3] != []


async def test_subscriptions_need_a_connection(node: FakeNode, api: Api) -> None:
    assert (await api.call("events_subscribe", {"cursor": "9:0"}))["code"] == -32005
    assert (await api.call("events_subscribe"))["cursor"] == "0:4294967295"
    api.listener = None  # type: ignore[assignment]
    for method, params in (("events_subscribe", {}), ("events_unsubscribe", {"subscription": "1"})):
        assert (await api.call(method, params))["code"] == -32600


# statements


async def movements(api: Api, by: str, whose: str, **params: Any) -> list[tuple[int, str, str, str]]:
    """(height, asset, balance, locked) of all rows, which must be the same in pages of one."""
    token, account = await api.login(by), form.account(account_of(whose))
    answer = await api.call("account_statement", {"account": account, **params}, token)
    rows, paged, following = answer["movements"], [], None
    while True:
        asked = {"account": account, "limit": 1, **params, **({"next": following} if following else {})}
        page = await api.call("account_statement", asked, token)
        assert len(page["movements"]) <= 1
        paged += page["movements"]
        following = page["next"]
        if following is None:
            break
    assert paged == rows
    return [(row["height"], row["asset"], row["balance"], row["locked"]) for row in rows]


async def test_a_statement_shows_every_movement_in_order(node: FakeNode, api: Api) -> None:
    await played(node)
    whole = [(1, CASH, "100", "0"), (3, CASH, "0", "30")]
    for by in (INVESTOR, REGULATOR, BANK):
        assert await movements(api, by, INVESTOR) == whole
        assert await movements(api, by, INVESTOR, **{"from": START_MS + 1_001}) == whole[1:]
        assert await movements(api, by, INVESTOR, to=START_MS + 3_000) == whole[:1]
        assert await movements(api, by, INVESTOR, **{"from": START_MS + 3_000, "to": START_MS + 3_001}) == whole[1:]
        assert await movements(api, by, INVESTOR, at_height=2) == whole[:1]
        assert await movements(api, by, INVESTOR, asset="USD@REG") == []
    assert await movements(api, OTHER, OTHER, asset=CASH) == [(1, CASH, "50", "0"), (4, CASH, "7", "0")]
    assert await movements(api, BANK, ISSUER) == []
    for whose in (account_of(INVESTOR), bytes(32)):
        refused = await api.call("account_statement", {"account": form.account(whose)}, await api.login(OTHER))
        assert refused["code"] == -32003


async def test_a_statement_from_pruned_blocks_is_refused_and_not_cut(node: FakeNode, api: Api) -> None:
    await played(node)
    token, account = await api.login(INVESTOR), form.account(account_of(INVESTOR))
    whole = await api.call("account_statement", {"account": account}, token)
    page = await api.call("account_statement", {"account": account, "limit": 1}, token)
    last = await api.call("account_statement", {"account": account, "limit": 1, "next": page["next"]}, token)
    node.blocks_first = 3
    tip = node.state().height
    refused = await api.call("account_statement", {"account": account}, token)
    assert (refused["code"], refused["data"]) == (-32007, {"first": 3, "last": tip})
    refused = await api.call("account_statement", {"account": account, "next": page["next"]}, token)
    assert (refused["code"], refused["data"]) == (-32008, {"first": 3})
    since = form.time(START_MS + 2_001).iso
    later = await api.call("account_statement", {"account": account, "from": since}, token)
    assert later["movements"] == [row for row in whole["movements"] if row["height"] >= 3] != []
    assert last["movements"]


async def test_a_statement_in_pages_is_of_one_height(node: FakeNode, api: Api) -> None:
    await played(node)
    token, account = await api.login(OTHER), form.account(account_of(OTHER))
    first = await api.call("account_statement", {"account": account, "limit": 1}, token)
    await node.submit([node.deposit(9, "d", OTHER).raw])
    await node.commit()
    second = await api.call("account_statement", {"account": account, "next": first["next"]}, token)
    assert [row["balance"] for row in second["movements"]] == ["7"]
    assert (second["height"], second["next"]) == (4, None)
