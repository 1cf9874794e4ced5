"""JSON-RPC 2.0 (jsonrpc.org/specification), without input or output: bytes to calls, results to bytes. Pure.

Ids are kept as the very bytes that came, so that they are echoed exactly. A call without an id is a notification and is
never answered, whatever happens to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeVar

import msgspec

from otcnode.errors import OtcnodeError

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
LEDGER = -32000
NOT_FOUND = -32001
UNAUTHENTICATED = -32002
FORBIDDEN = -32003
RATE_LIMIT = -32004
NOT_READY = -32005
OVERLOADED = -32006
HEIGHT_UNAVAILABLE = -32007
CURSOR_INVALID = -32008

NULL_ID = b"null"
P = TypeVar("P")


class RpcError(OtcnodeError):
    """An error object: a code, a short sentence, and data whose form depends on the code."""

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(f"{code} {message}")
        self.code = code
        self.message = message
        self.data = data


class Call(msgspec.Struct, frozen=True):
    """One well-formed request. `id` is its JSON, None for a notification; `params` is its JSON, empty if absent."""

    id: bytes | None
    method: str
    params: bytes


class Reply(msgspec.Struct, frozen=True):
    """The answer to something that was no well-formed request."""

    raw: bytes


class Message(msgspec.Struct, frozen=True):
    """What one HTTP body or WebSocket message held. `batch`: the answers go into an array."""

    entries: tuple[Call | Reply, ...]
    batch: bool


class _Request(msgspec.Struct, frozen=True):
    jsonrpc: Literal["2.0"]
    method: str
    params: msgspec.Raw = msgspec.Raw()
    id: msgspec.Raw = msgspec.Raw()


class _Id(msgspec.Struct, frozen=True):
    id: msgspec.Raw = msgspec.Raw()


class _Error(msgspec.Struct, frozen=True, omit_defaults=True):
    code: int
    message: str
    data: Any = None


class _Failure(msgspec.Struct, frozen=True):
    error: _Error
    id: msgspec.Raw
    jsonrpc: str = "2.0"


class _Success(msgspec.Struct, frozen=True):
    result: Any
    id: msgspec.Raw
    jsonrpc: str = "2.0"


_MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_any = msgspec.json.Decoder()
_array = msgspec.json.Decoder(list[msgspec.Raw])
_request = msgspec.json.Decoder(_Request)
_id_alone = msgspec.json.Decoder(_Id)
_id_value = msgspec.json.Decoder(str | int | float | None)
_encoder = msgspec.json.Encoder()


def parse(raw: bytes, entries_max: int) -> Message:
    """The calls in `raw`. Total: whatever is wrong becomes the reply that the specification asks for."""
    try:
        batch = raw.lstrip(b" \t\r\n")[:1] == b"["
        _any.decode(raw)
        entries = _array.decode(raw) if batch else None
    except _MALFORMED as error:
        return _refuse(PARSE_ERROR, f"not JSON: {error}")
    if entries is None:
        return Message((_entry(raw),), False)
    if not entries:
        return _refuse(INVALID_REQUEST, "an empty batch")
    if len(entries) > entries_max:
        return _refuse(INVALID_REQUEST, f"a batch of {len(entries)} entries, at most {entries_max}")
    return Message(tuple([_entry(bytes(entry)) for entry in entries]), True)


def decode_params(kind: type[P], call: Call) -> P:
    """The parameters, by name or by position. Raises RpcError(−32602)."""
    raw = call.params or b"{}"
    try:
        if raw[:1] == b"[":
            raw = _by_name(kind, _array.decode(raw))
        return msgspec.json.decode(raw, type=kind)
    except _MALFORMED as error:
        raise RpcError(INVALID_PARAMS, f"{call.method}: {error}") from None


def success(call_id: bytes, result: object) -> bytes:
    return _encoder.encode(_Success(result, msgspec.Raw(call_id)))


def failure(call_id: bytes, error: RpcError) -> bytes:
    return _encoder.encode(_Failure(_Error(error.code, error.message, error.data), msgspec.Raw(call_id)))


def join(answers: Sequence[bytes | None], batch: bool) -> bytes | None:
    """One body from the answers, in order; None where every call was a notification and nothing may be sent."""
    present = [answer for answer in answers if answer is not None]
    if not present:
        return None
    return b"[" + b",".join(present) + b"]" if batch else present[0]


def _refuse(code: int, message: str) -> Message:
    return Message((Reply(failure(NULL_ID, RpcError(code, message))),), False)


def _entry(raw: bytes) -> Call | Reply:
    """One request object that is known to be valid JSON."""
    try:
        request = _request.decode(raw)
        return _call(request)
    except _MALFORMED as error:
        text = str(error)
    return Reply(failure(_recovered_id(raw), RpcError(INVALID_REQUEST, f"not a request: {text}")))


def _call(request: _Request) -> Call:
    """Raises msgspec.DecodeError where `id` or `params` has a type that requests may not have."""
    params, call_id = bytes(request.params), bytes(request.id)
    if params and params[:1] not in (b"{", b"["):
        raise msgspec.ValidationError("params is neither an object nor an array")
    if not call_id:
        return Call(None, request.method, params)
    _id_value.decode(call_id)
    return Call(call_id, request.method, params)


def _recovered_id(raw: bytes) -> bytes:
    """The id of something that is no request, if it has one that could be told; null otherwise."""
    try:
        call_id = bytes(_id_alone.decode(raw).id)
        _id_value.decode(call_id)
    except _MALFORMED:
        return NULL_ID
    return call_id


def _by_name(kind: type[Any], values: Sequence[msgspec.Raw]) -> bytes:
    names = kind.__struct_encode_fields__
    if len(values) > len(names):
        raise msgspec.ValidationError(f"{len(values)} positional parameters, at most {len(names)}")
    return _encoder.encode(dict(zip(names, values, strict=False)))
