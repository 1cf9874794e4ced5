"""Who is asking, and what they may see.

A caller proves an account by signing a challenge of this node with one of the account's keys, and gets a bearer token:
15 minutes, this node only, void from the moment the key is revoked. Challenges are not stored (a keyed hash recognises
the node's own), so asking for many fills no memory; only those redeemed are remembered, until they expire.

What a caller may see is decided per row. A refusal is the same whether or not the row exists, so that nobody learns by
asking. Times here are real milliseconds (UTC): tokens are no business of the ledger.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Callable
from enum import Enum, auto

from otcnode import limits
from otcnode.crypto import hmac_sha256, preimage, sha256, verify
from otcnode.genesis import Role
from otcnode.rpc.json_rpc import FORBIDDEN, UNAUTHENTICATED, RpcError
from otcnode.rpc.reader import Reader
from otcnode.rpc.service import Frozen
from otcnode.vm.accounts.records import ACCOUNTS, CASH_ASSETS, CASH_BALANCES, HOLDINGS_BY_ACCOUNT, KEYS, AccountStatus
from otcnode.vm.products.records import PRODUCTS

LOGIN_DOMAIN = "otcnode/login/1"
_CHALLENGE_DOMAIN = "otcnode/login-challenge/1"
CHALLENGE_MS = 60_000
TOKEN_MS = 15 * 60_000


class Subject(Enum):
    """What a row tells about."""

    ACCOUNT = auto()
    POSITION = auto()
    CONTRACT = auto()
    TRADE = auto()
    ENTRUSTMENT = auto()
    CUSTODY = auto()
    GOVERNANCE = auto()
    BLOCK = auto()


_EVERYTHING = frozenset(Subject)
SIGHT_OF_ROLES: dict[Role, frozenset[Subject]] = {
    Role.REGULATOR: _EVERYTHING,
    Role.AUDITOR: _EVERYTHING,
    Role.KYC: frozenset({Subject.ACCOUNT, Subject.GOVERNANCE}),
    Role.RECOVERY: frozenset({Subject.ACCOUNT, Subject.GOVERNANCE}),
    Role.FREEZER: frozenset({Subject.ACCOUNT, Subject.POSITION, Subject.GOVERNANCE}),
    Role.CALLBACK: frozenset({Subject.CONTRACT, Subject.GOVERNANCE}),
    Role.LISTING: frozenset({Subject.CONTRACT, Subject.GOVERNANCE}),
}
"""What a role sees of everybody, because its desk cannot work without. All other roles see what they are party to."""


class Caller(Frozen, frozen=True):
    """An authenticated account, with the roles it has in the state that is read."""

    account: bytes
    roles: tuple[Role, ...]

    def sees_all(self, subject: Subject) -> bool:
        return any(subject in SIGHT_OF_ROLES.get(role, frozenset()) for role in self.roles)


class Challenge(Frozen, frozen=True):
    """`message` is what the account's key signs."""

    nonce: bytes
    expires_ms: int
    message: bytes


class Session(Frozen, frozen=True):
    account: bytes
    key: bytes
    expires_ms: int


class PositionSight(Frozen, frozen=True):
    """Which of an account's positions a caller may see; None is all of a kind."""

    cash: frozenset[str] | None
    products: frozenset[bytes] | None

    @property
    def everything(self) -> bool:
        return self.cash is None and self.products is None


def forbidden() -> RpcError:
    return RpcError(FORBIDDEN, "forbidden")


def unauthenticated(reason: str) -> RpcError:
    return RpcError(UNAUTHENTICATED, reason)


def login_preimage(chain: bytes, node: bytes, account: bytes, nonce: bytes, expires_ms: int) -> bytes:
    """What a login signs: it is good for one chain, node, account and moment only, and can be no transaction."""
    return preimage(LOGIN_DOMAIN, chain, node, account, nonce, expires_ms)


