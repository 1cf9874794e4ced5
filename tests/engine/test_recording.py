"""What a replica was told and did is recorded, and made again step by step."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner

from otcnode import event_files
from otcnode.cli.main import otcnode
from otcnode.codec import encode
from otcnode.consensus.configuration import Configuration
from otcnode.consensus.messages import Mode
from otcnode.consensus.replica import Replica
from otcnode.engine.recording import Diverged, RecordedConfiguration, RecordedStep, Replayed, replay
from otcnode.errors import ConfigurationError, StorageDamage
from otcnode.event_files import FileRecorder
from tests.engine.network import Net, Station, deposit, genesis_of, key_of, stations


def recorded_net(directory: Path, *, recorded_bytes: int = event_files.FILE_BYTES, validators: int = 4) -> Net:
    """A network in which every node is recorded in a directory of its own."""
    genesis = genesis_of(validators)
    keys = {key_of(f"node {index}").public: key_of(f"node {index}") for index in range(validators)}
    return Net(
        [
            Station(genesis, keys[member.id], recorded=directory / member.name, recorded_bytes=recorded_bytes)
            for member in genesis.validators
        ]
    )


def play(net: Net, blocks: int) -> None:
    """Some blocks, and a primary that is not heard for a while."""
    first, *rest = net.stations.values()
    for number in range(blocks):
        first.submit(deposit(first.genesis, number))
        net.elapse(300)
    for other in net.stations:
        net.cut |= {(rest[0].own, other), (other, rest[0].own)}
    first.submit(deposit(first.genesis, 10_000))
    net.elapse(6_000)
    net.cut.clear()
    net.elapse(1_000)


def steps_of(path: Path) -> list[RecordedStep]:
    return list(event_files.read(path)[1])


def memory_of(replica: Replica) -> dict[str, object]:
    """Everything that a replica remembers, by name."""
    state = replica.state
    found = {field.name: getattr(state, field.name) for field in fields(state)}
    return found | {f"book of {name}": vars(found.pop(name)) for name in ("prepares", "commits")}


def replayed(path: Path) -> list[Replayed]:
    configuration, steps = event_files.read(path)
    return list(replay(configuration, steps))


def test_every_node_is_stepped_again_to_where_it_was(tmp_path: Path) -> None:
    net = recorded_net(tmp_path)
    net.start()
    play(net, 4)
    for index, station in enumerate(net.stations.values()):
        (path,) = event_files.files(tmp_path / f"n{index}")
        steps = replayed(path)
        again, true = steps[-1].replica, station.engine.replica
        assert memory_of(again) == memory_of(true) and again.state.committed == station.height >= 5
        assert again.explain(steps[-1].step.now) == true.explain(steps[-1].step.now)
        assert sum(len(step.step.signatures) for step in steps) > 10


def test_a_recording_is_cut_into_parts_that_stand_alone_and_the_oldest_go(tmp_path: Path) -> None:
    net = recorded_net(tmp_path, recorded_bytes=20_000)
    net.start()
    play(net, 25)
    for index, station in enumerate(net.stations.values()):
        paths = event_files.files(tmp_path / f"n{index}")
        assert len(paths) == event_files.FILES_KEPT and int(paths[-1].stem) > event_files.FILES_KEPT
        assert all(replayed(path) for path in paths)
        assert memory_of(replayed(paths[-1])[-1].replica) == memory_of(station.engine.replica)
        assert station.engine.replica.mode is Mode.ACTIVE and station.height >= 20
        assert station.penalised == []


@pytest.mark.parametrize("silent", [True, False])
def test_another_part_neither_shortens_a_silence_nor_ends_a_halt(silent: bool, tmp_path: Path) -> None:
    """As a restart of the process would: only what is recorded begins anew."""
    net = recorded_net(tmp_path, recorded_bytes=20_000)
    net.start()
    play(net, 2)
    station = list(net.stations.values())[3]
    before = len(event_files.files(tmp_path / "n3"))
    core = station.engine.replica.core
    if silent:
        core.fall_silent("a second process signs", 0)
        begun = core.state.silence
    else:
        core.halt("a block executes differently")
    for _ in range(40):
        net.elapse(300)
    assert len(event_files.files(tmp_path / "n3")) > before or before == event_files.FILES_KEPT
    state = station.engine.replica.state
    assert state is not core.state, "another part has begun"
    if silent:
        assert begun is not None and state.silence is not None
        assert (state.silence.began_ms, state.silence.shown) == (begun.began_ms, begun.shown)
        assert state.silence.since_ms == begun.since_ms
    else:
        assert state.halted == "a block executes differently"
    assert memory_of(replayed(event_files.files(tmp_path / "n3")[-1])[-1].replica) == memory_of(station.engine.replica)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("recording")
    net = recorded_net(directory)
    net.start()
    play(net, 2)
    return event_files.files(directory / "n0")[0]


def test_a_killed_process_leaves_a_recording_without_its_last_step(recording: Path, tmp_path: Path) -> None:
    path = tmp_path / recording.name
    path.write_bytes(recording.read_bytes()[:-5])
    assert steps_of(path) == steps_of(recording)[:-1]


@pytest.mark.parametrize("place", [0.1, 0.5, 0.99])
def test_a_changed_byte_is_named(recording: Path, tmp_path: Path, place: float) -> None:
    raw = bytearray(recording.read_bytes())
    raw[int(len(raw) * place)] ^= 4
    path = tmp_path / recording.name
    path.write_bytes(raw)
    with pytest.raises(StorageDamage, match="is damaged behind step"):
        steps_of(path)


def test_every_flipped_bit_of_a_length_is_named_and_never_passes_for_the_end(recording: Path, tmp_path: Path) -> None:
    """A length that points behind the end of the file looks like a record that a killed process left incomplete."""
    raw = recording.read_bytes()
    path = tmp_path / recording.name
    places = [event_files.MAGIC_BYTES]
    while places[-1] < len(raw):
        length = int.from_bytes(raw[places[-1] : places[-1] + event_files.LENGTH_BYTES], "big")
        places.append(places[-1] + event_files.HEAD_BYTES + length)
    whole = len(places) - 2
    for number in (0, 1, whole // 2, whole - 1, whole):
        for bit in range(8 * event_files.LENGTH_BYTES):
            changed = bytearray(raw)
            changed[places[number] + bit // 8] ^= 1 << bit % 8
            path.write_bytes(changed)
            place = f"behind step {number - 1}" if number else "at its beginning"
            with pytest.raises(StorageDamage, match=f"is damaged {place} "):
                steps_of(path)


def test_the_last_record_may_be_cut_at_every_byte(recording: Path, tmp_path: Path) -> None:
    raw, steps = recording.read_bytes(), steps_of(recording)
    path = tmp_path / recording.name
    path.write_bytes(raw)
    last = event_files.HEAD_BYTES + len(encode(steps[-1]))
    for cut in range(1, last + 1):
        path.write_bytes(raw[:-cut])
        assert len(steps_of(path)) == len(steps) - 1


def test_a_recording_of_another_version_is_said_to_be_one(recording: Path, tmp_path: Path) -> None:
    raw = recording.read_bytes()
    for version, words in ((b"1", "an earlier"), (b"9", "a later")):
        path = tmp_path / recording.name
        path.write_bytes(event_files.NAME + version + raw[event_files.MAGIC_BYTES :])
        with pytest.raises(ConfigurationError, match=f"was recorded by {words} version of otcnode"):
            event_files.read(path)


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"OTCEVNT2", b"OTCEVNTX", b"something else"):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(ConfigurationError, match="recording"):
            event_files.read(tmp_path / "file")
    with pytest.raises(ConfigurationError, match="cannot read"):
        event_files.read(tmp_path / "nothing")


def _without(steps: list[RecordedStep], position: int) -> Iterator[RecordedStep]:
    yield from steps[:position]
    yield from steps[position + 1 :]


def test_a_step_left_out_or_changed_is_found(recording: Path) -> None:
    """Of steps that had an effect, each that is left out shows."""
    configuration, recorded = event_files.read(recording)
    steps = list(recorded)
    commits = [place for place, step in enumerate(replay(configuration, iter(steps))) if "Commit" in str(step.effects)]
    assert commits
    for place in commits:
        with pytest.raises(Diverged, match=r"step \d+: "):
            list(replay(configuration, _without(steps, place)))


def test_a_replica_that_decides_otherwise_is_found(recording: Path) -> None:
    configuration, steps = event_files.read(recording)
    patient = RecordedConfiguration.of(
        Configuration(
            configuration.chain, configuration.own, view_timeout_ms_base=configuration.view_timeout_ms_base + 1
        )
    )
    with pytest.raises(Diverged, match="step"):
        list(replay(patient, steps))


def test_a_disk_that_refuses_ends_the_recording_and_not_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = recorded_net(tmp_path, validators=1)
    net.start()
    (station,) = net.stations.values()

    def full(file: int, raw: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        station.submit(deposit(station.genesis, 1))
        net.elapse(300)
    assert [text for level, text in station.notes if level == "error" and "no longer recorded" in text]
    station.submit(deposit(station.genesis, 2))
    net.elapse(300)
    assert station.height == 2


def test_nothing_is_recorded_unless_it_is_asked_for(tmp_path: Path) -> None:
    (station,) = stations(1)
    assert station.recorder is None
    (tmp_path / "file").write_text("")
    configuration = RecordedConfiguration.of(Configuration(station.chain, station.own))
    with pytest.raises(ConfigurationError, match="cannot record events"):
        FileRecorder(tmp_path / "file" / "below", configuration, print)


# the command


def test_the_command_shows_steps_and_explains_any_moment(recording: Path, tmp_path: Path) -> None:
    whole = CliRunner().invoke(otcnode, ["replay-events", str(recording)])
    assert whole.exit_code == 0, whole.output
    lines = whole.stdout.splitlines()
    count = len(steps_of(recording))
    assert lines[0].startswith("1 at 0 ms: started → ")
    assert lines[-2] == f"{count} steps, each with the effects that were recorded"
    assert "the chain goes on" in lines[-1] or ";" in lines[-1]
    assert any("received commit" in line for line in lines) and any("commit (height 1)" in line for line in lines)
    part = CliRunner().invoke(otcnode, ["replay-events", str(recording), "--from", "5", "--until", "6", "-v"])
    assert [line.split()[0] for line in part.stdout.splitlines() if not line.startswith(" ")][:2] == ["5", "6"]
    shutil.copy(recording, tmp_path / recording.name)
    told = json.loads(CliRunner().invoke(otcnode, ["replay-events", str(tmp_path), "--json"]).stdout)
    assert told["steps"] == count and told["events"]["started"] == 1


def test_the_command_names_the_step_that_differs(recording: Path, tmp_path: Path) -> None:
    """A file whose checks are right, and whose third step is left out."""
    configuration, recorded = event_files.read(recording)
    recorder = FileRecorder(tmp_path, configuration, print)
    recorder.begin()
    steps = list(recorded)
    for step in [*steps[:2], *steps[3:]]:
        recorder._append(encode(step))
    recorder.close()
    result = CliRunner().invoke(otcnode, ["replay-events", str(tmp_path)])
    assert isinstance(result.exception, Diverged) and re.match(r"step \d+: ", str(result.exception))
