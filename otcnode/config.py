"""A node's own configuration (node.toml) and its home directory. What a chain must agree on is in the genesis."""

from __future__ import annotations

from pathlib import Path

import msgspec

from otcnode import limits
from otcnode.errors import ConfigurationError


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A TOML table; unknown keys are refused so that a typing error never passes for a setting."""


class P2PSection(_Section, frozen=True, kw_only=True):
    """`peers` maps a node's name to host:port and comes before the addresses on the chain. With a node's id (node1…) in
    place of the name it also lets in a node that this one cannot know yet, for a newcomer to begin with. `advertise` is
    the host:port that others are told, where it is not the one on the chain; nothing is told where it is empty."""

    listen: str = "127.0.0.1:26650"
    peers: dict[str, str] = {}
    advertise: str = ""


class RpcSection(_Section, frozen=True, kw_only=True):
    listen: str = "127.0.0.1:26651"
    tls_certificate: str | None = None
    tls_key: str | None = None


class ConsensusSection(_Section, frozen=True, kw_only=True):
    view_timeout_ms: int = 2_000
    view_timeout_ms_max: int = 30_000


class LogSection(_Section, frozen=True, kw_only=True):
    level: str = "info"
    format: str = "text"


class StorageSection(_Section, frozen=True, kw_only=True):
    cache_bytes: int = 64 << 20
    history_blocks: int = 100_000
    """Heights whose state can still be asked for; none below the kept blocks."""
    blocks_kept: int = 0
    """Blocks that are kept whole, with receipts and indexes; 0 is all."""


class SnapshotsSection(_Section, frozen=True, kw_only=True):
    interval_blocks: int = 10_000
    """A snapshot is made, to be served, at every height that this divides (0: none). Nodes that use the same number
    serve the same ones."""
    behind_blocks: int = 20_000
    """A node that is so far behind takes a snapshot instead of the blocks; it does so too where no peer keeps blocks
    that it needs, or serves them in time. 0: never. One that keeps all blocks and has once caught up takes them
    however far behind it is, as long as anybody serves them; see sync_choice.py."""


class NodeConfiguration(_Section, frozen=True, kw_only=True):
    name: str
    p2p: P2PSection = P2PSection()
    rpc: RpcSection = RpcSection()
    consensus: ConsensusSection = ConsensusSection()
    storage: StorageSection = StorageSection()
    snapshots: SnapshotsSection = SnapshotsSection()
    log: LogSection = LogSection()

    @property
    def snapshot_interval_blocks(self) -> int:
        """Whoever takes a snapshot needs the blocks above it: the last two are always among those that are kept."""
        interval, kept = self.snapshots.interval_blocks, self.storage.blocks_kept
        return min(interval, kept // 2) if kept else interval


class Home:
    """Where a node keeps its things."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.configuration = path / "node.toml"
        self.genesis = path / "genesis.json"
        self.key = path / "node.key"
        self.database = path / "data" / "chain"
        self.documents = path / "data" / "documents"
        """Sealed documents, beside the chain: nothing that happens to it takes them along."""
        self.record = path / "data" / "record"
        self.snapshots = path / "data" / "snapshots"
        """Those that this node serves, a directory each."""
        self.incoming = path / "data" / "incoming"
        """The store in which a snapshot is gathered before it takes the place of the database."""
        self.replay = path / "data" / "replay"
        """The state of `otcnode db replay`, until it has come to its end."""
        self.archives = path / "data" / "archives"
        """Chains with blocks whose place a snapshot took, each in a home of its own."""
        self.archives_beside = path / "data" / "archives-beside"
        """The same, where `archives` is on another file system than the chain."""
        self.log = path / "node.log"


def load_configuration(home: Home) -> NodeConfiguration:
    """Raises ConfigurationError with one readable line."""
    try:
        configuration = msgspec.toml.decode(home.configuration.read_bytes(), type=NodeConfiguration)
    except FileNotFoundError:
        advice = "otcnode init with --genesis makes it"
        raise ConfigurationError(f"{home.path} has no {home.configuration.name}: {advice}") from None
    except OSError as error:
        raise ConfigurationError(f"cannot read {home.configuration}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{home.configuration}: {error}") from None
    split_address(configuration.p2p.listen)
    split_address(configuration.rpc.listen)
    if configuration.p2p.advertise:
        split_address(configuration.p2p.advertise)
    if configuration.log.level not in ("debug", "info", "warning", "error"):
        raise ConfigurationError(f"{home.configuration}: log.level must be debug, info, warning or error")
    if configuration.log.format not in ("text", "json"):
        raise ConfigurationError(f"{home.configuration}: log.format must be text or json")
    section = configuration.consensus
    if not 0 < section.view_timeout_ms <= section.view_timeout_ms_max:
        raise ConfigurationError(
            f"{home.configuration}: 0 < consensus.view_timeout_ms <= consensus.view_timeout_ms_max must hold"
        )
    _check_storage(home, configuration.storage)
    if configuration.snapshots.interval_blocks < 0 or configuration.snapshots.behind_blocks < 0:
        raise ConfigurationError(f"{home.configuration}: the numbers of blocks in [snapshots] must not be negative")
    return configuration


def _check_storage(home: Home, section: StorageSection) -> None:
    if section.cache_bytes < limits.store_cache_bytes_min:
        raise ConfigurationError(
            f"{home.configuration}: storage.cache_bytes >= {limits.store_cache_bytes_min} must hold"
        )
    if section.history_blocks < 0:
        raise ConfigurationError(f"{home.configuration}: storage.history_blocks must not be negative")
    if section.blocks_kept and section.blocks_kept < limits.blocks_kept_min:
        raise ConfigurationError(
            f"{home.configuration}: storage.blocks_kept must be 0 (all) or at least {limits.blocks_kept_min}"
        )


def split_address(address: str) -> tuple[str, int]:
    """host:port, with IPv6 hosts in brackets. Raises ConfigurationError."""
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ConfigurationError(f"{address!r} is not host:port")
    return host.strip("[]"), int(port)
