"""How fast a node joins: by blocks, all of them verified and executed, and by a snapshot of a large state.

Two real daemons on this machine: one has the chain, the other has the genesis file and its address. The chain is made
beforehand (chain.py); the records of the large state are of the ledger's forms, written without operations.
"""

from __future__ import annotations

import platform
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from otcnode import __version__, localnet
from otcnode.bench import bound, chain, large_state, processes
from otcnode.bench.result import hardware
from otcnode.config import Home
from otcnode.errors import ConfigurationError
from otcnode.genesis import Genesis, GenesisNode
from otcnode.home import create_home, create_key
from otcnode.node_key import NodeKey
from otcnode.storage.directory import DirectoryFolder
from otcnode.storage.level import LevelKeyValue
from otcnode.storage.snapshot_maker import make, read_manifest, source_of

PORT = 27_850
SERVER, JOINER = "node1", "node2"
BOUND_SECONDS = 2.0
ACCOUNTS_PER_BLOCK = 20_000
LIMIT_S = 900.0
POLL_S = 0.1
CASH = b"CNY@BENCH0"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """By blocks: so many of so many transactions. By snapshot: so many accounts, four keys of the state each."""

    validators: int = 4
    blocks: int = 100
    transactions: int = 500
    accounts: int = 100_000


class BlocksFigures(msgspec.Struct, frozen=True):
    """`ratio` is transactions per second ÷ what one core verifies in the same run. `cpu_us` is the joiner's own CPU per
    transaction without its verifying workers, `loop_cpu_us` of it the thread of its loop (the rest is LevelDB's),
    `workers_cpu_us` and `server_cpu_us` that of its workers and of the node that serves the blocks."""

    transactions: int
    seconds: float
    transactions_per_second: float
    verifications_per_second: float
    ratio: float
    cpu_us: float
    loop_cpu_us: float
    workers_cpu_us: float
    server_cpu_us: float


class MemoryPeak(msgspec.Struct, frozen=True):
    """`own_bytes`: memory that no file backs; `resident_bytes`: mapped files too, which the system takes back when it
    needs room. Each by itself, looked at ten times a second, and the workers not counted."""

    own_bytes: int = 0
    resident_bytes: int = 0

    def with_now(self, process: int) -> MemoryPeak:
        now = processes.usage(process)
        return MemoryPeak(max(self.own_bytes, now.own_bytes), max(self.resident_bytes, now.resident_bytes))


class SnapshotFigures(msgspec.Struct, frozen=True):
    """`seconds` from the joiner's start until it stands at the snapshot's height, its start and the start of the engine
    on the new database included; `making_seconds` is what making the snapshot took."""

    accounts: int
    keys: int
    size_bytes: int
    chunks: int
    making_seconds: float
    seconds: float
    keys_per_second: float
    cpu_seconds: float
    server_memory: MemoryPeak
    joiner_memory: MemoryPeak


class JoiningResult(msgspec.Struct, frozen=True, kw_only=True):
    blocks: BlocksFigures | None
    snapshot: SnapshotFigures | None
    hardware: str
    python: str
    version: str


def measure(options: Options, say: Say) -> JoiningResult:
    """What is 0 in the options is left out."""
    return JoiningResult(
        blocks=_by_blocks(options, say) if options.blocks else None,
        snapshot=_by_snapshot(options, say) if options.accounts else None,
        hardware=hardware(),
        python=platform.python_version(),
        version=__version__,
    )


def _by_blocks(options: Options, say: Say) -> BlocksFigures:
    verifications = bound.verifications_per_second_of_one_core(BOUND_SECONDS)
    with tempfile.TemporaryDirectory(prefix="otcnode-bench-") as directory:
        genesis = _homes(Path(directory), options.validators, "[snapshots]\ninterval_blocks = 0\nbehind_blocks = 0\n")
        say(f"making {options.blocks} blocks of {options.transactions} transactions …")
        with closing(LevelKeyValue(Home(Path(directory) / SERVER).database, create=True)) as kv:
            chain.ChainBuilder(kv, genesis).grow(options.blocks, options.transactions)
        say("joining by blocks …")
        with localnet.Cluster(Path(directory)) as cluster:
            _start(cluster)
            first, started = _reaches(cluster, 1), time.perf_counter()
            before = _spent(cluster)
            _reaches(cluster, options.blocks)
            seconds = time.perf_counter() - started
            after = _spent(cluster)
    count = (options.blocks - first) * options.transactions
    rate = count / seconds
    return BlocksFigures(
        transactions=count,
        seconds=round(seconds, 2),
        transactions_per_second=round(rate, 1),
        verifications_per_second=round(verifications),
        ratio=round(rate / verifications, 3),
        cpu_us=round((after.joiner - before.joiner) / count * 1e6, 1),
        loop_cpu_us=round((after.loop - before.loop) / count * 1e6, 1),
        workers_cpu_us=round((after.workers - before.workers) / count * 1e6, 1),
        server_cpu_us=round((after.server - before.server) / count * 1e6, 1),
    )


