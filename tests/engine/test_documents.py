"""Sealed documents among nodes: each fetches what the ledger names, from whoever holds it, and believes only hashes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from otcnode import limits
from otcnode.codec import decode, encode
from otcnode.crypto import sha256
from otcnode.engine.documents import (
    DAMAGED,
    MENDED,
    NOT_DELETED,
    NOT_KEPT,
    NOT_READ,
    READ_AGAIN,
    DocumentContent,
    DocumentHeld,
    DocumentMessage,
    DocumentWanted,
)
from otcnode.errors import DocumentNotKept, StorageDamage, StorageRefused
from otcnode.genesis import genesis_account_id
from otcnode.p2p.framing import Channel
from otcnode.storage.documents import DocumentStore
from otcnode.storage.faulty import Fault, FaultKind, FaultyKeyValue
from otcnode.storage.kv import KeyValue, MemoryKeyValue
from otcnode.storage.schema import Table
from otcnode.storage.tools import verify_documents
from otcnode.sync import ANSWERS_UNASKED_MAX
from otcnode.vm.documents.operations import DocumentFile, DocumentWithdraw
from otcnode.vm.documents.records import sealed_name
from otcnode.vm.operations import Operation
from otcnode.vm.transactions import sign_transaction
from tests.engine.network import BANK, HOLDER, Net, Station, alone, body, genesis_of, key_of, stations

SEALED = b"sealed" * 100
NAME = sealed_name(SEALED)


def filing(raw: bytes = SEALED, size_bytes: int | None = None) -> DocumentFile:
    recipients = (genesis_account_id(HOLDER),)
    return DocumentFile(sealed_name(raw), size_bytes or len(raw), sha256(b"commitment"), recipients, None)


def run(station: Station, operation: Operation, salt: object = 0) -> None:
    station.now_ms += 10
    transaction = sign_transaction(body(station.genesis, operation, salt=salt), [key_of(BANK)])
    station.submit(transaction)
    station.settle()


def held(station: Station, name: bytes = NAME) -> bytes | None:
    return station.engine.documents.get(name)


def said(station: Station, peer: bytes) -> list[DocumentMessage]:
    return [decode(DocumentMessage, payload) for payload in station.payloads(peer, Channel.DOCUMENTS)]


def tell(station: Station, peer: bytes, message: DocumentMessage) -> None:
    station.engine.received(peer, Channel.DOCUMENTS, encode(message))
    station.settle()


def test_what_one_node_is_given_all_nodes_keep_until_it_is_withdrawn() -> None:
    net = Net(stations(4))
    first, *others = net.stations.values()
    net.start()
    net.elapse(100)
    run(first, filing(), salt="file")
    net.elapse(1_000)
    assert {station.height for station in net.stations.values()} == {1}
    assert first.engine.documents.put(SEALED) is not None
    net.elapse(limits.documents_pause_ms + 2_000)
    assert [held(station) for station in net.stations.values()] == [SEALED] * 4
    assert not any(station.penalised for station in net.stations.values())
    run(first, DocumentWithdraw(NAME), salt="withdraw")
    net.elapse(1_000)
    assert [held(station) for station in net.stations.values()] == [None] * 4
    assert not any(NAME in station.documents for station in others)


def test_nothing_is_kept_that_the_ledger_does_not_name() -> None:
    station = alone()
    assert station.engine.documents.put(SEALED) is None
    run(station, filing(size_bytes=len(SEALED) + 1))
    assert station.engine.documents.put(SEALED) is None, "another size than was filed"
    assert held(station) is None and NAME not in station.documents


def wanting() -> tuple[Station, bytes, bytes]:
    """A node that lacks a filed document, and two peers."""
    station = alone()
    one, two = key_of("one").public, key_of("two").public
    for peer in (one, two):
        station.engine.connected(peer)
    run(station, filing())
    station.elapse(50)
    return station, one, two


def test_a_liar_is_found_out_and_another_peer_asked() -> None:
    station, one, two = wanting()
    asked, other = (one, two) if said(station, one) == [DocumentWanted(NAME)] else (two, one)
    tell(station, asked, DocumentContent(NAME, SEALED + b"!"))
    assert [peer for peer, _ in station.penalised] == [asked]
    station.elapse(50)
    assert DocumentWanted(NAME) in said(station, other)
    tell(station, other, DocumentContent(NAME, SEALED))
    assert held(station) == SEALED
    assert DocumentHeld(NAME) in said(station, asked)


def test_who_says_that_it_holds_a_file_is_asked_first() -> None:
    station = alone()
    peers = [key_of(f"peer {number}").public for number in range(8)]
    for peer in peers:
        station.engine.connected(peer)
    run(station, filing())
    holder = max(peers)
    tell(station, holder, DocumentHeld(NAME))
    station.elapse(50)
    assert said(station, holder) == [DocumentWanted(NAME)]


def test_who_says_that_it_holds_files_and_stays_silent_is_then_asked_last() -> None:
    station, one, two = wanting()
    asked, other = (one, two) if said(station, one) == [DocumentWanted(NAME)] else (two, one)
    station.elapse(limits.documents_answer_ms_max + 100)
    assert said(station, other) == [DocumentWanted(NAME)]
    tell(station, other, DocumentContent(NAME, SEALED))
    assert held(station) == SEALED
    said(station, asked), said(station, other)
    another = SEALED + b"another"
    run(station, filing(another), salt="another")
    tell(station, asked, DocumentHeld(sealed_name(another)))
    station.elapse(50)
    assert DocumentWanted(sealed_name(another)) in said(station, other)
    assert DocumentWanted(sealed_name(another)) not in said(station, asked)


def test_documents_that_nobody_asked_for_cost_their_sender() -> None:
    station, _, _ = wanting()
    stranger = key_of("stranger").public
    for _ in range(ANSWERS_UNASKED_MAX):
        tell(station, stranger, DocumentContent(NAME, None))
    assert station.penalised == []
    tell(station, stranger, DocumentContent(NAME, None))
    assert [peer for peer, _ in station.penalised] == [stranger]


def test_silence_and_refusals_lead_to_the_next_peer_and_round_again() -> None:
    station, one, two = wanting()
    station.elapse(limits.documents_answer_ms_max)
    wanted = said(station, one).count(DocumentWanted(NAME)) + said(station, two).count(DocumentWanted(NAME))
    assert wanted == 2, "each once, the second after the first was silent"
    tell(station, one, DocumentContent(NAME, None))
    tell(station, two, DocumentContent(NAME, None))
    station.elapse(50)
    assert not said(station, one) and not said(station, two)
    for _ in range(limits.documents_pause_ms // 50 + limits.documents_answer_ms_max // 50):
        station.elapse(50)
    assert DocumentWanted(NAME) in said(station, one) + said(station, two)
    assert not station.penalised


def names_without_files(station: Station, count: int) -> None:
    for number in range(count):
        run(station, filing(b"never handed in %d" % number), salt=number)


def test_names_without_files_do_not_keep_a_file_that_is_there_from_arriving(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody may file any hash: as many as a node remembers, and nothing filed later was ever fetched."""
    monkeypatch.setattr(limits, "documents_wanted_max", 3)
    station = alone()
    names_without_files(station, 6)
    run(station, filing(), salt="real")
    peers = [key_of(f"peer {number}").public for number in range(8)]
    for peer in peers:
        station.engine.connected(peer)
    tell(station, peers[7], DocumentHeld(NAME))
    station.elapse(50)
    assert said(station, peers[7]) == [DocumentWanted(NAME)]
    tell(station, peers[7], DocumentContent(NAME, SEALED))
    assert held(station) == SEALED


