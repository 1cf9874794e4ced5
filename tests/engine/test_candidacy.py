"""A node offers itself as a validator when it is asked to, when it can, and not more often than is of use."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pytest

from otcnode import limits
from otcnode.blocks import Epoch
from otcnode.consensus.events import Tip
from otcnode.engine.candidacy import SYNCED_BLOCKS, Candidacy
from otcnode.vm.governance.operations import ValidatorReady, ValidatorRotate
from otcnode.vm.governance.records import PROPOSAL_OPEN_MS, NodeAdmit, ValidatorSet
from otcnode.vm.governance.validators import READY_BLOCKS, rotation_preimage
from otcnode.vm.transactions import sign_as_node
from tests.vm.governance.council import Council
from tests.vm.ledger import key_of, make_genesis

OLD, NEW = key_of("v"), key_of("joiner")
PARAMETERS = make_genesis().parameters.consensus
OTHERS = tuple(sorted(key_of(f"validator {index}").public for index in range(3)))
SET = tuple(sorted((OLD.public, NEW.public)))
ADMIT = NodeAdmit(NEW.public, True, "joiner", "Some bank", "")


class Station:
    """A node that follows a council's blocks, with a clock that is far enough for the next word after each."""

    def __init__(self) -> None:
        self.council = Council()
        self.candidacy = Candidacy(NEW.public, lambda: self.council.view)
        self.epoch = Epoch(1, (OLD.public,), PARAMETERS)
        self.now_ms = 0

    def hears(
        self,
        connected: Collection[bytes] = (OLD.public,),
        claims: Mapping[bytes, int] | None = None,
        may_vote: bool = True,
    ) -> ValidatorReady | None:
        self.now_ms += limits.ready_interval_ms
        return self.candidacy.due(self.tip(), connected, claims or {}, may_vote, self.now_ms)

    def tip(self) -> Tip:
        council = self.council
        return Tip(council.height, bytes(32), council.now, None, self.epoch)

    def follow(self) -> None:
        assert self.council.last is not None
        self.candidacy.committed(self.council.last.writes)

    def says(self, ready: ValidatorReady) -> None:
        council = self.council
        council.block(sign_as_node(council.chain, ready, NEW, council.height.to_bytes(32, "big"), council.now + 60_000))
        self.follow()

    def propose(self) -> bytes:
        name = self.council.put_forward(ValidatorSet(SET))
        self.follow()
        return name


@pytest.fixture
def station() -> Station:
    station = Station()
    station.council.decide(ADMIT)
    return station


def test_nobody_offers_itself_unasked_and_whoever_is_asked_does(station: Station) -> None:
    assert station.hears() is None
    name = station.propose()
    ready = station.hears()
    assert ready == ValidatorReady(NEW.public, station.council.height)
    station.says(ready)
    station.council.approve(name)


def test_a_proposal_made_before_the_start_counts_and_one_that_is_decided_does_not(station: Station) -> None:
    name = station.council.put_forward(ValidatorSet(SET))
    ready = station.hears()
    assert ready is not None
    station.says(ready)
    station.council.approve(name)
    station.follow()
    for _ in range(READY_BLOCKS):
        station.council.block()
    assert station.hears() is None
    assert Station().hears() is None


def test_a_proposal_that_expired_unheard_is_none(station: Station) -> None:
    station.council.put_forward(ValidatorSet(SET))
    station.council.block(at=station.council.now + PROPOSAL_OPEN_MS)
    assert station.hears() is None


def test_it_is_said_again_when_it_has_lost_half_of_its_worth_and_not_before(station: Station) -> None:
    station.propose()
    ready = station.hears()
    assert ready is not None
    station.says(ready)
    while station.council.height < ready.height + READY_BLOCKS // 2:
        assert station.hears() is None
        station.council.block()
    assert station.hears() is not None


def test_what_did_not_come_through_is_said_again_after_a_while(station: Station) -> None:
    station.propose()
    assert station.hears() is not None
    station.now_ms -= 1
    assert station.hears() is None
    assert station.hears() is not None


def test_only_with_a_quorum_of_validators_at_hand(station: Station) -> None:
    station.epoch = Epoch(1, OTHERS, PARAMETERS)
    station.propose()
    assert station.hears(connected=OTHERS[:1]) is None
    assert station.hears(connected=OTHERS) is not None


def test_only_once_it_has_synced_and_one_liar_holds_nobody_up(station: Station) -> None:
    station.epoch = Epoch(1, (*OTHERS, bytes([255]) * 32), PARAMETERS)
    station.propose()
    far = station.council.height + SYNCED_BLOCKS + 1
    assert station.hears(OTHERS, {OTHERS[0]: far, OTHERS[1]: far}) is None
    assert station.hears(OTHERS, {OTHERS[0]: 10**9, OTHERS[1]: far - 1}) is not None


def test_not_while_its_voting_record_does_not_let_it_vote(station: Station) -> None:
    station.propose()
    assert station.hears(may_vote=False) is None
    assert station.hears() is not None


def test_not_by_a_validator_and_not_by_a_node_that_was_turned_away(station: Station) -> None:
    station.propose()
    station.epoch = Epoch(1, SET, PARAMETERS)
    assert station.hears() is None
    station.epoch = Epoch(1, (OLD.public,), PARAMETERS)
    station.council.decide(NodeAdmit(NEW.public, False, "joiner", "Some bank", ""))
    assert station.hears() is None


def test_whom_a_validator_has_signed_over_to_is_asked_too() -> None:
    station = Station()
    council = station.council
    consent = NEW.sign(rotation_preimage(council.chain, OLD.public, NEW.public))
    rotate = ValidatorRotate(OLD.public, NEW.public, "v2", "", consent)
    council.block(sign_as_node(council.chain, rotate, OLD, bytes(32), council.now + 60_000))
    ready = station.hears()
    assert ready is not None
    station.says(ready)
    assert station.hears() is None, "its change is pending"
