from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from otcnode.vm.accounts.records import ACCOUNTS, CASH_ASSETS, KEYS
from otcnode.vm.writes import writes_to

keys = st.binary(max_size=2) | st.builds(
    bytes.__add__, st.sampled_from([b"\x0f", b"\x10", b"\x11", b"\x12"]), st.binary()
)


@given(st.dictionaries(keys, st.none() | st.binary(max_size=2)))
def test_the_writes_to_a_table_are_those_with_its_prefix(unordered: dict[bytes, bytes | None]) -> None:
    writes = dict(sorted(unordered.items()))
    for table in (ACCOUNTS, KEYS, CASH_ASSETS):
        expected = [(key[1:], value) for key, value in writes.items() if key[:1] == table.prefix]
        assert list(writes_to(table, writes)) == expected
