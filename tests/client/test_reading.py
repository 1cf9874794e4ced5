"""Proofs of the state, believed only where they hold, and events followed over several nodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from otcnode import limits
from otcnode.client import Client, ClientError, NodeLied, Proven, RpcFailure
from otcnode.client import client as client_module
from otcnode.codec import encode
from otcnode.evidence.verdict import Outcome
from otcnode.evidence.verify import verify
from otcnode.rpc import events
from otcnode.rpc.events import EventFilter
from otcnode.rpc.service import Snapshot
from otcnode.storage.state_proof import StateProof
from otcnode.vm.accounts.records import ACCOUNTS, CASH_BALANCES, LOCKS, CashBalance
from otcnode.vm.keys import Table
from tests.client.test_client import DEAD, serving
from tests.evidence.story import Story
from tests.rpc.fake import INVESTOR, OTHER, REGULATOR, FakeNode, MemoryView, account_of, key_of

BALANCE = account_of(INVESTOR) + b"CNY@BANK"


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


async def test_a_balance_is_proven_from_the_genesis_on(node: FakeNode) -> None:
    await node.submit([node.deposit(5_00, "r").raw])
    async with serving(node) as client:
        client.identify(account_of(INVESTOR), key_of(INVESTOR))
        proven = await client.state_proof(CASH_BALANCES, BALANCE)
        assert proven == Proven(1, node.header(1), CashBalance(5_00, 0, 0, None))
        await node.submit([node.deposit(1, "s").raw])
        later = await client.state_proof(CASH_BALANCES, BALANCE)
        assert (later.height, later.record) == (2, CashBalance(5_01, 0, 0, None))


async def test_absence_is_proven_to_those_who_see_everything(node: FakeNode) -> None:
    await node.commit()
    async with serving(node) as client:
        client.identify(account_of(REGULATOR), key_of(REGULATOR))
        assert (await client.state_proof(LOCKS, account_of(INVESTOR) + bytes(32))).record is None
        account = (await client.state_proof(ACCOUNTS, account_of(OTHER))).record
        assert account is not None and account.shown_status == "ACTIVE"


async def test_proofs_are_of_one_s_own_entries_and_a_refusal_tells_nothing(node: FakeNode) -> None:
    await node.submit([node.deposit(5_00, "r").raw])
    async with serving(node) as client:
        with pytest.raises(RpcFailure) as anonymous:
            await client.state_proof(CASH_BALANCES, BALANCE)
        assert anonymous.value.code == -32002
        client.identify(account_of(OTHER), key_of(OTHER))
        foreign: list[tuple[Table[Any], bytes]] = [
            (CASH_BALANCES, BALANCE),
            (CASH_BALANCES, account_of(OTHER) + b"CNY@BANK"),
            (LOCKS, account_of(OTHER) + bytes(32)),
            (ACCOUNTS, account_of(INVESTOR)),
        ]
        for table, suffix in foreign:
            with pytest.raises(RpcFailure) as refused:
                await client.state_proof(table, suffix)
            assert refused.value.code == -32003
        assert (await client.state_proof(ACCOUNTS, account_of(OTHER))).record is not None


async def test_the_genesis_has_no_proof(node: FakeNode) -> None:
    async with serving(node) as client:
        client.identify(account_of(OTHER), key_of(OTHER))
        with pytest.raises(RpcFailure) as caught:
            await client.state_proof(ACCOUNTS, account_of(OTHER))
        assert caught.value.code == -32005


class ForgedValue(FakeNode):
    """Shows a balance that is not the one under its root."""

    def state(self, height: int | None = None) -> Snapshot:
        true = super().state(height)
        assert isinstance(true.view, MemoryView)
        key = CASH_BALANCES.prefix + BALANCE
        return replace(true, view=true.view.with_writes({key: encode(CashBalance(9_99, 0, 0, None))}))


class ForgedPath(FakeNode):
    """Changes a hash on the way up."""

    def prove(self, key: bytes) -> StateProof:
        true = super().prove(key)
        return StateProof(true.pairs, (bytes(len(true.siblings[0])), *true.siblings[1:]))


class ForgedBucket(FakeNode):
    """Leaves an entry out of the bucket."""

    def prove(self, key: bytes) -> StateProof:
        return replace(super().prove(key), pairs=b"")


class OtherKey(FakeNode):
    """Proves something true of another key."""

    def prove(self, key: bytes) -> StateProof:
        return super().prove(ACCOUNTS.prefix + account_of(OTHER))


class OldHeader(FakeNode):
    """Passes off the first header as that of the latest state."""

    def header(self, height: int) -> Any:
        return super().header(1)


@pytest.mark.parametrize("liar_type", [ForgedValue, ForgedPath, ForgedBucket, OtherKey, OldHeader])
async def test_a_false_proof_is_noticed_and_another_node_is_asked(liar_type: type[FakeNode]) -> None:
    liar, honest = liar_type(), FakeNode()
    for each in (liar, honest):
        await each.submit([each.deposit(5_00, "r").raw])
        await each.submit([each.deposit(1, "s").raw])
    async with serving(liar) as client:
        client.identify(account_of(INVESTOR), key_of(INVESTOR))
        with pytest.raises(NodeLied):
            await client.state_proof(CASH_BALANCES, BALANCE)
    async with serving(liar, honest) as client:
        client.identify(account_of(INVESTOR), key_of(INVESTOR))
        assert (await client.state_proof(CASH_BALANCES, BALANCE)).record == CashBalance(5_01, 0, 0, None)


async def test_events_are_followed_over_nodes_without_loss(node: FakeNode) -> None:
    behind = FakeNode()
    for each in (behind, node):
        await each.submit([each.deposit(1, "a").raw])
    for reference in ("b", "c"):
        await node.submit([node.deposit(2, reference).raw])
    wanted = EventFilter(types=["cash.deposited"])

    async def followed(client: Client, cursor: str | None, count: int) -> list[str]:
        seen: list[str] = []
        async for event in client.events(cursor, wanted, poll_ms=1):
            seen.append(event.cursor)
            if len(seen) == count:
                break
        return seen

    async with serving(behind, node) as client:
        client.identify(account_of(INVESTOR), key_of(INVESTOR))
        (first,) = await followed(client, None, 1)
        assert first.startswith("1:")
        assert [cursor.split(":")[0] for cursor in await followed(client, "2:0", 2)] == ["2", "3"]
        assert [cursor.split(":")[0] for cursor in await followed(client, first, 2)] == ["2", "3"]


BUDGETS = {"cost_per_second": 1_000, "cost_burst": 1_400}
"""A login fits, and a few pages of events; each further one is paid for in some tenths of a second."""


async def test_who_is_asked_for_patience_by_all_nodes_comes_again_and_misses_nothing(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "rpc_debt_wait_ms_max", 0)
    monkeypatch.setattr(client_module, "RETRY_MS", 1)
    other = FakeNode()
    asked: list[int] = []
    when = client_module._retry_after_ms

    def counted(said: Iterable[ClientError]) -> int | None:
        wait_ms = when(said)
        asked.extend(() if wait_ms is None else (wait_ms,))
        return wait_ms

    monkeypatch.setattr(client_module, "_retry_after_ms", counted)
    deposits = [node.deposit(1, f"r{place}").raw for place in range(24)]
    for each in (node, other):
        for raw in deposits:
            await each.submit([raw])
    monkeypatch.setattr(events, "BLOCKS_PER_PAGE_MAX", 1)
    seen = []
    async with serving(node, other, first=[DEAD], served=BUDGETS) as client:
        client.identify(account_of(INVESTOR), key_of(INVESTOR))
        async for event in client.events(None, EventFilter(types=["cash.deposited"]), poll_ms=1):
            seen.append(event.height)
            if len(seen) == len(deposits):
                break
    assert seen == list(range(1, 25)) and asked


async def test_patience_has_an_end(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "rpc_debt_wait_ms_max", 0)
    monkeypatch.setattr(client_module, "BUDGET_PATIENCE_MS", 50)
    async with serving(node, served={"cost_per_second": 1, "cost_burst": 30}) as client:
        await client.status()
        with pytest.raises(RpcFailure) as refused:
            await client.status()
        assert refused.value.code == -32004 and refused.value.data["retry_after_ms"] > 50


async def test_evidence_is_checked_before_it_is_handed_on() -> None:
    """A node whose package does not hold is passed over for one whose does."""
    story = Story()
    await story.sign_a_contract()

    class Liar(FakeNode):
        def item_places(self, item: bytes) -> Iterator[tuple[int, bytes]]:
            return iter(list(story.node.item_places(item))[:-1])

    liar = Liar()
    liar.__dict__.update(story.node.__dict__)
    async with serving(liar, story.node) as client:
        client.identify(account_of(INVESTOR), key_of(INVESTOR))
        raw = await client.contract_evidence(story.contract)
        assert verify(raw, story.node.chain).outcome is Outcome.OK
    async with serving(liar) as client:
        client.identify(account_of(INVESTOR), key_of(INVESTOR))
        with pytest.raises(NodeLied, match="INCOMPLETE"):
            await client.contract_evidence(story.contract)
