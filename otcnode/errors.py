"""What others can do wrong. Our own mistakes are assertions and stay on.

Every error that can reach a client carries a `Code`; the codes and when each applies are fixed by the ledger's
rules (docs/design.md, "Errors by blame").
"""

from __future__ import annotations

from enum import StrEnum


class Code(StrEnum):
    """The outcome of a transaction or of the attempt to submit one. OK is the only success."""

    OK = "OK"
    # inadmissible: such a transaction never enters a block
    DECODE = "E_DECODE"
    CHAIN = "E_CHAIN"
    TX_EXPIRED = "E_TX_EXPIRED"
    TX_DUPLICATE = "E_TX_DUPLICATE"
    AUTH = "E_AUTH"
    KEY_REVOKED = "E_KEY_REVOKED"
    KEY_PURPOSE = "E_KEY_PURPOSE"
    THRESHOLD = "E_THRESHOLD"
    ACCOUNT_STATE = "E_ACCOUNT_STATE"
    # failed: in the block, with a receipt, state untouched
    PAUSED = "E_PAUSED"
    ROLE = "E_ROLE"
    FROZEN = "E_FROZEN"
    NOT_FOUND = "E_NOT_FOUND"
    DUPLICATE = "E_DUPLICATE"
    STATE = "E_STATE"
    EXPIRED = "E_EXPIRED"
    NOT_PARTY = "E_NOT_PARTY"
    FIELD = "E_FIELD"
    AMOUNT = "E_AMOUNT"
    OVERFLOW = "E_OVERFLOW"
    LACK_CASH = "E_LACK_CASH"
    LACK_QTY = "E_LACK_QTY"
    FOUR_EYES = "E_FOUR_EYES"
    LIMIT = "E_LIMIT"
    FORBIDDEN = "E_FORBIDDEN"
    # accounts
    HOLDER_CAP = "E_HOLDER_CAP"
    DUP_BANK_REF = "E_DUP_BANK_REF"
    ENTRUST_SCOPE = "E_ENTRUST_SCOPE"
    ENTRUST_CAP = "E_ENTRUST_CAP"
    SELF_DEALING = "E_SELF_DEALING"
    LOCKUP = "E_LOCKUP"
    # contracts
    FIELDS_MISSING = "E_FIELDS_MISSING"
    CONTRACT_VERSION = "E_CONTRACT_VERSION"
    CONTRACT_TERMS = "E_CONTRACT_TERMS"
    CONTRACT_NOT_EFFECTIVE = "E_CONTRACT_NOT_EFFECTIVE"
    ALREADY_SIGNED = "E_ALREADY_SIGNED"
    SIGN_TURN = "E_SIGN_TURN"
    COOLING_OFF_OPEN = "E_COOLING_OFF_OPEN"
    # products and trades
    NOT_QUALIFIED = "E_NOT_QUALIFIED"
    SUITABILITY = "E_SUITABILITY"
    MIN_QTY = "E_MIN_QTY"
    STEP = "E_STEP"
    TURNAROUND = "E_TURNAROUND"
    QUOTE_NOT_FIRM = "E_QUOTE_NOT_FIRM"


class OtcnodeError(Exception):
    """Base of every error that somebody else caused."""


class Unreachable(OtcnodeError):
    """No node that was asked answered, or could serve."""


class DecodeError(OtcnodeError):
    """Bytes that are not the canonical encoding of the expected type."""


class ConfigurationError(OtcnodeError):
    """A configuration, genesis file or home directory that cannot be used; the message is one readable line."""


class UnservableState(ConfigurationError):
    """No snapshot can be made of a state: what is in one bucket of its tree, or the list of all changes of the
    validators, is more than a message carries."""


class LedgerError(OtcnodeError):
    """A ledger rule refused something. `detail` names the field or the figures, for a human."""

    def __init__(self, code: Code, detail: str = "") -> None:
        super().__init__(f"{code.value}: {detail}" if detail else code.value)
        self.code = code
        self.detail = detail


class Inadmissible(LedgerError):
    """The transaction may not be in a block at all (ledger rules, fixed order of checks up to the threshold)."""


class Failed(LedgerError):
    """The transaction is in the block, its receipt carries the code, and it changed nothing."""


class StorageDamage(OtcnodeError):
    """What is on disk is not what was written. The message names the place and the command that helps."""


class StorageRefused(StorageDamage):
    """The system refused a read or a write, as it does where too many files are open or a right is missing: what is on
    disk is as it was, and may be had a moment later."""


class DiskFull(StorageRefused):
    """The disk took no more; what is on it is as it was."""


class OtherFormat(ConfigurationError):
    """A store in a format that this version does not read. The message names the way on."""


class FolderDamage(StorageDamage):
    """The same of a file in a folder of snapshots, which no chain depends on."""


class NoRoom(FolderDamage):
    """There is less room for a snapshot than it needs; nothing is wrong with the disk."""


class GatheredDamage(StorageDamage):
    """The same of what has been gathered of a snapshot, which can be fetched again."""


class DocumentNotKept(OtcnodeError):
    """The disk does not take a sealed document. No block depends on it: the node goes on, and others may keep it."""


class NodeFailed(Exception):
    """A mistake of our own ended a running node; its log has the whole story."""


class ProofError(OtcnodeError):
    """A certificate, proof or piece of evidence that does not verify."""
