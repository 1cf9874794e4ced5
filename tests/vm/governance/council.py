"""A trading floor whose desks and regulator govern together."""

from __future__ import annotations

from typing import Any

from otcnode.crypto import sha256
from otcnode.errors import Code
from otcnode.vm.governance.events import ProposalChanged
from otcnode.vm.governance.operations import GovernanceApprove, GovernancePropose
from otcnode.vm.governance.records import PROPOSALS, Action, Proposal, ProposalStatus
from otcnode.vm.results import Receipt
from tests.vm.accounts.agency import MANAGE, Agency

PAPER = sha256(b"minutes")


class Council(Agency):
    def __init__(self, **changes: Any) -> None:
        super().__init__(**{"rate_ppm": 0, **changes})

    def put_forward(self, action: Action, by: str = "REG", code: Code = Code.OK) -> bytes:
        receipt = self.act(by, GovernancePropose(action, "why", PAPER), purpose=MANAGE, code=code)
        return next((event.proposal for event in receipt.events if isinstance(event, ProposalChanged)), b"")

    def approve(self, proposal: bytes, by: str = "RCV", code: Code = Code.OK, at: int | None = None) -> Receipt:
        return self.act(by, GovernanceApprove(proposal), purpose=MANAGE, code=code, at=at)

    def decide(
        self, action: Action, code: Code = Code.OK, first: str = "REG", second: str = "RCV"
    ) -> tuple[bytes, Receipt]:
        """Proposed by one, approved by another."""
        name = self.put_forward(action, first)
        return name, self.approve(name, second, code)

    def proposal_record(self, name: bytes) -> Proposal:
        found = self.state.get(PROPOSALS, name)
        assert found is not None
        return found

    def proposal_status(self, name: bytes) -> ProposalStatus:
        return self.proposal_record(name).status
