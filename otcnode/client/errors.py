"""What can go wrong for a client, by blame. `definite` is true only where a transaction certainly never happens."""

from __future__ import annotations

from typing import Any

from otcnode.errors import OtcnodeError, Unreachable
from otcnode.rpc.json_rpc import RATE_LIMIT


class ClientError(OtcnodeError):
    """Base of every error of the client."""

    definite = False

    @property
    def about_node(self) -> str:
        """The message, without the URL of the node that it is about."""
        return str(self)


class NodeUnavailable(ClientError, Unreachable):
    """A node that cannot be reached, answers nonsense, or says that it cannot serve now."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"{url}: {reason}")
        self.url = url
        self.reason = reason

    @property
    def about_node(self) -> str:
        return self.reason


class RpcFailure(ClientError):
    """An error object. The codes are those of rpc/json_rpc.py."""

    def __init__(self, code: int, message: str, data: Any) -> None:
        super().__init__(f"{message} ({code})" if data is None else f"{message} ({code}): {data}")
        self.code = code
        self.message = message
        self.data = data

    @property
    def retry_after_ms(self) -> int | None:
        """When the node says to come again, where it refuses for rate."""
        wait_ms = self.data.get("retry_after_ms") if isinstance(self.data, dict) else None
        return wait_ms if self.code == RATE_LIMIT and isinstance(wait_ms, int) else None


class NodeLied(ClientError):
    """A node claimed something that its own proof does not show."""

    def __init__(self, url: str, claim: str) -> None:
        super().__init__(f"{url}: {claim}")
        self.url = url
        self.claim = claim

    @property
    def about_node(self) -> str:
        return self.claim


class TransactionRefused(ClientError):
    """A transaction that failed (with its receipt proven), or that was refused. `operation` counts from 0.
    `height` is that of the block in which it failed, None where it is in none: its failure shows the state of then."""

    def __init__(
        self,
        transaction_id: bytes,
        code: str,
        detail: str,
        *,
        definite: bool,
        operation: int | None = None,
        height: int | None = None,
    ) -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.transaction_id = transaction_id
        self.code = code
        self.detail = detail
        self.definite = definite
        self.operation = operation
        self.height = height


class OutcomeUnknown(ClientError):
    """The time is over, or nodes call the transaction dead and do not prove it. It may have happened, or still happen:
    call `execute` again with the same bytes, at any node. `last`: which node said what."""

    def __init__(self, transaction_id: bytes, last: str) -> None:
        super().__init__(f"the outcome is not known yet: {last}")
        self.transaction_id = transaction_id
        self.last = last

    @property
    def about_node(self) -> str:
        return self.last


class KeystoreError(ClientError):
    """A keystore file that cannot be read or opened; the message is one readable line."""
