"""Writes the documents that are made from code: `python -m otcnode.cli.reference`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from otcnode.rpc.reference import api_reference
from otcnode.vm.reference import operations_reference

DOCUMENTS: dict[Path, Callable[[], str]] = {
    Path("docs/operations-reference.md"): operations_reference,
    Path("docs/api.md"): api_reference,
}

if __name__ == "__main__":
    for target, write in DOCUMENTS.items():
        target.write_text(write(), encoding="utf-8")
