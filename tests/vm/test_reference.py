from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from otcnode.vm.operations import Operation
from otcnode.vm.reference import FAMILIES, operations_reference
from otcnode.vm.registry import OPERATIONS

COMMITTED = Path(__file__).parents[2] / "docs" / "operations-reference.md"


def test_the_committed_reference_is_current() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == operations_reference(), "run: make reference"


def test_every_operation_has_a_rule_and_a_family() -> None:
    operations = set(get_args(Operation))
    assert operations == set(OPERATIONS)
    assert operations == {operation for union in FAMILIES.values() for operation in get_args(union)}


@pytest.mark.parametrize("operation", get_args(Operation), ids=lambda operation: operation.__struct_config__.tag)
def test_every_docstring_says_who_signs_and_what_the_fields_are(operation: type) -> None:
    """A single field that names the item acted on speaks for itself."""
    text = operation.__doc__ or ""
    assert "Signed by" in text or "signed by" in text
    fields = operation.__struct_fields__  # type: ignore[attr-defined]
    unnamed = [field for field in fields if f"`{field}`" not in text]
    assert not unnamed or len(fields) == 1, unnamed
