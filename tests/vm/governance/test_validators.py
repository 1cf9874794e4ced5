"""The validators' schedule: who decides which height, one change at a time, and never a set that cannot work."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from otcnode.blocks import Epoch, validators_hash
from otcnode.crypto import SigningKey, sha256
from otcnode.errors import Code, Inadmissible
from otcnode.vm.accounts.operations import KeyRevoke
from otcnode.vm.authority import authority_changed
from otcnode.vm.executor import check_admissible, environment_at
from otcnode.vm.governance import validators
from otcnode.vm.governance.operations import ValidatorReady, ValidatorRotate
from otcnode.vm.governance.records import NODES, NodeAdmit, ParameterChange, ParameterSet, Schedule, ValidatorSet
from otcnode.vm.governance.validators import READY_BLOCKS, epoch_at, rotation_preimage, schedule_at
from otcnode.vm.state import State
from otcnode.vm.transactions import Decoded, sign_as_node
from tests.vm.governance.council import Council
from tests.vm.ledger import key_of, make_genesis

OLD = key_of("v").public
PARAMETERS = make_genesis().parameters.consensus


def joiner(index: int) -> SigningKey:
    return key_of(f"joiner {index}")


def saying(council: Council, index: int, height: int) -> ValidatorReady:
    return ValidatorReady(joiner(index).public, height)


def say(council: Council, operation: ValidatorReady, by: int, code: Code = Code.OK) -> Decoded:
    """The node `by` says it, in a block of its own."""
    salt = sha256(council.height.to_bytes(8, "big"))
    decoded = sign_as_node(council.chain, operation, joiner(by), salt, council.now + 60_000)
    assert council.block(decoded).receipts[0].code is code
    return decoded


def refusal(council: Council, decoded: Decoded) -> Code:
    environment = environment_at(council.view, council.chain, council.height + 1, council.now + 1)
    with pytest.raises(Inadmissible) as error:
        check_admissible(State(council.view), environment, decoded)
    return error.value.code


def admitted(council: Council, *indexes: int) -> None:
    for index in indexes:
        council.decide(NodeAdmit(joiner(index).public, True, f"joiner {index}", "Some bank", ""))


def said(council: Council, *indexes: int) -> None:
    for index in indexes:
        say(council, saying(council, index, council.height), index)


def set_of(*indexes: int, old: bool = True) -> tuple[bytes, ...]:
    return tuple(sorted([joiner(index).public for index in indexes] + ([OLD] if old else [])))


def test_a_change_decides_the_second_height_after_it(council: Council) -> None:
    admitted(council, 1, 2, 3)
    said(council, 1, 2, 3)
    wanted = set_of(1, 2, 3)
    council.decide(ValidatorSet(wanted))
    here, before = council.height, Epoch(1, (OLD,), PARAMETERS)
    assert epoch_at(council.view, here + 1) == before
    council.block()
    after = epoch_at(council.view, here + 2)
    assert after == Epoch(here + 2, wanted, PARAMETERS)
    council.block()
    assert epoch_at(council.view, here + 3) == after
    assert schedule_at(council.state, here + 1) == Schedule(before, after)
    assert schedule_at(council.state, here + 2) == Schedule(after, None)


def test_one_change_at_a_time(council: Council) -> None:
    admitted(council, 1, 2)
    said(council, 1, 2)
    first, second = council.put_forward(ValidatorSet(set_of(1))), council.put_forward(ValidatorSet(set_of(2)))
    council.approve(first)
    council.approve(second, code=Code.STATE)
    council.approve(second)
    assert schedule_at(council.state, council.height + 2).current.validators == set_of(2)


def test_the_set_is_never_empty_unsorted_unknown_or_the_same(council: Council) -> None:
    admitted(council, 1, 2)
    council.put_forward(ValidatorSet(()), code=Code.FIELD)
    council.put_forward(ValidatorSet(tuple(reversed(set_of(1, 2)))), code=Code.FIELD)
    council.put_forward(ValidatorSet((OLD, OLD)), code=Code.FIELD)
    council.put_forward(ValidatorSet(set_of(3)), code=Code.NOT_FOUND)
    council.decide(ValidatorSet((OLD,)), code=Code.FIELD)


def test_a_joiner_has_said_lately_that_it_is_ready(council: Council) -> None:
    admitted(council, 1)
    name = council.put_forward(ValidatorSet(set_of(1)))
    council.approve(name, code=Code.STATE)
    said(council, 1)
    spoken = council.height - 1
    while council.height < spoken + READY_BLOCKS:
        council.block()
    council.approve(name, code=Code.STATE)
    said(council, 1)
    council.approve(name)


def test_what_a_joiner_said_is_recent_for_exactly_so_many_blocks(council: Council) -> None:
    admitted(council, 1)
    name = council.put_forward(ValidatorSet(set_of(1)))
    said(council, 1)
    spoken = council.height - 1
    while council.height < spoken + READY_BLOCKS - 1:
        council.block()
    council.approve(name)


def test_leaving_needs_no_readiness_and_a_leaver_can_be_turned_away_afterwards(council: Council) -> None:
    admitted(council, 1)
    said(council, 1)
    council.decide(ValidatorSet(set_of(1, old=False)))
    leaver = NodeAdmit(OLD, False, "v", "V", "")
    council.decide(leaver)
    assert schedule_at(council.state, council.height + 1).current.validators == set_of(1, old=False)


def test_a_node_that_is_about_to_vote_is_not_turned_away(council: Council) -> None:
    admitted(council, 1)
    said(council, 1)
    removal = council.put_forward(NodeAdmit(joiner(1).public, False, "joiner", "Some bank", ""))
    council.decide(ValidatorSet(set_of(1)))
    council.approve(removal, code=Code.STATE)


@pytest.mark.parametrize("back", [0, READY_BLOCKS + 1])
def test_readiness_is_about_a_committed_recent_height(council: Council, back: int) -> None:
    admitted(council, 1)
    while council.height < 2 * READY_BLOCKS:
        council.block()
    say(council, saying(council, 1, council.height + 1 - back), 1, Code.FIELD)


def test_readiness_is_signed_by_the_node_itself_alone(council: Council) -> None:
    def signed(operation: ValidatorReady, *keys: SigningKey) -> Decoded:
        return council.sign("BEN", operation, sender=b"", keys=list(keys))

    assert refusal(council, signed(saying(council, 1, council.height), joiner(1))) is Code.NOT_FOUND
    admitted(council, 1, 2)
    ready = saying(council, 1, council.height)
    assert refusal(council, signed(ready, joiner(2))) is Code.AUTH
    assert refusal(council, signed(ready, joiner(1), joiner(2))) is Code.AUTH
    assert refusal(council, signed(ready, key_of("BEN"))) is Code.AUTH
    council.act("BEN", ready, code=Code.FORBIDDEN)
    said(council, 1)


def test_what_a_node_says_stands_alone_in_its_transaction(council: Council) -> None:
    admitted(council, 1)
    ready = saying(council, 1, council.height)
    for operations in ([ready, ready], [ready, KeyRevoke(bytes(32))], [KeyRevoke(bytes(32)), ready]):
        decoded = council.sign("BEN", *operations, sender=b"", keys=[joiner(1)])
        assert refusal(council, decoded) is Code.NOT_FOUND


def test_what_a_node_said_enters_once_and_is_worth_nothing_once_it_is_turned_away(council: Council) -> None:
    admitted(council, 1)
    waiting = sign_as_node(
        council.chain, saying(council, 1, council.height), joiner(1), sha256(b"later"), council.now + 60_000
    )
    assert refusal(council, say(council, saying(council, 1, council.height), 1)) is Code.TX_DUPLICATE
    council.decide(NodeAdmit(joiner(1).public, False, "joiner", "Some bank", ""))
    assert council.last is not None
    assert authority_changed(council.last.writes) == [joiner(1).public]
    assert refusal(council, waiting) is Code.NOT_FOUND


def test_parameters_of_consensus_begin_an_epoch_of_the_same_validators(council: Council) -> None:
    council.decide(ParameterSet((ParameterChange("window", 9),)))
    here, old = council.height, Epoch(1, (OLD,), PARAMETERS)
    new = Epoch(here + 2, (OLD,), replace(PARAMETERS, window=9))
    assert schedule_at(council.state, here + 1) == Schedule(old, new)
    assert [epoch_at(council.view, here + ahead) for ahead in (1, 2)] == [old, new]
    assert validators_hash(old) != validators_hash(new), "a header shows the end of such an epoch too"


def test_parameters_of_the_ledger_alone_begin_none(council: Council) -> None:
    same = ParameterChange("window", PARAMETERS.window)
    council.decide(ParameterSet((ParameterChange("attest_window_blocks", 20), same)))
    assert schedule_at(council.state, council.height + 1) == Schedule(Epoch(1, (OLD,), PARAMETERS), None)


def test_validators_and_parameters_change_one_after_the_other(council: Council) -> None:
    admitted(council, 1)
    said(council, 1)
    members = council.put_forward(ValidatorSet(set_of(1)))
    window = council.put_forward(ParameterSet((ParameterChange("window", 9),)))
    council.approve(window)
    council.approve(members, code=Code.STATE)
    council.approve(members)
    council.block()
    changed = epoch_at(council.view, council.height + 1)
    assert (changed.validators, changed.parameters.window) == (set_of(1), 9)


# rotation of keys


def signing_over(council: Council, to: int, node: SigningKey | None = None, name: str = "v2") -> ValidatorRotate:
    node = key_of("v") if node is None else node
    consent = joiner(to).sign(rotation_preimage(council.chain, node.public, joiner(to).public))
    return ValidatorRotate(node.public, joiner(to).public, name, "10.0.0.9:26650", consent)


def act_as(council: Council, key: SigningKey, operation: ValidatorRotate, code: Code = Code.OK) -> None:
    salt = sha256(council.height.to_bytes(8, "big"))
    decoded = sign_as_node(council.chain, operation, key, salt, council.now + 60_000)
    assert council.block(decoded).receipts[0].code is code


def test_a_validator_signs_over_to_a_new_key_which_votes_once_it_is_ready(council: Council) -> None:
    act_as(council, key_of("v"), signing_over(council, 1))
    assert epoch_at(council.view, council.height + 2).validators == (OLD,), "not before the new node is there"
    said(council, 1)
    here = council.height
    council.block()
    assert epoch_at(council.view, here + 2) == Epoch(here + 2, set_of(1, old=False), PARAMETERS)
    old, new = (council.state.get(NODES, node) for node in (OLD, joiner(1).public))
    assert old is not None and new is not None and new.organisation == old.organisation and new.succeeds is None
    act_as(council, key_of("v"), signing_over(council, 2), Code.STATE)


def test_nobody_makes_epochs_without_end_by_changing_its_key(council: Council, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is in every snapshot and every package of evidence from then on. Saying again that it is ready makes a key
    no older."""
    monkeypatch.setattr(validators, "ROTATION_BLOCKS", 10)
    act_as(council, key_of("v"), signing_over(council, 1))
    said(council, 1)
    young_until = council.height - 1 + validators.ROTATION_BLOCKS
    council.block()
    while council.height + 1 < young_until:
        act_as(council, joiner(1), signing_over(council, 2, joiner(1)), Code.STATE)
    act_as(council, joiner(1), signing_over(council, 2, joiner(1)))
    said(council, 2)
    council.block()
    act_as(council, joiner(2), signing_over(council, 3, joiner(2)), Code.STATE)
    said(council, 2)
    act_as(council, joiner(2), signing_over(council, 3, joiner(2)), Code.STATE)
    assert epoch_at(council.view, council.height + 1).validators == set_of(2, old=False)


