"""Who tells others of liars, at a connection or as soon as it knows, is not taken for one that makes them work for
nothing; and liars cannot make work of it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from otcnode import limits
from otcnode.blocks import (
    Certificate,
    Header,
    ValidatorSignature,
    block_hash,
    commit_preimage,
    maximum_faulty,
    prepare_preimage,
    quorum,
)
from otcnode.codec import encode
from otcnode.consensus.messages import Accusation, InvalidViewChange, Proof, ViewChange, view_change_preimage
from otcnode.p2p.framing import Channel
from tests.engine.network import Station, stations


def _signatures(members: list[Station], message: bytes) -> tuple[ValidatorSignature, ...]:
    return tuple(ValidatorSignature(member.own, member.key.sign(message)) for member in members)


def _from_history(members: list[Station]) -> tuple[Certificate, tuple[Proof, ...]]:
    """What every validator has after some blocks: a certificate and all PREPAREs of the heights above it."""
    chain = members[0].chain
    proofs: list[Proof] = []
    parent = bytes(32)
    certificate = None
    for height in range(1, 6):
        header = Header(
            1, chain, height, parent, 1, members[0].own, 0, bytes(32), bytes(32), bytes(32), bytes(32), bytes(32)
        )
        parent = block_hash(header)
        if certificate is None:
            signed = _signatures(members, commit_preimage(chain, 1, 0, height, parent))
            certificate = Certificate(1, 0, height, parent, signed)
        else:
            signed = _signatures(members[: quorum(len(members))], prepare_preimage(chain, 1, 0, height, parent))
            proofs.append(Proof(0, header, signed))
    assert certificate is not None
    return certificate, tuple(proofs)


def _invalid(liar: Station, view: int, certificate: Certificate, proofs: tuple[Proof, ...]) -> InvalidViewChange:
    """All of it is true but for the very last signature."""
    *others, last = proofs
    *signed, false = last.signatures
    last = replace(last, signatures=(*signed, ValidatorSignature(false.validator, bytes(64))))
    plain = ViewChange(1, view, certificate.height, certificate, (*others, last), liar.own, bytes(64))
    return InvalidViewChange(replace(plain, signature=liar.key.sign(view_change_preimage(liar.chain, plain))))


@dataclass
class Listening:
    """A node, and how many signatures what others say costs it."""

    station: Station
    checked: int = 0

    def hear(self, peer: bytes, payload: bytes) -> None:
        tally = self.station.engine.replica.tally
        tally.begin()
        self.station.engine.received(peer, Channel.CONSENSUS, payload)
        self.checked += tally.checked
        tally.begin()

    def greeted_by(self, teller: Station) -> list[bytes]:
        """A new connection, over which everything comes at once."""
        teller.sent.clear()
        teller.engine.connected(self.station.own)
        self.station.engine.connected(teller.own)
        said = teller.payloads(self.station.own, Channel.CONSENSUS)
        for payload in said:
            self.hear(teller.own, payload)
        self.station.engine.disconnected(teller.own)
        return said


def _meeting(validators: int) -> tuple[list[Station], list[Station]]:
    """Liars, as many as may be, and honest nodes that have started."""
    members = sorted(stations(validators), key=lambda member: member.own)
    faulty = maximum_faulty(validators)
    for station in members[faulty:]:
        station.engine.start()
        station.settle()
    return members[:faulty], members[faulty:]


def _all_lies(lying: list[Station], members: list[Station]) -> list[bytes]:
    """As many as are remembered of each, and as expensive as they can be."""
    certificate, proofs = _from_history(members)
    return [
        encode(Accusation(_invalid(liar, view, certificate, proofs)))
        for view in range(1, limits.offences_per_validator_max + 1)
        for liar in lying
    ]


@pytest.mark.parametrize("validators", [4, 7])
def test_an_honest_node_that_tells_a_new_peer_of_liars_is_not_banned_and_costs_nothing_later(validators: int) -> None:
    lying, honest = _meeting(validators)
    (teller, listener, third, *_) = honest
    lies = _all_lies(lying, [*lying, *honest])
    for lie in lies:
        # One after the other, over hours.
        teller.now_ms += 1_000
        teller.engine.received(lying[0].own, Channel.CONSENSUS, lie)
    assert teller.penalised == []
    assert len(teller.engine.evidence.all()) == len(lies)
    listening = Listening(listener)
    said = listening.greeted_by(teller)
    first = listening.checked
    burst = limits.consensus_signatures_burst
    burst += limits.consensus_signatures_burst_per_pair_and_height * validators**2 * 5
    assert first > burst or validators == 4, "it costs no more than what a peer may make a node verify anyway"
    assert len(listener.engine.evidence.all()) == len(said) > 20
    for _ in range(3):
        assert listening.greeted_by(teller) == said
    assert listening.checked == first, "what is held is verified again"
    for payload in said:
        third.engine.received(teller.own, Channel.CONSENSUS, payload)
    listening.greeted_by(third)
    assert listening.checked == first
    assert teller.penalised == listener.penalised == third.penalised == []


def test_an_honest_node_that_passes_on_at_once_what_many_liars_do_is_not_banned() -> None:
    """Each liar may cost its relayer as much as any peer; the relayer passes on what all of them do."""
    lying, honest = _meeting(7)
    listening = Listening(honest[0])
    listening.station.engine.connected(honest[1].own)
    lies = _all_lies(lying, [*lying, *honest])
    for lie in lies:
        listening.hear(honest[1].own, lie)
    assert listening.checked > 3_000
    assert len(listening.station.engine.evidence.all()) == len(lies)
    assert listening.station.penalised == []


def test_nothing_that_is_no_news_is_verified_whoever_says_it() -> None:
    """Other messages that show a known offence; offences of one of whom enough is known, be they invented."""
    lying, honest = _meeting(4)
    (liar,), listening, everybody = lying, Listening(honest[0]), [*lying, *honest]
    certificate, proofs = _from_history(everybody)
    peer = honest[1].own
    listening.hear(peer, encode(Accusation(_invalid(liar, 1, certificate, proofs))))
    once = listening.checked
    assert once > 10
    listening.hear(peer, encode(Accusation(_invalid(liar, 1, certificate, proofs[:2]))))
    assert listening.checked == once
    for lie in _all_lies(lying, everybody):
        listening.hear(peer, lie)
    enough = listening.checked
    assert enough == once * limits.offences_per_validator_max
    for view in range(1_000, 1_010):
        listening.hear(peer, encode(Accusation(_invalid(liar, view, certificate, proofs))))
    assert listening.checked == enough
    assert len(listening.station.engine.evidence.all()) == limits.offences_per_validator_max
    assert listening.station.penalised == []


def test_who_invents_an_offence_of_an_honest_node_is_punished_for_the_first() -> None:
    lying, honest = _meeting(4)
    listening = Listening(honest[0])
    certificate, proofs = _from_history([*lying, *honest])
    true = _invalid(honest[1], 1, certificate, proofs)
    framed = InvalidViewChange(replace(true.view_change, view=2))
    listening.hear(lying[0].own, encode(Accusation(framed)))
    assert [peer for peer, _ in listening.station.penalised] == [lying[0].own]
    assert listening.checked == 1
    assert listening.station.engine.evidence.all() == []
