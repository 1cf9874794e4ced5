"""The client against nodes on loopback: honest ones, absent ones, and ones that lie."""

from __future__ import annotations

import asyncio
import queue
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from otcnode.blocks import Certificate
from otcnode.client import (
    Client,
    ClientError,
    NodeLied,
    NodeUnavailable,
    OutcomeUnknown,
    RpcFailure,
    SynchronousClient,
    TransactionRefused,
)
from otcnode.client import client as client_module
from otcnode.codec import decode, encode
from otcnode.crypto import SigningKey
from otcnode.errors import Code
from otcnode.evidence.absence import Absence, absence_preimage
from otcnode.rpc import format as form
from otcnode.rpc.server import RpcServer
from otcnode.rpc.service import Block, BlockReceipts, Stage, TransactionState
from otcnode.rpc.transactions import ledger_error
from otcnode.vm.accounts.operations import CashDeposit
from otcnode.vm.context import PARAMETERS
from otcnode.vm.keys import SINGLE
from otcnode.vm.results import Receipt
from otcnode.vm.transactions import Decoded
from tests.rpc.fake import BANK, INVESTOR, OTHER, START_MS, FakeNode, account_of, key_of

DEAD = "http://127.0.0.1:9"


@asynccontextmanager
async def paused() -> AsyncIterator[str]:
    """The address of a process that was stopped: the system takes connections for it, and nothing is ever answered."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@asynccontextmanager
async def serving(
    *nodes: FakeNode, first: Sequence[str] = (), served: Mapping[str, int] | None = None, **options: Any
) -> AsyncIterator[Client]:
    """A client of these nodes, in this order, after the addresses in `first`."""
    async with AsyncExitStack() as stack:
        urls = list(first)
        for node in nodes:
            server = RpcServer(node, **(served or {}))
            port = await server.start("127.0.0.1", 0)
            stack.push_async_callback(server.stop)
            urls.append(f"http://127.0.0.1:{port}")
        yield await stack.enter_async_context(Client(urls, nodes[0].genesis, **options))


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


def real_ms() -> int:
    return time.time_ns() // 1_000_000


def lower_ttl(node: FakeNode, ttl_ms: int) -> None:
    """As governance may."""
    node.put(PARAMETERS, SINGLE, replace(node.genesis.parameters, max_transaction_ttl_ms=ttl_ms))


async def test_the_longest_validity_is_the_one_in_force(node: FakeNode) -> None:
    born_ms = node.genesis.parameters.max_transaction_ttl_ms
    async with serving(node) as client:

        def lasts(longest_ms: int) -> bool:
            """Three quarters of that, from a moment while it is made on."""
            before, made, after = real_ms(), client.valid_until(), real_ms()
            lasts_ms = longest_ms * 3 // 4
            return before + lasts_ms <= made <= after + lasts_ms

        assert lasts(born_ms)
        lower_ttl(node, 20_000)
        late = node.deposit(1, "late", valid_until=START_MS + 60_000)
        with pytest.raises(TransactionRefused, match="too far ahead"):
            await client.execute(late)
        assert lasts(20_000), "a refusal has taught it"
        for said_ms, believed_ms in ((1, 10_000), (born_ms * 100, born_ms), (40_000, 40_000)):
            lower_ttl(node, said_ms)
            await client.learn_parameters()
            assert lasts(believed_ms)


async def test_a_transaction_is_executed_and_proven(node: FakeNode) -> None:
    async with serving(node) as client:
        deposit = node.deposit(5_00, "r")
        outcome = await client.execute(deposit)
        assert (outcome.id, outcome.height, outcome.receipt.code) == (deposit.id, 1, Code.OK)
        assert outcome.header == node.header(1)
        client.identify(account_of(INVESTOR), key_of(INVESTOR))
        positions = await client.positions(account_of(INVESTOR))
        assert (positions.height, positions.cash[0].balance) == (1, "500")
        assert (await client.account(account_of(INVESTOR))).account.status == "ACTIVE"
        assert (await client.execute(deposit)).height == 1
    assert node.status().height == 1


async def test_a_built_transaction_is_valid_now(node: FakeNode) -> None:
    live = FakeNode(origin_ms=time.time_ns() // 1_000_000)
    async with serving(live) as client:
        body = client.build(account_of(BANK), [CashDeposit(account_of(INVESTOR), "CNY@BANK", 7, "r")])
        assert (await client.execute(client.sign(body, [key_of(BANK)]))).height == 1
        again = client.build(account_of(BANK), [CashDeposit(account_of(INVESTOR), "CNY@BANK", 7, "r")])
        assert again.salt != body.salt


async def test_a_failure_is_definite_and_says_which_operation(node: FakeNode) -> None:
    good = CashDeposit(account_of(INVESTOR), "CNY@BANK", 1, "r")
    failing = node.sign(BANK, good, good)
    async with serving(node) as client:
        with pytest.raises(TransactionRefused) as caught:
            await client.execute(failing)
        assert (caught.value.code, caught.value.operation, caught.value.definite) == ("E_DUP_BANK_REF", 1, True)
        state = await client.transaction(failing.id)
        assert caught.value.height == state.height is not None, "a failure shows the state of a height too"


async def test_our_own_mistakes_are_found_before_anything_is_sent(node: FakeNode) -> None:
    async with serving(node) as client:
        foreign = node.deposit(1, "r", chain=bytes(32))
        with pytest.raises(TransactionRefused) as caught:
            await client.execute(foreign)
        assert (caught.value.code, caught.value.definite) == ("E_CHAIN", True)
        signed = node.deposit(1, "r")
        (entry,) = signed.transaction.signatures
        wrong = replace(
            signed, transaction=replace(signed.transaction, signatures=(replace(entry, signature=bytes(64)),))
        )
        with pytest.raises(TransactionRefused) as caught:
            await client.execute(wrong)
        assert (caught.value.code, caught.value.definite) == ("E_AUTH", True)
    assert node.submissions == 0


async def test_a_refusal_that_depends_on_the_node_is_not_definite(node: FakeNode) -> None:
    early = node.deposit(1, "r", valid_until=START_MS + 10_000_000)
    async with serving(node) as client:
        with pytest.raises(TransactionRefused, match="too far ahead") as caught:
            await client.execute(early)
    assert (caught.value.code, caught.value.definite) == ("E_TX_EXPIRED", False)


async def test_the_time_runs_out_and_waiting_goes_on_later(node: FakeNode) -> None:
    node.automatic = False
    deposit = node.deposit(1, "r")
    async with serving(node) as client:
        with pytest.raises(OutcomeUnknown) as caught:
            await client.execute(deposit, timeout_ms=50)
        assert (caught.value.transaction_id, caught.value.definite) == (deposit.id, False)
        await node.commit()
        assert (await client.execute(deposit)).height == 1
        await node.commit()
    assert len(node.block(1).transactions) == 1 and node.block(2).transactions == ()


async def test_a_node_that_gets_nowhere_is_not_waited_for_while_others_might(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off, or turned away by this very transaction, it takes it and will never see it final."""
    monkeypatch.setattr(client_module, "PATIENCE_MS", 50)
    stuck = FakeNode()
    stuck.automatic = False
    async with serving(stuck, node) as client:
        assert (await client.execute(node.deposit(1, "r"), timeout_ms=30_000)).height == 1
    assert stuck.submissions == 1


