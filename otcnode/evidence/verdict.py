"""What comes of checking a package. Pure."""

from __future__ import annotations

from enum import StrEnum

from otcnode.errors import OtcnodeError


class Outcome(StrEnum):
    """OK; or the first thing that is wrong, in this order of looking: GENESIS_MISMATCH, of another chain;
    SIGNATURE_INVALID, a signature of a transaction or contract is not by its key; PROOF_INVALID, not what the chain
    certified; INCOMPLETE, something that belongs to it is missing; DOC_HASH_MISMATCH, another document."""

    OK = "OK"
    GENESIS_MISMATCH = "GENESIS_MISMATCH"
    SIGNATURE_INVALID = "SIGNATURE_INVALID"
    PROOF_INVALID = "PROOF_INVALID"
    INCOMPLETE = "INCOMPLETE"
    DOC_HASH_MISMATCH = "DOC_HASH_MISMATCH"


class Refused(OtcnodeError):
    """A package that does not show what it should; `detail` says what and where."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(f"{outcome.value}: {detail}")
        self.outcome = outcome
        self.detail = detail
