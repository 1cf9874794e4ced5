"""Evidence packages: what honest ones say, and that nothing in them can be changed or left out unnoticed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from otcnode.codec import decode, encode
from otcnode.crypto import sha256
from otcnode.evidence.contracts import ContractFacts
from otcnode.evidence.package import Document, Kind, Package, write
from otcnode.evidence.trades import TradeFacts
from otcnode.evidence.verdict import Outcome
from otcnode.evidence.verify import Verdict, verify
from otcnode.genesis import KeyPurpose
from otcnode.vm.accounts.records import ENTRUSTMENTS, KEYS, Key
from otcnode.vm.contracts.records import ContractStatus
from otcnode.vm.results import Receipt
from otcnode.vm.rules import Scope
from otcnode.vm.trades.records import TradeStatus
from otcnode.vm.transactions import Transaction, decode_transaction
from tests.evidence.story import CONTENT, HOUR_MS, SALT, TERMS, Story
from tests.rpc.fake import BANK, INVESTOR, ISSUER, OTHER, START_MS, account_of, key_of, make_genesis


async def signed() -> tuple[Story, Package]:
    story = Story()
    await story.sign_a_contract()
    return story, story.package(Kind.CONTRACT, story.contract)


async def settled(settle_in_ms: int | None = None) -> tuple[Story, Package]:
    story = Story()
    await story.settle_a_trade(settle_in_ms)
    return story, story.package(Kind.TRADE, story.trade)


def check(story: Story, package: Package, document: Document | None = None) -> Verdict:
    return verify(write(package), story.node.chain, document)


async def test_a_contract_is_proven_with_everybody_who_made_it() -> None:
    story, package = await signed()
    verdict = check(story, package, Document(SALT, CONTENT))
    assert verdict.outcome is Outcome.OK, verdict.detail
    assert verdict.document
    facts = verdict.facts
    assert isinstance(facts, ContractFacts)
    assert (facts.status, facts.version, facts.terms) == (ContractStatus.EFFECTIVE, 2, TERMS)
    assert facts.created.account == account_of(ISSUER)
    issuer, investor, approver, informed = facts.slots
    assert investor.account == account_of(INVESTOR)
    assert [signature.act.account for signature in investor.signatures] == [account_of(OTHER)]
    assert investor.signatures[0].act.entrustment is not None
    assert [signature.act.account for signature in issuer.signatures] == [account_of(ISSUER)]
    assert issuer.signatures[0].act.height > investor.signatures[0].act.height
    assert approver.confirmed is not None and not approver.signatures
    assert informed.confirmed is None
    assert len(package.epochs) == 1, "the validators changed in the middle"


@pytest.mark.parametrize("settle_in_ms", [None, 10_000])
async def test_a_trade_is_proven_with_both_legs(settle_in_ms: int | None) -> None:
    story, package = await settled(settle_in_ms)
    verdict = check(story, package)
    assert verdict.outcome is Outcome.OK, verdict.detail
    facts = verdict.facts
    assert isinstance(facts, TradeFacts) and facts.settlement is not None and facts.affirmed is not None
    assert (facts.status, facts.quantity, facts.clean) == (TradeStatus.SETTLED, 10, 1_000_05)
    assert facts.affirmed.account == account_of(INVESTOR)
    assert {leg.account: leg.change for leg in facts.settlement.units} == {
        account_of(OTHER): -10,
        account_of(INVESTOR): 10,
    }
    paid = sum(leg.change for leg in facts.settlement.cash if leg.account == account_of(INVESTOR))
    assert paid == -(facts.clean + facts.accrued + facts.fee)
    assert bool(package.automatic) == (settle_in_ms is not None)


async def test_another_chain_is_told_first() -> None:
    story, package = await signed()
    assert verify(write(package), bytes(32)).outcome is Outcome.GENESIS_MISMATCH
    foreign = replace(package, genesis=encode(make_genesis(story.node.validator_keys[:1])))
    assert check(story, foreign).outcome is Outcome.GENESIS_MISMATCH


async def test_another_document_is_told() -> None:
    story, package = await signed()
    for wrong in (Document(SALT, CONTENT + b" "), Document(bytes(32), CONTENT)):
        assert check(story, package, wrong).outcome is Outcome.DOC_HASH_MISMATCH
        assert check(story, replace(package, document=wrong)).outcome is Outcome.DOC_HASH_MISMATCH
    inside = check(story, replace(package, document=Document(SALT, CONTENT)))
    assert (inside.outcome, inside.document) == (Outcome.OK, True)


def without(field: str, place: int) -> Callable[[Package], Package]:
    def change(package: Package) -> Package:
        entries = getattr(package, field)
        return replace(package, **{field: entries[:place] + entries[place + 1 :]})

    return change


async def test_whatever_is_taken_out_is_missed() -> None:
    """Every state entry, transaction, block and validator change of either package is needed."""
    for story, package in (await signed(), await settled(), await settled(10_000)):
        for field, outcomes in {
            "state": {Outcome.INCOMPLETE},
            "transactions": {Outcome.INCOMPLETE},
            "automatic": {Outcome.INCOMPLETE},
            "blocks": {Outcome.INCOMPLETE},
            "epochs": {Outcome.PROOF_INVALID},
        }.items():
            for place in range(len(getattr(package, field))):
                verdict = check(story, without(field, place)(package))
                assert verdict.outcome in outcomes, (field, place, verdict)


async def test_one_transaction_does_not_stand_for_two() -> None:
    """Two revisions, of which one is shown twice and the other left out: the count alone would not notice."""
    story, package = await signed()
    doubled = (*package.transactions, package.transactions[1])
    assert check(story, replace(package, transactions=doubled)).outcome is Outcome.PROOF_INVALID


async def test_an_agents_trade_shows_what_entitled_it() -> None:
    story = Story()
    await story.settle_a_trade(by_agent=True)
    package = story.package(Kind.TRADE, story.trade)
    verdict = check(story, package)
    assert verdict.outcome is Outcome.OK, verdict.detail
    facts = verdict.facts
    assert isinstance(facts, TradeFacts) and facts.affirmed is not None
    assert (facts.affirmed.account, facts.affirmed.principal) == (account_of(BANK), account_of(INVESTOR))
    without_it = tuple(entry for entry in package.state if not entry.key.startswith(ENTRUSTMENTS.prefix))
    assert len(without_it) == len(package.state) - 1
    assert check(story, replace(package, state=without_it)).outcome is Outcome.INCOMPLETE


async def test_a_false_signature_is_told_as_such() -> None:
    story, package = await signed()
    for place, proof in enumerate(package.transactions):
        transaction = decode(Transaction, proof.raw)
        forged = replace(
            transaction,
            signatures=(replace(transaction.signatures[0], signature=bytes(64)), *transaction.signatures[1:]),
        )
        changed = replace(proof, raw=encode(forged))
        transactions = (*package.transactions[:place], changed, *package.transactions[place + 1 :])
        assert check(story, replace(package, transactions=transactions)).outcome is Outcome.SIGNATURE_INVALID


async def test_a_transaction_that_never_was_is_not_proven() -> None:
    """Signed by the right key, and yet in no block."""
    story, package = await signed()
    proof = package.transactions[0]
    body = decode_transaction(proof.raw).transaction.body
    made_up = story.node.sign(ISSUER, *body.operations, purpose=KeyPurpose.SIGN, salt=sha256(b"other"))
    receipt = replace(decode(Receipt, proof.receipt), transaction=made_up.id)
    for changed in (
        replace(proof, raw=made_up.raw),
        replace(proof, raw=made_up.raw, receipt=encode(receipt)),
        replace(proof, receipt=encode(receipt)),
        replace(proof, entry=replace(proof.entry, count=proof.entry.count + 1)),
    ):
        altered = replace(package, transactions=(changed, *package.transactions[1:]))
        assert check(story, altered).outcome is Outcome.PROOF_INVALID


async def test_no_single_byte_can_change() -> None:
    """Flip one bit at places all over the file: never OK, and never anything but a verdict."""
    for story, package in (await signed(), await settled(10_000)):
        raw = write(package)
        assert verify(raw, story.node.chain).outcome is Outcome.OK
        for place in range(0, len(raw), 97):
            changed = bytearray(raw)
            changed[place] ^= 1 << (place % 8)
            assert verify(bytes(changed), story.node.chain).outcome is not Outcome.OK, place
        for end in range(0, len(raw), 997):
            assert verify(raw[:end], story.node.chain).outcome is Outcome.PROOF_INVALID


@given(st.binary(max_size=300))
def test_junk_is_no_package(raw: bytes) -> None:
    assert verify(raw, bytes(32)).outcome is Outcome.PROOF_INVALID


async def test_a_key_revoked_later_has_signed_all_the_same() -> None:
    story, _ = await signed()
    await story.node.submit([story.node.revoke(ISSUER, KeyPurpose.SIGN).raw])
    verdict = check(story, story.package(Kind.CONTRACT, story.contract))
    assert verdict.outcome is Outcome.OK, verdict.detail


async def test_a_key_that_could_not_sign_then_is_told() -> None:
    """A state that validators certified and that no honest ledger reaches: each signing right is checked anyway."""
    story, package = await signed()
    suffix = account_of(ISSUER) + key_of(ISSUER, KeyPurpose.SIGN).public
    for wrong in (
        Key(KeyPurpose.TRADE, 0, None),
        Key(KeyPurpose.SIGN, START_MS + HOUR_MS, None),
        Key(KeyPurpose.SIGN, 0, START_MS),
    ):
        story.node.put(KEYS, suffix, wrong)
        await story.node.commit()
        assert check(story, story.package(Kind.CONTRACT, story.contract)).outcome is Outcome.SIGNATURE_INVALID
    (entrustment,) = [entry for entry in package.state if entry.key.startswith(ENTRUSTMENTS.prefix)]
    assert entrustment.value is not None
    story.node.put(KEYS, suffix, Key(KeyPurpose.SIGN, 0, None))
    granted = ENTRUSTMENTS.decode(entrustment.value)
    for powers in (
        replace(granted.powers, scopes=(Scope.TRADE,)),
        replace(granted.powers, until=START_MS),
        replace(granted.powers, valid_from=START_MS + HOUR_MS),
    ):
        story.node.put(ENTRUSTMENTS, entrustment.key[1:], replace(granted, powers=powers))
        await story.node.commit()
        assert check(story, story.package(Kind.CONTRACT, story.contract)).outcome is Outcome.SIGNATURE_INVALID
