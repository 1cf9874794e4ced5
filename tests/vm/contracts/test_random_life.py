"""Random lives of contracts: every invariant after every block, and one outcome however far the queue is behind."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otcnode.errors import Code
from otcnode.genesis import KeyPurpose
from otcnode.vm.contracts.checks import signatures_verify
from otcnode.vm.contracts.lifecycle import TERMINAL
from otcnode.vm.contracts.operations import (
    ContractAccede,
    ContractCallback,
    ContractCreate,
    ContractReject,
    ContractRescind,
    ContractRevise,
    ContractSubmit,
    ContractVoid,
)
from otcnode.vm.contracts.preimages import terms_hash
from otcnode.vm.contracts.records import (
    CONTRACTS,
    AtTime,
    Contract,
    ContractKind,
    ContractStatus,
    CoolingOff,
    Effectiveness,
    Immediately,
    Term,
)
from otcnode.vm.due import next_due
from otcnode.vm.transactions import Decoded
from tests.vm.contracts.desk import DOCUMENT, HOUR_MS, SIGN, Desk
from tests.vm.ledger import EVIDENCE

S = ContractStatus
PARTIES = ("ISS", "ANN", "BEN", "CALL")

Step = tuple[str, int, int | None]
"""(act, a number that chooses contract and party, offset in ms from when the queue runs next; None does not wait)"""

EFFECTS: tuple[Effectiveness, ...] = (
    Immediately(),
    AtTime(0),
    CoolingOff(HOUR_MS, False),
    CoolingOff(HOUR_MS, True),
    CoolingOff(0, False),
)
ACTS = (*("create",) * 3, *("amend",) * 3, *("advance",) * 6, "revise", "reject", "void", "rescind", "accede")
WAITS = (*(None,) * 9, -1, 0, 1)

steps = st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 63), st.sampled_from(WAITS)), min_size=30, max_size=90)


class Player:
    """Plays steps on a ledger, and keeps the transactions with the times of their blocks."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.names: list[bytes] = []
        self.blocks: list[tuple[int, Decoded]] = []
        self.codes: list[Code] = []

    def play(self, step: Step) -> None:
        act, which, wait = step
        at = self._when(wait)
        if act == "create" or not self.names:
            self._add(PARTIES[which % 2], self._creation(which // 2), at)
            return
        name = self._choose(which)
        if act == "amend":
            self._add(PARTIES[which % 2], self._amendment(name, which, at), at)
        elif act == "advance":
            for _ in range(1 + which % 6):
                self._forward(name, at)
        else:
            by = self.desk.contract(name).creator if act in ("revise", "void") else None
            self._do(self.desk.name_of(by) if by else PARTIES[which % 4], self._operation(act, name), at)

    def _choose(self, which: int) -> bytes:
        """Mostly one on which something can still happen."""
        live = [name for name in self.names if self.desk.status(name) not in TERMINAL]
        among = live if live and which % 8 else self.names
        return among[which % len(among)]

    def _when(self, wait: int | None) -> int:
        following = next_due(self.desk.view)
        if wait is None or following is None:
            return self.desk.now
        return max(self.desk.now, following + wait)

    def _amendment(self, name: bytes, which: int, at: int) -> ContractCreate:
        kind = ContractKind.TERMINATION if which % 8 == 0 else ContractKind.AMENDMENT
        effective = AtTime(at + HOUR_MS) if which % 3 else Immediately()
        return self.desk.creation(kind=kind, supersedes=name, subject=None, effective=effective)

    def _creation(self, which: int) -> ContractCreate:
        effective = EFFECTS[which % len(EFFECTS)]
        effective = AtTime(self.desk.now + HOUR_MS) if isinstance(effective, AtTime) else effective
        is_open = which % 3 == 0
        return self.desk.creation(
            kind=ContractKind.MASTER if is_open else ContractKind.TRANSFER,
            open=is_open,
            effective=effective,
            confirm_by=self.desk.now + HOUR_MS,
            sign_by=self.desk.now + HOUR_MS * (1 + which % 2),
        )

    def _operation(self, act: str, name: bytes) -> Any:
        terms = (Term("version", self.desk.contract(name).version),)
        return {
            "revise": ContractRevise(name, terms, terms_hash(terms), DOCUMENT),
            "reject": ContractReject(name, "why"),
            "void": ContractVoid(name, "why"),
            "rescind": ContractRescind(name),
            "accede": ContractAccede(name),
        }[act]

    def _forward(self, name: bytes, at: int) -> None:
        """What moves this contract on, by whose turn it is."""
        contract = self.desk.contract(name)
        turn = contract.waiting_for
        if contract.status is S.CONFIRMING:
            slot = turn[-1]
            self._do(self.desk.name_of(contract.slots[slot].account), self.desk.confirmation(name, slot), at)
        elif contract.status is S.SIGNING:
            slot = turn[0]
            self._do(self.desk.name_of(contract.slots[slot].account), self.desk.signature(name, slot), at)
        elif contract.status is S.SIGNED:
            self._do("CALL", ContractCallback(name, EVIDENCE), at, KeyPurpose.TRADE)
        else:
            self._do(self.desk.name_of(contract.creator), ContractSubmit(name), at)

    def _add(self, by: str, creation: Any, at: int) -> None:
        if self._do(by, creation, at) is Code.OK:
            assert self.desk.last is not None
            self.names.append(self.desk.created(self.desk.last.receipts[-1]))

    def _do(self, by: str, operation: Any, at: int, purpose: KeyPurpose = SIGN) -> Code:
        transaction = self.desk.sign(by, operation, purpose=purpose, valid_until=at + 1)
        self.blocks.append((at, transaction))
        self.codes.append(self.desk.block(transaction, at=at).receipts[0].code)
        return self.codes[-1]


def finish(desk: Desk) -> dict[bytes, Contract]:
    """What became of each contract once the queue has caught up."""
    desk.block(at=desk.now + 10 * HOUR_MS)
    while desk.block(at=desk.now).automatic:
        pass
    assert list(signatures_verify(desk.state, desk.chain)) == []
    return dict(desk.state.scan(CONTRACTS))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(steps)
def test_one_outcome_however_far_the_queue_is_behind(story: list[Step]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        player = Player(Desk(monkeypatch))
        for step in story:
            player.play(step)
        expected = finish(player.desk)
    with pytest.MonkeyPatch.context() as monkeypatch:
        behind = Desk(monkeypatch)
        behind.slow_down()
        codes = [behind.block(transaction, at=at).receipts[0].code for at, transaction in player.blocks]
        assert codes == player.codes
        assert finish(behind) == expected


def test_the_queue_can_be_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the property above rests on: with a budget of 1 a second expiry waits for the next block."""
    desk = Desk(monkeypatch)
    desk.slow_down()
    names = [desk.create(confirm_by=desk.now + HOUR_MS, sign_by=desk.now + HOUR_MS) for _ in range(2)]
    at = desk.contract(names[1]).confirm_by
    desk.block(at=at)
    assert [desk.status(name) for name in names] == [S.EXPIRED, S.DRAFT]
    desk.act("ISS", ContractSubmit(names[1]), Code.EXPIRED, at=at)
    assert desk.status(names[1]) is S.EXPIRED
    assert desk.contract(names[1]).ended_at == at
