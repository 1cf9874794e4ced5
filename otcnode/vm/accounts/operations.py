"""Operations on accounts, keys, freezes and cash."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from otcnode.codec import Record
from otcnode.genesis import KeyPurpose
from otcnode.types import AccountId, Bytes32, Hash, Milliseconds, Natural, PublicKey
from otcnode.vm.accounts.records import AccountKind, Asset, Category, NewKeys, Powers, Thresholds
from otcnode.vm.accounts.records import NewKey as NewKey

Text = Annotated[str, Meta(max_length=256)]
CashId = Annotated[str, Meta(min_length=1, max_length=31)]
BankReference = Annotated[str, Meta(min_length=1, max_length=64)]


class AccountApply(Record, frozen=True, tag="account.apply"):
    """Ask for an account. It becomes PENDING, named by this operation's id, until the KYC desk reviews it.

    Sender: empty; sole operation; signed by at least `thresholds.manage` of its own new MANAGE keys, and no other.
    Fields: `kind`; `identity_commitment`, the salted hash of the identity file; `keys`, each once; `encryption_key`
    (X25519); `thresholds` per purpose, at most the number of its keys; `ultimate_holders` ≥ 1, people behind it.
    Effects: the account with its keys; dropped after 30 days without a review.
    Errors: E_FIELD{keys, thresholds, ultimate_holders}, E_LIMIT (pending accounts).
    """

    kind: AccountKind
    identity_commitment: Hash
    keys: NewKeys
    encryption_key: Bytes32
    thresholds: Thresholds
    ultimate_holders: Natural


class AccountReview(Record, frozen=True, tag="account.review"):
    """Decide on an application. Signed by: OPERATOR.KYC (TRADE key).

    Fields: `account`; `approve`; `reason`, required when rejecting.
    Effects: PENDING → ACTIVE with role INVESTOR, or → REJECTED.
    Errors: E_NOT_FOUND, E_STATE (not PENDING), E_FIELD{reason}.
    """

    account: AccountId
    approve: bool
    reason: Text


class InvestorCertify(Record, frozen=True, tag="investor.certify"):
    """Certify what an investor may buy. Signed by: OPERATOR.KYC (TRADE key). Replaces an earlier certificate.

    Fields: `account`; `risk` 1 to 5; `category` (PROFESSIONAL satisfies any category and risk); `valid_until`, in ms,
    after now and at most three years ahead; `ultimate_holders` ≥ 1; `evidence` hash.
    Errors: E_NOT_FOUND, E_STATE (account not ACTIVE), E_FIELD{risk, valid_until, ultimate_holders},
    E_HOLDER_CAP (a product held would have more holders than it may).
    """

    account: AccountId
    risk: Natural
    category: Category
    valid_until: Milliseconds
    ultimate_holders: Natural
    evidence: Hash


class AccountFreeze(Record, frozen=True, tag="account.freeze"):
    """Freeze an account, or an amount of one asset in it. Signed by: REGULATOR or OPERATOR.FREEZER (TRADE key).

    Fields: `account`; `asset`, a cash id in UTF-8, a product id, or nil for FULL; `amount` in minor units or units,
    0 for FULL; `document`, the legal document's hash; `until` in ms or nil. The FREEZER desk must name an `until`
    within 72 hours, and may not freeze the account again within 30 days. A freeze is over at `until`.
    Effects: FULL blocks every debit, new order and signature, touches no lock, lets credits post; a partial freeze
    reserves the amount. A REGULATOR's FULL freeze cancels open offers, quotes and redemptions.
    Errors: E_NOT_FOUND (account, asset), E_STATE (closed, rejected or pending), E_FIELD{until}, E_AMOUNT, E_FORBIDDEN
    (FREEZER again too early), E_LACK_CASH, E_LACK_QTY (amount > balance − locked − frozen).
    """

    account: AccountId
    asset: Asset | None
    amount: Natural
    document: Hash
    until: Milliseconds | None


class AccountUnfreeze(Record, frozen=True, tag="account.unfreeze"):
    """Lift a freeze. Signed by: REGULATOR (any freeze) or OPERATOR.FREEZER (its own) (TRADE key).

    Fields: `freeze`, the id of the freeze; `document`, the legal document's hash.
    Errors: E_NOT_FOUND, E_NOT_PARTY (FREEZER on another's freeze).
    """

    freeze: Bytes32
    document: Hash


class KeyAdd(Record, frozen=True, tag="key.add"):
    """Add a key to the sender's account, effective from this transaction on. Signed by: MANAGE keys.

    Fields: `purpose`; `key`.
    Errors: E_DUPLICATE (the account has or had it, or a recovery brings it), E_LIMIT (32 live keys).
    """

    purpose: KeyPurpose
    key: PublicKey


class KeyRevoke(Record, frozen=True, tag="key.revoke"):
    """Revoke a key of the sender's account, effective from this transaction on. Signed by: MANAGE keys.

    Signatures made before stay valid. Fields: `key`.
    Errors: E_NOT_FOUND, E_STATE (already revoked), E_THRESHOLD (too few of its purpose would remain).
    """

    key: PublicKey


class KeyRotate(Record, frozen=True, tag="key.rotate"):
    """Replace a key by another of the same purpose, in one step. Signed by: MANAGE keys.

    Fields: `old`, `new`.
    Errors: E_NOT_FOUND, E_STATE (already revoked), E_DUPLICATE (the account has or had it, or a recovery brings it).
    """

    old: PublicKey
    new: PublicKey


class CashDeposit(Record, frozen=True, tag="cash.deposit"):
    """Create cash for money that reached the bank. Signed by: the cash id's CUSTODIAN (TRADE key).

    Fields: `account`; `cash` id; `amount` in minor units; `bank_reference`, unique per custodian and direction.
    Effects: the account's balance and the cash id's total rise; credits post to frozen accounts too.
    Errors: E_NOT_FOUND, E_NOT_PARTY (not the custodian of this cash), E_STATE (account not ACTIVE or RECOVERING, or a
    reconciliation break is open), E_AMOUNT (0), E_DUP_BANK_REF, E_LIMIT (daily limit), E_OVERFLOW (the total).
    """

    account: AccountId
    cash: CashId
    amount: Natural
    bank_reference: BankReference


class CashWithdraw(Record, frozen=True, tag="cash.withdraw"):
    """Ask the custodian to pay money out. Signed by: the holder (TRADE key).

    Fields: `cash` id; `amount` in minor units; `destination`, the salted hash of the bank account to pay to.
    Effects: a withdrawal, LOCKED, named by this operation's id; the amount is locked.
    Errors: E_NOT_FOUND (cash), E_FROZEN, E_AMOUNT (0), E_LIMIT (open items), E_LACK_CASH.
    """

    cash: CashId
    amount: Natural
    destination: Hash


class CashWithdrawCancel(Record, frozen=True, tag="cash.withdraw_cancel"):
    """Take a withdrawal back before the custodian decided. Signed by: the holder (TRADE key).

    Fields: `withdrawal`. Effects: LOCKED → CANCELLED, the amount is released.
    Errors: E_NOT_FOUND, E_NOT_PARTY, E_STATE (not LOCKED).
    """

    withdrawal: Bytes32


class CashWithdrawResult(Record, frozen=True, tag="cash.withdraw_result"):
    """Say what became of a withdrawal. Signed by: the cash id's CUSTODIAN (TRADE key).

    Fields: `withdrawal`; `paid`; `bank_reference`, unique per custodian and direction, required when paid; `reason`,
    required when not paid.
    Effects: LOCKED → PAID, the locked cash is burnt; or → REJECTED, it is released.
    Errors: E_NOT_FOUND, E_NOT_PARTY, E_STATE (not LOCKED), E_FROZEN (paid, on an account under a FULL freeze),
    E_FIELD{bank_reference, reason}, E_DUP_BANK_REF.
    """

    withdrawal: Bytes32
    paid: bool
    bank_reference: Annotated[str, Meta(max_length=64)]
    reason: Text


class EntrustGrant(Record, frozen=True, tag="entrust.grant"):
    """Offer an agent to act for the sender. Signed by: the principal (MANAGE keys).

    Fields: `agent`; `powers`: `scopes`, ascending, at least one; `products`, ascending, or nil for any; `min_price` and
    `max_price` in 10^-4 per unit; `per_action_cap` and `total_cap` in minor units, fees included; `valid_from` and
    `until` in ms, `until` at most a year ahead; `document`, the commitment to the power of attorney;
    `allow_self_dealing`.
    Effects: an entrustment, PROPOSED, named by this operation's id; the agent may accept it until `until`.
    Errors: E_NOT_FOUND (agent, a product), E_STATE (agent not ACTIVE), E_FROZEN (either), E_FIELD{agent, scopes,
    products, max_price, until}, E_LIMIT (open items).
    """

    agent: AccountId
    powers: Powers


class EntrustAccept(Record, frozen=True, tag="entrust.accept"):
    """Accept an entrustment. Signed by: the agent (MANAGE keys).

    Fields: `entrustment`. Effects: PROPOSED → ACTIVE.
    Errors: E_NOT_FOUND, E_NOT_PARTY, E_EXPIRED (t ≥ until), E_STATE (not PROPOSED, or the principal's account is not
    ACTIVE), E_FROZEN (either).
    """

    entrustment: Bytes32


class EntrustDecline(Record, frozen=True, tag="entrust.decline"):
    """Decline an entrustment. Signed by: the agent (MANAGE keys).

    Fields: `entrustment`. Effects: PROPOSED → DECLINED.
    Errors: E_NOT_FOUND, E_NOT_PARTY, E_EXPIRED (t ≥ until), E_STATE (not PROPOSED).
    """

    entrustment: Bytes32


class EntrustRevoke(Record, frozen=True, tag="entrust.revoke"):
    """End an entrustment. Signed by: the principal or the agent (MANAGE keys).

    What was done under it stands. Fields: `entrustment`. Effects: ACTIVE → REVOKED.
    Errors: E_NOT_FOUND, E_NOT_PARTY, E_EXPIRED (t ≥ until), E_STATE (not ACTIVE).
    """

    entrustment: Bytes32


class AccountRecover(Record, frozen=True, tag="account.recover"):
    """Propose new keys for an account whose own are lost or stolen. Signed by: OPERATOR.RECOVERY (TRADE key).

    Fields: `account`; `keys`, each once and never the account's before; `thresholds` per purpose, at most the number of
    its keys; `encryption_key` (X25519); `document`, the legal document's hash.
    Effects: a recovery, PROPOSED, named by this operation's id; it expires if not approved within 7 days.
    Errors: E_NOT_FOUND, E_STATE (account not ACTIVE), E_FIELD{keys, thresholds}, E_DUPLICATE (a key the account has or
    had, or a recovery is under way), E_LIMIT (open items).
    """

    account: AccountId
    keys: NewKeys
    thresholds: Thresholds
    encryption_key: Bytes32
    document: Hash


class AccountRecoverApprove(Record, frozen=True, tag="account.recover_approve"):
    """Approve a recovery. Signed by: a REGULATOR of another organisation than the desk's (TRADE key).

    Fields: `recovery`. Effects: PROPOSED → DELAYED, the account is RECOVERING for 24 hours, in which only the objection
    of a live key passes. Then the keys change, and what the account granted and stands to: entrustments given, offers,
    quotes and proposals end; locks, freezes, contracts and locked trades stay.
    Errors: E_NOT_FOUND, E_FOUR_EYES, E_EXPIRED (7 days), E_STATE (not PROPOSED, whoever proposed it has lost the role
    or is not ACTIVE, or the account is not ACTIVE).
    """

    recovery: Bytes32


class AccountObject(Record, frozen=True, tag="account.object"):
    """Stop the recovery of the sender's account. Signed by: one live MANAGE key.

    Effects: DELAYED → OBJECTED, the account is ACTIVE again. No fields.
    Errors: E_STATE (no recovery is under way), E_EXPIRED (the 24 hours are over).
    """


class AccountClose(Record, frozen=True, tag="account.close"):
    """Close an account: its holder asks, then the KYC desk completes. Signed by: the holder, OPERATOR.KYC (MANAGE
    keys).

    Fields: `account`. Effects: the holder's marks it as closing; the desk's → CLOSED.
    Errors: E_NOT_FOUND, E_NOT_PARTY (neither), E_STATE (not ACTIVE, the holder has not asked, or something is held,
    locked or open; issuer, fee payee or custodian of a live product; custodian of cash that exists), E_FROZEN,
    E_DUPLICATE (the holder asked already).
    """

    account: AccountId


class CustodyAttest(Record, frozen=True, tag="custody.attest"):
    """Say what the bank held for a cash id when a block was final. Signed by: the cash id's CUSTODIAN (TRADE key).

    Fields: `cash` id; `height`, of a block before this one and at most `attest_window_blocks` old; `bank_total` in
    minor units; `statement`, the hash of the bank's statement.
    Effects: ReconOk if the ledger's total as of that height is the same, else ReconBreak, and the cash id's deposits
    are E_STATE until a regulator resumes them.
    Errors: E_NOT_FOUND, E_NOT_PARTY (another custodian's cash), E_FIELD{height}.
    """

    cash: CashId
    height: Natural
    bank_total: Natural
    statement: Hash


class CustodyResume(Record, frozen=True, tag="custody.resume"):
    """Let deposits of a cash id go on after a reconciliation break. Signed by: REGULATOR (TRADE key).

    Fields: `cash` id; `document`, the hash of what explains the break.
    Errors: E_NOT_FOUND, E_STATE (deposits are not stopped).
    """

    cash: CashId
    document: Hash
