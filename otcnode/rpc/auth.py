"""Methods by which a caller proves its account; the rules are in access.py."""

from __future__ import annotations

import base64
from typing import Annotated

from msgspec import Meta

from otcnode.ids import Prefix
from otcnode.rpc import format as form
from otcnode.rpc.method import Context, Params, Result
from otcnode.rpc.reader import Reader
from otcnode.types import INTEGER_MAX, Bytes32, Bytes64


class ChallengeParams(Params, frozen=True):
    account: form.AccountText


class ChallengeResult(Result, frozen=True):
    """`message` is what a key of the account signs; times are real ones, not the ledger's."""

    nonce: Bytes32
    node: form.NodeText
    expires: form.Time
    message: bytes


class LoginParams(Params, frozen=True):
    """`nonce` and `expires_ms` are those of the challenge, `signature` is of its `message`, by `key` (any but ENC)."""

    account: form.AccountText
    key: Bytes32
    nonce: Bytes32
    expires_ms: Annotated[int, Meta(ge=0, le=INTEGER_MAX)]
    signature: Bytes64


class LoginResult(Result, frozen=True):
    """Send `Authorization: Bearer <token>` with every request to this node until `expires`."""

    token: str
    expires: form.Time


async def challenge(context: Context, params: ChallengeParams) -> ChallengeResult:
    account = form.parse_id(Prefix.ACCOUNT, params.account)
    made = context.authenticator.challenge(account, context.service.now_ms())
    return ChallengeResult(made.nonce, form.node(context.service.node), form.time(made.expires_ms), made.message)


async def login(context: Context, params: LoginParams) -> LoginResult:
    token, session = context.authenticator.login(
        Reader(context.service.state().view),
        form.parse_id(Prefix.ACCOUNT, params.account),
        params.key,
        params.nonce,
        params.expires_ms,
        params.signature,
        context.service.now_ms(),
    )
    return LoginResult(base64.urlsafe_b64encode(token).decode(), form.time(session.expires_ms))


def parse_token(text: str) -> bytes:
    """The bytes of a token; what is none gives bytes that no session has."""
    try:
        return base64.urlsafe_b64decode(text.encode("ascii"))
    except ValueError:
        return b""
