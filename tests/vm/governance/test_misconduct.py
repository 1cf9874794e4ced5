"""Evidence on the chain: once, bounded, told to everybody, followed by what the parameter says. That it proves what it
says is checked before the ledger sees it (tests/engine/test_evidence.py)."""

from __future__ import annotations

from msgspec.structs import replace

from otcnode.crypto import sha256
from otcnode.errors import Code
from otcnode.vm.governance.events import MisconductProven, ValidatorsChanged, ValidatorSuspended
from otcnode.vm.governance.misconduct import OFFENCES_PER_EPOCH_MAX
from otcnode.vm.governance.operations import EvidencePost
from otcnode.vm.governance.records import NodeAdmit, ParameterChange, ParameterSet, ValidatorSet
from otcnode.vm.governance.validators import epoch_at
from otcnode.vm.results import Receipt
from otcnode.vm.transactions import sign_as_node
from tests.vm.governance.council import Council
from tests.vm.governance.test_validators import OLD, admitted, joiner, refusal, said, set_of

EVIDENCE = b"that somebody else has checked"


def _accusing(view: int = 3, height: int = 7, epoch: int = 1) -> EvidencePost:
    return EvidencePost(joiner(1).public, OLD, "double COMMIT", epoch, view, height, EVIDENCE)


def _post(council: Council, operation: EvidencePost) -> Receipt:
    salt = sha256(council.height.to_bytes(8, "big"))
    decoded = sign_as_node(council.chain, operation, joiner(1), salt, council.now + 60_000)
    return council.block(decoded).receipts[0]


def test_an_offence_is_on_the_chain_once_whatever_shows_it(council: Council) -> None:
    admitted(council, 1)
    receipt = _post(council, _accusing())
    proven = MisconductProven(OLD, "double COMMIT", 1, 3, 7, joiner(1).public, sha256(EVIDENCE))
    assert receipt.code is Code.OK and receipt.events == (proven,)
    assert _post(council, replace(_accusing(), evidence=b"other words")).code is Code.DUPLICATE
    assert _post(council, _accusing(view=4)).code is Code.OK


def test_so_many_of_one_validator_in_an_epoch_and_no_more(council: Council) -> None:
    admitted(council, 1)
    codes = [_post(council, _accusing(view=view)).code for view in range(OFFENCES_PER_EPOCH_MAX + 1)]
    assert codes == [Code.OK] * OFFENCES_PER_EPOCH_MAX + [Code.LIMIT]
    assert _post(council, _accusing(epoch=2)).code is Code.OK


def _four(council: Council, least: int) -> None:
    """Validators: the old one and joiners 2, 3, 4; joiner 1 is a node and watches."""
    admitted(council, 1, 2, 3, 4)
    if least:
        council.decide(ParameterSet((ParameterChange("suspension_validators_min", least),)))
    said(council, 2, 3, 4)
    council.decide(ValidatorSet(set_of(2, 3, 4)))
    council.block()
    council.block()
    assert epoch_at(council.view, council.height + 1).validators == set_of(2, 3, 4)


def test_by_default_misconduct_is_told_and_nothing_follows(council: Council) -> None:
    _four(council, 0)
    assert len(_post(council, _accusing()).events) == 1
    council.block()
    assert epoch_at(council.view, council.height + 1).validators == set_of(2, 3, 4)


def test_with_the_parameter_set_a_validator_is_suspended_two_heights_later(council: Council) -> None:
    _four(council, 3)
    receipt = _post(council, _accusing())
    first = council.height + 2
    left = set_of(2, 3, 4, old=False)
    assert receipt.events[-2:] == (ValidatorsChanged(first, left), ValidatorSuspended(OLD, first))
    council.block()
    assert epoch_at(council.view, council.height + 1).validators == left
    assert len(_post(council, _accusing(view=9)).events) == 1  # it votes no more


def test_nobody_is_suspended_where_too_few_would_be_left_or_a_change_is_pending(council: Council) -> None:
    _four(council, 4)
    assert len(_post(council, _accusing()).events) == 1
    council.decide(ParameterSet((ParameterChange("suspension_validators_min", 3),)))
    council.decide(ParameterSet((ParameterChange("window", 5),)))
    assert len(_post(council, _accusing(view=9)).events) == 1


def test_a_node_that_is_not_admitted_posts_nothing(council: Council) -> None:
    admitted(council, 1)
    council.decide(NodeAdmit(joiner(1).public, False, "joiner 1", "Some bank", ""))
    salt = sha256(b"turned away")
    decoded = sign_as_node(council.chain, _accusing(), joiner(1), salt, council.now + 60_000)
    assert refusal(council, decoded) is Code.NOT_FOUND