class Authenticator:
    """Challenges and tokens of one node, in memory: a restart ends every session."""

    def __init__(self, chain: bytes, node: bytes, random_bytes: Callable[[int], bytes]) -> None:
        self._chain = chain
        self._node = node
        self._random_bytes = random_bytes
        self._secret = random_bytes(32)
        self._redeemed: OrderedDict[bytes, int] = OrderedDict()
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()

    def challenge(self, account: bytes, now_ms: int) -> Challenge:
        """Whether the account exists plays no part: the answer tells nobody anything."""
        salt = self._random_bytes(16)
        expires_ms = now_ms + CHALLENGE_MS
        nonce = salt + self._mark(account, salt, expires_ms)
        return Challenge(nonce, expires_ms, login_preimage(self._chain, self._node, account, nonce, expires_ms))

    def login(
        self, state: Reader, account: bytes, key: bytes, nonce: bytes, expires_ms: int, signature: bytes, now_ms: int
    ) -> tuple[bytes, Session]:
        """A new token and its session. Raises RpcError(−32002) unless the nonce is this node's, unexpired and unused,
        and the signature is by a live key of the account."""
        self._forget_expired(now_ms)
        if not hmac.compare_digest(nonce[16:], self._mark(account, nonce[:16], expires_ms)) or expires_ms <= now_ms:
            raise unauthenticated("the challenge is not this node's, or it has expired")
        if nonce in self._redeemed:
            raise unauthenticated("the challenge was used before")
        message = login_preimage(self._chain, self._node, account, nonce, expires_ms)
        if not verify(key, message, signature) or not _key_is_live(state, account, key):
            raise unauthenticated("the signature is not by a live key of the account")
        self._redeemed[nonce] = now_ms + CHALLENGE_MS
        token = self._random_bytes(32)
        session = Session(account, key, now_ms + TOKEN_MS)
        self._sessions[sha256(token)] = session
        self._bound(account)
        return token, session

    def caller(self, state: Reader, token: bytes, now_ms: int) -> Caller:
        """Raises RpcError(−32002) unless the token is live now: not expired, and its key not revoked."""
        name = sha256(token)
        session = self._sessions.get(name)
        if session is None:
            raise unauthenticated("the token is not one of this node's, or it has expired")
        if session.expires_ms <= now_ms or not _key_is_live(state, session.account, session.key):
            del self._sessions[name]
            raise unauthenticated("the token has expired or its key was revoked")
        account = state.get(ACCOUNTS, session.account)
        assert account is not None
        return Caller(session.account, account.roles)

    def name_of(self, token: bytes | None) -> str | None:
        """Whose token it seems to be, for counting only: the token may be void by now."""
        session = None if token is None else self._sessions.get(sha256(token))
        return None if session is None else session.account.hex()

    def _mark(self, account: bytes, salt: bytes, expires_ms: int) -> bytes:
        return hmac_sha256(self._secret, preimage(_CHALLENGE_DOMAIN, account, salt, expires_ms))[:16]

    def _forget_expired(self, now_ms: int) -> None:
        """Both maps are in the order in which they may forget, because every entry is kept equally long."""
        while self._redeemed and next(iter(self._redeemed.values())) <= now_ms:
            self._redeemed.popitem(last=False)
        while self._sessions and next(iter(self._sessions.values())).expires_ms <= now_ms:
            self._sessions.popitem(last=False)

    def _bound(self, account: bytes) -> None:
        """The account's oldest session makes room first, so that one account cannot log others out."""
        own = [name for name, session in self._sessions.items() if session.account == account]
        for name in own[: max(0, len(own) - limits.rpc_sessions_per_account_max)]:
            del self._sessions[name]
        while len(self._sessions) > limits.rpc_sessions_max:
            self._sessions.popitem(last=False)


def _key_is_live(state: Reader, account: bytes, key: bytes) -> bool:
    """Whether `key` may speak for the account: registered, not revoked, and the account is one that can act."""
    record = state.get(KEYS, account + key)
    holder = state.get(ACCOUNTS, account)
    if record is None or holder is None or record.revoked_at is not None:
        return False
    return holder.status not in (AccountStatus.REJECTED, AccountStatus.CLOSED)


def require_login(caller: Caller | None) -> Caller:
    """Raises RpcError(−32002) for a caller without a token."""
    if caller is None:
        raise unauthenticated("log in first: auth_challenge, then auth_login, then Authorization: Bearer")
    return caller


def require_sight(caller: Caller | None, subject: Subject) -> Caller:
    """For what only a role that sees everything of a kind may read."""
    known = require_login(caller)
    if not known.sees_all(subject):
        raise forbidden()
    return known


def may_see_parties(caller: Caller, subject: Subject, parties: frozenset[bytes]) -> bool:
    """The rule for rows that have parties: contracts, trades, accounts (whose one party is the holder)."""
    return caller.account in parties or caller.sees_all(subject)


def whose(caller: Caller, subject: Subject, party: bytes | None) -> bytes | None:
    """Whose rows are listed: the party asked for; without one the caller, or everybody (None) for a role that sees all
    of the kind. Raises RpcError(−32003) for another's."""
    sees_all = caller.sees_all(subject)
    if party is None:
        return None if sees_all else caller.account
    if party != caller.account and not sees_all:
        raise forbidden()
    return party


def position_sight(state: Reader, caller: Caller, account: bytes) -> PositionSight:
    """What `caller` may see of the positions of `account`. Raises RpcError(−32003) where that is nothing.

    The holder and the roles that see all see everything; a custodian its own cash; an issuer the units of its
    products.
    """
    if may_see_parties(caller, Subject.POSITION, frozenset({account})):
        return PositionSight(None, None)
    cash = frozenset(
        suffix[32:].decode()
        for suffix, _ in state.scan(CASH_BALANCES, account)
        if (asset := state.get(CASH_ASSETS, suffix[32:])) is not None and asset.custodian == caller.account
    )
    products = frozenset(
        suffix[32:]
        for suffix, _ in state.scan(HOLDINGS_BY_ACCOUNT, account)
        if (product := state.get(PRODUCTS, suffix[32:])) is not None and product.issuer == caller.account
    )
    if not cash and not products:
        raise forbidden()
    return PositionSight(cash, products)
