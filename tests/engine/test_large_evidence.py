"""A false NEW-VIEW of 31 validators, with real signatures: no transaction holds it, and everything else does."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from otcnode import limits
from otcnode.cli.verify import verify
from otcnode.codec import encode
from otcnode.consensus.evidence import Kind, Offence, is_large
from otcnode.consensus.messages import (
    Accusation,
    InvalidNewView,
    NewView,
    ViewChange,
    new_view_preimage,
    view_change_preimage,
)
from otcnode.engine.evidence import EvidenceKeeper, name_of
from otcnode.evidence import misconduct
from otcnode.genesis import dump
from otcnode.p2p.framing import Channel
from tests.engine.network import Net, Station, stations
from tests.engine.test_greeting import _from_history

VALIDATORS, QUORUM = 31, 21


@pytest.fixture(scope="module")
def members() -> list[Station]:
    return sorted(stations(VALIDATORS), key=lambda member: member.own)


def _false_new_view(members: list[Station], view: int = 1) -> InvalidNewView:
    """Everybody has a certificate and proofs of a window of heights; the primary proposes none of them again."""
    certificate, proofs = _from_history(members)
    asked = []
    for member in members[:QUORUM]:
        plain = ViewChange(1, view, certificate.height, certificate, proofs, member.own, bytes(64))
        asked.append(replace(plain, signature=member.key.sign(view_change_preimage(member.chain, plain))))
    liar = members[view]
    opened = NewView(1, view, tuple(asked), (), liar.own, bytes(64))
    return InvalidNewView(replace(opened, signature=liar.key.sign(new_view_preimage(liar.chain, opened))))


def _told(station: Station, peer: bytes) -> list[bytes]:
    start = encode(Accusation(_SMALL))[:12]
    return [payload for payload in station.payloads(peer, Channel.CONSENSUS) if payload.startswith(start)]


_SMALL = InvalidNewView(NewView(1, 1, (), (), bytes(32), bytes(64)))


def test_it_is_kept_passed_on_told_to_newcomers_served_and_checked_offline(
    members: list[Station], tmp_path: Path
) -> None:
    evidence = _false_new_view(members)
    size_bytes = len(encode(evidence))
    assert is_large(evidence) and limits.evidence_greeting_bytes_max < size_bytes < 280_000
    liar, first, second, third = members[1], members[2], members[3], members[4]
    net = Net([first, second, third])
    net.start()
    first.engine.received(liar.own, Channel.CONSENSUS, encode(Accusation(evidence)))
    net.deliver()
    offence = Offence(liar.own, Kind.INVALID_NEW_VIEW, 1, 1, 0)
    for station in (first, second, third):
        assert [kept.offence for kept in station.engine.evidence.all()] == [offence] and station.penalised == []
    second.sent.clear()
    second.engine.connected(members[5].own)
    assert _told(second, members[5].own) == [encode(Accusation(evidence))]
    kept = third.engine.evidence.get(name_of(offence))
    assert kept is not None
    genesis, file = tmp_path / "genesis.json", tmp_path / "offence"
    genesis.write_bytes(dump(third.genesis))
    file.write_bytes(misconduct.write(kept.evidence, ()))
    result = CliRunner().invoke(verify, ["evidence", str(file), "--genesis", str(genesis)])
    assert result.exit_code == 0 and "invalid NEW-VIEW" in result.output, result.output


def test_a_newcomer_is_told_of_one_such_piece_beside_all_that_is_small(members: list[Station]) -> None:
    keeper: EvidenceKeeper = members[6].engine.evidence
    for view in (1, 2, 3):
        evidence = _false_new_view(members, view)
        offence = Offence(members[view].own, Kind.INVALID_NEW_VIEW, 1, view, 0)
        assert keeper.keep(offence, evidence, None)
    members[6].sent.clear()
    keeper.greet(members[7].own, 1)
    assert len(_told(members[6], members[7].own)) == 1