async def test_another_node_is_taken_when_one_is_absent_starting_or_full(node: FakeNode) -> None:
    starting, full = FakeNode(), FakeNode(automatic=False)
    starting.ready = False
    full.pool_max = 0
    async with serving(starting, full, node, first=[DEAD]) as client:
        assert client.chain == node.chain
        outcome = await client.execute(node.deposit(1, "r"))
        assert outcome.height == 1
        assert (await client.status()).height in (0, 1)
    assert full.status().height == starting.status().height == 0


async def test_changing_nodes_in_the_middle_sends_the_same_bytes(node: FakeNode) -> None:
    """The first node takes the transaction and dies; the second has it through gossip already."""
    first = FakeNode(automatic=False)
    server = RpcServer(first)
    port = await server.start("127.0.0.1", 0)
    second = RpcServer(node)
    other = await second.start("127.0.0.1", 0)
    deposit = node.deposit(1, "r")
    urls = [f"http://127.0.0.1:{port}", f"http://127.0.0.1:{other}"]
    async with Client(urls, node.genesis) as client:
        running = asyncio.create_task(client.execute(deposit))
        await first.waiting.wait()
        await node.submit([deposit.raw])
        await server.stop()
        outcome = await running
    await second.stop()
    assert (outcome.height, node.status().height) == (1, 1)


async def test_no_node_at_all_is_an_unknown_outcome(node: FakeNode) -> None:
    async with Client([DEAD, DEAD], node.genesis) as client:
        with pytest.raises(OutcomeUnknown) as caught:
            await client.execute(node.deposit(1, "r"), timeout_ms=30)
        assert not caught.value.definite
        with pytest.raises(NodeUnavailable, match=f"^{DEAD}: connection refused"):
            await client.status()


