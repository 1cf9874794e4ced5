"""A process dies between a write of the voting record and its sync, starts again, and then the power goes."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from otcnode.blocks import prepare_preimage
from otcnode.codec import decode, encode
from otcnode.consensus.messages import Message, Prepare, PrePrepare
from otcnode.consensus.record import birth
from otcnode.errors import StorageDamage
from otcnode.p2p.framing import Channel
from otcnode.storage.votes_file import FileVotesLog
from tests.engine.network import START_MS, Net, Station, deposit, stations


class _Killed(BaseException):
    """The process is gone at this instant."""


class _Disk:
    """What of one file a loss of power leaves: the bytes of its last sync, of the file that had its name when the
    directory was synced last."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._named = path.stat().st_ino
        self._synced = {self._named: path.read_bytes()}

    def sync(self, file: int) -> None:
        status = os.fstat(file)
        if stat.S_ISDIR(status.st_mode):
            self._named = self._path.stat().st_ino
        else:
            self._synced[status.st_ino] = Path(f"/proc/self/fd/{file}").read_bytes()

    @property
    def left(self) -> bytes:
        return self._synced[self._named]


def _proposal(primary: Station, number: int) -> tuple[bytes, bytes]:
    """A block of the primary at height 1, and its one transaction."""
    flight, waiting = primary.engine.flight, deposit(primary.genesis, number)
    block, _ = flight.build(flight.committed(), primary.own, START_MS + 1_000, iter([waiting]), 10)
    signed = prepare_preimage(primary.chain, 1, 0, 1, block.block_hash)
    return encode(PrePrepare(1, 0, block.header, block.entries, primary.key.sign(signed))), waiting.raw


def _voter(path: Path, now_ms: int, leaves: Callable[[Prepare], None]) -> Station:
    """The second validator, which has committed nothing yet, with the record in this file."""
    _, second, *_ = stations(4)
    station = Station(second.genesis, second.key, votes=FileVotesLog(path), now_ms=now_ms)
    send = station.send

    def noted(peer: bytes, channel: Channel, payload: bytes) -> None:
        if channel is Channel.CONSENSUS:
            message: Message = decode(Message, payload)
            if isinstance(message, Prepare) and message.validator == station.own:
                leaves(message)
        send(peer, channel, payload)

    station.send = noted  # type: ignore[method-assign]
    return station


def _hear(station: Station, primary: Station, proposal: tuple[bytes, bytes]) -> None:
    station.engine.connected(primary.own)
    station.engine.intake.urgent(primary.own, [proposal[1]])
    station.settle()
    station.engine.received(primary.own, Channel.CONSENSUS, proposal[0])
    station.settle()


def _ends(error: BaseException) -> Callable[[int], None]:
    def sync(file: int) -> None:
        raise error

    return sync


@pytest.mark.parametrize("error", [_Killed(), OSError(5, "Input/output error")], ids=["killed", "refused"])
def test_no_validator_votes_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """What it had written down and not synced is there to be read at the next start. It sends the vote again, the power
    goes, and its primary, who lies, proposes another block."""
    path = tmp_path / "record"
    record = FileVotesLog.create(path)
    record.append(birth())
    record.sync()
    record.close()
    disk = _Disk(path)
    primary, _, third, _ = stations(4)
    one, other = _proposal(primary, 1), _proposal(primary, 2)
    left: list[tuple[Prepare, bytes]] = []

    def leaves(vote: Prepare) -> None:
        left.append((vote, disk.left))

    station = _voter(path, 1_000, leaves)
    station.engine.start()
    station.settle()
    with monkeypatch.context() as ending:
        ending.setattr(os, "fdatasync", _ends(error))
        with pytest.raises(StorageDamage if isinstance(error, OSError) else _Killed):
            _hear(station, primary, one)
    assert left == [] and len(path.read_bytes()) > len(disk.left)
    station.votes.close()

    monkeypatch.setattr(os, "fsync", disk.sync)
    monkeypatch.setattr(os, "fdatasync", disk.sync)
    station = _voter(path, 2_000, leaves)
    third.now_ms = 2_000
    net = Net([station, third])
    net.start()
    net.elapse(2_000)
    assert left, "it says again what its record says that it has said"
    first, on_disk = left[0]

    station.votes.close()
    path.write_bytes(on_disk)
    left.clear()
    station = _voter(path, 5_000, leaves)
    station.engine.start()
    station.settle()
    _hear(station, primary, other)
    assert {vote.block_hash for vote, _ in left} <= {first.block_hash}
