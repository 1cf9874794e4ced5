"""Frames: any chunking, any junk, bounded memory, and no message waits behind a less urgent one."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otcnode.p2p.close import CloseCode, PeerError
from otcnode.p2p.framing import (
    FRAGMENT_BYTES,
    HEADER_BYTES,
    PLAINTEXT_BYTES_MAX,
    TOTAL_BYTES,
    Channel,
    Control,
    Form,
    FrameDecoder,
    Inbound,
    Message,
    control_frame,
    first_frame,
    more_frame,
    seal,
    whole_frame,
)
from otcnode.p2p.noise import CipherState
from otcnode.p2p.outbox import CONTROL_FRAMES_MAX, MESSAGE_OVERHEAD_BYTES, OVERFLOW, Outbox, Overflow

KEY = bytes(range(32))
SIZES_MAX = {
    Channel.CONSENSUS: 1 << 20,
    Channel.SYNC: 1 << 20,
    Channel.TRANSACTIONS: 100_000,
    Channel.DOCUMENTS: 5_000,
}
PLENTY = dict.fromkeys(Channel, 64 << 20)


def decoder() -> FrameDecoder:
    return FrameDecoder(CipherState(KEY), SIZES_MAX)


def records(outbox: Outbox) -> bytes:
    cipher = CipherState(KEY)
    wire = b""
    while plaintext := outbox.fill(PLAINTEXT_BYTES_MAX):
        assert len(plaintext) <= PLAINTEXT_BYTES_MAX
        wire += seal(cipher, plaintext)
    return wire


def chunks(wire: bytes, sizes: list[int]) -> list[bytes]:
    parts = []
    index = 0
    while wire:
        size = sizes[index % len(sizes)]
        index += 1
        parts.append(wire[:size])
        wire = wire[size:]
    return parts


def feed_frames(*frames: bytes) -> list[Inbound]:
    cipher = CipherState(KEY)
    receiver = decoder()
    return [item for frame in frames for item in receiver.feed(seal(cipher, frame), 0, 0)]


def code_of(*frames: bytes) -> CloseCode:
    with pytest.raises(PeerError) as caught:
        feed_frames(*frames)
    return caught.value.code


MESSAGES = st.lists(
    st.tuples(
        st.sampled_from([Channel.CONSENSUS, Channel.SYNC, Channel.TRANSACTIONS]),
        st.one_of(
            st.integers(1, 50),
            st.sampled_from([FRAGMENT_BYTES - 1, FRAGMENT_BYTES, FRAGMENT_BYTES + 1, 2 * FRAGMENT_BYTES, 100_000]),
        ),
    ),
    max_size=12,
)


@settings(deadline=None)
@given(MESSAGES, st.lists(st.integers(1, 70_000), min_size=1))
def test_every_message_arrives_whole_and_in_order_of_its_channel(
    messages: list[tuple[Channel, int]], sizes: list[int]
) -> None:
    outbox = Outbox(PLENTY)
    payloads = [(channel, bytes([index]) * size) for index, (channel, size) in enumerate(messages)]
    for channel, payload in payloads:
        assert outbox.put(channel, payload)
    receiver = decoder()
    arrived = [item for chunk in chunks(records(outbox), sizes) for item in receiver.feed(chunk, 0, 0)]
    assert not receiver.record_open and receiver.held_bytes == 0 and outbox.empty
    assert set(outbox.queued_bytes().values()) == {0}
    for channel in Channel:
        sent = [payload for of, payload in payloads if of is channel]
        assert [item.payload for item in arrived if isinstance(item, Message) and item.channel is channel] == sent
    assert len(arrived) == len(payloads)


def test_bytes_one_by_one() -> None:
    outbox = Outbox(PLENTY)
    outbox.put(Channel.SYNC, b"s" * 40_000)
    outbox.put(Channel.CONSENSUS, b"vote")
    outbox.control(Form.PING, bytes(8))
    receiver = decoder()
    arrived = [item for byte in records(outbox) for item in receiver.feed(bytes([byte]), 0, 0)]
    assert arrived == [
        Control(Form.PING, bytes(8)),
        Message(Channel.CONSENSUS, b"vote"),
        Message(Channel.SYNC, b"s" * 40_000),
    ]


def test_many_small_messages_share_one_record() -> None:
    outbox = Outbox(PLENTY)
    for _ in range(100):
        outbox.put(Channel.CONSENSUS, bytes(200))
    wire = records(outbox)
    assert len(wire) == 100 * 204 + 18


def test_a_consensus_message_overtakes_a_big_one_that_is_being_sent() -> None:
    outbox = Outbox(PLENTY)
    cipher, receiver = CipherState(KEY), decoder()
    outbox.put(Channel.SYNC, b"s" * 1_000_000)
    assert receiver.feed(seal(cipher, outbox.fill(PLAINTEXT_BYTES_MAX)), 0, 0) == []
    outbox.put(Channel.CONSENSUS, b"vote")
    outbox.put(Channel.TRANSACTIONS, b"gossip")
    assert receiver.feed(seal(cipher, outbox.fill(PLAINTEXT_BYTES_MAX)), 0, 0) == [Message(Channel.CONSENSUS, b"vote")]
    rest: list[Inbound] = []
    while plaintext := outbox.fill(PLAINTEXT_BYTES_MAX):
        rest += receiver.feed(seal(cipher, plaintext), 0, 0)
    assert rest == [Message(Channel.SYNC, b"s" * 1_000_000), Message(Channel.TRANSACTIONS, b"gossip")]


@settings(deadline=None)
@given(MESSAGES, st.lists(st.integers(0, 3), min_size=1))
def test_whatever_is_queued_while_others_are_sent_goes_in_an_order_that_every_receiver_takes(
    messages: list[tuple[Channel, int]], turns: list[int]
) -> None:
    outbox, cipher, receiver = Outbox(PLENTY), CipherState(KEY), decoder()
    arrived: list[Inbound] = []
    for index, (channel, size) in enumerate(messages):
        assert outbox.put(channel, bytes([index]) * size)
        for _ in range(turns[index % len(turns)]):
            if plaintext := outbox.fill(PLAINTEXT_BYTES_MAX):
                arrived += receiver.feed(seal(cipher, plaintext), 0, 0)
    while plaintext := outbox.fill(PLAINTEXT_BYTES_MAX):
        arrived += receiver.feed(seal(cipher, plaintext), 0, 0)
    assert len(arrived) == len(messages) and receiver.held_bytes == 0


def overtaken(ahead: Channel, size: int, held: Channel = Channel.SYNC) -> int:
    """How many messages of this size go ahead of one that has begun before a fragment of it is sent."""
    outbox, cipher, receiver = Outbox(PLENTY), CipherState(KEY), FrameDecoder(CipherState(KEY), PLENTY)
    outbox.put(held, b"h" * 1_000_000)
    receiver.feed(seal(cipher, outbox.fill(TOTAL_BYTES + HEADER_BYTES + FRAGMENT_BYTES)), 0, 0)
    before = receiver.held_bytes
    for _ in range(1_000):
        outbox.put(ahead, b"a" * size)
    came = 0
    while receiver.held_bytes == before:
        came += len(receiver.feed(seal(cipher, outbox.fill(HEADER_BYTES + TOTAL_BYTES + FRAGMENT_BYTES)), 0, 0))
    return came


@pytest.mark.parametrize(("size", "messages"), [(100, 16), (8_192, 8), (16_000, 5)])
@pytest.mark.parametrize("held", [Channel.SYNC, Channel.TRANSACTIONS, Channel.DOCUMENTS])
def test_a_message_that_has_begun_gets_on_however_much_there_is_to_go_ahead(
    size: int, messages: int, held: Channel
) -> None:
    for ahead in range(held):
        assert overtaken(Channel(ahead), size, held) == messages


def test_a_vote_waits_for_no_more_than_a_fragment_whatever_else_has_gone_ahead() -> None:
    """The message in the middle of which it comes is owed a hundred fragments, for what was no vote."""
    outbox, cipher, receiver = Outbox(PLENTY), CipherState(KEY), FrameDecoder(CipherState(KEY), PLENTY)
    outbox.put(Channel.DOCUMENTS, b"d" * 2_000_000)
    receiver.feed(seal(cipher, outbox.fill(PLAINTEXT_BYTES_MAX)), 0, 0)
    outbox.put(Channel.SYNC, b"s" * 6_553_600)
    while not receiver.feed(seal(cipher, outbox.fill(PLAINTEXT_BYTES_MAX)), 0, 0):
        pass
    outbox.put(Channel.SYNC, b"height")
    outbox.put(Channel.CONSENSUS, b"vote")
    assert receiver.feed(seal(cipher, outbox.fill(PLAINTEXT_BYTES_MAX)), 0, 0) == [Message(Channel.CONSENSUS, b"vote")]
    held_bytes = receiver.held_bytes
    while not receiver.feed(seal(cipher, outbox.fill(HEADER_BYTES + TOTAL_BYTES + FRAGMENT_BYTES)), 0, 0):
        pass
    assert (receiver.held_bytes - held_bytes) // FRAGMENT_BYTES in range(90, 101), "then it is made up for"


def test_who_holds_up_a_message_that_it_has_begun_is_to_blame() -> None:
    gossip = whole_frame(Channel.TRANSACTIONS, bytes(1_000))
    first, more = first_frame(Channel.DOCUMENTS, bytes(80_000)), more_frame(Channel.DOCUMENTS, bytes(80_000), 16_000)
    sizes = {**SIZES_MAX, Channel.DOCUMENTS: 1 << 20}

    def feed(*frames: bytes) -> int:
        cipher, receiver = CipherState(KEY), FrameDecoder(CipherState(KEY), sizes)
        return sum(len(receiver.feed(seal(cipher, frame), 0, 0)) for frame in frames)

    allowed = [gossip] * 16
    assert feed(first, *allowed, more, *allowed) == 32
    assert feed(first, *allowed, whole_frame(Channel.SYNC, b"height"), whole_frame(Channel.CONSENSUS, b"vote")) == 18
    for frames in ([first, *allowed, gossip], [first, more, more, more, *allowed, gossip]):
        with pytest.raises(PeerError, match="channel 2 holds up a message of channel 3") as caught:
            feed(*frames)
        assert caught.value.code is CloseCode.MALFORMED


def test_held_memory_grows_with_what_came_not_with_what_was_promised() -> None:
    cipher, receiver = CipherState(KEY), decoder()
    payload = bytes(SIZES_MAX[Channel.SYNC])
    receiver.feed(seal(cipher, first_frame(Channel.SYNC, payload)), 0, 0)
    assert receiver.held_bytes == FRAGMENT_BYTES
    offset = FRAGMENT_BYTES
    while offset < len(payload):
        receiver.feed(seal(cipher, more_frame(Channel.SYNC, payload, offset)), 0, 0)
        offset += FRAGMENT_BYTES
        assert receiver.held_bytes <= offset
    assert receiver.held_bytes == 0


def header(form: int, channel: int, size: int) -> bytes:
    return struct.pack(">BBH", form, channel, size)


BIG = bytes(2 * FRAGMENT_BYTES + 1)
FIRST = first_frame(Channel.SYNC, BIG)


@pytest.mark.parametrize(
    "frames",
    [
        [header(Form.WHOLE, 4, 1) + b"x"],
        [header(Form.WHOLE, 255, 1) + b"x"],
        [header(8, 0, 0)],
        [header(255, 0, 0)],
        [header(Form.WHOLE, 0, 0)],
        [header(Form.WHOLE, 0, FRAGMENT_BYTES + 1) + bytes(FRAGMENT_BYTES + 1)],
        [header(Form.WHOLE, 0, 5) + b"four"],
        [header(Form.WHOLE, 0, 1) + b"x" + b"\0\0\0"],
        [more_frame(Channel.SYNC, BIG, FRAGMENT_BYTES)],
        [FIRST, more_frame(Channel.TRANSACTIONS, BIG, FRAGMENT_BYTES)],
        [FIRST, whole_frame(Channel.TRANSACTIONS, b"x")],
        [FIRST, first_frame(Channel.TRANSACTIONS, BIG)],
        [FIRST, first_frame(Channel.CONSENSUS, BIG), more_frame(Channel.SYNC, BIG, FRAGMENT_BYTES)],
        [FIRST, FIRST],
        [FIRST, whole_frame(Channel.SYNC, b"x")],
        [FIRST, header(Form.MORE, Channel.SYNC, 0)],
        [FIRST, header(Form.MORE, Channel.SYNC, 1) + b"x"],
        [FIRST, more_frame(Channel.SYNC, BIG, FRAGMENT_BYTES), header(Form.MORE, Channel.SYNC, 2) + b"xx"],
        [header(Form.FIRST, 1, 4) + b"\0\0\xff\xff"],
        [header(Form.FIRST, 1, 4 + FRAGMENT_BYTES) + struct.pack(">I", FRAGMENT_BYTES) + bytes(FRAGMENT_BYTES)],
        [header(Form.PING, 0, 7) + bytes(7)],
        [header(Form.PING, 1, 8) + bytes(8)],
        [header(Form.CLOSE, 0, 0)],
        [header(Form.CLOSE, 0, 257) + bytes(257)],
        [header(Form.OPEN, 0, 1) + b"x"],
        [header(Form.ANNOUNCE, 0, FRAGMENT_BYTES + 1) + bytes(FRAGMENT_BYTES + 1)],
    ],
    ids=lambda frames: "-".join(frame[:4].hex() for frame in frames),
)
def test_a_frame_that_no_honest_node_sends_is_malformed(frames: list[bytes]) -> None:
    assert code_of(*frames) is CloseCode.MALFORMED


@pytest.mark.parametrize("total", [SIZES_MAX[Channel.TRANSACTIONS] + 1, 2**32 - 1])
def test_a_giant_message_is_refused_by_its_first_fragment(total: int) -> None:
    frame = header(Form.FIRST, Channel.TRANSACTIONS, 4 + FRAGMENT_BYTES) + struct.pack(">I", total)
    assert code_of(frame + bytes(FRAGMENT_BYTES)) is CloseCode.TOO_LARGE


def test_the_cap_of_a_channel_holds_to_the_byte() -> None:
    cap = SIZES_MAX[Channel.DOCUMENTS]
    assert feed_frames(whole_frame(Channel.DOCUMENTS, bytes(cap))) == [Message(Channel.DOCUMENTS, bytes(cap))]
    assert code_of(whole_frame(Channel.DOCUMENTS, bytes(cap + 1))) is CloseCode.TOO_LARGE


@pytest.mark.parametrize("size", range(17))
def test_an_empty_record_is_refused_by_its_prefix(size: int) -> None:
    with pytest.raises(PeerError) as caught:
        decoder().feed(size.to_bytes(2, "big"), 0, 0)
    assert caught.value.code is CloseCode.MALFORMED


def test_a_replayed_record_is_refused() -> None:
    receiver = decoder()
    record = seal(CipherState(KEY), whole_frame(Channel.CONSENSUS, b"vote"))
    receiver.feed(record, 0, 0)
    with pytest.raises(PeerError, match="authenticate"):
        receiver.feed(record, 0, 0)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=2_000)))
def test_junk_on_the_wire_only_ever_raises_a_peer_error(parts: list[bytes]) -> None:
    receiver = decoder()
    try:
        for part in parts:
            assert receiver.feed(part, 0, 0) == []
            assert receiver.held_bytes <= 65_537
    except PeerError as error:
        assert error.code is CloseCode.MALFORMED


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 5), st.binary(max_size=300), st.integers(-2, 2)),
        min_size=1,
        max_size=20,
    )
)
def test_junk_inside_a_record_only_ever_raises_a_peer_error(frames: list[tuple[int, int, bytes, int]]) -> None:
    plaintext = b"".join(
        header(form, channel, max(0, len(body) + error)) + body for form, channel, body, error in frames
    )
    receiver = decoder()
    try:
        for item in receiver.feed(seal(CipherState(KEY), plaintext), 0, 0):
            assert item.payload in plaintext
    except PeerError as error:
        assert error.code in (CloseCode.MALFORMED, CloseCode.TOO_LARGE)
    assert receiver.held_bytes <= 65_535


def drain(outbox: Outbox) -> list[Inbound]:
    return decoder().feed(records(outbox), 0, 0)


@pytest.mark.parametrize("channel", Channel, ids=lambda channel: channel.name)
def test_a_full_queue_gives_up_what_the_table_says_and_counts_it(channel: Channel) -> None:
    outbox = Outbox(dict.fromkeys(Channel, 3 * (1 + MESSAGE_OVERHEAD_BYTES)))
    kept = [outbox.put(channel, bytes([number])) for number in range(1, 6)]
    oldest = OVERFLOW[channel] is Overflow.OLDEST
    assert kept == ([True] * 5 if oldest else [True] * 3 + [False] * 2)
    assert outbox.dropped()[channel] == 2
    assert sum(outbox.dropped().values()) == 2
    expected = [3, 4, 5] if oldest else [1, 2, 3]
    assert drain(outbox) == [Message(channel, bytes([number])) for number in expected]


def test_a_message_larger_than_its_queue_drops_nothing_else() -> None:
    outbox = Outbox(dict.fromkeys(Channel, 1_000))
    assert outbox.put(Channel.CONSENSUS, b"vote")
    assert not outbox.put(Channel.CONSENSUS, bytes(1_000))
    assert drain(outbox) == [Message(Channel.CONSENSUS, b"vote")]


def test_a_message_half_sent_is_never_dropped() -> None:
    outbox = Outbox(dict.fromkeys(Channel, 200_000))
    cipher, receiver = CipherState(KEY), decoder()
    outbox.put(Channel.CONSENSUS, b"a" * 150_000)
    assert receiver.feed(seal(cipher, outbox.fill(PLAINTEXT_BYTES_MAX)), 0, 0) == []
    assert outbox.put(Channel.CONSENSUS, b"b" * 30_000)
    assert outbox.put(Channel.CONSENSUS, b"c" * 49_000)
    assert not outbox.put(Channel.CONSENSUS, b"d" * 100_000)
    arrived: list[Inbound] = []
    while plaintext := outbox.fill(PLAINTEXT_BYTES_MAX):
        arrived += receiver.feed(seal(cipher, plaintext), 0, 0)
    assert [item.payload[:1] for item in arrived] == [b"a", b"c"]
    assert outbox.dropped()[Channel.CONSENSUS] == 2


def test_a_peer_that_reads_no_answers_cannot_make_them_pile_up() -> None:
    outbox = Outbox(PLENTY)
    assert all(outbox.control(Form.PONG, bytes(8)) for _ in range(CONTROL_FRAMES_MAX))
    assert not outbox.control(Form.PONG, bytes(8))


def test_close_carries_a_code_and_text() -> None:
    assert feed_frames(control_frame(Form.CLOSE, b"\x05not admitted")) == [Control(Form.CLOSE, b"\x05not admitted")]
