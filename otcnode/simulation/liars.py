"""Byzantine nodes: an honest engine whose words are changed on their way out.

A liar has its own key and no other's: it may sign anything in its own name, repeat what anybody said, and forge what
will not verify.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from msgspec.structs import replace

from otcnode import limits
from otcnode.blocks import Header, ValidatorSignature, block_hash, commit_preimage, prepare_preimage
from otcnode.codec import decode, encode
from otcnode.consensus.messages import (
    Commit,
    Message,
    NewView,
    Prepare,
    PrePrepare,
    Proof,
    ViewChange,
    new_view_preimage,
    view_change_preimage,
)
from otcnode.crypto import tagged_hash
from otcnode.engine.engine import Engine
from otcnode.p2p.framing import Channel
from otcnode.simulation.chance import Chance
from otcnode.simulation.plan import Habit, Liar
from otcnode.simulation.signing import Sign

MEMORY_MESSAGES = 300
FLOOD_HEIGHTS = 10_000

Spoken = list[tuple[bytes, int]]
"""(payload, extra delay in ms) in order."""


class Mouth:
    """Rewrites what one node says on the consensus channel, while some lie is on."""

    def __init__(
        self,
        index: int,
        chain: bytes,
        validators: tuple[bytes, ...],
        sign: Sign,
        chance: Chance,
        honest_half: Callable[[], Engine | None],
        injected: Callable[[str], None],
    ) -> None:
        self._index = index
        self._own = validators[index]
        self._chain = chain
        self._validators = validators
        self._sign = sign
        self._chance = chance
        self._half = honest_half
        self._injected = injected
        self._habits: dict[int, Liar] = {}
        self._memory: deque[bytes] = deque(maxlen=MEMORY_MESSAGES)
        self._alternatives: dict[bytes, PrePrepare | None] = {}
        """Hash of what was proposed to the others, to what is proposed to the victims."""

    def begin(self, liar: Liar) -> None:
        self._habits[liar.id] = liar

    def end(self, liar_id: int) -> None:
        self._habits.pop(liar_id, None)

    def heard(self, channel: Channel, payload: bytes) -> None:
        if channel is Channel.CONSENSUS and self._habits:
            self._memory.append(payload)

    def say(self, receiver: int, payload: bytes) -> Spoken:
        """What really leaves for `receiver` instead of `payload`."""
        spoken: Spoken = [(payload, 0)]
        for liar in self._habits.values():
            asker = ("lie", liar.id, receiver)
            if not self._chance.happens(liar.permille, *asker):
                continue
            if liar.victims and receiver not in liar.victims:
                continue
            self._injected(liar.habit.value)
            spoken = self._lie(liar, asker, spoken)
        if self._habits:
            self._memory.append(payload)
        return spoken

    def _lie(self, liar: Liar, asker: tuple[str | int, ...], spoken: Spoken) -> Spoken:
        match liar.habit:
            case Habit.MUTE:
                return []
            case Habit.SLOW:
                return [(payload, late_ms + liar.late_ms) for payload, late_ms in spoken]
            case Habit.STALE:
                if not self._memory:
                    return spoken
                return [*spoken, (self._chance.choice(self._memory, *asker), 0)]
            case Habit.FLOOD:
                return [*spoken, (encode(self._far_vote(asker)), 0)]
            case Habit.EQUIVOCATE | Habit.FORGE | Habit.HIDE:
                rewrite = {
                    Habit.EQUIVOCATE: self._equivocated,
                    Habit.FORGE: self._forged,
                    Habit.HIDE: self._hidden,
                }[liar.habit]
                return [(encode(rewrite(decode(Message, payload))), late_ms) for payload, late_ms in spoken]

    # ---- equivocation

    def _equivocated(self, message: Message) -> Message:
        match message:
            case PrePrepare(header=header) if self._primary_of(message.view) == self._own:
                return self._alternative(message, block_hash(header)) or message
            case Prepare() | Commit() if message.validator == self._own:
                alternative = self._alternatives.get(message.block_hash)
                other = (
                    block_hash(alternative.header)
                    if alternative is not None
                    else tagged_hash("otcnode simulation junk", message.block_hash)
                )
                return self._voted_for(message, other)
            case _:
                return message

    def _primary_of(self, view: int) -> bytes:
        return self._validators[view % len(self._validators)]

    def _voted_for(self, vote: Prepare | Commit, name: bytes) -> Message:
        preimage = prepare_preimage if isinstance(vote, Prepare) else commit_preimage
        signature = self._sign(preimage(self._chain, vote.epoch, vote.view, vote.height, name))
        return replace(vote, block_hash=name, signature=signature)

    def _alternative(self, proposal: PrePrepare, name: bytes) -> PrePrepare | None:
        """Another valid block for the same height, executed and signed; built once."""
        if name not in self._alternatives:
            self._alternatives[name] = self._build_alternative(proposal)
        return self._alternatives[name]

    def _build_alternative(self, proposal: PrePrepare) -> PrePrepare | None:
        half = self._half()
        if half is None:
            return None
        header = proposal.header
        below = self._alternatives.get(header.parent)
        parent_name = header.parent if below is None else block_hash(below.header)
        parent = half.flight.parent(parent_name)
        if parent is None:
            return None
        taken = half.flight.ids_in_flight(parent_name)
        candidates = [decoded for decoded in half.intake.pool if decoded.id not in taken]
        time_ms = max(header.time_ms, parent.time_ms) + 1
        speculation, _ = half.flight.build(parent, self._own, time_ms, reversed(candidates), len(candidates) // 2)
        signature = self._sign(
            prepare_preimage(self._chain, proposal.epoch, proposal.view, header.height, speculation.block_hash)
        )
        return replace(proposal, header=speculation.header, entries=speculation.entries, signature=signature)

    # ---- forgery

    def _forged(self, message: Message) -> Message:
        match message:
            case ViewChange() if message.validator == self._own:
                best = message.proofs[-1].header if message.proofs else None
                return self._signed_view_change(
                    replace(message, proofs=(*message.proofs, self._false_proof(message, best)))
                )
            case NewView() if message.validator == self._own:
                doubled = (message.view_changes[0], *message.view_changes[:-1])
                return self._signed_new_view(replace(message, view_changes=doubled))
            case Prepare() | Commit() if message.validator == self._own:
                other = self._validators[(self._index + 1) % len(self._validators)]
                return replace(message, validator=other)
            case _:
                return message

    def _false_proof(self, message: ViewChange, below: Header | None) -> Proof:
        """A proof for the next height that only the liar signed, in everybody's name."""
        name = block_hash(below) if below is not None else tagged_hash("otcnode simulation junk", self._own)
        header = Header(
            version=1,
            chain=self._chain,
            height=message.committed + len(message.proofs) + 1,
            parent=name,
            time_ms=1,
            proposer=self._own,
            transaction_count=0,
            transactions_root=name,
            receipts_root=name,
            state_root=name,
            validators_hash=name,
            next_validators_hash=name,
        )
        view = message.view - 1
        signature = self._sign(prepare_preimage(self._chain, message.epoch, view, header.height, block_hash(header)))
        return Proof(view, header, tuple(ValidatorSignature(name, signature) for name in self._validators))

    # ---- hiding

    def _hidden(self, message: Message) -> Message:
        match message:
            case ViewChange() if message.validator == self._own and message.proofs:
                return self._signed_view_change(replace(message, proofs=()))
            case NewView() if message.validator == self._own and message.reproposals:
                return self._signed_new_view(replace(message, reproposals=()))
            case _:
                return message

    def _signed_view_change(self, message: ViewChange) -> ViewChange:
        return replace(message, signature=self._sign(view_change_preimage(self._chain, message)))

    def _signed_new_view(self, message: NewView) -> NewView:
        return replace(message, signature=self._sign(new_view_preimage(self._chain, message)))

    # ---- flood

    def _far_vote(self, asker: tuple[str | int, ...]) -> Message:
        half = self._half()
        tip = None if half is None else half.flight.tip()
        epoch, committed = (1, 0) if tip is None else (tip.next_epoch.number, tip.height)
        height = committed + 1 + self._chance.below(FLOOD_HEIGHTS, "height", *asker)
        view = self._chance.below(limits.view_max, "view", *asker)
        name = tagged_hash("otcnode simulation junk", height.to_bytes(8, "big") + view.to_bytes(8, "big"))
        signature = self._sign(prepare_preimage(self._chain, epoch, view, height, name))
        return Prepare(epoch, view, height, name, self._own, signature)
