"""Sealed documents on disk, by name: beside the chain, in the same store."""

from __future__ import annotations

from collections.abc import Iterator

from otcnode.storage.kv import KeyValue
from otcnode.storage.records import damaged
from otcnode.storage.schema import Table
from otcnode.types import Bytes32
from otcnode.vm.documents.records import sealed_name


class DocumentStore:
    """Each write is durable on return. Raises StorageDamage where the disk refuses, or gives back other bytes."""

    def __init__(self, kv: KeyValue) -> None:
        self._kv = kv

    def __contains__(self, name: Bytes32) -> bool:
        return self._kv.get(Table.DOCUMENT.value + name) is not None

    def get(self, name: Bytes32) -> bytes | None:
        raw = self._kv.get(Table.DOCUMENT.value + name)
        if raw is not None and sealed_name(raw) != name:
            raise damaged(f"document {name.hex()}")
        return raw

    def keep(self, raw: bytes) -> None:
        self._kv.write([(Table.DOCUMENT.value + sealed_name(raw), raw)])

    def drop(self, name: Bytes32) -> None:
        self._kv.write([(Table.DOCUMENT.value + name, None)])

    def names(self, after: Bytes32 | None, limit: int) -> Iterator[Bytes32]:
        """Ascending, beyond `after`."""
        table = Table.DOCUMENT.value
        beyond = None if after is None else table + after
        return (key[len(table) :] for key, _ in self._kv.scan(table, beyond, limit))
