"""Calling the API in tests, without sockets."""

from __future__ import annotations

from typing import Any

import msgspec

from otcnode.crypto import SigningKey, sha256
from otcnode.rpc import format as form
from otcnode.rpc.access import Authenticator
from otcnode.rpc.auth import parse_token
from otcnode.rpc.dispatch import Dispatcher
from otcnode.rpc.rates import RateLimiter
from tests.rpc.fake import FakeNode, account_of, key_of


class Recorder:
    """A listener that remembers what is subscribed and never notifies."""

    def __init__(self) -> None:
        self.subscribed: dict[str, Any] = {}

    def subscribe(self, cursor: Any, wanted: Any) -> str:
        name = str(len(self.subscribed) + 1)
        self.subscribed[name] = (cursor, wanted)
        return name

    def unsubscribe(self, name: str) -> bool:
        return self.subscribed.pop(name, None) is not None


class Api:
    """A dispatcher over a fake node; `call` gives the result, or the error object's code and data. Only what adds to
    `processor_ns` takes the processor's time."""

    def __init__(self, node: FakeNode, *, cost_per_second: int = 1_000_000, burst: int = 1_000_000) -> None:
        self.node = node
        self._drawn = 0
        self.processor_ns = 0
        self.listener = Recorder()
        self.authenticator = Authenticator(node.chain, node.node, self._random)
        rates = RateLimiter(cost_per_second, burst, 100)
        self.dispatcher = Dispatcher(node, self.authenticator, rates, lambda: self.processor_ns, lambda: node.clock_ms)

    def _random(self, count: int) -> bytes:
        self._drawn += 1
        return sha256(self._drawn.to_bytes(4, "big"))[:count]

    async def raw(self, body: bytes, token: str | None = None) -> Any:
        key = None if token is None else parse_token(token)
        answer = await self.dispatcher.answer(body, "test", key, self.listener)
        return None if answer is None else msgspec.json.decode(answer)

    async def call(self, method: str, params: object = None, token: str | None = None) -> Any:
        body = {"jsonrpc": "2.0", "method": method, "params": params or {}, "id": 1}
        answer = await self.raw(msgspec.json.encode(body), token)
        return answer["result"] if "result" in answer else answer["error"]

    async def login(self, name: str, key: SigningKey | None = None) -> str:
        signer = key or key_of(name)
        account = form.account(account_of(name))
        challenge = await self.call("auth_challenge", {"account": account})
        params = {
            "account": account,
            "key": form.base64_text(signer.public),
            "nonce": challenge["nonce"],
            "expires_ms": challenge["expires"]["ms"],
            "signature": form.base64_text(signer.sign(msgspec.convert(challenge["message"], bytes))),
        }
        answer = await self.call("auth_login", params)
        return str(answer["token"])
