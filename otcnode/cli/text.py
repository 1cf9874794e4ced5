"""Records as plain values for people: bytes in hexadecimal, fields by their names."""

from __future__ import annotations

import msgspec


def shown(value: object) -> object:
    """A tagged record carries its tag as `type`."""
    match value:
        case bytes():
            return value.hex()
        case tuple() | list():
            return [shown(entry) for entry in value]
        case msgspec.Struct():
            tag = value.__struct_config__.tag
            kind = {} if tag is None else {"type": tag}
            return kind | {name: shown(getattr(value, name)) for name in value.__struct_fields__}
        case _:
            return value
