from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from otcnode.codec import encode
from otcnode.vm.accounts.records import ORGANISATIONS, Organisation
from otcnode.vm.state import State
from tests.vm.ledger import DictionaryView

suffixes = st.sampled_from([b"", b"\x00", b"a", b"aa", b"ab", b"b", b"\xff"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), suffixes, st.text(max_size=2)),
        st.tuples(st.just("delete"), suffixes, st.just("")),
        st.tuples(st.sampled_from(["save", "rollback"]), st.just(b""), st.just("")),
    ),
    max_size=30,
)


@given(
    st.dictionaries(suffixes, st.text(max_size=2)), steps, suffixes, st.none() | suffixes, st.none() | st.integers(0, 4)
)
def test_a_state_behaves_like_a_dictionary_with_savepoints(
    base: dict[bytes, str], script: list[tuple[str, bytes, str]], prefix: bytes, after: bytes | None, limit: int | None
) -> None:
    table = ORGANISATIONS
    view = DictionaryView({table.prefix + key: encode(Organisation(name)) for key, name in base.items()})
    state, model = State(view), dict(base)
    saved: list[tuple[int, dict[bytes, str]]] = []
    for action, key, name in script:
        if action == "put":
            state.put(table, key, Organisation(name))
            model[key] = name
        elif action == "delete":
            state.delete(table, key)
            model.pop(key, None)
        elif action == "save":
            saved.append((state.savepoint(), dict(model)))
        elif saved:
            savepoint, model = saved.pop()
            state.rollback(savepoint)
    expected = [
        (key, Organisation(model[key]))
        for key in sorted(model)
        if key.startswith(prefix) and (after is None or key > after)
    ]
    assert state.scan(table, prefix, after, limit) == expected[:limit]
    view.write(state.writes())
    assert view.values == {table.prefix + key: encode(Organisation(name)) for key, name in model.items()}
    assert list(state.writes()) == sorted(state.writes())
