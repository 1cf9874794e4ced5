"""JSON-RPC 2.0: the examples of its specification, the edges around them, and anything at all as input."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otcnode.rpc import json_rpc
from otcnode.rpc.json_rpc import Call, Reply, RpcError


class Subtract(msgspec.Struct, forbid_unknown_fields=True):
    minuend: int
    subtrahend: int


def serve(raw: bytes, entries_max: int = 100) -> Any:
    """A server with the methods of the specification's examples; None where nothing is sent."""
    message = json_rpc.parse(raw, entries_max)
    answers = [entry.raw if isinstance(entry, Reply) else _answer(entry) for entry in message.entries]
    joined = json_rpc.join(answers, message.batch)
    return None if joined is None else msgspec.json.decode(joined)


def _answer(call: Call) -> bytes | None:
    try:
        result = _perform(call)
    except RpcError as error:
        return None if call.id is None else json_rpc.failure(call.id, error)
    return None if call.id is None else json_rpc.success(call.id, result)


def _perform(call: Call) -> object:
    match call.method:
        case "subtract":
            params = json_rpc.decode_params(Subtract, call)
            return params.minuend - params.subtrahend
        case "sum":
            return sum(msgspec.json.decode(call.params))
        case "get_data":
            return ["hello", 5]
        case "update" | "notify_hello" | "notify_sum":
            return None
        case _:
            raise RpcError(json_rpc.METHOD_NOT_FOUND, "Method not found")


def codes(answer: Any) -> Any:
    """The answer with its error objects cut down to their codes: messages are ours to word."""
    if isinstance(answer, list):
        return [codes(entry) for entry in answer]
    if isinstance(answer, dict) and "error" in answer:
        return {**answer, "error": answer["error"]["code"]}
    return answer


SPECIFICATION_EXAMPLES: list[tuple[str, Any]] = [
    (
        '{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}',
        {"jsonrpc": "2.0", "result": 19, "id": 1},
    ),
    (
        '{"jsonrpc": "2.0", "method": "subtract", "params": [23, 42], "id": 2}',
        {"jsonrpc": "2.0", "result": -19, "id": 2},
    ),
    (
        '{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}',
        {"jsonrpc": "2.0", "result": 19, "id": 3},
    ),
    (
        '{"jsonrpc": "2.0", "method": "subtract", "params": {"minuend": 42, "subtrahend": 23}, "id": 4}',
        {"jsonrpc": "2.0", "result": 19, "id": 4},
    ),
    ('{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}', None),
    ('{"jsonrpc": "2.0", "method": "foobar"}', None),
    ('{"jsonrpc": "2.0", "method": "foobar", "id": "1"}', {"jsonrpc": "2.0", "error": -32601, "id": "1"}),
    (
        '{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]',
        {"jsonrpc": "2.0", "error": -32700, "id": None},
    ),
    ('{"jsonrpc": "2.0", "method": 1, "params": "bar"}', {"jsonrpc": "2.0", "error": -32600, "id": None}),
    (
        '[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"}, {"jsonrpc": "2.0", "method"]',
        {"jsonrpc": "2.0", "error": -32700, "id": None},
    ),
    ("[]", {"jsonrpc": "2.0", "error": -32600, "id": None}),
    ("[1]", [{"jsonrpc": "2.0", "error": -32600, "id": None}]),
    ("[1,2,3]", [{"jsonrpc": "2.0", "error": -32600, "id": None}] * 3),
    (
        """[
        {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
        {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},
        {"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},
        {"foo": "boo"},
        {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
        {"jsonrpc": "2.0", "method": "get_data", "id": "9"}
        ]""",
        [
            {"jsonrpc": "2.0", "result": 7, "id": "1"},
            {"jsonrpc": "2.0", "result": 19, "id": "2"},
            {"jsonrpc": "2.0", "error": -32600, "id": None},
            {"jsonrpc": "2.0", "error": -32601, "id": "5"},
            {"jsonrpc": "2.0", "result": ["hello", 5], "id": "9"},
        ],
    ),
    (
        '[{"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]},'
        ' {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}]',
        None,
    ),
]


@pytest.mark.parametrize(("request_text", "expected"), SPECIFICATION_EXAMPLES)
def test_the_examples_of_the_specification(request_text: str, expected: Any) -> None:
    assert codes(serve(request_text.encode())) == expected


