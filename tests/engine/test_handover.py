"""A validator that was removed is told whether it may be stopped."""

from __future__ import annotations

from otcnode.blocks import Epoch
from otcnode.engine.handover import Handover, handover_of
from otcnode.genesis import ChainParameters

A, B, C, D, E = (bytes([number]) * 32 for number in range(5))
PARAMETERS = ChainParameters().consensus
FIRST = Epoch(1, (A, B, C, D), PARAMETERS)
SECOND = Epoch(7, (B, C, D, E), PARAMETERS)
TUNED = Epoch(20, (B, C, D, E), PARAMETERS)


def test_who_decides_or_never_did_hands_nothing_over() -> None:
    assert handover_of(A, [FIRST], {}) is None
    assert handover_of(B, [FIRST, SECOND], {}) is None
    assert handover_of(E, [FIRST], {}) is None


def test_it_is_needed_until_a_quorum_reports_the_first_height_without_it() -> None:
    epochs = [FIRST, SECOND, TUNED]
    claims = {B: 7, C: 6, E: 30, A: 30}
    found = handover_of(A, epochs, claims)
    assert found == Handover(7, 2, 3) and "keep this node running until 3 report that height; 2 do" in found.text
    found = handover_of(A, epochs, claims | {C: 7})
    assert found is not None and "it may be stopped" in found.text
