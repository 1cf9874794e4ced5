"""A trading floor on which AGT, who owns nothing, acts for others."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from otcnode.crypto import sha256
from otcnode.errors import Code
from otcnode.genesis import KeyPurpose
from otcnode.vm.accounts.events import EntrustmentChanged
from otcnode.vm.accounts.operations import EntrustAccept, EntrustGrant
from otcnode.vm.accounts.records import ENTRUSTMENTS, Entrustment, EntrustmentStatus, Powers, Scope
from otcnode.vm.operations import Operation
from otcnode.vm.results import Receipt
from tests.vm.ledger import DAY_MS
from tests.vm.trades.floor import Floor

MANAGE = KeyPurpose.MANAGE
AUTHORITY = sha256(b"power of attorney")
ALL = tuple(sorted(Scope))


class Agency(Floor):
    def __init__(self, **changes: Any) -> None:
        super().__init__(**changes)
        self.investor("AGT")

    def powers(self, **changes: Any) -> Powers:
        """Every scope, any product and price, 100,000.00 an act and 200,000.00 in all, for thirty days."""
        powers = Powers(
            scopes=ALL,
            products=None,
            min_price=None,
            max_price=None,
            per_action_cap=100_000_00,
            total_cap=200_000_00,
            valid_from=0,
            until=self.now + 30 * DAY_MS,
            document=AUTHORITY,
            allow_self_dealing=False,
        )
        return replace(powers, **changes)

    def grant(self, principal: str = "BEN", agent: str = "AGT", code: Code = Code.OK, **changes: Any) -> bytes:
        receipt = self.act(principal, EntrustGrant(self.ids[agent], self.powers(**changes)), purpose=MANAGE, code=code)
        return next((event.entrustment for event in receipt.events if isinstance(event, EntrustmentChanged)), b"")

    def entrusted(self, principal: str = "BEN", agent: str = "AGT", **changes: Any) -> bytes:
        name = self.grant(principal, agent, **changes)
        self.act(agent, EntrustAccept(name), purpose=MANAGE)
        return name

    def act_for(
        self,
        principal: str,
        entrustment: bytes | None,
        *operations: Operation,
        code: Code = Code.OK,
        agent: str = "AGT",
        at: int | None = None,
        purpose: KeyPurpose = KeyPurpose.TRADE,
    ) -> Receipt:
        at = self.now + 1 if at is None else at
        decoded = self.sign(
            agent,
            *operations,
            purpose=purpose,
            valid_until=at + 1,
            on_behalf_of=self.ids[principal],
            entrustment=entrustment,
        )
        result = self.block(decoded, at=at)
        receipt = result.receipts[0]
        assert receipt.code is code, f"{receipt.code}: {result.explanations[0]}"
        return receipt

    def entrustment(self, name: bytes) -> Entrustment:
        found = self.state.get(ENTRUSTMENTS, name)
        assert found is not None
        return found

    def standing(self, name: bytes) -> tuple[EntrustmentStatus, int]:
        record = self.entrustment(name)
        return record.status, record.used
