"""What executing a block leaves: receipts, events and writes."""

from __future__ import annotations

from dataclasses import dataclass

from otcnode import merkle
from otcnode.codec import Record, encode
from otcnode.errors import Code
from otcnode.types import Bytes32, Hash, Natural, TransactionId
from otcnode.vm.events import Event


class Receipt(Record, frozen=True):
    """The outcome of one transaction. `operation` is the index of the failing operation, nil on success.

    Nothing here is prose, so a better wording never changes a root; explanations are kept beside (BlockResult).
    """

    transaction: TransactionId
    code: Code
    operation: Natural | None
    events: tuple[Event, ...]


class AutomaticReceipt(Record, frozen=True):
    """The outcome of one item of the due queue."""

    item: Bytes32
    kind: str
    code: Code
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class BlockResult:
    """`automatic` come before `receipts`, under one root. `explanations` has one text per receipt ("" on success)."""

    automatic: tuple[AutomaticReceipt, ...]
    receipts: tuple[Receipt, ...]
    explanations: tuple[str, ...]
    writes: dict[bytes, bytes | None]
    """Ascending by key; None deletes."""
    is_behind: bool = False
    """Something that is due did not fit in: no transaction could be in the block."""

    @property
    def events(self) -> list[Event]:
        """Every event of the block, in order."""
        automatic = [event for item in self.automatic for event in item.events]
        return automatic + [event for receipt in self.receipts for event in receipt.events]

    def receipt_leaves(self) -> list[bytes]:
        return [encode(entry) for entry in (*self.automatic, *self.receipts)]

    def receipts_root(self) -> Hash:
        return merkle.root(self.receipt_leaves())
