"""Byzantine nodes: an honest engine whose words are changed on their way out.

A liar has its own key and no other's: it may sign anything in its own name, repeat what anybody said, and forge what
will not verify. Liars are in league: what one of them proposes to its victims, the others vote for to theirs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import assert_never

from otcnode.codec import decode, encode
from otcnode.consensus.messages import Commit, Message, Mode, NewView, Prepare, PrePrepare
from otcnode.engine.engine import Engine
from otcnode.genesis import Genesis, chain_id
from otcnode.p2p.framing import Channel
from otcnode.simulation.alternatives import Alternatives
from otcnode.simulation.chance import Chance
from otcnode.simulation.counterfeits import Counterfeits
from otcnode.simulation.false_times import FalseTimes
from otcnode.simulation.forgery import Asker, Forger, Spoken
from otcnode.simulation.hoards import Hoard
from otcnode.simulation.overclaims import Overclaims
from otcnode.simulation.plan import Habit, Liar
from otcnode.simulation.second_signatures import SecondSignatures
from otcnode.simulation.signing import Sign

MEMORY_MESSAGES = 300
FLOOD_MESSAGES = 8


class Mouth:
    """Rewrites what one node says in consensus, and the bodies it passes on anywhere, while some lie is on.

    `injected` is told of every lie that really changed something. `league`: see Alternatives."""

    def __init__(
        self,
        index: int,
        genesis: Genesis,
        nodes: tuple[bytes, ...],
        sign: Sign,
        sign_again: Sign,
        chance: Chance,
        honest_half: Callable[[], Engine | None],
        injected: Callable[[str], None],
        league: dict[bytes, bytes],
    ) -> None:
        self._nodes = nodes
        self._chance = chance
        self._half = honest_half
        self._injected = injected
        self._forger = Forger(index, chain_id(genesis), nodes, sign, chance)
        self._counterfeits = Counterfeits(genesis, nodes[index], sign, chance.below(2, "counterfeit", index))
        self._alternatives = Alternatives(self._forger, honest_half, league)
        self._overclaims = Overclaims(self._forger, honest_half, chance)
        self._second = SecondSignatures(chain_id(genesis), nodes[index], sign, sign_again, honest_half)
        self._times = FalseTimes(self._forger, honest_half)
        self._hoard = Hoard(self._forger, honest_half)
        self._habits: dict[int, Liar] = {}
        self._memory: deque[bytes] = deque(maxlen=MEMORY_MESSAGES)

    def begin(self, liar: Liar) -> None:
        self._habits[liar.id] = liar

    def end(self, liar_id: int) -> None:
        self._habits.pop(liar_id, None)

    @property
    def censors(self) -> bool:
        """Whether what the regulator sends is kept out of proposals now (censorship.py)."""
        return any(liar.habit is Habit.CENSOR for liar in self._habits.values())

    @property
    def clock_ahead_ms(self) -> int:
        """By how much its clock lies now."""
        times = [liar for liar in self._habits.values() if liar.habit is Habit.TIME]
        return self._times.ahead_ms(times[0]) if times else 0

    def heard(self, channel: Channel, payload: bytes) -> None:
        if channel is not Channel.CONSENSUS or not self._habits:
            return
        self._memory.append(payload)
        if any(liar.habit is Habit.REWRITE for liar in self._habits.values()):
            message = decode(Message, payload)
            if isinstance(message, PrePrepare):
                self._alternatives.remember(message)

    def say(self, receiver: int, channel: Channel, payload: bytes) -> Spoken:
        """What really leaves for `receiver` instead of `payload`."""
        spoken: Spoken = [(payload, 0)]
        for liar in self._habits.values():
            asker = ("lie", liar.id, receiver)
            if not self._chance.happens(liar.permille, *asker):
                continue
            if liar.victims and receiver not in liar.victims:
                continue
            lied = self._lie(liar, asker, spoken) if channel is Channel.CONSENSUS else self._junk(liar, channel, spoken)
            if lied != spoken:
                self._injected(liar.habit.value)
            spoken = lied
        if self._habits and channel is Channel.CONSENSUS:
            self._memory.append(payload)
        return spoken

    def _junk(self, liar: Liar, channel: Channel, spoken: Spoken) -> Spoken:
        if liar.habit is Habit.COUNTERFEIT and channel is Channel.SYNC:
            return [(self._counterfeits.instead(payload), late_ms) for payload, late_ms in spoken]
        if liar.habit is not Habit.JUNK:
            return spoken
        junk = self._forger.junk_blocks if channel is Channel.SYNC else self._forger.junk_gossip
        return [(junk(payload), late_ms) for payload, late_ms in spoken]

    def _lie(self, liar: Liar, asker: Asker, spoken: Spoken) -> Spoken:
        match liar.habit:
            case Habit.MUTE:
                return []
            case Habit.SLOW:
                return [(payload, late_ms + liar.late_ms) for payload, late_ms in spoken]
            case Habit.STALE:
                if not self._memory:
                    return spoken
                return [*spoken, (self._chance.choice(self._memory, *asker), 0)]
            case Habit.OPEN:
                return [*spoken, *((encode(lie), 0) for lie in self._opened_early(asker))]
            case Habit.HOARD:
                return self._hoard.said_instead(liar, int(asker[-1]), spoken)
            case Habit.TIME:
                return self._times.said_instead(liar, spoken, self._injected)
            case Habit.FLOOD:
                return [*spoken, *((encode(self._far(asker)), 0) for _ in range(FLOOD_MESSAGES))]
            case _:
                return [
                    (encode(lie), late_ms)
                    for payload, late_ms in spoken
                    for lie in self._said_instead(liar.habit, decode(Message, payload), asker)
                ]

    def _said_instead(self, habit: Habit, message: Message, asker: Asker) -> list[Message]:
        proposes = isinstance(message, PrePrepare) and self._primary_of(message.view) == self._forger.own
        # A view that is opened early is lie enough.
        opens = isinstance(message, NewView) and message.validator == self._forger.own and bool(message.view_changes)
        match habit:
            case Habit.EQUIVOCATE:
                return [self._equivocated(message)]
            case Habit.FORGE:
                return [self._forger.forged(message), *self._forger.hearsay(message, asker)]
            case Habit.CERTIFY:
                return [self._forger.certified(message)]
            case Habit.HIDE:
                return [self._forger.hidden(message)]
            case Habit.REPROPOSE:
                return [self._alternatives.reproposed(message) if isinstance(message, NewView) and opens else message]
            case Habit.OVERSTATE:
                self._overclaims.remember()
                return [self._overclaims.overstated(message)]
            case Habit.MISSIGN:
                return [self._overclaims.missigned(message) if isinstance(message, NewView) and opens else message]
            case Habit.DOUBLE:
                return self._second.doubled(message, proposes)
            case Habit.PAD:
                return self._second.padded(message)
            case Habit.OPEN_TWICE:
                again = self._alternatives.opened_again(message) if isinstance(message, NewView) and opens else None
                return [message] if again is None else [message, again]
            case Habit.REWRITE:
                rewriting = self._alternatives.rewriting(message) if isinstance(message, NewView) and opens else []
                first = self._chance.happens(500, "rewritten first", *asker)
                return [*rewriting, message] if first else [message, *rewriting]
            case Habit.ROOTS:
                if isinstance(message, PrePrepare) and proposes:
                    return [self._alternatives.with_false_root(message)]
                return [message]
            case Habit.JUNK:
                return [self._forger.junk_bodies(message)]
            case Habit.STATUS:
                return [self._forger.misstated(message, asker)]
            case Habit.COUNTERFEIT | Habit.CENSOR:
                return [message]
            case Habit.MUTE | Habit.SLOW | Habit.STALE | Habit.FLOOD | Habit.OPEN | Habit.TIME | Habit.HOARD:
                raise AssertionError("no rewriting of one message")
            case _:
                assert_never(habit)

    def _equivocated(self, message: Message) -> Message:
        match message:
            case PrePrepare() if self._primary_of(message.view) == self._forger.own:
                return self._alternatives.proposal_instead(message) or message
            case Prepare() | Commit() if message.validator == self._forger.own:
                return self._forger.vote(message, self._alternatives.name_instead(message.block_hash))
            case _:
                return message

    def _opened_early(self, asker: Asker) -> list[NewView]:
        """What the receiver waits for, if the liar has to say it, without what makes it valid."""
        half, receiver = self._half(), self._nodes[int(asker[-1])]
        if half is None or not half.replica.started:
            return []
        state, own = half.replica.state, self._forger.own
        heard = state.heard.get(receiver)
        status = None if heard is None else heard.status
        if status is None or status.epoch != state.epoch.number or status.mode is not Mode.INACTIVE:
            return []
        asking = [message for _, message in sorted(state.view_changes.items()) if message.view == status.view]
        if state.epoch.primary(status.view) != own or len(asking) >= state.epoch.quorum:
            return []
        chosen = tuple(asking) if self._chance.happens(500, "opened with some", *asker) else ()
        return [self._forger.new_view(NewView(status.epoch, status.view, chosen, (), own, bytes(64)))]

    def _primary_of(self, view: int) -> bytes:
        """As far as the honest half knows who decides now."""
        half = self._half()
        validators = self._nodes if half is None else half.flight.tip().next_epoch.validators
        return validators[view % len(validators)]

    def _far(self, asker: Asker) -> Message:
        half = self._half()
        tip = None if half is None else half.flight.tip()
        epoch, committed = (1, 0) if tip is None else (tip.next_epoch.number, tip.height)
        return self._forger.far(epoch, committed, asker)