# liars


class Liar(FakeNode):
    """A node that has the true chain and one false answer."""


def claims_success(liar: FakeNode) -> None:
    true = liar.receipts

    def false(height: int) -> BlockReceipts:
        shown = true(height)
        leaves = [decode(Receipt, leaf) for leaf in shown.transactions]
        return BlockReceipts((), tuple(encode(replace(leaf, code=Code.OK, operation=None)) for leaf in leaves))

    liar.receipts = false  # type: ignore[method-assign]


def lacks_signatures(liar: FakeNode) -> None:
    true = liar.certificate

    def false(height: int) -> Certificate:
        shown = true(height)
        return replace(shown, signatures=shown.signatures[:2])

    liar.certificate = false  # type: ignore[method-assign]


def signs_itself(liar: FakeNode) -> None:
    liar.validator_keys = sorted((SigningKey(bytes([place]) * 32) for place in range(4)), key=lambda key: key.public)
    liar._epochs = [replace(liar._epochs[0], validators=tuple(key.public for key in liar.validator_keys))]


def adds_a_transaction(liar: FakeNode) -> None:
    true = liar.block

    def false(height: int) -> Block:
        shown = true(height)
        return replace(shown, transactions=(*shown.transactions, *shown.transactions))

    liar.block = false  # type: ignore[method-assign]


@pytest.mark.parametrize("lie", [claims_success, lacks_signatures, signs_itself, adds_a_transaction])
async def test_a_false_proof_is_noticed_and_an_honest_node_asked(lie: Callable[[FakeNode], None]) -> None:
    liar, honest = Liar(), FakeNode()
    good = CashDeposit(account_of(INVESTOR), "CNY@BANK", 1, "r")
    failing = honest.sign(BANK, good, good)
    lie(liar)
    async with serving(liar) as client:
        with pytest.raises(OutcomeUnknown, match="false proof"):
            await client.execute(failing, timeout_ms=150)
    liar = Liar()
    lie(liar)
    async with serving(liar, honest) as client:
        with pytest.raises(TransactionRefused) as caught:
            await client.execute(failing)
        assert (caught.value.code, caught.value.definite) == ("E_DUP_BANK_REF", True)


async def test_a_node_that_calls_a_transaction_dead_is_not_believed() -> None:
    liar, honest = Liar(automatic=False), FakeNode()
    deposit = honest.deposit(1, "r")
    liar._states[deposit.id] = TransactionState(deposit.id, Stage.EXPIRED, definite=True)
    await liar.commit()
    async with serving(liar, honest) as client:
        assert (await client.execute(deposit)).height == 1
    liar = Liar(automatic=False)
    liar._states[deposit.id] = TransactionState(deposit.id, Stage.EXPIRED, definite=True)
    await liar.commit(step_ms=10_000_000)
    async with serving(liar, honest) as client:
        assert (await client.execute(deposit)).height == 1
    lacks_signatures(liar)
    async with serving(liar) as client:
        with pytest.raises(NodeLied, match="a quorum is 3"):
            await client.header(1)


class Hasty(Liar):
    """Takes a transaction, and calls it dead as soon as it is asked what became of it, by an error of the ledger."""

    async def wait(self, ids: Sequence[bytes], timeout_ms: int) -> Sequence[TransactionState]:
        raise ledger_error(Code.TX_EXPIRED, "its time is over", definite=True)


async def test_nor_where_it_says_so_only_after_it_has_taken_it() -> None:
    liar, honest = Hasty(automatic=False), FakeNode()
    deposit = honest.deposit(1, "r")
    async with serving(liar, honest) as client:
        assert (await client.execute(deposit)).height == 1
    async with serving(liar) as client:
        with pytest.raises(OutcomeUnknown):
            await client.execute(honest.deposit(1, "s"), timeout_ms=300)


async def past(*nodes: FakeNode, deposit: Decoded | None = None) -> None:
    """A first block, with the deposit if there is one, and a second past every validity."""
    for node in nodes:
        if deposit is not None:
            await node.submit([deposit.raw])
        await node.commit(step_ms=10_000_000)


def calls_dead(liar: FakeNode, deposit: Decoded) -> None:
    """It has the block with it, and the certified header past its validity, and says and signs the contrary."""
    dead = TransactionState(deposit.id, Stage.EXPIRED, definite=True, reason="valid_until has passed without it")
    liar._states[deposit.id] = dead


