"""Keeping the sealed documents that the ledger names, and fetching from peers those that are missing here.

What is to be kept follows from the committed state: each name filed and not withdrawn. Where the chain was taken back
or begins anew, its state says nothing yet about what was kept at a greater height: that stays until the chain has come
so far. A file is believed by its hash, so it does not matter who hands it in. A sweep over the state, a few entries at
a time, finds whatever the news of blocks did not tell: after a restart, a snapshot, a peer that was away.

No block depends on a file, so a disk that harms or refuses them ends no node: what is found damaged is said once, not
served, left where it is, and fetched from a peer that holds it. What the system does not let be read is no damage, and
may be had a moment later: it is not served for now, and no peer is asked for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TypeAlias, assert_never

from otcnode import limits
from otcnode.codec import Record, encode
from otcnode.engine.host import Host
from otcnode.errors import DecodeError, DocumentNotKept, StorageDamage, StorageRefused
from otcnode.message_reader import SMALL_BYTES, MessageReader
from otcnode.p2p.framing import Channel
from otcnode.p2p.rates import Rate, TokenBucket
from otcnode.storage.documents import DocumentStore
from otcnode.sync import ANSWERS_UNASKED_MAX
from otcnode.types import Bytes32
from otcnode.vm.documents.records import DOCUMENTS, SEALED_BYTES_MAX, Filing, sealed_name
from otcnode.vm.state import State
from otcnode.vm.view import StateView
from otcnode.vm.writes import writes_to

DAMAGED = "a sealed document is damaged on this disk: it is not served, and fetched again from a peer that holds it"
MENDED = "a sealed document that was damaged on this disk has come again"
READ_AGAIN = "a sealed document that was found damaged on this disk is read, and whole: it is served again"
NOT_READ = "the system refuses to read sealed documents: they are served again as soon as it does not, none is damaged"
NOT_KEPT = (
    "the disk takes no more sealed documents: none is kept, handed in or fetched, until the node is started again"
)
NOT_DELETED = "sealed documents that the ledger names no more may stay: the disk refuses"


class DocumentHeld(Record, frozen=True, tag="held"):
    """The sender holds this file."""

    document: Bytes32


class DocumentWanted(Record, frozen=True, tag="wanted"):
    document: Bytes32


class DocumentContent(Record, frozen=True, tag="content"):
    """The answer to DocumentWanted; `content` nil: the sender does not hold it, or not for now."""

    document: Bytes32
    content: bytes | None


DocumentMessage: TypeAlias = DocumentHeld | DocumentWanted | DocumentContent
DOCUMENT_MESSAGES: MessageReader[DocumentMessage] = MessageReader(
    DocumentMessage,
    {
        DocumentHeld: SMALL_BYTES,
        DocumentWanted: SMALL_BYTES,
        DocumentContent: SMALL_BYTES + SEALED_BYTES_MAX,
    },
)
"""How large each of them can be."""


class _Missing:
    """`asked`: whom in this round. `holders`: who said that it holds the file; asked first."""

    __slots__ = ("asked", "holders", "not_before_ms")

    def __init__(self) -> None:
        self.holders: list[bytes] = []
        self.asked: set[bytes] = set()
        self.not_before_ms = 0

    @property
    def is_hopeless(self) -> bool:
        """Whether all were asked in vain, and nobody has said since that it holds the file."""
        return self.not_before_ms > 0 and not self.holders


class Documents:
    """One node's keeping of documents. Owned by the engine's task."""

    def __init__(
        self,
        store: DocumentStore,
        committed_state: Callable[[], StateView],
        committed_height: Callable[[], int],
        host: Host,
    ) -> None:
        self._store = store
        self._committed_state = committed_state
        self._committed_height = committed_height
        self._host = host
        self._peers: set[bytes] = set()
        self._missing: dict[bytes, _Missing] = {}
        self._asked: dict[bytes, tuple[bytes, int]] = {}
        """peer → (document, when it is given up)"""
        self._silent: set[bytes] = set()
        """Peers that let a request time out and have answered none since: asked last, whatever they say they hold."""
        self._owed: Counter[bytes] = Counter()
        """Answers that a peer may still send over this connection: one to each request, early or late."""
        self._unasked: Counter[bytes] = Counter()
        self._served: dict[bytes, TokenBucket] = {}
        self._swept_filed: bytes | None = None
        self._swept_kept: bytes | None = None
        self._sweep_ms = 0
        self._damaged: set[bytes] = set()
        """Of which it has been said, the last ones up to a bound."""
        self._said: set[str] = set()
        """Of the database as a whole."""

    # ---- what clients do

    def put(self, raw: bytes) -> Filing | None:
        """Keep a file that a client hands in; None if the committed state does not name a file of this hash and size.
        Handing it in again is no error. Raises DocumentNotKept."""
        name = sealed_name(raw)
        filing = self._filing(name)
        if filing is None or filing.size_bytes != len(raw):
            return None
        self._keep(name, raw)
        return filing

    def get(self, name: Bytes32) -> bytes | None:
        """The file, if it is filed and here."""
        return None if self._filing(name) is None else self._read(name)

    # ---- what the world does

    def connected(self, peer: bytes) -> None:
        self._peers.add(peer)
        self._asked.pop(peer, None)

    def disconnected(self, peer: bytes) -> None:
        self._peers.discard(peer)
        self._asked.pop(peer, None)
        self._silent.discard(peer)
        self._owed.pop(peer, None)
        self._unasked.pop(peer, None)
        self._served.pop(peer, None)

    def committed(self, writes: Mapping[bytes, bytes | None]) -> None:
        """A block is durable: what it files is wanted, what it withdraws is deleted."""
        for name, value in writes_to(DOCUMENTS, writes):
            if value is None:
                self._forget(name)
            elif not self._holds(name):
                self._want(name)

    def received(self, peer: bytes, payload: bytes) -> None:
        try:
            message = DOCUMENT_MESSAGES.read(payload)
        except DecodeError as error:
            self._host.penalise(peer, str(error))
            return
        match message:
            case DocumentHeld(name):
                self._told(peer, name)
            case DocumentWanted(name):
                self._serve(peer, name)
            case DocumentContent(name, content):
                self._answered(peer, name, content)
            case _:
                assert_never(message)

    def poll(self) -> None:
        """Called several times a second."""
        now_ms = self._host.now().monotonic_ms
        for peer, (_, until_ms) in list(self._asked.items()):
            if now_ms >= until_ms:
                del self._asked[peer]
                self._silent.add(peer)
        if now_ms >= self._sweep_ms:
            self._sweep_ms = now_ms + limits.documents_sweep_interval_ms
            self._sweep()
        self._ask(now_ms)

    # ---- inside

    def _filing(self, name: bytes) -> Filing | None:
        return State(self._committed_state()).get(DOCUMENTS, name)

    def _want(self, name: bytes) -> bool:
        """Remember the name as missing, if there is room. Anybody may file names of which there is no file: where too
        many are missing, one that nobody held when all were asked makes room, and the sweep finds it again."""
        if name in self._missing:
            return True
        if len(self._missing) >= limits.documents_wanted_max:
            hopeless = next((other for other, missing in self._missing.items() if missing.is_hopeless), None)
            if hopeless is None:
                return False
            del self._missing[hopeless]
        self._missing[name] = _Missing()
        return True

    def _told(self, peer: bytes, name: bytes) -> None:
        """A peer says that it holds a file: one that is missing here is asked of it first, however many others are."""
        if name not in self._missing:
            if self._holds(name) or self._filing(name) is None:
                return
            if len(self._missing) >= limits.documents_wanted_max:
                other = next((other for other, missing in self._missing.items() if not missing.holders), None)
                if other is None:
                    return
                del self._missing[other]
            self._missing[name] = _Missing()
        missing = self._missing[name]
        if peer not in missing.holders:
            missing.holders.append(peer)
            missing.not_before_ms = 0

    def _read(self, name: bytes) -> bytes | None:
        """The file, if it is here and whole. The disk is asked each time: it may be the only copy that there is."""
        try:
            raw = self._store.get(name)
        except StorageRefused as refused:
            self._say_once(NOT_READ, refused)
            return None
        except StorageDamage as damage:
            self._found_damaged(name, damage)
            return None
        if raw is not None:
            self._missing.pop(name, None)
            self._no_longer_damaged(name, READ_AGAIN)
        return raw

    def _holds(self, name: bytes) -> bool:
        """As far as can be told without reading it. Where the system refuses to tell, nobody is asked for it: the sweep
        comes by again."""
        try:
            return name in self._store
        except StorageRefused as refused:
            self._say_once(NOT_READ, refused)
            return True
        except StorageDamage as damage:
            self._found_damaged(name, damage)
            return False

    def _found_damaged(self, name: bytes, damage: StorageDamage) -> None:
        if name not in self._damaged:
            if len(self._damaged) >= limits.documents_wanted_max:
                self._damaged.clear()
            self._damaged.add(name)
            self._host.note("error", DAMAGED, document=name.hex(), reason=str(damage))
        self._want(name)

    def _no_longer_damaged(self, name: bytes, text: str) -> None:
        if name in self._damaged:
            self._damaged.remove(name)
            self._host.note("info", text, document=name.hex())

    def _say_once(self, text: str, damage: StorageDamage) -> None:
        if text not in self._said:
            self._said.add(text)
            self._host.note("error", text, reason=str(damage))

    def _keep(self, name: bytes, raw: bytes) -> None:
        """Raises DocumentNotKept."""
        if self._missing.pop(name, None) is None and self._read(name) is not None:
            return
        self._missing.pop(name, None)
        try:
            self._store.keep(raw, self._committed_height())
        except StorageDamage as damage:
            self._say_once(NOT_KEPT, damage)
            self._want(name)
            raise DocumentNotKept(f"this node's disk does not take document {name.hex()}") from None
        self._no_longer_damaged(name, MENDED)
        payload = encode(DocumentHeld(name))
        for peer in sorted(self._peers):
            self._host.send(peer, Channel.DOCUMENTS, payload)

    def _forget(self, name: bytes) -> None:
        self._missing.pop(name, None)
        self._damaged.discard(name)
        try:
            if name in self._store:
                self._store.drop(name)
        except StorageDamage as damage:
            self._say_once(NOT_DELETED, damage)

    def _sweep(self) -> None:
        """A few names of the state that may be missing here, and a few files here that may be named no more. It stops
        at a name for which there is no room, so that each has its turn."""
        state, count = State(self._committed_state()), limits.documents_sweep_entries
        filed = state.scan(DOCUMENTS, b"", after=self._swept_filed, limit=count)
        for name, _ in filed:
            if not self._holds(name) and not self._want(name):
                break
            self._swept_filed = name
        else:
            self._swept_filed = filed[-1][0] if len(filed) == count else None
        try:
            kept = list(self._store.kept(self._swept_kept, count))
        except StorageDamage as damage:
            self._say_once(NOT_DELETED, damage)
            kept = []
        for name, height in kept:
            if height <= self._committed_height() and state.get(DOCUMENTS, name) is None:
                self._forget(name)
        self._swept_kept = kept[-1][0] if len(kept) == count else None

    def _ask(self, now_ms: int) -> None:
        """One file of each peer at a time; what somebody said that it holds comes first, and is asked of that one."""
        if not self._missing or NOT_KEPT in self._said:
            return
        under_way = {name for name, _ in self._asked.values()}
        for name, missing in sorted(self._missing.items(), key=lambda entry: not entry[1].holders):
            if len(self._asked) >= limits.documents_asked_max:
                return
            if name in under_way or now_ms < missing.not_before_ms:
                continue
            peer = self._whom(missing)
            if peer is not None:
                missing.asked.add(peer)
                self._owed[peer] += 1
                self._asked[peer] = (name, now_ms + limits.documents_answer_ms_max)
                self._host.send(peer, Channel.DOCUMENTS, encode(DocumentWanted(name)))
            elif self._peers <= missing.asked:
                missing.asked.clear()
                missing.holders.clear()
                missing.not_before_ms = now_ms + limits.documents_pause_ms

    def _whom(self, missing: _Missing) -> bytes | None:
        candidates = [*missing.holders, *sorted(self._peers - set(missing.holders))]
        candidates.sort(key=self._silent.__contains__)
        free = (p for p in candidates if p in self._peers and p not in missing.asked and p not in self._asked)
        return next(free, None)

    def _serve(self, peer: bytes, name: bytes) -> None:
        now_ms = self._host.now().monotonic_ms
        served = self._served.get(peer)
        if served is None:
            rate = limits.documents_served_bytes_per_second
            served = self._served[peer] = TokenBucket(Rate(rate, max(rate, SEALED_BYTES_MAX)), now_ms)
        filing = None if served.take(0, now_ms) else self._filing(name)
        content = None if filing is None else self._read(name)
        if filing is not None and (content is not None or name in self._damaged):
            # To find one damaged costs the disk as much.
            served.take(filing.size_bytes, now_ms)
        self._host.send(peer, Channel.DOCUMENTS, encode(DocumentContent(name, content)))

    def _answered(self, peer: bytes, name: bytes, content: bytes | None) -> None:
        if not self._owed[peer]:
            self._unasked[peer] += 1
            if self._unasked[peer] > ANSWERS_UNASKED_MAX:
                self._host.penalise(peer, "sends documents that nobody asked it for")
            return
        self._owed[peer] -= 1
        self._silent.discard(peer)
        asked = self._asked.get(peer)
        if asked is None or asked[0] != name:
            return
        del self._asked[peer]
        if content is None or name not in self._missing:
            return
        if sealed_name(content) != name:
            self._host.penalise(peer, "served another document than the one asked for")
        else:
            with suppress(DocumentNotKept):
                self.put(content)