def _by_snapshot(options: Options, say: Say) -> SnapshotFigures:
    with tempfile.TemporaryDirectory(prefix="otcnode-bench-") as directory:
        genesis = _homes(Path(directory), options.validators, "[snapshots]\ninterval_blocks = 0\nbehind_blocks = 1\n")
        home = Home(Path(directory) / SERVER)
        say(f"writing the state of {options.accounts} accounts …")
        with closing(LevelKeyValue(home.database, create=True)) as kv:
            builder = chain.ChainBuilder(kv, genesis, history_blocks=0, blocks_kept=1)
            large_state.grow(builder, options.accounts)
            say("making the snapshot …")
            source = source_of(builder.store)
            folder = DirectoryFolder(home.snapshots / f"{builder.store.tip.height:012d}")
            started = time.perf_counter()
            for _ in make(source, folder):
                pass
            making = time.perf_counter() - started
            source.reader.close()
        manifest = read_manifest(folder)
        assert manifest is not None
        say(f"joining by a snapshot of {manifest.keys} keys in {manifest.chunks} chunks …")
        with localnet.Cluster(Path(directory)) as cluster:
            peaks = dict.fromkeys((SERVER, JOINER), MemoryPeak())

            def watch() -> None:
                for name, peak in peaks.items():
                    peaks[name] = peak.with_now(cluster.process_id(name))

            started = _start(cluster)
            _reaches(cluster, manifest.header.height, watch)
            seconds = time.perf_counter() - started
            spent = _spent(cluster)
    return SnapshotFigures(
        accounts=options.accounts,
        keys=manifest.keys,
        size_bytes=manifest.size_bytes,
        chunks=manifest.chunks,
        making_seconds=round(making, 2),
        seconds=round(seconds, 2),
        keys_per_second=round(manifest.keys / seconds, 1),
        cpu_seconds=round(spent.joiner + spent.workers, 2),
        server_memory=peaks[SERVER],
        joiner_memory=peaks[JOINER],
    )


def _homes(directory: Path, validators: int, configuration: str) -> Genesis:
    """Two full nodes of a network whose validators do not run."""
    names = (SERVER, JOINER)
    keys = {name: NodeKey.generate() for name in names}
    nodes = tuple(
        GenesisNode(name=name, id=keys[name].id, organisation=name, address=f"127.0.0.1:{PORT + 2 * place}")
        for place, name in enumerate(names)
    )
    genesis = msgspec.structs.replace(chain.genesis_of(validators), nodes=nodes)
    for place, name in enumerate(names):
        home = Home(directory / name)
        create_key(home, keys[name])
        listen = (f"127.0.0.1:{PORT + 2 * place}", f"127.0.0.1:{PORT + 2 * place + 1}")
        create_home(home, name=name, genesis=genesis, p2p_listen=listen[0], rpc_listen=listen[1])
        with home.configuration.open("a") as file:
            file.write(configuration)
    return genesis


def _start(cluster: localnet.Cluster) -> float:
    """Start the server, then the joiner; when the joiner was."""
    cluster.start(SERVER)
    cluster.wait_answering(SERVER, LIMIT_S)
    started = time.perf_counter()
    cluster.start(JOINER)
    return started


def _reaches(cluster: localnet.Cluster, height: int, watch: Callable[[], None] = lambda: None) -> int:
    """Wait until the joiner does; the height it has then. Meanwhile `watch` is called ten times a second."""
    deadline = time.perf_counter() + LIMIT_S
    while time.perf_counter() < deadline:
        if not cluster.alive(JOINER):
            raise ConfigurationError(f"the joiner ended: {cluster.tail(JOINER)}")
        watch()
        now = _height(cluster.member(JOINER).url)
        if now >= height:
            return now
        time.sleep(POLL_S)
    raise ConfigurationError(f"the joiner does not reach height {height}: {cluster.tail(JOINER)}")


def _height(url: str) -> int:
    body = msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": "node_status", "params": {}})
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            answer: dict[str, Any] = msgspec.json.decode(response.read())
    except OSError:
        return 0
    return int(answer["result"]["height"])


class _Spent(NamedTuple):
    """Seconds of CPU since the start."""

    joiner: float
    loop: float
    """Of that of the joiner."""
    workers: float
    server: float


def _spent(cluster: localnet.Cluster) -> _Spent:
    process = cluster.process_id(JOINER)
    return _Spent(
        joiner=processes.usage(process).cpu_seconds,
        loop=processes.main_thread_seconds(process),
        workers=processes.usage(*processes.children(process)).cpu_seconds,
        server=processes.usage(cluster.process_id(SERVER)).cpu_seconds,
    )
