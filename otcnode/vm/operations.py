"""Every operation of the ledger, as one typed union."""

from __future__ import annotations

from typing import TypeAlias

from otcnode.codec import Record


class Placeholder(Record, frozen=True, tag="placeholder"):
    """Replaced by the first family of operations."""


Operation: TypeAlias = Placeholder
