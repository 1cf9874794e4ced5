"""The methods: what each answers, with which codes, and that the OpenRPC document tells the truth."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from otcnode import limits
from otcnode.codec import encode
from otcnode.crypto import SigningKey
from otcnode.genesis import KeyPurpose
from otcnode.rpc import format as form
from otcnode.rpc.json_rpc import Call, decode_params
from otcnode.rpc.methods import METHODS, openrpc
from otcnode.rpc.service import MisconductStatus
from otcnode.vm.accounts.operations import CashDeposit, KeyAdd, KeyRevoke
from otcnode.vm.accounts.records import ORGANISATIONS, Organisation, organisation_id
from otcnode.vm.documents.records import sealed_name
from otcnode.vm.governance.records import NODES, Node
from otcnode.vm.transactions import KeySignature, Transaction
from tests.rpc import items
from tests.rpc.calls import Api
from tests.rpc.fake import BANK, INVESTOR, ISSUER, KYC, OTHER, REGULATOR, START_MS, FakeNode, account_of, key_of


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


@pytest.fixture
def api(node: FakeNode) -> Api:
    return Api(node)


def submission(raw: bytes, **more: Any) -> dict[str, Any]:
    return {"transaction": form.base64_text(raw), **more}


async def test_a_transaction_is_submitted_and_found(node: FakeNode, api: Api) -> None:
    node.automatic = False
    deposit = node.deposit(5_00, "r1")
    name = form.transaction(deposit.id)
    assert await api.call("tx_get", {"id": name}) == {"id": name, "state": "unknown", "definite": False}
    pooled = {"id": name, "state": "pooled", "definite": False}
    assert await api.call("tx_submit", submission(deposit.raw)) == pooled
    assert await api.call("tx_wait", {"id": name, "timeout_ms": 0}) == pooled
    await node.commit()
    committed = {"id": name, "state": "committed", "definite": False, "height": 1, "index": 0, "code": "OK"}
    assert await api.call("tx_wait", {"id": name, "timeout_ms": 0}) == committed
    assert await api.call("tx_submit", submission(deposit.raw)) == committed
    assert await api.call("tx_submitAndWait", submission(deposit.raw)) == committed


async def test_a_committed_failure_is_a_result_of_waiting_and_an_error_of_submitting_and_waiting(
    node: FakeNode, api: Api
) -> None:
    first = CashDeposit(account_of(INVESTOR), "CNY@BANK", 100, "r1")
    failing = node.sign(BANK, first, CashDeposit(account_of(INVESTOR), "CNY@BANK", 0, "r2"))
    error = await api.call("tx_submitAndWait", submission(failing.raw))
    assert error["code"] == -32000
    assert error["data"] | {"detail": ""} == {
        "code": "E_AMOUNT",
        "operation": 1,
        "definite": True,
        "detail": "",
        "id": form.transaction(failing.id),
        "height": 1,
        "index": 0,
    }
    state = await api.call("tx_wait", {"id": form.transaction(failing.id)})
    assert (state["state"], state["code"], state["operation"], state["definite"]) == ("committed", "E_AMOUNT", 1, True)


def forged(node: FakeNode) -> bytes:
    deposit = node.deposit(1, "forged")
    entry = KeySignature(key_of(BANK).public, key_of(BANK).sign(b"something else"))
    return encode(Transaction(deposit.transaction.body, (entry,)))


BAD: dict[str, tuple[Callable[[FakeNode], str], str, bool]] = {
    "bad base64": (lambda node: "a!b=", "E_DECODE", True),
    "base64 without its padding": (lambda node: "kIA", "E_DECODE", True),
    "not a transaction": (lambda node: form.base64_text(b"\x90"), "E_DECODE", True),
    "nothing": (lambda node: "", "E_DECODE", True),
    "not canonical": (
        lambda node: form.base64_text(node.deposit(1, "x").raw.replace(b"\x01", b"\xcc\x01", 1)),
        "E_DECODE",
        True,
    ),
    "something after it": (lambda node: form.base64_text(node.deposit(1, "x").raw + b"\x00"), "E_DECODE", True),
    "too large": (lambda node: form.base64_text(bytes(limits.transaction_bytes_max + 1)), "E_DECODE", True),
    "another chain": (lambda node: form.base64_text(node.deposit(1, "x", chain=bytes(32)).raw), "E_CHAIN", True),
    "a bad signature": (lambda node: form.base64_text(forged(node)), "E_AUTH", True),
    "expired": (
        lambda node: form.base64_text(node.deposit(1, "x", valid_until=START_MS).raw),
        "E_TX_EXPIRED",
        True,
    ),
    "valid for too long": (
        lambda node: form.base64_text(node.deposit(1, "x", valid_until=START_MS + 10_000_000).raw),
        "E_TX_EXPIRED",
        False,
    ),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("method", ["tx_submit", "tx_submitAndWait"])
async def test_a_bad_transaction_is_refused_with_its_code_and_nothing_is_stored(
    node: FakeNode, api: Api, case: str, method: str
) -> None:
    make, code, definite = BAD[case]
    error = await api.call(method, {"transaction": make(node)})
    assert error["code"] == -32000
    assert (error["data"]["code"], error["data"]["definite"], error["data"]["operation"]) == (code, definite, None)
    assert node.status().height == 0 and node.status().mempool_transactions == 0


async def test_a_full_pool_and_a_starting_node_are_not_definite(node: FakeNode, api: Api) -> None:
    node.automatic = False
    node.pool_max = 0
    error = await api.call("tx_submit", submission(node.deposit(1, "r").raw))
    assert (error["code"], error["data"]) == (-32006, {"definite": False})
    node.ready = False
    error = await api.call("tx_submit", submission(node.deposit(1, "r").raw))
    assert (error["code"], error["data"]) == (-32005, {"definite": False})


async def test_a_batch_is_submitted_in_one_go_and_bad_entries_do_not_hold_up_the_others(
    node: FakeNode, api: Api
) -> None:
    good = [node.deposit(100, f"r{place}") for place in range(3)]
    texts = [form.base64_text(good[0].raw), "!", form.base64_text(good[1].raw), form.base64_text(good[2].raw)]
    entries = [
        {"jsonrpc": "2.0", "method": "tx_wait", "params": {"id": form.transaction(good[2].id)}, "id": "wait"},
        {"jsonrpc": "2.0", "method": "tx_wait", "params": {"id": "tx1" + "q" * 58}, "id": "mistyped"},
        *({"jsonrpc": "2.0", "method": "tx_submit", "params": [text], "id": place} for place, text in enumerate(texts)),
        {"jsonrpc": "2.0", "method": "node_status", "id": "status"},
        {"jsonrpc": "2.0", "method": "header_get", "params": [9], "id": "header"},
    ]
    answers = {answer["id"]: answer for answer in await api.raw(msgspec.json.encode(entries))}
    assert [answers[place].get("result", {}).get("state") for place in range(4)] == [
        "committed",
        None,
        "committed",
        "committed",
    ]
    assert answers[1]["error"]["data"]["code"] == "E_DECODE"
    assert answers["wait"]["result"]["state"] == "committed"
    assert answers["mistyped"]["error"]["code"] == -32602
    assert answers["status"]["result"]["height"] == 1
    assert answers["header"]["error"]["code"] == -32007
    assert answers["header"]["error"]["data"] == {"first": 1, "last": 1}
    assert node.status().height == 1


async def test_simulating_changes_nothing(node: FakeNode, api: Api) -> None:
    result = await api.call("tx_simulate", submission(node.deposit(7, "r").raw))
    assert (result["height"], result["code"], result["operation"]) == (0, "OK", None)
    moved = next(event for event in result["events"] if event["type"] == "cash.moved")
    assert (moved["account"], moved["balance"]) == (form.account(account_of(INVESTOR)), "7")
    failing = node.sign(INVESTOR, KeyRevoke(bytes(32)), purpose=KeyPurpose.MANAGE)
    failed = await api.call("tx_simulate", submission(failing.raw))
    assert (failed["code"], failed["operation"]) == ("E_NOT_FOUND", 0)
    assert (await api.call("tx_simulate", submission(forged(node))))["data"]["code"] == "E_AUTH"
    assert node.status().height == 0


async def test_reads_carry_their_height_and_take_past_ones(node: FakeNode, api: Api) -> None:
    await node.submit([node.deposit(100, "a").raw])
    await node.submit([node.deposit(50, "b").raw])
    token = await api.login(INVESTOR)
    account = form.account(account_of(INVESTOR))
    now = await api.call("account_positions", {"account": account}, token)
    assert (now["height"], now["time"]["ms"]) == (2, START_MS + 2_000)
    assert now["block_hash"] == form.block(node.state().block_hash)
    assert now["cash"] == [
        {"cash": "CNY@BANK", "decimals": 2, "balance": "150", "available": "150", "locked": "0", "frozen": "0"}
    ]
    then = await api.call("account_positions", {"account": account, "at_height": 1}, token)
    assert (then["height"], then["cash"][0]["balance"]) == (1, "100")
    node.first_kept = 2
    for height in (1, 3):
        gone = await api.call("account_positions", {"account": account, "at_height": height}, token)
        assert (gone["code"], gone["data"]) == (-32007, {"first": 2, "last": 2})


async def test_min_height_waits_only_briefly(node: FakeNode, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "rpc_min_height_wait_ms_max", 1)
    assert (await api.call("chain_params", {"min_height": 0}))["height"] == 0
    error = await api.call("chain_params", {"min_height": 1})
    assert (error["code"], error["data"]) == (-32005, {"height": 0})


async def test_lists_are_paged_at_one_height(node: FakeNode, api: Api) -> None:
    token = await api.login(REGULATOR)
    everything = await api.call("account_list", {}, token)
    assert len(everything["accounts"]) == 7 and everything["next"] is None
    first = await api.call("account_list", {"limit": 2}, token)
    await node.submit([node.deposit(100, "a").raw])
    second = await api.call("account_list", {"limit": 2, "next": first["next"]}, token)
    third = await api.call("account_list", {"limit": 3, "next": second["next"]}, token)
    assert [page["height"] for page in (first, second, third)] == [0, 0, 0]
    assert third["next"] is None
    assert first["accounts"] + second["accounts"] + third["accounts"] == everything["accounts"]
    chosen = await api.call("account_list", {"role": "CUSTODIAN", "status": "ACTIVE"}, token)
    assert [account["id"] for account in chosen["accounts"]] == [form.account(account_of(BANK))]
    node.first_kept = 1
    pruned = await api.call("account_list", {"limit": 2, "next": first["next"]}, token)
    assert (pruned["code"], pruned["data"]) == (-32008, {"first": 1})
    for wrong in ("!", "AAAA", "ä", first["next"][:-4]):
        assert (await api.call("account_list", {"next": wrong}, token))["code"] == -32008
    elsewhere = {"account": form.account(account_of(BANK)), "next": first["next"]}
    assert (await api.call("account_positions", elsewhere, token))["code"] == -32008


async def test_the_chain_can_be_read(node: FakeNode, api: Api) -> None:
    deposit = node.deposit(100, "a")
    await node.submit([deposit.raw])
    header = await api.call("header_get", {"height": 1})
    assert header["block_hash"] == form.block(node.state().block_hash)
    certificate = await api.call("certificate_get", [1])
    assert certificate["block_hash"] == header["block_hash"] and len(certificate["signatures"]) == 3
    listed = await api.call("validator_list")
    assert [entry["name"] for entry in listed["epochs"][0]["validators"]].count("v0") == 1
    assert listed["epochs"][0]["quorum"] == 3
    token = await api.login(REGULATOR)
    block = await api.call("block_get", {"height": 1}, token)
    assert block["header"] == header
    assert block["transactions"][0]["raw"] == form.base64_text(deposit.raw)
    assert {event["type"] for event in block["transactions"][0]["events"]} >= {"cash.deposited", "cash.moved"}
    params = await api.call("chain_params")
    assert params["network"] == "api-test" and params["rehearsal"] is False
    assert params["parameters"]["state_buckets"] == 16
    for height in (0, -1, "1"):
        assert (await api.call("header_get", {"height": height}))["code"] == -32602


async def test_a_validator_that_joined_later_is_named_as_it_was_admitted(node: FakeNode, api: Api) -> None:
    joiner, organisation = key_of("joiner"), organisation_id("Fifth Bank")
    await node.commit(next_validators=[*node.validator_keys, joiner])

    async def names() -> list[tuple[str, str]]:
        epoch = (await api.call("validator_list"))["epochs"][-1]
        return [(entry["name"], entry["organisation"]) for entry in epoch["validators"]]

    born = [(f"v{place}", f"org{place}") for place in range(4)]
    assert sorted(await names()) == [("", ""), *born]
    node.put(ORGANISATIONS, organisation, Organisation("Fifth Bank"))
    node.put(NODES, joiner.public, Node("node5", organisation, "127.0.0.1:1"))
    assert sorted(await names()) == [("node5", "Fifth Bank"), *born]


def _held(index: int) -> MisconductStatus:
    return MisconductStatus(
        offence=bytes([index]) * 32,
        validator=key_of(f"v{index + 1}").public,
        name=f"v{index + 1}",
        kind="double COMMIT",
        epoch=1,
        view=3,
        height=7,
        seen_ms=START_MS + index,
        on_chain=bool(index),
        size_bytes=400,
    )


async def test_evidence_of_misbehaviour_is_open_to_everybody(node: FakeNode, api: Api) -> None:
    assert await api.call("evidence_list") == {"offences": []}
    node.held += [_held(0), _held(1)]
    listed = (await api.call("evidence_list"))["offences"]
    assert [(entry["name"], entry["on_chain"]) for entry in listed] == [("v2", True), ("v1", False)]
    one = (await api.call("evidence_list", {"validator": listed[1]["validator"]}))["offences"]
    assert one == listed[1:]
    assert (await api.call("evidence_get", {"offence": "00" * 32}))["file"] == form.base64_text(b"file")
    assert (await api.call("evidence_get", {"offence": "07" * 32}))["code"] == -32001
    for wrong in ("", "zz" * 32, 5):
        assert (await api.call("evidence_get", {"offence": wrong}))["code"] == -32602


async def test_the_node_tells_how_it_is(node: FakeNode, api: Api) -> None:
    status = await api.call("node_status")
    assert (status["height"], status["mode"], status["node"]) == (0, "active", form.node(node.node))
    assert status["archives"] == [
        {"name": "1-900.2", "place": "data/archives", "first": 1, "last": 900, "size_bytes": 7},
        {"name": "unread", "place": "data/archives-beside", "first": None, "last": None, "size_bytes": 8},
    ]
    assert (await api.call("node_explain"))["peers"] == {"v1": "silent 4.1 s"}
    assert (await api.call("node_peers"))["peers"][0]["silent_ms"] == 12
    assert (await api.call("mempool_status"))["transactions_max"] == 10
    explained = await api.call("mempool_explain", {"id": form.transaction(bytes(32))})
    assert (explained["state"], explained["place"]) == ("unknown", None)


async def test_unknown_methods_and_parameters_are_refused(api: Api) -> None:
    assert (await api.call("tx_subm1t"))["code"] == -32601
    assert (await api.call("node_status", {"x": 1}))["code"] == -32602
    token = await api.login(INVESTOR)
    assert (await api.call("account_get", {"account": "acc1" + "q" * 58}, token))["code"] == -32602


async def test_our_own_mistake_is_an_internal_error_without_details(node: FakeNode, api: Api) -> None:
    def broken() -> None:
        raise ZeroDivisionError("secret")

    node.mempool = broken  # type: ignore[assignment]
    error = await api.call("mempool_status")
    assert error["code"] == -32603 and "secret" not in str(error)


async def test_who_asks_too_much_is_told_when_to_come_back(node: FakeNode) -> None:
    api = Api(node, cost_per_second=20, burst=40)
    assert "transactions" in await api.call("mempool_status")
    answers = [await api.call("mempool_status") for _ in range(12)]
    refused = [answer for answer in answers if answer.get("code") == -32004]
    assert len(refused) == 3
    wait_ms = refused[0]["data"]["retry_after_ms"]
    node.clock_ms += wait_ms - 2
    assert (await api.call("mempool_status")).get("code") == -32004
    node.clock_ms += 2
    assert "transactions" in await api.call("mempool_status")


async def test_one_caller_cannot_have_everything_in_flight(
    node: FakeNode, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "rpc_calls_in_flight_per_caller_max", 2)
    monkeypatch.setattr(limits, "rpc_calls_in_flight_max", 3)
    wait = {"jsonrpc": "2.0", "method": "tx_wait", "params": {"id": form.transaction(bytes(32))}, "id": 1}

    async def code(address: str, method: str = "chain_params") -> int | None:
        body = msgspec.json.encode({"jsonrpc": "2.0", "method": method, "id": 1})
        answer = await api.dispatcher.answer(body, address, None)
        assert answer is not None
        return msgspec.json.decode(answer).get("error", {}).get("code")  # type: ignore[no-any-return]

    waiting = [asyncio.create_task(api.dispatcher.answer(msgspec.json.encode([wait, wait]), "a", None))]
    await node.waiting.wait()
    assert [await code("a"), await code("b")] == [-32006, None]
    assert await code("a", "node_explain") is None, "nobody is kept from looking at the node"
    node.waiting.clear()
    waiting.append(asyncio.create_task(api.dispatcher.answer(msgspec.json.encode(wait), "b", None)))
    await node.waiting.wait()
    assert [await code("a"), await code("b"), await code("c")] == [-32006] * 3
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert [await code("a"), await code("b"), await code("c")] == [None] * 3
    assert api.dispatcher.in_flight == 0


async def test_unknown_methods_cost_too(node: FakeNode) -> None:
    api = Api(node, cost_per_second=1, burst=2)
    assert [(await api.call("nothing"))["code"] for _ in range(3)] == [-32601, -32601, -32004]


# OpenRPC


def schema_of(name: str) -> dict[str, Any]:
    return next(entry for entry in openrpc()["methods"] if entry["name"] == name)


async def test_discovery_names_every_method_and_nothing_else(api: Api) -> None:
    document = await api.call("rpc.discover")
    assert document["openrpc"].startswith("1.3")
    assert {entry["name"] for entry in document["methods"]} == set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_described_as_it_is(name: str) -> None:
    method, described = METHODS[name], schema_of(name)
    assert described["summary"].endswith(".")
    fields = method.params.__struct_encode_fields__
    assert tuple(entry["name"] for entry in described["params"]) == fields
    example = msgspec.json.encode(method.example)
    decode_params(method.params, Call(b"1", name, example))
    assert set(method.example) <= set(fields)
    required = {entry["name"] for entry in described["params"] if entry["required"]}
    assert required <= set(method.example)
    assert list(fields[: len(required)]) == [field for field in fields if field in required]
    for reference in _references([described["params"], described["result"]]):
        assert reference.rpartition("/")[2] in openrpc()["components"]["schemas"]


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [found for entry in value.values() for found in _references(entry)]
    return [found for entry in value for found in _references(entry)] if isinstance(value, list) else []


def test_every_reference_in_the_document_resolves() -> None:
    for reference in _references(openrpc()):
        assert reference.rpartition("/")[2] in openrpc()["components"]["schemas"]


CALLS: dict[str, dict[str, Any]] = {
    "account_get": {"account": form.account(account_of(INVESTOR))},
    "account_positions": {"account": form.account(account_of(INVESTOR))},
    "auth_challenge": {"account": form.account(account_of(INVESTOR))},
    "product_get": {"product": form.product(items.NOTE)},
    "product_list": {},
    "contract_get": {"contract": form.contract(items.MASTER)},
    "contract_list": {"party": form.account(account_of(INVESTOR))},
    "contract_evidence": {"contract": form.contract(items.MASTER)},
    "document_put": {"content": form.base64_text(items.SEALED)},
    "trade_list": {},
    "trade_evidence": {"trade": form.trade(items.TRADES[0])},
}


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"auth_login"}))
async def test_every_result_has_the_announced_type(node: FakeNode, api: Api, name: str) -> None:
    deposit, another = node.deposit(100, "a"), node.deposit(100, "b")
    await node.submit([deposit.raw])
    items.populate(node)
    node.held.append(_held(0))
    calls = CALLS | {
        "tx_submit": submission(another.raw),
        "tx_submitAndWait": submission(another.raw),
        "tx_simulate": submission(another.raw),
        "tx_wait": {"id": form.transaction(deposit.id)},
        "tx_get": {"id": form.transaction(deposit.id)},
        "tx_proof": {"id": form.transaction(deposit.id), "full_hash": form.base64_text(deposit.full_hash)},
    }
    token = await api.login(REGULATOR)
    if name == "document_get":
        node.put_document(items.SEALED)
        calls[name] = {"document": form.base64_text(sealed_name(items.SEALED))}
        token = await api.login(ISSUER)
    result = await api.call(name, calls.get(name, METHODS[name].example), token)
    msgspec.json.decode(msgspec.json.encode(result), type=METHODS[name].result, strict=True)


# proofs


async def test_a_proof_is_for_who_holds_the_transaction(node: FakeNode, api: Api) -> None:
    node.automatic = False
    deposit = node.deposit(100, "a")
    await node.submit([deposit.raw])
    params = {"id": form.transaction(deposit.id), "full_hash": form.base64_text(deposit.full_hash)}
    refusals = [await api.call("tx_proof", params)]
    await node.commit()
    refusals.append(await api.call("tx_proof", params | {"full_hash": form.base64_text(bytes(32))}))
    refusals.append(await api.call("tx_proof", params | {"id": form.transaction(bytes(32))}))
    assert [refusal["code"] for refusal in refusals] == [-32003] * 3
    assert refusals[0] == refusals[1] == refusals[2]
    proof = await api.call("tx_proof", params)
    assert (proof["height"], proof["index"], proof["count"]) == (1, 0, 1)


# access


async def test_nothing_of_others_is_seen_and_a_refusal_tells_nothing(node: FakeNode, api: Api) -> None:
    await node.submit([node.deposit(100, "a").raw])
    mine, other = form.account(account_of(INVESTOR)), form.account(account_of(OTHER))
    nobody = form.account(bytes(32))
    token = await api.login(OTHER)
    for method in ("account_get", "account_positions"):
        assert "account" in await api.call(method, {"account": other}, token)
        refusals = [await api.call(method, {"account": account}, token) for account in (mine, nobody)]
        assert refusals[0] == refusals[1] and refusals[0]["code"] == -32003
        assert (await api.call(method, {"account": mine}))["code"] == -32002
    listed = await api.call("account_list", {}, token)
    assert [account["id"] for account in listed["accounts"]] == [other]
    assert (await api.call("block_get", {"height": 1}, token))["code"] == -32003
    assert (await api.call("block_get", {"height": 1}))["code"] == -32002


async def test_a_custodian_sees_its_cash_and_a_desk_what_its_work_needs(node: FakeNode, api: Api) -> None:
    await node.submit([node.deposit(100, "a").raw])
    mine = {"account": form.account(account_of(INVESTOR))}
    bank, kyc, regulator = [await api.login(name) for name in (BANK, KYC, REGULATOR)]
    positions = await api.call("account_positions", mine, bank)
    assert [entry["cash"] for entry in positions["cash"]] == ["CNY@BANK"]
    assert positions["products"] == [] and positions["locks"] == []
    other = {"account": form.account(account_of(OTHER))}
    assert (await api.call("account_positions", other, bank))["code"] == -32003
    assert (await api.call("account_get", mine, bank))["code"] == -32003
    assert "keys" in await api.call("account_get", mine, kyc)
    assert (await api.call("account_positions", mine, kyc))["code"] == -32003
    assert (await api.call("account_positions", mine, regulator))["cash"][0]["balance"] == "100"


async def login_error(api: Api, name: str, **changes: Any) -> Any:
    account = form.account(account_of(name))
    challenge = await api.call("auth_challenge", {"account": account})
    key = changes.pop("signer", key_of(name))
    message = changes.pop("message", msgspec.convert(challenge["message"], bytes))
    params = {
        "account": account,
        "key": form.base64_text(key.public),
        "nonce": challenge["nonce"],
        "expires_ms": challenge["expires"]["ms"],
        "signature": form.base64_text(key.sign(message)),
    }
    return await api.call("auth_login", params | changes)


async def test_a_login_needs_this_nodes_fresh_challenge_and_a_live_key_of_the_account(node: FakeNode, api: Api) -> None:
    stranger = SigningKey(bytes(32))
    wrong: list[dict[str, Any]] = [
        {"signer": stranger},
        {"signer": key_of(OTHER)},
        {"message": b"something else"},
        {"nonce": form.base64_text(bytes(32))},
        {"expires_ms": 2**50},
        {"account": form.account(account_of(OTHER))},
        {"account": form.account(bytes(32))},
        {"key": form.base64_text(key_of(OTHER).public)},
    ]
    for changes in wrong:
        assert (await login_error(api, INVESTOR, **changes))["code"] == -32002, changes
    assert "token" in await login_error(api, INVESTOR)
    for purpose in KeyPurpose:
        assert "token" in await login_error(api, INVESTOR, signer=key_of(INVESTOR, purpose))


async def test_a_challenge_works_once_and_for_a_minute(node: FakeNode, api: Api) -> None:
    account = form.account(account_of(INVESTOR))

    async def answer_to(challenge: Any) -> Any:
        params = {
            "account": account,
            "key": form.base64_text(key_of(INVESTOR).public),
            "nonce": challenge["nonce"],
            "expires_ms": challenge["expires"]["ms"],
            "signature": form.base64_text(key_of(INVESTOR).sign(msgspec.convert(challenge["message"], bytes))),
        }
        return await api.call("auth_login", params)

    challenge = await api.call("auth_challenge", {"account": account})
    node.clock_ms += 59_999
    assert "token" in await answer_to(challenge)
    assert (await answer_to(challenge))["code"] == -32002
    late = await api.call("auth_challenge", {"account": account})
    node.clock_ms += 60_000
    assert (await answer_to(late))["code"] == -32002
    assert (await answer_to(challenge))["code"] == -32002


async def test_a_token_lives_fifteen_minutes_and_dies_with_its_key(node: FakeNode, api: Api) -> None:
    mine = {"account": form.account(account_of(INVESTOR))}
    token = await api.login(INVESTOR)
    node.clock_ms += 15 * 60_000 - 1
    assert "account" in await api.call("account_get", mine, token)
    node.clock_ms += 1
    assert (await api.call("account_get", mine, token))["code"] == -32002
    sign_token, trade_token = await api.login(INVESTOR, key_of(INVESTOR, KeyPurpose.SIGN)), await api.login(INVESTOR)
    extra = SigningKey(b"\x07" * 32)
    added = node.sign(INVESTOR, KeyAdd(KeyPurpose.SIGN, extra.public), purpose=KeyPurpose.MANAGE)
    revoked = node.revoke(INVESTOR, KeyPurpose.SIGN)
    await node.submit([added.raw])
    await node.submit([revoked.raw])
    assert node.transaction(revoked.id).code == "OK"
    assert (await api.call("account_get", mine, sign_token))["code"] == -32002
    assert "account" in await api.call("account_get", mine, trade_token)
    assert (await login_error(api, INVESTOR, signer=key_of(INVESTOR, KeyPurpose.SIGN)))["code"] == -32002


async def test_a_token_is_for_one_node_only(node: FakeNode, api: Api) -> None:
    token = await api.login(INVESTOR)
    mine = {"account": form.account(account_of(INVESTOR))}
    assert (await Api(node).call("account_get", mine, token))["code"] == -32002
    for wrong in ("", "x", "ä", token[:-4]):
        assert (await api.call("account_get", mine, wrong))["code"] == -32002


async def test_an_account_has_only_so_many_sessions(node: FakeNode, api: Api) -> None:
    mine = {"account": form.account(account_of(INVESTOR))}
    other = await api.login(OTHER)
    tokens = [await api.login(INVESTOR) for _ in range(limits.rpc_sessions_per_account_max + 1)]
    assert (await api.call("account_get", mine, tokens[0]))["code"] == -32002
    assert "account" in await api.call("account_get", mine, tokens[1])
    assert "account" in await api.call("account_get", {"account": form.account(account_of(OTHER))}, other)
