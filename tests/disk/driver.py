"""Runs a node's storage to every boundary of what it does on disk, once each, and looks at what is left.

Started by test_boundaries.py with the library of boundaries.c preloaded: `driver.py SCENARIO MODE STRIDE DIRECTORY`.
Each run is a child of its own; a second child judges the directory. Prints one JSON object. A fifth argument plants a
mistake that the judge has to find.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import plyvel

from otcnode.consensus.messages import Mode
from otcnode.consensus.record import birth
from otcnode.crypto import sha256
from otcnode.errors import StorageDamage
from otcnode.maintenance.replay import begin, first_height, replay
from otcnode.storage import level
from otcnode.storage.kv import MemoryKeyValue
from otcnode.storage.level import LevelKeyValue
from otcnode.storage.store import Store
from otcnode.storage.tools import verify
from otcnode.storage.votes_file import FileVotesLog
from tests.engine.network import START_MS, Net, Station, deposit, genesis_of, key_of

MODES = ("kill", "half", "power", "torn", "error", "full")
BEFORE, DURING = 2, 3
"""Blocks that are there when a run begins, and blocks that it makes."""
SOURCE_HEIGHT = 3
TRANSACTIONS = 80
"""Of a block: so many that LevelDB's smallest buffer overflows and is compacted during a run."""
GENESIS = genesis_of(1)

level.WRITE_BUFFER_BYTES = 64 << 10
RECORD_BYTES = 20_000
"""So small that the voting record is replaced at every commit."""


Tell = Callable[[str], None]


class Outcome:
    """What a run told before it ended. `records` are digests of what the voting record may hold: what it was known to
    hold last, and what it was about to hold."""

    def __init__(self, status: int, told: int, passed: int | None, records: frozenset[str]) -> None:
        self.records = records
        self.killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        self.refused = os.WIFEXITED(status) and os.WEXITSTATUS(status) == 2
        self.finished = os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0
        self.told = told
        self.passed = passed


def digest(entries: Sequence[bytes]) -> str:
    return sha256(b"".join(sha256(entry) for entry in entries)).hex()


class ToldRecord(FileVotesLog):
    """Tells what it is about to make durable, and then that it is."""

    def __init__(self, path: Path, tell: Tell) -> None:
        super().__init__(path)
        self._tell = tell
        self._durable: list[bytes] = []
        self._waiting: list[bytes] = []

    def load(self) -> tuple[bytes, ...] | None:
        found = super().load()
        self._durable = list(found or ())
        self._tell(f"holds {digest(self._durable)}")
        return found

    def append(self, entries: Sequence[bytes]) -> None:
        super().append(entries)
        self._waiting += entries

    def sync(self) -> None:
        self._become([*self._durable, *self._waiting], super().sync)

    def replace(self, entries: Sequence[bytes]) -> None:
        self._become(list(entries), lambda: FileVotesLog.replace(self, entries))

    def _become(self, entries: list[bytes], act: Callable[[], None]) -> None:
        self._tell(f"tries {digest(entries)}")
        act()
        self._durable, self._waiting = entries, []
        self._tell(f"holds {digest(entries)}")


class ToldStation(Station):
    """Tells the height of each block that is durable."""

    tell: Tell

    def block_committed(self, height: int, transaction_ids: Sequence[bytes]) -> None:
        super().block_committed(height, transaction_ids)
        self.tell(str(height))


def station(home: Path, name: str, tell: Tell = lambda text: None) -> ToldStation:
    votes = ToldRecord(home / "record", tell)
    kv = LevelKeyValue(home / "chain")
    node = ToldStation(GENESIS, key_of(name), kv=kv, votes=votes, now_ms=100_000, record_bytes=RECORD_BYTES)
    node.tell = tell
    return node


def make_base(home: Path, name: str) -> None:
    home.mkdir()
    record = FileVotesLog.create(home / "record")
    record.append(birth())
    record.sync()
    record.close()
    LevelKeyValue(home / "chain", create=True).close()
    beginning = station(home, name)
    beginning.engine.start()
    beginning.settle()
    if name == "node 0":
        advance(beginning, BEFORE)
    beginning.store.close()
    beginning.votes.close()


def advance(node: Station, height: int) -> None:
    """Make blocks by oneself up to `height`."""
    while node.height < height:
        for number in range(TRANSACTIONS):
            valid_until_ms = START_MS + node.now_ms + 50_000
            node.submit(deposit(GENESIS, 1_000 * node.height + number, valid_until_ms=valid_until_ms))
        node.settle()
        node.elapse(50)


def vote(home: Path, tell: Tell) -> None:
    """A validator alone makes blocks."""
    node = station(home, "node 0", tell)
    node.engine.start()
    node.settle()
    advance(node, BEFORE + DURING)


def follow(home: Path, tell: Tell) -> None:
    """A full node takes blocks from another."""
    _catch_up(station(home, "follower", tell))


def _catch_up(node: Station) -> None:
    net = Net([SOURCE, node])
    node.engine.start()
    node.settle()
    SOURCE.engine.connected(node.own)
    node.engine.connected(SOURCE.own)
    for _ in range(50):
        net.deliver()
        if node.height == SOURCE_HEIGHT:
            return
        net.elapse(100)
    raise AssertionError("the follower does not catch up")


