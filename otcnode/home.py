"""Making a node's home directory: configuration, genesis, key, and the voting record that is born with the key."""

from __future__ import annotations

import os
from pathlib import Path

from otcnode import genesis as genesis_module
from otcnode.config import Home
from otcnode.consensus.record import birth
from otcnode.errors import ConfigurationError
from otcnode.genesis import Genesis
from otcnode.node_key import NodeKey
from otcnode.storage.votes_file import FileVotesLog

_CONFIGURATION = """\
# {name}: what is particular to this node. What all nodes agree on is in genesis.json.
name = "{name}"

[p2p]
listen = "{p2p_listen}"

[rpc]
listen = "{rpc_listen}"

[consensus]
view_timeout_ms = {view_timeout_ms}

[log]
level = "info"
format = "text"
"""


def create_key(home: Home, key: NodeKey) -> None:
    """Write a new key and, in the same act, its voting record: only a key whose record was born with it may vote at
    once; any other is silent until it has seen that nothing it may have said before can still matter. Where one of the
    two cannot be written, as on a full disk, neither stays: nobody knows the key yet."""
    home.record.parent.mkdir(parents=True, exist_ok=True)
    os.chmod(home.path, 0o700)
    key.save(home.key)
    try:
        record = FileVotesLog.create(home.record, birth())
    except BaseException:
        home.key.unlink()
        raise
    record.close()


def void_record(home: Home) -> bool:
    """Make the voting record void, durably, ahead of anything that takes the store back: what was signed for the blocks
    that go stays signed, so the validator has to be silent until none of it can matter. False: there was none."""
    if not home.record.exists():
        return False
    home.record.unlink()
    sync_directory(home.record.parent)
    return True


def create_home(
    home: Home,
    *,
    name: str,
    genesis: Genesis,
    p2p_listen: str,
    rpc_listen: str,
    view_timeout_ms: int = 2_000,
) -> None:
    """Complete a home that has a key (`create_key`). Raises ConfigurationError if one is there already."""
    if home.configuration.exists():
        raise ConfigurationError(f"{home.path} is a node's home already")
    write_atomically(home.genesis, genesis_module.dump(genesis))
    text = _CONFIGURATION.format(
        name=name, p2p_listen=p2p_listen, rpc_listen=rpc_listen, view_timeout_ms=view_timeout_ms
    )
    write_atomically(home.configuration, text.encode())


def write_atomically(path: Path, content: bytes) -> None:
    """The file holds either its old content or all of the new one, whatever happens in between. Raises OSError
    that names it."""
    temporary = path.with_name(path.name + ".new")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        # Where it is the write that fails, the system names no file.
        raise OSError(error.errno, error.strerror, str(path)) from None
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """What it holds by name is durable on return."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
