"""When transactions that have no place here first came: what was refused, what was given up, and what there was no time
to verify. A primary that takes one of them took what this node has seen, however little became of it here."""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

from otcnode import limits
from otcnode.crypto import hmac_sha256
from otcnode.types import FullHash, Milliseconds, TransactionId
from otcnode.vm.transactions import Decoded

_NUMBERS = struct.Struct(">5I")
_Places = tuple[tuple[int, int], ...]
"""The bits of a transaction in every outline: bytes and masks."""


class _Sighting(NamedTuple):
    seen_ms: Milliseconds
    valid_until: Milliseconds


class _Outline:
    """That a transaction came in one slice of time: surely so for all that did, and by mistake for less than one in 300
    others where it is full (B. H. Bloom, Space/time trade-offs in hash coding with allowable errors, 1970)."""

    def __init__(self) -> None:
        self.bits = bytearray(limits.sightings_outline_bytes)
        self._held = 0

    def add(self, places: _Places) -> bool:
        """False: it is full."""
        if self._held >= limits.sightings_per_outline_max:
            return False
        self._held += 1
        for byte, mask in places:
            self.bits[byte] |= mask
        return True

    def holds(self, places: _Places) -> bool:
        return all(self.bits[byte] & mask for byte, mask in places)


class Sightings:
    """Authentic ones: the latest exactly, by id; of more than that, in which slice of time each came. So whoever sends
    what is refused makes this node forget nothing. Of what is not verified the slice, by its very bytes: a forged copy
    says nothing of the true one. `secret`: or others could make up what looks as if it came."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._sightings: OrderedDict[TransactionId, _Sighting] = OrderedDict()
        self._outlines: dict[int, _Outline] = {}

    def __len__(self) -> int:
        return len(self._sightings)

    def note(self, decoded: Decoded, seen_ms: Milliseconds, block_time_ms: Milliseconds) -> bool:
        """The first counts (real milliseconds). False if another one was forgotten for it that a block may yet hold."""
        if self.seen_ms(decoded.id) is None:
            self._sightings[decoded.id] = _Sighting(seen_ms, decoded.transaction.body.valid_until)
        if len(self._sightings) <= limits.refused_transactions_remembered_max:
            return True
        forgotten, sighting = self._sightings.popitem(last=False)
        return sighting.valid_until <= block_time_ms or self._outline(forgotten, sighting.seen_ms)

    def note_unverified(self, full_hash: FullHash, seen_ms: Milliseconds) -> bool:
        """False: there is no room even for that."""
        return self._outline(full_hash, seen_ms)

    def _outline(self, transaction_id: TransactionId | FullHash, seen_ms: Milliseconds) -> bool:
        """What came before all slices that are kept has waited for longer than anything waits at an honest primary."""
        number = seen_ms // limits.sightings_slice_ms
        if number not in self._outlines:
            latest = max(number, *self._outlines) if self._outlines else number
            if number <= latest - limits.sightings_slices_max:
                return True
            for over in [other for other in self._outlines if other <= latest - limits.sightings_slices_max]:
                del self._outlines[over]
            self._outlines[number] = _Outline()
        return self._outlines[number].add(self._places(transaction_id))

    def _places(self, transaction_id: TransactionId | FullHash) -> _Places:
        numbers = _NUMBERS.unpack(hmac_sha256(self._secret, transaction_id)[: _NUMBERS.size])
        return tuple(((number >> 3) % limits.sightings_outline_bytes, 1 << (number & 7)) for number in numbers)

    def seen_ms(self, transaction_id: TransactionId | FullHash) -> Milliseconds | None:
        """Where only the slice is known, its beginning."""
        sighting = self._sightings.get(transaction_id)
        if sighting is not None or not self._outlines:
            return None if sighting is None else sighting.seen_ms
        places = self._places(transaction_id)
        byte, mask = places[0]
        likely = [number for number, outline in self._outlines.items() if outline.bits[byte] & mask]
        numbers = [number for number in likely if self._outlines[number].holds(places)]
        return min(numbers) * limits.sightings_slice_ms if numbers else None

    def forget(self, transaction_ids: Iterable[TransactionId]) -> None:
        """They are in a block."""
        for transaction_id in transaction_ids:
            self._sightings.pop(transaction_id, None)