def make_source() -> Station:
    source = Station(GENESIS, key_of("node 0"), now_ms=1_000)
    source.engine.start()
    source.settle()
    advance(source, SOURCE_HEIGHT)
    return source


SOURCE = make_source()
SCENARIOS = {"vote": (vote, "node 0"), "follow": (follow, "follower")}


def run(scenario: str, home: Path, number: int, mode: int) -> Outcome:
    """One run in a child that is killed at boundary `number`."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        code = 1
        try:
            library = ctypes.CDLL(None)
            library.boundaries_arm(str(home).encode(), number, mode)
            SCENARIOS[scenario][0](home, lambda text: _tell(writing, text + "\n"))
            _tell(writing, f"passed {library.boundaries_passed()}\n")
            code = 0
        except StorageDamage as error:
            _tell(writing, f"refused {error}\n")
            code = 2
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as stream:
        lines = stream.read().split("\n")
    _, status = os.waitpid(child, 0)
    told = max([0 if scenario == "follow" else BEFORE, *(int(line) for line in lines if line.isdigit())])
    passed = next((int(line.split()[1]) for line in lines if line.startswith("passed ")), None)
    digests = [line.split() for line in lines if line.startswith(("holds ", "tries "))]
    held = [name for word, name in digests if word == "holds"][-1:]
    tried = [digests[-1][1]] if digests else []
    return Outcome(status, told, passed, frozenset(held + tried))


def _tell(file: int, text: str) -> None:
    os.write(file, text.encode())


def judged(scenario: str, home: Path, outcome: Outcome) -> bool:
    """Whether a fresh process finds a committed height there, at least what was told, and goes on from it."""
    child = os.fork()
    if child == 0:
        try:
            judge(scenario, home, outcome)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def judge(scenario: str, home: Path, outcome: Outcome) -> None:
    told = outcome.told
    record = FileVotesLog(home / "record")
    entries = record.load()
    record.close()
    assert entries is not None, "the record is damaged"
    assert not outcome.records or digest(entries) in outcome.records, "the record is not what was durable"
    kv = LevelKeyValue(home / "chain")
    found = verify(kv, Station(GENESIS, key_of("node 0")).chain)
    assert told <= found.height <= told + 1, f"told {told}, found {found.height}"
    kv.close()
    node = station(home, SCENARIOS[scenario][1])
    if scenario == "vote":
        node.engine.start()
        node.settle()
        assert node.engine.replica.mode is Mode.ACTIVE, "the validator does not vote"
        advance(node, node.height + 1)
    else:
        _catch_up(node)
        assert node.store.tip == SOURCE.store.tip
        assert list(node.store.state.scan(b"")) == list(SOURCE.store.state.scan(b""))
    source = node.store
    begun = begin(source, MemoryKeyValue(), GENESIS, first_height(source, None))
    assert replay(source, node.kv, begun, GENESIS.time_ms).last == node.height
    Store.close(source)


def plant(mistake: str) -> None:
    """Make one thing less than durable, or what is durable no start."""
    match mistake:
        case "unsynced block":
            true = plyvel.DB

            class Careless:
                """As plyvel.DB, but that no write is synced."""

                def __init__(self, *words: Any, **named: Any) -> None:
                    self._db = true(*words, **named)

                def write_batch(self, **named: Any) -> Any:
                    return self._db.write_batch(**{**named, "sync": False})

                def __getattr__(self, name: str) -> Any:
                    return getattr(self._db, name)

            plyvel.DB = Careless
        case "unsynced record":
            os.fdatasync = lambda file: None
        case "record replaced in place":
            os.replace = lambda draft, path: Path(path).write_bytes(Path(draft).read_bytes())
        case "torn log is damage":
            level.cut_interrupted = lambda path: None
        case _:
            raise AssertionError(mistake)


def main(scenario: str, mode_name: str, stride: int, directory: Path, mistake: str = "") -> None:
    mode = MODES.index(mode_name)
    base = directory / "base"
    make_base(base, SCENARIOS[scenario][1])
    if mistake:
        plant(mistake)
    clean = directory / "clean"
    shutil.copytree(base, clean)
    whole = run(scenario, clean, 0, mode)
    assert whole.finished and whole.passed, "the undisturbed run must end"
    bad: list[int] = []
    heights: set[int] = set()
    ended = {"killed": 0, "refused": 0, "finished": 0}
    for number in range(1, whole.passed + 1, stride):
        home = directory / str(number)
        shutil.copytree(base, home)
        outcome = run(scenario, home, number, mode)
        for name in ended:
            ended[name] += getattr(outcome, name)
        heights.add(outcome.told)
        if not (outcome.killed or outcome.refused or outcome.finished) or not judged(scenario, home, outcome):
            bad.append(number)
        shutil.rmtree(home)
    print(json.dumps({"boundaries": whole.passed, "heights": sorted(heights), "bad": bad, **ended}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]), *sys.argv[5:])