@pytest.mark.parametrize(
    "shown", ["null", "0", "-7", "1.5", "1e3", '""', '"\\u00e9\\n"', "123456789012345678901234567890"]
)
def test_an_id_is_echoed_byte_for_byte(shown: str) -> None:
    message = json_rpc.parse(f'{{"jsonrpc":"2.0","method":"a","id":{shown}}}'.encode(), 1)
    (call,) = message.entries
    assert isinstance(call, Call) and call.id is not None
    assert f'"id":{shown}'.encode() in json_rpc.success(call.id, 1)


@pytest.mark.parametrize("shown", ["true", "[1]", '{"a":1}', "false"])
def test_an_id_of_another_type_is_no_request(shown: str) -> None:
    answer = serve(f'{{"jsonrpc":"2.0","method":"get_data","id":{shown}}}'.encode())
    assert codes(answer) == {"jsonrpc": "2.0", "error": -32600, "id": None}


@pytest.mark.parametrize(
    "text",
    [
        '{"jsonrpc":"1.0","method":"get_data","id":7}',
        '{"method":"get_data","id":7}',
        '{"jsonrpc":"2.0","id":7}',
        '{"jsonrpc":"2.0","method":"get_data","params":null,"id":7}',
        '{"jsonrpc":"2.0","method":"get_data","params":"bar","id":7}',
        '{"jsonrpc":2.0,"method":"get_data","id":7}',
    ],
)
def test_what_is_no_request_is_answered_with_the_id_it_has(text: str) -> None:
    assert codes(serve(text.encode())) == {"jsonrpc": "2.0", "error": -32600, "id": 7}


@pytest.mark.parametrize(
    "params",
    ['{"minuend":1}', '{"minuend":1,"subtrahend":"2"}', "[1,2,3]", '{"minuend":1,"subtrahend":2,"x":3}', "[1]"],
)
def test_wrong_parameters_are_an_error(params: str) -> None:
    answer = serve(f'{{"jsonrpc":"2.0","method":"subtract","params":{params},"id":1}}'.encode())
    assert codes(answer) == {"jsonrpc": "2.0", "error": -32602, "id": 1}


def test_a_batch_above_the_bound_is_one_error_and_nothing_of_it_is_called() -> None:
    entry = b'{"jsonrpc":"2.0","method":"get_data","id":1}'
    assert len(serve(b"[" + b",".join([entry] * 3) + b"]", 3)) == 3
    answer = serve(b"[" + b",".join([entry] * 4) + b"]", 3)
    assert codes(answer) == {"jsonrpc": "2.0", "error": -32600, "id": None}
    assert "at most 3" in answer["error"]["message"]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"\xff",
        b'{"jsonrpc":"2.0","method":"\xff","id":1}',
        b'{"jsonrpc":"2.0","method":"get_data","id":1} x',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'\xef\xbb\xbf{"jsonrpc":"2.0","method":"get_data","id":1}',
        b"NaN",
    ],
)
def test_what_is_not_json_is_a_parse_error(raw: bytes) -> None:
    assert codes(serve(raw)) == {"jsonrpc": "2.0", "error": -32700, "id": None}


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
_field = st.sampled_from(["jsonrpc", "method", "params", "id", "extra"])
_requests = st.dictionaries(_field, _json | st.sampled_from(["2.0", "sum", "get_data"]), max_size=5)


@given(st.binary(max_size=300))
def test_any_bytes_give_calls_or_replies(raw: bytes) -> None:
    for entry in json_rpc.parse(raw, 5).entries:
        assert isinstance(entry, Call | Reply)


@given(st.lists(_requests, max_size=6) | _requests | _json)
def test_every_request_of_valid_json_gets_an_answer_of_the_right_form(value: Any) -> None:
    raw = msgspec.json.encode(value)
    message = json_rpc.parse(raw, 5)
    if isinstance(value, list) and 0 < len(value) <= 5:
        assert message.batch and len(message.entries) == len(value)
    for entry in message.entries:
        if isinstance(entry, Reply):
            assert msgspec.json.decode(entry.raw)["error"]["code"] == -32600
        elif entry.id is None:
            assert isinstance(value, dict | list)
        else:
            answer = msgspec.json.decode(json_rpc.success(entry.id, {"a": 1}))
            assert answer == {"jsonrpc": "2.0", "result": {"a": 1}, "id": msgspec.json.decode(entry.id)}