def test_a_file_of_which_nobody_spoke_is_asked_for_in_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "documents_wanted_max", 2)
    station = alone()
    names_without_files(station, 5)
    run(station, filing(), salt="real")
    peer = key_of("one").public
    station.engine.connected(peer)
    for _ in range(400):
        station.elapse(50)
        for message in said(station, peer):
            assert isinstance(message, DocumentWanted | DocumentHeld)
            answer = SEALED if message.document == NAME else None
            tell(station, peer, DocumentContent(message.document, answer))
        if held(station) is not None:
            return
    raise AssertionError("never asked for")


def test_content_that_was_not_asked_for_is_nothing() -> None:
    station, one, two = wanting()
    other = b"another"
    stranger = key_of("stranger").public
    tell(station, stranger, DocumentContent(NAME, SEALED))
    tell(station, one, DocumentContent(sealed_name(other), other))
    tell(station, two, DocumentContent(sealed_name(other), other))
    assert held(station) is None and sealed_name(other) not in station.documents


def test_a_peer_is_served_at_a_bounded_rate() -> None:
    station = alone()
    large = bytes(2_000_000)
    run(station, filing(large))
    assert station.engine.documents.put(large) is not None
    peer = key_of("greedy").public
    station.engine.connected(peer)
    said(station, peer)
    for _ in range(50):
        tell(station, peer, DocumentWanted(sealed_name(large)))
    answers = [message for message in said(station, peer) if isinstance(message, DocumentContent)]
    given = sum(len(message.content) for message in answers if message.content is not None)
    assert len(answers) == 50 and len(large) <= given <= limits.documents_served_bytes_per_second + 2 * len(large)
    station.elapse(1_000)
    tell(station, peer, DocumentWanted(sealed_name(large)))
    assert said(station, peer) == [DocumentContent(sealed_name(large), large)]