async def test_one_node_alone_never_makes_a_committed_transaction_a_dead_one() -> None:
    liar, honest = Liar(), FakeNode(place=1)
    deposit = honest.deposit(1, "r")
    await past(liar, honest, deposit=deposit)
    calls_dead(liar, deposit)
    async with serving(liar) as client:
        with pytest.raises(OutcomeUnknown, match=r"2 different validators prove that\. Asked: .* has signed") as caught:
            await client.execute(deposit, timeout_ms=30_000)
        assert not caught.value.definite
    async with serving(liar, liar) as client:  # the same validator under two addresses is one
        with pytest.raises(OutcomeUnknown):
            await client.execute(deposit, timeout_ms=30_000)
    async with serving(liar, honest) as client:
        assert (await client.execute(deposit)).height == 1


async def test_what_more_than_f_validators_sign_is_dead(node: FakeNode) -> None:
    """Also where it is only then first handed in, and while another node is paused."""
    second = FakeNode(place=1)
    deposit, waited = node.deposit(1, "r"), node.deposit(1, "w")
    node.automatic = second.automatic = False
    async with paused() as url, serving(node, second, first=[url]) as client:
        running = asyncio.create_task(client.execute(waited))
        await node.waiting.wait()
        await second.submit([waited.raw])
        await past(node, second)
        for dead in (running, asyncio.create_task(client.execute(deposit))):
            with pytest.raises(TransactionRefused, match="signed") as caught:
                await dead
            assert (caught.value.code, caught.value.definite) == ("E_TX_EXPIRED", True)
    assert deposit.id not in node._states, "it was refused at the door, and not waited for"


def signs_for_another_transaction(liar: FakeNode) -> None:
    true = liar.absence
    liar.absence = lambda name: true(bytes(32))  # type: ignore[method-assign]


def signs_with_another_key(liar: FakeNode) -> None:
    true = liar.absence

    def false(name: bytes) -> Absence | None:
        word = true(name)
        return word and replace(word, node=liar.validator_keys[2].public)

    liar.absence = false  # type: ignore[method-assign]


def is_no_validator(liar: FakeNode) -> None:
    true, key = liar.absence, SigningKey(bytes(32))

    def false(name: bytes) -> Absence | None:
        word = true(name)
        return word and replace(word, node=key.public, signature=key.sign(absence_preimage(word.claim)))

    liar.absence = false  # type: ignore[method-assign]


def has_pruned(liar: FakeNode) -> None:
    """What it keeps begins too late to say what was before."""
    liar.blocks_first = 2


@pytest.mark.parametrize(
    ("lie", "told"),
    [
        (signs_for_another_transaction, "a false word: a word about something else"),
        (signs_with_another_key, "a false word: the word is not signed by"),
        (is_no_validator, "counts for nothing: no validator"),
        (has_pruned, "has pruned blocks"),
        (lacks_signatures, "a false word: 2 signatures"),
    ],
)
async def test_a_word_that_is_not_a_validator_s_own_does_not_count(lie: Callable[[FakeNode], None], told: str) -> None:
    """Beside one true word, where two are needed."""
    node, liar = FakeNode(), Liar(place=1)
    deposit = node.deposit(1, "r")
    await past(node, liar)
    lie(liar)
    async with serving(node, liar) as client:
        with pytest.raises(OutcomeUnknown, match=told):
            await client.execute(deposit, timeout_ms=30_000)


async def test_a_node_that_is_behind_the_validity_is_asked_again_until_the_time_is_over(node: FakeNode) -> None:
    second = FakeNode(place=1)
    deposit = node.deposit(1, "r")
    await past(node)
    await second.commit()
    second.automatic = False
    async with serving(node, second) as client:
        with pytest.raises(OutcomeUnknown, match="which is before valid_until"):
            await client.execute(deposit, timeout_ms=1_000)
        running = asyncio.create_task(client.execute(deposit))
        await past(second)
        with pytest.raises(TransactionRefused) as caught:
            await running
    assert caught.value.definite


async def test_a_paused_node_is_not_waited_for(node: FakeNode) -> None:
    """It takes connections and answers nothing, as a stopped process does."""
    async with paused() as url, serving(node, first=[url]) as client:
        began = asyncio.get_running_loop().time()
        assert (await client.execute(node.deposit(1, "r"))).height == 1
        assert asyncio.get_running_loop().time() - began < 5
        assert list(client.passed_over) == [url] and "no answer" in client.passed_over[url]
        assert (await client.status()).height == 1


