"""A record of everything that a replica was told and did, from which it can be stepped again. Pure.

A replica has no clock, chance or disk of its own: the same events at the same moments give the same effects. What it
takes from outside beside events are signatures of its own key, so they are recorded too and the key is not needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from otcnode.codec import Record, encode
from otcnode.consensus.configuration import Configuration
from otcnode.consensus.effects import Effect
from otcnode.consensus.events import Event, Now
from otcnode.consensus.replica import Replica
from otcnode.crypto import tagged_hash
from otcnode.errors import OtcnodeError
from otcnode.types import ChainId, Ed25519Signature, Hash, Milliseconds, Natural, NodeId

EFFECTS_DOMAIN = "otcnode/recorded-effects/1"


class RecordedConfiguration(Record, frozen=True):
    """What the replica was made with; the fields are those of `Configuration`."""

    chain: ChainId
    own: NodeId | None
    clock_rate: Natural
    view_timeout_ms_base: Milliseconds
    view_timeout_ms_max: Milliseconds
    vote_again_after_loss: bool
    record_bytes_before_compaction: Natural

    @classmethod
    def of(cls, configuration: Configuration) -> RecordedConfiguration:
        return cls(**{name: getattr(configuration, name) for name in cls.__struct_fields__})

    def configuration(self) -> Configuration:
        return Configuration(**{name: getattr(self, name) for name in self.__struct_fields__})


class RecordedStep(Record, frozen=True):
    """`signatures` are those made in the step, in order; `effects` is the hash of its effects."""

    now: Now
    event: Event
    signatures: tuple[Ed25519Signature, ...]
    effects: Hash


class Recorder(Protocol):
    """Takes the steps of a replica as they are made. Never raises: what cannot be recorded is not."""

    @property
    def full(self) -> bool:
        """Whether the replica should begin anew, so that what is recorded can be cut into bounded parts."""
        ...

    def begin(self) -> None:
        """A replica begins; its first step is next."""
        ...

    def step(self, event: Event, now: Now, effects: Sequence[Effect]) -> None: ...


def effects_hash(effects: Sequence[Effect]) -> Hash:
    return tagged_hash(EFFECTS_DOMAIN, encode(list(effects)))


class Diverged(OtcnodeError):
    """The replica did otherwise than it is recorded to have done."""


class Replayed(NamedTuple):
    """One step made again; `replica` is as it is after it."""

    number: int
    step: RecordedStep
    effects: list[Effect]
    replica: Replica


def replay(configuration: RecordedConfiguration, steps: Iterator[RecordedStep]) -> Iterator[Replayed]:
    """Step a replica through what is recorded. Raises Diverged at the first step whose effects or signatures are not
    those that were recorded."""
    given: list[bytes] = []

    def sign(message: bytes) -> bytes:
        if not given:
            raise Diverged("it signs something that it is not recorded to have signed")
        return given.pop(0)

    replica = Replica(configuration.configuration(), sign)
    for number, step in enumerate(steps, 1):
        given[:] = step.signatures
        try:
            effects = replica.step(step.event, step.now)
        except Diverged as error:
            raise Diverged(f"step {number}: {error}") from None
        if given or effects_hash(effects) != step.effects:
            raise Diverged(f"step {number}: the effects are not those recorded")
        yield Replayed(number, step, effects, replica)