def test_junk_costs_the_peer() -> None:
    station, one, _ = wanting()
    station.engine.received(one, Channel.DOCUMENTS, b"\x91\xa4junk")
    assert [peer for peer, _ in station.penalised] == [one]


def again(station: Station, kv: KeyValue | None = None) -> Station:
    """The same node after a restart, on its chain, or on another one of its own."""
    reborn = Station(
        genesis_of(1),
        station.key,
        kv=kv or station.kv,
        documents=station.documents,
        votes=station.votes if kv is None else None,
        now_ms=station.now_ms,
    )
    reborn.engine.start()
    reborn.settle()
    return reborn


def test_a_restarted_node_looks_for_what_it_lacks_and_drops_what_is_named_no_more() -> None:
    station = alone()
    run(station, filing())
    orphan = b"withdrawn while this node was away"
    station.documents.keep(orphan, station.height)
    reborn = again(station)
    peer = key_of("peer").public
    reborn.engine.connected(peer)
    reborn.elapse(limits.documents_sweep_interval_ms)
    assert DocumentWanted(NAME) in said(reborn, peer)
    assert sealed_name(orphan) not in reborn.documents


def test_a_chain_that_was_taken_back_drops_nothing_that_was_filed_above() -> None:
    """Nobody else may have it, and the blocks that name it may come again. Once the chain is as high as it was and does
    not name it, it goes."""
    station = alone()
    run(station, filing(b"earlier"))
    run(station, filing())
    assert station.engine.documents.put(SEALED) is not None
    anew = again(station, MemoryKeyValue())
    assert anew.height == 0
    anew.elapse(3 * limits.documents_sweep_interval_ms)
    assert NAME in anew.documents and held(anew) is None, "kept, and not served before the state names it"
    run(anew, filing(b"other"))
    anew.elapse(3 * limits.documents_sweep_interval_ms)
    assert NAME in anew.documents
    run(anew, filing(b"another"))
    anew.elapse(3 * limits.documents_sweep_interval_ms)
    assert anew.height == station.height and NAME not in anew.documents


def test_a_chain_that_was_taken_back_serves_again_what_it_names_again() -> None:
    station = alone()
    run(station, filing())
    assert station.engine.documents.put(SEALED) is not None
    anew = again(station, MemoryKeyValue())
    anew.elapse(3 * limits.documents_sweep_interval_ms)
    run(anew, filing())
    assert held(anew) == SEALED