def test_signing_over_again_turns_the_first_successor_away(council: Council) -> None:
    act_as(council, key_of("v"), signing_over(council, 1))
    act_as(council, key_of("v"), signing_over(council, 2))
    assert council.state.get(NODES, joiner(1).public) is None
    said(council, 2)
    assert epoch_at(council.view, council.height + 2).validators == set_of(2, old=False)


def test_a_successor_waits_while_another_change_is_pending(council: Council) -> None:
    act_as(council, key_of("v"), signing_over(council, 1))
    council.decide(ParameterSet((ParameterChange("window", 9),)))
    said(council, 1)
    assert epoch_at(council.view, council.height + 2).validators == (OLD,)
    council.block()
    said(council, 1)
    assert epoch_at(council.view, council.height + 2).validators == set_of(1, old=False)


def test_whoever_was_removed_meanwhile_has_nothing_to_sign_over(council: Council) -> None:
    admitted(council, 2)
    act_as(council, key_of("v"), signing_over(council, 1))
    said(council, 2)
    council.decide(ValidatorSet(set_of(2, old=False)))
    council.block()
    council.block()
    said(council, 1)
    assert schedule_at(council.state, council.height + 1).pending is None
    act_as(council, key_of("v"), signing_over(council, 3), Code.STATE)


def test_a_key_is_not_signed_over_to_without_its_consent(council: Council) -> None:
    good = signing_over(council, 1)
    stolen = replace(good, consent=signing_over(council, 2).consent)
    act_as(council, key_of("v"), stolen, Code.FIELD)
    admitted(council, 1)
    act_as(council, key_of("v"), good, Code.DUPLICATE)
    act_as(council, joiner(1), signing_over(council, 2, joiner(1)), Code.STATE)
