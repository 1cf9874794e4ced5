"""The client's side of JSON-RPC 2.0: calls to bytes, bytes to answers. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, TypeVar

import msgspec

from otcnode.client.errors import RpcFailure
from otcnode.codec import types_lock

T = TypeVar("T")


class Request(msgspec.Struct, frozen=True):
    """One call; `params` is a struct or a mapping."""

    method: str
    params: Any = {}


class _Call(msgspec.Struct, frozen=True):
    id: int
    method: str
    params: Any
    jsonrpc: str = "2.0"


class _Error(msgspec.Struct, frozen=True):
    code: int
    message: str
    data: Any = None


class _Answer(msgspec.Struct, frozen=True):
    id: int | None
    result: msgspec.Raw = msgspec.Raw()
    error: _Error | None = None


class Malformed(Exception):
    """Bytes that are no answer to what was asked."""


_NOT_READABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""The last where values are nested without end."""
_one = msgspec.json.Decoder(_Answer)
_many = msgspec.json.Decoder(list[_Answer])


def encode_one(request: Request) -> bytes:
    return msgspec.json.encode(_Call(0, request.method, request.params))


def encode_batch(requests: Sequence[Request]) -> bytes:
    return msgspec.json.encode([_Call(place, call.method, call.params) for place, call in enumerate(requests)])


def decode_one(raw: bytes) -> bytes | RpcFailure:
    """The result's JSON, or the error object. Raises Malformed."""
    try:
        return _outcome(_one.decode(raw))
    except _NOT_READABLE as error:
        raise Malformed(str(error)) from None


def decode_batch(raw: bytes, count: int) -> list[bytes | RpcFailure]:
    """One outcome per call, in the order of the calls. Raises Malformed, and RpcFailure for the batch as a whole."""
    if raw.lstrip()[:1] == b"{":
        outcome = decode_one(raw)
        raise outcome if isinstance(outcome, RpcFailure) else Malformed("one answer to a batch")
    try:
        answers = _many.decode(raw)
    except _NOT_READABLE as error:
        raise Malformed(str(error)) from None
    by_id = {answer.id: answer for answer in answers}
    if len(answers) != count or by_id.keys() != set(range(count)):
        raise Malformed(f"{len(answers)} answers to {count} calls, or with other ids")
    return [_outcome(by_id[place]) for place in range(count)]


def decode_result(raw: bytes, kind: type[T]) -> T:
    """A result as the method's type, in whichever thread. Raises Malformed."""
    described: Any = kind
    try:
        value: T = _result_decoder(described).decode(raw)
    except _NOT_READABLE as error:
        raise Malformed(str(error)) from None
    return value


@cache
def _result_decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    with types_lock:
        return msgspec.json.Decoder(kind)


def _outcome(answer: _Answer) -> bytes | RpcFailure:
    if answer.error is not None:
        return RpcFailure(answer.error.code, answer.error.message, answer.error.data)
    if not answer.result:
        raise Malformed("neither a result nor an error")
    return bytes(answer.result)