class Unread(MemoryKeyValue):
    """A disk that refuses to read what begins so. `read`: how often documents were."""

    refused: bytes | None = None
    error: type[StorageDamage] = StorageDamage
    read = 0

    def get(self, key: bytes) -> bytes | None:
        self.read += key.startswith(Table.DOCUMENT.value)
        if self.refused is not None and key.startswith(self.refused):
            raise self.error("the disk refuses")
        return super().get(key)

    def scan(
        self, prefix: bytes, after: bytes | None = None, limit: int | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        if self.refused is not None and prefix.startswith(self.refused):
            raise self.error("the disk refuses")
        return super().scan(prefix, after, limit, reverse)


def flipped(kv: Unread) -> None:
    kv.write([(Table.DOCUMENT.value + NAME, SEALED[:-1] + b"?")])


def gone(kv: Unread) -> None:
    kv.write([(Table.DOCUMENT.value + NAME, None)])


def unread(kv: Unread) -> None:
    kv.refused = Table.DOCUMENT.value


def refused(kv: Unread) -> None:
    """As a process with too many open files is."""
    kv.refused, kv.error = Table.DOCUMENT.value, StorageRefused


def holding(harm: Callable[[Unread], None]) -> tuple[Station, Unread, bytes]:
    """A node that holds a document, to which something happens, and a peer."""
    kv, peer = Unread(), key_of("one").public
    station = Station(genesis_of(1), key_of("node 0"), documents=DocumentStore(kv))
    station.engine.start()
    station.settle()
    run(station, filing())
    assert station.engine.documents.put(SEALED) is not None
    harm(kv)
    station.engine.connected(peer)
    station.elapse(50)
    said(station, peer)
    return station, kv, peer


def told(station: Station, text: str) -> int:
    return sum(said == text for _, said in station.notes)


@pytest.mark.parametrize("harm", [flipped, gone, unread])
def test_a_damaged_document_is_named_once_not_served_and_ends_no_node(harm: Callable[[Unread], None]) -> None:
    """Though a peer asks for it again and again; what is there of it stays where it is."""
    station, kv, peer = holding(harm)
    before = list(MemoryKeyValue.scan(kv, b""))
    for _ in range(3):
        tell(station, peer, DocumentWanted(NAME))
        assert DocumentContent(NAME, None) in said(station, peer)
        assert held(station) is None
        station.elapse(50)
    assert told(station, DAMAGED) == 1 and not station.engine.halted
    assert list(MemoryKeyValue.scan(kv, b"")) == before
    height = station.height
    run(station, filing(b"the chain goes on"))
    assert station.height == height + 1


def test_what_the_system_refuses_to_read_is_no_damage_and_served_as_soon_as_it_does_not() -> None:
    """It may be the only copy that there is, so nobody is asked for it."""
    station, kv, peer = holding(refused)
    for _ in range(3):
        tell(station, peer, DocumentWanted(NAME))
        assert said(station, peer) == [DocumentContent(NAME, None)]
        assert held(station) is None
        station.elapse(limits.documents_sweep_interval_ms)
    assert (told(station, DAMAGED), told(station, NOT_READ)) == (0, 1) and said(station, peer) == []
    kv.refused = None
    assert held(station) == SEALED
    tell(station, peer, DocumentWanted(NAME))
    assert said(station, peer) == [DocumentContent(NAME, SEALED)]


def test_where_the_system_refuses_all_of_it_what_is_missing_is_found_once_it_does_not() -> None:
    station, kv, peer = holding(refused)
    kv.refused = b""
    other = b"another"
    run(station, filing(other), salt="other")
    tell(station, peer, DocumentHeld(NAME))
    tell(station, peer, DocumentHeld(sealed_name(other)))
    station.elapse(3 * limits.documents_sweep_interval_ms)
    assert said(station, peer) == [] and told(station, DAMAGED) == 0 and not station.engine.halted
    kv.refused = None
    station.elapse(3 * limits.documents_sweep_interval_ms)
    assert DocumentWanted(sealed_name(other)) in said(station, peer) and held(station) == SEALED


def test_a_document_that_was_found_damaged_and_can_be_read_again_is_served_again() -> None:
    """Nobody else holds it, and all were asked."""
    station, kv, peer = holding(unread)
    assert held(station) is None and told(station, DAMAGED) == 1
    station.elapse(50)
    tell(station, peer, DocumentContent(NAME, None))
    kv.refused = None
    assert held(station) == SEALED and told(station, READ_AGAIN) == 1
    said(station, peer)
    station.elapse(3 * limits.documents_pause_ms)
    assert said(station, peer) == [] and told(station, DAMAGED) == 1


def test_whoever_asks_for_what_is_damaged_here_makes_it_be_read_at_a_bounded_rate() -> None:
    station, kv, peer = holding(flipped)
    large = bytes(2_000_000)
    run(station, filing(large), salt="large")
    assert station.engine.documents.put(large) is not None
    kv.write([(Table.DOCUMENT.value + sealed_name(large), large[:-1] + b"?")])
    read = kv.read
    for _ in range(50):
        tell(station, peer, DocumentWanted(sealed_name(large)))
    assert 1 <= kv.read - read <= 2 + limits.documents_served_bytes_per_second // len(large)


@pytest.mark.parametrize("harm", [flipped, gone])
def test_a_damaged_document_is_fetched_again_and_served(harm: Callable[[Unread], None]) -> None:
    station, _, peer = holding(harm)
    assert held(station) is None
    station.elapse(50)
    assert said(station, peer) == [DocumentWanted(NAME)]
    tell(station, peer, DocumentContent(NAME, SEALED))
    assert held(station) == SEALED and told(station, MENDED) == 1
    assert verify_documents(station.documents._kv) == 1


def test_a_client_that_hands_in_what_is_damaged_here_mends_it() -> None:
    station, _, _ = holding(flipped)
    assert station.engine.documents.put(SEALED) is not None
    assert held(station) == SEALED and (told(station, DAMAGED), told(station, MENDED)) == (1, 1)


def test_where_nothing_of_documents_can_be_read_the_node_goes_on() -> None:
    station, kv, peer = holding(flipped)
    kv.refused = b""
    for _ in range(3):
        station.elapse(limits.documents_sweep_interval_ms)
        tell(station, peer, DocumentHeld(NAME))
    run(station, DocumentWithdraw(NAME), salt="withdraw")
    station.elapse(limits.documents_sweep_interval_ms)
    assert not station.engine.halted
    assert told(station, DAMAGED) == told(station, NOT_DELETED) == 1


@pytest.mark.parametrize("kind", [FaultKind.FAIL, FaultKind.DISK_FULL])
def test_where_the_disk_takes_no_documents_whoever_hands_one_in_is_told_and_none_is_fetched(kind: FaultKind) -> None:
    kv = FaultyKeyValue([Fault(1, kind)])
    station = Station(genesis_of(1), key_of("node 0"), documents=DocumentStore(kv))
    station.engine.start()
    station.settle()
    run(station, filing())
    peer = key_of("one").public
    station.engine.connected(peer)
    station.elapse(50)
    assert said(station, peer) == [DocumentWanted(NAME)]
    tell(station, peer, DocumentContent(NAME, SEALED))
    with pytest.raises(DocumentNotKept, match=NAME.hex()):
        station.engine.documents.put(SEALED)
    station.elapse(3 * limits.documents_pause_ms)
    assert held(station) is None and told(station, NOT_KEPT) == 1 and DocumentWanted(NAME) not in said(station, peer)
    height = station.height
    run(station, filing(b"the chain goes on"))
    assert station.height == height + 1