async def test_a_header_is_proven_across_epochs(node: FakeNode) -> None:
    joiners = [SigningKey(bytes([place]) * 32) for place in range(1, 6)]
    await node.commit(next_validators=joiners)
    await node.commit()
    await node.commit(next_validators=joiners[:4])
    await node.commit()
    async with serving(node) as client:
        for height in (4, 2, 1, 3):
            assert await client.header(height) == node.header(height)
        with pytest.raises(RpcFailure):
            await client.header(5)


async def test_calls_side_by_side_learn_an_epoch_once_and_all_believe_it(node: FakeNode) -> None:
    await node.commit(next_validators=[SigningKey(bytes([place]) * 32) for place in range(1, 6)])
    await node.commit()
    await node.commit()
    async with serving(node) as client:
        found = await asyncio.gather(*(client.header(height) for height in (2, 3, 2)))
        assert found == [node.header(2), node.header(3), node.header(2)]


async def test_a_login_is_not_signed_for_another_node(node: FakeNode) -> None:
    server = RpcServer(node)
    port = await server.start("127.0.0.1", 0)
    url = f"http://127.0.0.1:{port}"
    for pinned, allowed in ((node.node, True), (bytes(32), False)):
        async with Client([url], node.genesis, nodes={url: pinned}) as client:
            client.identify(account_of(INVESTOR), key_of(INVESTOR))
            if allowed:
                assert (await client.account(account_of(INVESTOR))).account.id == form.account(account_of(INVESTOR))
            else:
                with pytest.raises(NodeLied):
                    await client.account(account_of(INVESTOR))
    await server.stop()


async def test_reading_needs_an_identity_and_renews_it(node: FakeNode) -> None:
    async with serving(node) as client:
        with pytest.raises(RpcFailure) as caught:
            await client.account(account_of(INVESTOR))
        assert caught.value.code == -32002
        client.identify(account_of(INVESTOR), key_of(INVESTOR))
        await client.account(account_of(INVESTOR))
        node.clock_ms += 16 * 60_000
        await client.account(account_of(INVESTOR))
        with pytest.raises(RpcFailure) as caught:
            await client.account(account_of(OTHER))
        assert caught.value.code == -32003


async def test_many_go_in_batches_and_answers_keep_their_order(node: FakeNode) -> None:
    deposits = [node.deposit(1, f"r{place}") for place in range(250)]
    raws = [deposit.raw for deposit in deposits]
    raws[117] = b"nonsense"
    async with serving(node) as client:
        answers = await client.submit_many(raws)
        assert isinstance(answers[117], RpcFailure) and answers[117].data["definite"] is True
        states = await client.wait_many([deposit.id for deposit in deposits if deposit is not deposits[117]], 1_000)
    assert len(answers) == 250 and len(states) == 249
    expected = [form.transaction(deposit.id) for deposit in deposits if deposit is not deposits[117]]
    assert [None if isinstance(state, RpcFailure) else state.id for state in states] == expected
    assert all(not isinstance(state, RpcFailure) and state.code is Code.OK for state in states)


NESTED = b"[" * 5_000 + b"]" * 5_000


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"{}",
        b"[]",
        b'{"id":0}',
        b"\xff",
        b'{"id":0,"result":{"height":"x"}}',
        b'{"id":0,"result":%b}' % NESTED,
        b'{"id":0,"error":{"code":1,"message":"","data":%b}}' % NESTED,
        b'[{"id":0,"result":%b},{"id":1,"result":1}]' % NESTED,
    ],
    ids=lambda answer: str(answer[:20]),
)
async def test_nonsense_from_a_node_is_a_typed_error(node: FakeNode, answer: bytes) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(answer) + answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, Client([f"http://127.0.0.1:{port}"], node.genesis) as client:
        with pytest.raises(ClientError):
            await client.status()
        with pytest.raises(ClientError):
            await client.submit_many([b"", b""])


def test_the_synchronous_client_does_the_same() -> None:
    """The node runs on a loop of its own, as it would in another process."""
    node, ports, stop = FakeNode(), queue.Queue[int](), asyncio.Event()

    async def serve() -> None:
        server = RpcServer(node)
        ports.put(await server.start("127.0.0.1", 0))
        await stop.wait()
        await server.stop()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        with SynchronousClient([f"http://127.0.0.1:{ports.get(timeout=10)}"], node.genesis) as client:
            assert client.status().height == 0
            assert client.execute(node.deposit(3, "r")).height == 1
            client.client.identify(account_of(INVESTOR), key_of(INVESTOR))
            assert client.positions(account_of(INVESTOR)).cash[0].balance == "3"
            with pytest.raises(RpcFailure):
                client.account(account_of(OTHER))
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
