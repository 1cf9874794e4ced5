"""The verifier that stands alone: a second implementation of the same rules, held against the first."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from otcnode import blocks
from otcnode.blocks import Entry
from otcnode.codec import encode
from otcnode.errors import ProofError
from otcnode.evidence import package as packages
from otcnode.evidence.package import Document, Kind, Leaf, Package, write
from otcnode.evidence.trust import TrustedChain
from otcnode.evidence.verdict import Outcome
from otcnode.evidence.verify import verify
from otcnode.ids import Prefix as IdPrefix
from otcnode.ids import show
from otcnode.rpc import format as form
from otcnode.rpc.transactions import ProofResult
from otcnode.storage.state_proof import StateProof
from otcnode.vm.accounts import records as accounts
from otcnode.vm.contracts import records as contracts
from otcnode.vm.keys import Prefix
from otcnode.vm.results import AutomaticReceipt, Receipt
from otcnode.vm.trades import records as trades
from otcnode.vm.trades.events import TradeExecuted
from otcnode.vm.transactions import Body, Decoded
from tests.evidence.story import CONTENT, SALT, Story
from tests.rpc.calls import Api
from tests.rpc.fake import BANK, INVESTOR, REGULATOR, FakeNode, account_of

FILE = Path(__file__).parent.parent.parent / "verifier" / "otcverify.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("otcverify", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


otcverify = load()


def said(raw: bytes, chain: bytes, document: Document | None = None) -> str:
    try:
        otcverify.check_package(raw, chain, None if document is None else (document.salt, document.content))
    except otcverify.Refused as refused:
        return str(refused.outcome)
    return "OK"


async def contract_package() -> tuple[Story, Package]:
    story = Story()
    await story.sign_a_contract()
    return story, story.package(Kind.CONTRACT, story.contract)


async def trade_package(settle_in_ms: int | None = None, *, by_agent: bool = False) -> tuple[Story, Package]:
    story = Story()
    await story.settle_a_trade(settle_in_ms, by_agent=by_agent)
    return story, story.package(Kind.TRADE, story.trade)


def test_it_imports_nothing_but_the_standard_library_and_nacl() -> None:
    tree = ast.parse(FILE.read_text(encoding="utf-8"))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    foreign = {module.partition(".")[0] for module in modules} - set(sys.stdlib_module_names)
    assert foreign == {"nacl"}


@pytest.mark.parametrize(
    ("fields", "record"),
    [
        (otcverify.PACKAGE, packages.Package),
        (otcverify.CERTIFIED, packages.CertifiedHeader),
        (otcverify.STEP, packages.EpochStep),
        (otcverify.EPOCH, blocks.Epoch),
        (otcverify.HEADER, blocks.Header),
        (otcverify.CERTIFICATE, blocks.Certificate),
        (otcverify.ENTRY, packages.StateEntry),
        (otcverify.STATE_PROOF, StateProof),
        (otcverify.LEAF, packages.Leaf),
        (otcverify.TRANSACTION_PROOF, packages.TransactionProof),
        (otcverify.AUTOMATIC_PROOF, packages.AutomaticProof),
        (otcverify.DOCUMENT, packages.Document),
        (otcverify.BODY, Body),
        (otcverify.RECEIPT, Receipt),
        (otcverify.AUTOMATIC_RECEIPT, AutomaticReceipt),
        (otcverify.CONTRACT, contracts.Contract),
        (otcverify.SLOT, contracts.Slot),
        (otcverify.TEXT, contracts.ContractText),
        (otcverify.SIGNATURE, contracts.ContractSignature),
        (otcverify.KEY, accounts.Key),
        (otcverify.ENTRUSTMENT, accounts.Entrustment),
        (otcverify.POWERS, accounts.Powers),
        (otcverify.TRADE, trades.Trade),
        (otcverify.EXECUTED, TradeExecuted),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_it_knows_the_fields_of_this_version(fields: str, record: type[msgspec.Struct]) -> None:
    assert tuple(fields.split()) == record.__struct_fields__


def test_it_knows_the_tables_of_this_version() -> None:
    names = ("KEYS", "ENTRUSTMENTS", "CONTRACTS", "TEXTS", "SIGNATURES", "TRADES")
    tables = ("KEY", "ENTRUSTMENT", "CONTRACT", "CONTRACT_TEXT", "CONTRACT_SIGNATURE", "TRADE")
    assert [getattr(otcverify, name) for name in names] == [Prefix[table].value for table in tables]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=300) | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=5), inner, max_size=20),
    max_leaves=60,
)


@given(VALUES)
def test_both_encode_alike(value: Any) -> None:
    raw = encode(value)
    assert otcverify.pack(value) == raw
    assert otcverify.unpack(raw) == value


@given(st.binary(max_size=60))
def test_junk_does_not_decode_to_anything_else(raw: bytes) -> None:
    try:
        value = otcverify.unpack(raw)
    except otcverify.Refused:
        return
    assert otcverify.pack(value) == raw


async def test_both_say_ok() -> None:
    for story, package in (await contract_package(), await trade_package(), await trade_package(10_000)):
        assert said(write(package), story.node.chain) == "OK"
    story, package = await contract_package()
    for document in (Document(SALT, CONTENT), Document(SALT, b"another"), Document(bytes(32), CONTENT)):
        both = [
            verify(write(package), story.node.chain, document).outcome,
            said(write(package), story.node.chain, document),
        ]
        assert both[0] == both[1]
        inside = write(replace(package, document=document))
        assert said(inside, story.node.chain) == verify(inside, story.node.chain).outcome == both[0]
    assert said(write(package), bytes(32)) == "GENESIS_MISMATCH"


async def test_both_miss_the_same_things() -> None:
    for story, package in (await contract_package(), await trade_package(10_000), await trade_package(by_agent=True)):
        for field in ("state", "transactions", "automatic", "blocks", "epochs"):
            entries = getattr(package, field)
            for place in range(len(entries)):
                raw = write(replace(package, **{field: entries[:place] + entries[place + 1 :]}))
                expected = verify(raw, story.node.chain).outcome
                assert expected is not Outcome.OK
                assert said(raw, story.node.chain) == expected
                doubled = write(replace(package, **{field: (*entries, entries[place])}))
                assert said(doubled, story.node.chain) == verify(doubled, story.node.chain).outcome


async def test_both_notice_a_changed_byte() -> None:
    for story, package in (await contract_package(), await trade_package(10_000)):
        raw = write(package)
        for place in range(0, len(raw), 61):
            changed = bytearray(raw)
            changed[place] ^= 1 << (place % 8)
            assert said(bytes(changed), story.node.chain) != "OK", place


async def answers(api: Api, method: str, params: dict[str, Any], folder: Path) -> list[str]:
    """Files as `curl` would leave them, and the options that name them."""
    calls = {"params": ("chain_params", {}), "validators": ("validator_list", {}), "proof": (method, params)}
    arguments = []
    for name, (called, asked) in calls.items():
        file = folder / f"{method}-{name}.json"
        answer = await api.call(called, asked, await api.login(REGULATOR))
        file.write_bytes(msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "result": answer}))
        arguments += [f"--{name}", str(file)]
    return arguments


async def test_a_nodes_answers_are_checked_over_a_change_of_validators(tmp_path: Path, capsys: Any) -> None:
    node = FakeNode()
    await node.commit(next_validators=node.validator_keys[:2])
    deposit = node.deposit(7, "r")
    await node.submit([deposit.raw])
    api, chain = Api(node), ["--chain", node.chain.hex()]
    key = account_of(INVESTOR) + b"CNY@BANK"
    params = {"table": "CASH_BALANCE", "key": form.base64_text(key)}
    arguments = await answers(api, "state_proof", params, tmp_path)
    assert otcverify.main(["state", *chain, *arguments]) == 0
    assert "after block 2" in capsys.readouterr().out
    absent = await answers(api, "state_proof", params | {"key": form.base64_text(account_of(BANK) + b"X")}, tmp_path)
    assert otcverify.main(["state", *chain, *absent]) == 0
    assert "nothing" in capsys.readouterr().out
    shown = {"id": form.transaction(deposit.id), "full_hash": form.base64_text(deposit.full_hash)}
    arguments = await answers(api, "tx_proof", shown, tmp_path)
    assert otcverify.main(["transaction", *chain, *arguments]) == 0
    said_of_it = f"{deposit.id.hex()} is in block 2: OK; full hash {deposit.full_hash.hex()}"
    assert said_of_it in capsys.readouterr().out
    assert otcverify.main(["transaction", "--chain", bytes(32).hex(), *arguments]) == 1
    assert capsys.readouterr().out.startswith("GENESIS_MISMATCH")


async def test_a_true_proof_of_something_else_is_not_what_was_asked_for(tmp_path: Path, capsys: Any) -> None:
    """A liar has nothing to forge where the exit code alone is looked at."""
    node = FakeNode()
    deposits = [node.deposit(7, "r"), node.deposit(8, "s")]
    await node.submit([deposit.raw for deposit in deposits])
    api, chain = Api(node), ["--chain", node.chain.hex()]
    shown = {"id": form.transaction(deposits[0].id), "full_hash": form.base64_text(deposits[0].full_hash)}
    files = await answers(api, "tx_proof", shown, tmp_path)

    def ends(command: str, *options: str) -> int:
        code = otcverify.main([command, *chain, *files, *options])
        said = capsys.readouterr().out
        assert said.startswith(
            {0: "OK ", 1: f"UNEXPECTED it is true, but not what {options[0] if options else None} asks for: "}[code]
        ), said
        return code

    own, other = ([form.transaction(deposit.id), deposit.id.hex()] for deposit in deposits)
    assert [ends("transaction", "--id", name) for name in (*own, *other)] == [0, 0, 1, 1]
    hashes = [deposit.full_hash.hex() for deposit in deposits]
    assert [ends("transaction", "--full-hash", digest) for digest in hashes] == [0, 1]
    heights = ("0", "1", "2")
    assert [ends("transaction", "--min-height", height) for height in heights] == [0, 0, 1]
    assert ends("transaction", "--succeeded", "--id", own[0], "--min-height", heights[1]) == 0

    key = account_of(INVESTOR) + b"CNY@BANK"
    files = await answers(api, "state_proof", {"table": "CASH_BALANCE", "key": form.base64_text(key)}, tmp_path)
    full = (bytes([Prefix["CASH_BALANCE"].value[0]]) + key).hex()
    assert [ends("state", "--key", asked) for asked in (full, full[:-2] + "58", full[:-2])] == [0, 1, 1]
    assert [ends("state", option) for option in ("--present", "--absent")] == [0, 1]
    assert [ends("state", "--min-height", height) for height in heights] == [0, 0, 1]
    key = account_of(BANK) + b"X"
    files = await answers(api, "state_proof", {"table": "CASH_BALANCE", "key": form.base64_text(key)}, tmp_path)
    assert [ends("state", option) for option in ("--present", "--absent")] == [1, 0]


async def test_a_transaction_that_failed_is_told_from_one_that_did_not(tmp_path: Path, capsys: Any) -> None:
    node = FakeNode()
    first, again = node.deposit(7, "r"), node.deposit(9, "r")
    await node.submit([first.raw])
    await node.submit([again.raw])
    shown = {"id": form.transaction(again.id), "full_hash": form.base64_text(again.full_hash)}
    files = await answers(Api(node), "tx_proof", shown, tmp_path)
    assert otcverify.main(["transaction", "--chain", node.chain.hex(), *files]) == 0
    assert ": E_DUP_BANK_REF;" in capsys.readouterr().out
    assert otcverify.main(["transaction", "--chain", node.chain.hex(), *files, "--succeeded"]) == 1


async def test_a_package_of_another_subject_or_of_before_is_not_what_was_asked_for(tmp_path: Path) -> None:
    story, package = await contract_package()
    file = tmp_path / "package"
    file.write_bytes(write(package))

    def ends(*options: str) -> int:
        return int(otcverify.main(["package", str(file), "--chain", story.node.chain.hex(), *options]))

    asked = [show(IdPrefix.CONTRACT, subject) for subject in (story.contract, bytes(32))]
    assert [ends("--subject", subject) for subject in asked] == [0, 1]
    height = package.last.header.height
    assert [ends("--min-height", str(least)) for least in (height, height + 1)] == [0, 1]


def test_identifiers_are_read_as_nodes_write_them() -> None:
    raw = bytes(range(32))
    for prefix in IdPrefix:
        text = show(prefix, raw)
        assert otcverify._id(text) == raw == otcverify._id(raw.hex())
        for place in range(len(text)):
            mistyped = text[:place] + ("q" if text[place] != "q" else "p") + text[place + 1 :]
            with pytest.raises(argparse.ArgumentTypeError):
                otcverify._id(mistyped)


async def test_a_lying_node_is_noticed(tmp_path: Path) -> None:
    node = FakeNode()
    await node.commit(next_validators=node.validator_keys[:2])
    deposit = node.deposit(7, "r")
    await node.submit([deposit.raw])
    api = Api(node)
    shown = {"id": form.transaction(deposit.id), "full_hash": form.base64_text(deposit.full_hash)}
    arguments = await answers(api, "tx_proof", shown, tmp_path)
    files = {name: tmp_path / path for name, path in zip(arguments[::2], arguments[1::2], strict=True)}
    for name, field in [
        *(("--proof", field) for field in ("receipt", "header", "certificate", "index", "count")),
        *(("--proof", field) for field in ("full_hash", "transaction_index", "transaction_count")),
        ("--validators", "raw"),
        ("--validators", "header"),
        ("--validators", "certificate"),
        ("--params", "genesis"),
    ]:
        original = files[name].read_bytes()
        answer = msgspec.json.decode(original)
        target = answer["result"]["epochs"][1] if name == "--validators" else answer["result"]
        target[field] = _another(target[field])
        files[name].write_bytes(msgspec.json.encode(answer))
        assert otcverify.main(["transaction", "--chain", node.chain.hex(), *arguments]) == 1, (name, field)
        files[name].write_bytes(original)
    assert otcverify.main(["transaction", "--chain", node.chain.hex(), *arguments]) == 0


async def test_both_judge_what_a_node_shows_of_a_transaction_alike() -> None:
    """Every transaction of a block, whole and with each field changed, and with the places of each other."""
    node = FakeNode(automatic=False)
    deposits = [node.deposit(1, f"r{number}") for number in range(5)]
    await node.submit([deposit.raw for deposit in deposits])
    await node.commit()
    api = Api(node)
    calls = {name: await api.call(name, {}) for name in ("chain_params", "validator_list")}
    ours, theirs = TrustedChain(node.genesis), otcverify.chain_from(node.chain, *calls.values())
    proofs = [
        await api.call(
            "tx_proof", {"id": form.transaction(deposit.id), "full_hash": form.base64_text(deposit.full_hash)}
        )
        for deposit in deposits
    ]

    def verdicts(deposit: Decoded, answer: dict[str, Any]) -> tuple[bool, bool]:
        proof = msgspec.json.decode(msgspec.json.encode(answer), type=ProofResult)
        place = Leaf(proof.transaction_index, proof.transaction_count, tuple(proof.transaction_path))
        outcome = Leaf(proof.index, proof.count, tuple(proof.path))
        entry = Entry(deposit.id, proof.full_hash)
        try:
            ours.transaction(proof.header, proof.certificate, entry, place, proof.receipt, outcome)
            believed = True
        except ProofError:
            believed = False
        try:
            said_of_it = otcverify.check_transaction(theirs, answer)
        except otcverify.Refused:
            return believed, False
        return believed, deposit.id.hex() in said_of_it

    judged = set()
    for number, (deposit, proof) in enumerate(zip(deposits, proofs, strict=True)):
        assert verdicts(deposit, proof) == (True, True)
        other = proofs[number - 1]
        for field in proof:
            if field in ("id", "height"):
                continue
            changes = [other[field]] if proof[field] != other[field] else []
            changes.append([*proof[field], form.base64_text(bytes(32))] if "path" in field else _another(proof[field]))
            for value in changes:
                judged.add(field)
                assert verdicts(deposit, proof | {field: value}) == (False, False), (number, field)
        for prefix in ("", "transaction_"):
            places = {prefix + name: other[prefix + name] for name in ("index", "count", "path")}
            assert verdicts(deposit, proof | places) == (False, False)
        assert verdicts(deposit, proof | {name: other[name] for name in ("receipt", "index", "path")}) == (False, False)
    assert judged == set(ProofResult.__struct_fields__) - {"id", "height"}


def _another(value: Any) -> Any:
    if isinstance(value, int):
        return value + 1
    raw = bytearray(msgspec.json.decode(f'"{value}"', type=bytes))
    raw[-1] ^= 1
    return form.base64_text(bytes(raw))


def run(*arguments: str) -> tuple[int, str, str]:
    """By an interpreter that does not look around itself."""
    done = subprocess.run([sys.executable, "-I", *arguments], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


async def test_it_runs_by_itself(tmp_path: Path) -> None:
    story, package = await contract_package()
    file, copy = tmp_path / "contract.evidence", tmp_path / "otcverify.py"
    file.write_bytes(write(package))
    copy.write_bytes(FILE.read_bytes())
    outcome = run(str(copy), "package", str(file), "--chain", story.node.chain.hex())
    last = package.last.header
    moment = f"after block {last.height}, {form.time(last.time_ms).iso[:19]}+00:00"
    assert outcome == (0, f"OK {moment}, contract {story.contract.hex()} is EFFECTIVE with 2 signatures\n", "")
    outcome = run(str(copy), "package", str(file), "--chain", bytes(32).hex())
    assert outcome == (1, "GENESIS_MISMATCH of another chain\n", "")
    for place in (tmp_path / "absent", tmp_path):
        code, out, error = run(str(copy), "package", str(place), "--chain", story.node.chain.hex())
        assert (code, out) == (2, "") and error.startswith(f"cannot read {place}: ")
    for wrong in (["--chain", "00"], ["--chain", "zz" * 32], ["--chain", bytes(32).hex(), "--document", str(file)]):
        code, out, error = run(str(copy), "package", str(file), *wrong)
        assert (code, out) == (2, "") and "error: " in error and "Traceback" not in error


@pytest.mark.parametrize(
    "answer", [b"", b"\xff\xfe\x00", b"[]", b"7", b"[" * 200_000 + b"]" * 200_000, b'{"result":null}', b'{"genesis":7}']
)
def test_an_answer_of_any_other_form_proves_nothing(answer: bytes, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "answer").write_bytes(answer)
    files = [word for option in ("params", "validators", "proof") for word in (f"--{option}", str(tmp_path / "answer"))]
    for command in ("state", "transaction"):
        assert otcverify.main([command, "--chain", bytes(32).hex(), *files]) == 1
        assert capsys.readouterr().out.startswith("PROOF_INVALID malformed")
