"""Writes docs/operations-reference.md: `python -m otcnode.cli.reference [FILE]`."""

from __future__ import annotations

import sys
from pathlib import Path

from otcnode.vm.reference import operations_reference

DEFAULT = Path("docs/operations-reference.md")

if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    target.write_text(operations_reference(), encoding="utf-8")
