"""Sealed documents on disk, by name, in a database of their own: what happens to the chain's does not touch them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from otcnode.errors import StorageDamage, StorageRefused
from otcnode.storage.kv import KeyValue
from otcnode.storage.records import Head, advised, read_record
from otcnode.storage.schema import HEIGHT_BYTES, Meta, Table
from otcnode.types import Bytes32
from otcnode.vm.documents.records import sealed_name

ADVICE_DOCUMENTS = (
    "put data/documents back from a copy, or move it aside and keep it: what peers hold is fetched again, and what "
    "only this node holds is nowhere else"
)
ADVICE_DOCUMENT = (
    "leave data/documents as it is, others in it may be nowhere else: the running node fetches this one again from a "
    "peer that holds it, once somebody asks for it; where nobody does, put data/documents back from a copy"
)
_DOCUMENT = Table.DOCUMENT.value
_KEPT = Table.DOCUMENT_KEPT.value


class DocumentStore:
    """Each write is durable on return. Raises StorageDamage where the disk refuses, or gives back other bytes."""

    def __init__(self, kv: KeyValue) -> None:
        self._kv = kv

    def __contains__(self, name: Bytes32) -> bool:
        return self._kv.get(_KEPT + name) is not None

    def get(self, name: Bytes32) -> bytes | None:
        try:
            raw = self._kv.get(_DOCUMENT + name)
        except StorageDamage as damage:
            raise advised(damage, ADVICE_DOCUMENT) from None
        if raw is None and name in self:
            raise StorageDamage(f"document {name.hex()} is missing that was kept; {ADVICE_DOCUMENT}")
        if raw is not None and sealed_name(raw) != name:
            raise StorageDamage(f"document {name.hex()} is damaged; {ADVICE_DOCUMENT}")
        return raw

    def keep(self, raw: bytes, height: int) -> None:
        """`height`: the committed one, whose state names it."""
        name = sealed_name(raw)
        self._kv.write([(_DOCUMENT + name, raw), (_KEPT + name, height.to_bytes(HEIGHT_BYTES, "big"))])

    def drop(self, name: Bytes32) -> None:
        self._kv.write([(_DOCUMENT + name, None), (_KEPT + name, None)])

    def kept(self, after: Bytes32 | None, limit: int) -> Iterator[tuple[Bytes32, int]]:
        """Names, ascending beyond `after`, and the height at which each was kept."""
        beyond = None if after is None else _KEPT + after
        for key, height in self._kv.scan(_KEPT, beyond, limit):
            yield key[len(_KEPT) :], int.from_bytes(height, "big")

    @property
    def has_taken_over(self) -> bool:
        """Whether nothing is left of what earlier versions kept in the chain's database."""
        return self._kv.get(Meta.DOCUMENTS.value) is not None

    def take_from(self, chain: KeyValue, found: Iterable[tuple[bytes, bytes]]) -> None:
        """Move here what an earlier version kept in the database of a chain: `found`, whose end may be damage. May be
        stopped after any document and gone on with. What has other bytes than its name says is left where it is.
        Raises StorageDamage once all that can be read is here, if something cannot."""
        if chain.get(Meta.HEAD.value) is None:
            return
        height = read_record(chain, Meta.HEAD.value, Head, "the head").height
        refused: StorageDamage | None = None
        for key, raw in found:
            name = key[len(_DOCUMENT) :]
            if sealed_name(raw) != name:
                continue
            if name not in self:
                self.keep(raw, height)
            try:
                if refused is None:
                    chain.write([(key, None)])
            except StorageRefused:
                raise
            except StorageDamage as damage:
                # LevelDB refuses all writes once it has met damage; what is to be saved needs none there.
                refused = damage
        if refused is not None:
            raise refused

    def end_taking_over(self) -> None:
        """Nothing is left in a chain's database."""
        self._kv.write([(Meta.DOCUMENTS.value, b"")])

    def close(self) -> None:
        self._kv.close()
