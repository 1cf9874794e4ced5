"""The client for programs without an event loop: the same calls, each returning when it is done."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import Any, TypeVar

from otcnode.client.client import Client, Outcome
from otcnode.crypto import SigningKey
from otcnode.genesis import Genesis
from otcnode.rpc import accounts, node_status
from otcnode.vm.operations import Operation
from otcnode.vm.transactions import Decoded

T = TypeVar("T")


class SynchronousClient:
    """Use as `with SynchronousClient(urls, genesis) as client`. One thread of its own runs the event loop.

    `client` is the asynchronous client; `run` awaits any of its coroutines.
    """

    def __init__(self, urls: Sequence[str], genesis: Genesis, *, tls: ssl.SSLContext | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="otcnode-client", daemon=True)
        self._arguments = (urls, genesis, tls)
        self.client: Client

    def __enter__(self) -> SynchronousClient:
        self._thread.start()
        urls, genesis, tls = self._arguments
        self.client = self.run(Client(urls, genesis, tls=tls).__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run(self.client.__aexit__(kind, error, trace))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def transact(
        self, sender: bytes, operations: Sequence[Operation], keys: Sequence[SigningKey], timeout_ms: int = 60_000
    ) -> Outcome:
        """Build, sign and execute."""
        return self.execute(self.client.sign(self.client.build(sender, operations), keys), timeout_ms)

    def execute(self, transaction: Decoded, timeout_ms: int = 60_000) -> Outcome:
        return self.run(self.client.execute(transaction, timeout_ms))

    def account(self, account: bytes) -> accounts.AccountResult:
        return self.run(self.client.account(account))

    def positions(self, account: bytes) -> accounts.PositionsResult:
        return self.run(self.client.positions(account))

    def status(self) -> node_status.NodeStatusResult:
        return self.run(self.client.status())
