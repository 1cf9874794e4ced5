"""Who may connect to a node, and where each is found: by the committed state, and by what the operator wrote down."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from otcnode import ids
from otcnode.errors import ConfigurationError, DecodeError
from otcnode.p2p.peers import parse_address
from otcnode.vm.governance.records import NODES
from otcnode.vm.state import State
from otcnode.vm.view import StateView

NAME_CHARACTERS_MAX = 32
"""What is longer and begins like an id is meant as one, even if it was mistyped."""

SHORT_CHARACTERS = 12
_SHORT = re.compile(rf"[0-9a-f]{{{SHORT_CHARACTERS}}}")
_MISTAKABLE = re.compile(rf"\(|^{_SHORT.pattern}$")
"""What looks like a name with an id behind it, or like an id."""


class Membership:
    """The nodes that the committed state admits. `configured` are the operator's addresses (node.toml, `p2p.peers`) by
    the name of a node or by its id; raises ConfigurationError for what is neither.

    A peer configured by id is let in whatever the state says: a newcomer cannot know yet whom governance has admitted
    since the genesis, and its operator answers for where it begins.
    """

    def __init__(self, own: bytes, configured: Mapping[str, str]) -> None:
        for name, address in configured.items():
            if parse_address(address) is None:
                raise ConfigurationError(f"p2p.peers: {address!r} of {name} is not host:port")
        self._own = own
        self._by_name = {name: address for name, address in configured.items() if not _is_id(name)}
        self._by_id = {_parse(name): address for name, address in configured.items() if _is_id(name)}
        self._names: dict[bytes, str] = {}
        self._addresses: dict[bytes, str] = {}

    def read(self, view: StateView) -> dict[bytes, str]:
        """Take in a committed state; the addresses, other nodes' only, that are new or changed since the last."""
        before = self._addresses
        nodes = dict(State(view).scan(NODES))
        self._names = _told_apart({node: record.name for node, record in nodes.items()})
        known = {node: self._by_name.get(record.name, record.address) for node, record in nodes.items()}
        known |= self._by_id
        self._addresses = {
            node: address for node, address in known.items() if node != self._own and parse_address(address) is not None
        }
        return {node: address for node, address in self._addresses.items() if before.get(node) != address}

    def admits(self, node: bytes) -> bool:
        return node in self._names or node in self._by_id

    def name_of(self, node: bytes) -> str:
        """No two nodes have the same: where they share a name, or it could be mistaken for another node's, the
        beginning of the id is told too. Only that for one that the state does not name."""
        return self._names.get(node, _short(node))

    def own_name(self, configured: str) -> str:
        """By which other nodes know this one; as it is configured where the state does not name it."""
        return self._names.get(self._own, configured)

    def named(self, text: str) -> str:
        """With the names of nodes in place of the beginnings of their ids."""
        names = {_short(node): name for node, name in self._names.items()}
        return _SHORT.sub(lambda found: names.get(found[0], found[0]), text)


def _short(node: bytes) -> str:
    return node.hex()[:SHORT_CHARACTERS]


def _told_apart(names: Mapping[bytes, str]) -> dict[bytes, str]:
    """The ledger lets nodes share a name: a validator that signs over to a new key may keep its own."""
    shared = Counter(names.values())
    return {
        node: f"{name} ({_short(node)})" if shared[name] > 1 or _MISTAKABLE.search(name) else name
        for node, name in names.items()
    }


def _is_id(name: str) -> bool:
    """Names like node12 look like the beginning of an id."""
    return name.startswith(f"{ids.Prefix.NODE.value}1") and len(name) > NAME_CHARACTERS_MAX


def _parse(name: str) -> bytes:
    try:
        return ids.parse(ids.Prefix.NODE, name)
    except DecodeError as error:
        raise ConfigurationError(f"p2p.peers: {name!r} is not a node's id: {error}") from None
