"""The typed client of an otcnode network: asynchronous, and a thin synchronous one; keystore files."""

from otcnode.client.client import Client, Outcome, Proven
from otcnode.client.errors import (
    ClientError,
    KeystoreError,
    NodeLied,
    NodeUnavailable,
    OutcomeUnknown,
    RpcFailure,
    TransactionRefused,
)
from otcnode.client.synchronous import SynchronousClient

__all__ = [
    "Client",
    "ClientError",
    "KeystoreError",
    "NodeLied",
    "NodeUnavailable",
    "Outcome",
    "OutcomeUnknown",
    "Proven",
    "RpcFailure",
    "SynchronousClient",
    "TransactionRefused",
]
