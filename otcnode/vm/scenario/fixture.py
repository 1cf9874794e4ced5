"""Several transactions in a few lines: investors with certificates and cash, contracts that all have signed.

They are ordinary transactions, signed by the desks and the parties; the fixture uses them, and so may a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import msgspec

from otcnode.genesis import Role
from otcnode.vm.contracts.records import CONTRACTS, SlotRole
from otcnode.vm.scenario.document import ConcludedContract, Fixture, Investor, Name, Submission, convert
from otcnode.vm.scenario.malformed import ScenarioError
from otcnode.vm.scenario.playing import Block, Outcome

Fields: TypeAlias = Mapping[str, Any]
Macro: TypeAlias = Callable[[Block, Submission], list[Outcome]]


class _Admission(Investor, frozen=True, kw_only=True):
    name: Name


def _must(block: Block, submission: Submission) -> Outcome:
    """Raises ScenarioError unless the ledger says OK: what is abbreviated cannot be expected to fail."""
    outcome = block.submit(submission)
    if outcome.code != "OK":
        raise ScenarioError(f"{submission.do} by {submission.by}: {outcome.code} {outcome.explanation}")
    return outcome


def admit(block: Block, name: str, investor: Investor) -> list[Outcome]:
    """The application, its approval, the certificate, the deposits."""
    world = block.world
    kyc = world.desk(Role.KYC)
    application = {
        "kind": investor.kind.value,
        "keys": {label: purpose.value for label, purpose in investor.keys.items()},
        "thresholds": {purpose.value: count for purpose, count in investor.thresholds.items()},
        "ultimate_holders": investor.ultimate_holders,
    }
    outcomes = [
        _must(block, Submission(by=name, do="account.apply", fields=application)),
        _must(block, Submission(by=kyc, do="account.review", fields={"account": name, "approve": True})),
    ]
    if investor.certified:
        certificate = {
            "account": name,
            "risk": investor.risk,
            "category": investor.category.value,
            "valid_until": investor.valid_until,
            "ultimate_holders": investor.ultimate_holders,
        }
        outcomes.append(_must(block, Submission(by=kyc, do="investor.certify", fields=certificate)))
    first = world.genesis.cash[0].id
    amounts = {first: investor.cash} if isinstance(investor.cash, str) else investor.cash
    for cash, amount in amounts.items():
        deposit = {"account": name, "cash": cash, "amount": amount, "bank_reference": f"{name} {cash}"}
        outcomes.append(_must(block, Submission(by=cash.partition("@")[2], do="cash.deposit", fields=deposit)))
    return outcomes


def conclude(block: Block, by: str, name: str, contract: ConcludedContract) -> list[Outcome]:
    """The draft, its submission, all confirmations, all signatures in their order, then the accessions."""
    parties = _parties(contract.fields.get("slots"))
    by = by or parties[0]
    reference = {"contract": f"${name}"}
    outcomes = [
        _must(block, Submission(by=by, do="contract.create", fields=contract.fields, creates=name)),
        _must(block, Submission(by=by, do="contract.submit", fields=reference)),
    ]
    record = block.reading().state.get(CONTRACTS, block.world.names.item(name))
    assert record is not None
    for index, slot in enumerate(record.slots):
        if slot.role is not SlotRole.CC:
            act = {**reference, "slot": index}
            outcomes.append(_must(block, Submission(by=parties[index], do="contract.confirm", fields=act)))
    signers = [(slot.order, index, slot) for index, slot in enumerate(record.slots) if slot.role is SlotRole.SIGNER]
    for _, index, slot in sorted(signers, key=lambda entry: entry[:2]):
        act = {**reference, "slot": index}
        outcomes += [
            _must(block, Submission(by=parties[index], do="contract.sign", fields=act)) for _ in range(slot.keys_needed)
        ]
    for joiner in contract.accede:
        outcomes.append(_must(block, Submission(by=joiner, do="contract.accede", fields=reference)))
    return outcomes


def _parties(slots: object) -> list[str]:
    """The accounts of the slots, in slot order. Raises ScenarioError."""
    if not isinstance(slots, list) or not slots:
        raise ScenarioError("who confirms and signs", field="with.slots")
    parties = []
    for slot in slots:
        party = slot.get("account") if isinstance(slot, Mapping) else slot
        if not isinstance(party, str):
            raise ScenarioError("an account, or a table that names one", field="with.slots")
        parties.append(party)
    return parties


def _admit_step(block: Block, submission: Submission) -> list[Outcome]:
    admission = convert(dict(submission.fields), _Admission, field="with")
    values = {name: getattr(admission, name) for name in Investor.__struct_fields__}
    return admit(block, admission.name, Investor(**values))


def _conclude_step(block: Block, submission: Submission) -> list[Outcome]:
    if not submission.creates:
        raise ScenarioError("contract.conclude names the contract", field="as")
    fields = dict(submission.fields)
    accede = fields.pop("accede", [])
    contract = convert({"with": fields, "accede": accede}, ConcludedContract, field="with")
    if not isinstance(submission.by, str):
        raise ScenarioError("the creator's account, or nobody for the first party", field="by")
    return conclude(block, submission.by, submission.creates, contract)


MACROS: dict[str, Macro] = {"investor.admit": _admit_step, "contract.conclude": _conclude_step}
"""`do` of a step that stands for several transactions."""


def play(block: Block, fixture: Fixture) -> None:
    """Raises ScenarioError."""
    for name, investor in fixture.investors.items():
        try:
            admit(block, name, investor)
        except ScenarioError as error:
            raise error.within(f"fixture.investors.{name}") from None
    for name, contract in fixture.contracts.items():
        try:
            conclude(block, "", name, contract)
        except ScenarioError as error:
            raise error.within(f"fixture.contracts.{name}") from None


def is_empty(fixture: Fixture) -> bool:
    return not any(msgspec.structs.astuple(fixture))
