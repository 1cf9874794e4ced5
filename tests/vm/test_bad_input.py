"""Every operation with everything that can be wrong with it: the documented code, and a state that nobody touched.

The tables are held to the union of operations by reflection, so that a new operation without an example fails here.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec
import pytest

from otcnode import limits
from otcnode.codec import encode
from otcnode.crypto import SigningKey, sha256
from otcnode.errors import Code, Inadmissible
from otcnode.genesis import KeyPurpose
from otcnode.types import INTEGER_MAX
from otcnode.vm.accounts.operations import AccountApply
from otcnode.vm.accounts.records import ACCOUNTS, FREEZES, FREEZES_BY_ACCOUNT, KEYS, Freeze, Thresholds
from otcnode.vm.context import PAUSE, Pause
from otcnode.vm.executor import environment_at, simulate
from otcnode.vm.governance.operations import EvidencePost
from otcnode.vm.keys import MARKER, SINGLE
from otcnode.vm.operations import Operation
from otcnode.vm.registry import OPERATIONS
from otcnode.vm.results import BlockResult
from otcnode.vm.rules import Signatory
from otcnode.vm.state import State
from otcnode.vm.transactions import Decoded
from otcnode.vm.view import Overlay, StateView
from tests.vm.ledger import key_of
from tests.vm.town import Town

Path = tuple[str | int, ...]
KINDS = sorted(OPERATIONS, key=lambda kind: kind.__name__)
UNKNOWN = sha256(b"nobody and nothing")
APPLIES = AccountApply
"""Signed by the keys it brings."""
WITHOUT_SENDER = {kind for kind in KINDS if OPERATIONS[kind].signatory is not Signatory.ACCOUNT}
"""No account does it, so it cannot be another's, frozen or of a role."""

NO_REFERENCE = {
    "commitment",
    "document",
    "documents",
    "destination",
    "encryption_key",
    "evidence",
    "identity_commitment",
    "salt",
    "statement",
    "terms_hash",
}
"""Fields of 32 bytes that name nothing on the ledger."""
OTHERWISE: dict[tuple[str, str], Code] = {
    ("ValidatorRotate", "successor"): Code.FIELD,
    ("AccountApply", "keys.0.key"): Code.AUTH,
    ("AccountApply", "keys.1.key"): Code.OK,
    ("AccountApply", "keys.2.key"): Code.OK,
    ("AccountRecover", "keys.0.key"): Code.OK,
    ("AccountRecover", "keys.1.key"): Code.OK,
    ("AccountRecover", "keys.2.key"): Code.OK,
    ("KeyAdd", "key"): Code.OK,
    ("KeyRotate", "new"): Code.OK,
    # another key than one of the account's is a wrong signature
    ("ContractSign", "key"): Code.AUTH,
    # the nodes look for a file of that name, and nothing says what it belongs to before it does
    ("DocumentFile", "document"): Code.OK,
    ("DocumentFile", "belongs_to"): Code.OK,
    # a validator of an earlier epoch may have been turned away since
    ("EvidencePost", "validator"): Code.OK,
    # an entry in the log may come before what it is about
    ("AccessLog", "item"): Code.OK,
    ("ContractRevise", "terms_hash"): Code.FIELD,
}
"""What a field that names nothing known gives where it is not E_NOT_FOUND."""

PASSES_FROZEN = {
    "AccountObject",
    "AccountReview",
    "AccountFreeze",
    "AccountUnfreeze",
    "AccountRecover",
    "AccountRecoverApprove",
    "AccessLog",
    "CashDeposit",
    "CashWithdrawCancel",
    "CashWithdrawResult",
    "ContractCallback",
    "ContractCreate",
    "ContractReject",
    "ContractRescind",
    "ContractRevise",
    "ContractSubmit",
    "ContractVoid",
    "CustodyAttest",
    "CustodyResume",
    "DisclosurePost",
    "DocumentFile",
    "DocumentWithdraw",
    "EntrustDecline",
    "EntrustRevoke",
    "InvestorCertify",
    "KeyAdd",
    "KeyRevoke",
    "KeyRotate",
    "OfferCancel",
    "ProductCancel",
    "ProductCancelSubscription",
    "ProductResume",
    "ProductReview",
    "ProductSuspend",
    "QuoteCancel",
    "RfqCancel",
    "TradeCancel",
    "TradeReject",
    "TradeWithdraw",
}
"""A FULL freeze blocks debits, new orders and signatures; ends, keys and the desks' own acts pass."""

TRADE_CODES = {
    Code.CONTRACT_NOT_EFFECTIVE,
    Code.NOT_QUALIFIED,
    Code.SUITABILITY,
    Code.HOLDER_CAP,
    Code.LACK_QTY,
    Code.LOCKUP,
    Code.TURNAROUND,
    Code.LACK_CASH,
}


@cache
def town() -> Town:
    return Town()


def run(by: str, operation: Operation, view: StateView | None = None, **options: Any) -> tuple[Code, BlockResult]:
    """The outcome in a block of its own, of which nothing is kept. Raises Inadmissible."""
    here = town()
    view = here.view if view is None else view
    rule = OPERATIONS[type(operation)]
    options = {"purpose": rule.purpose} | options
    if rule.signatory is not Signatory.ACCOUNT:
        options.setdefault("sender", b"")
    decoded: Decoded = here.sign(by, operation, **options)
    result = simulate(view, environment_at(view, here.chain, here.height + 1, here.now + 1), decoded)
    return result.receipts[0].code, result


def refused(by: str, operation: Operation, view: StateView | None = None, **options: Any) -> Code:
    """The code of a refusal, if the state stayed as it was but for the id that is remembered."""
    try:
        code, result = run(by, operation, view, **options)
    except Inadmissible as error:
        return error.code
    if code is not Code.OK:
        assert {key[:1] for key in result.writes} <= {b"\x02"} and not result.receipts[0].events
    return code


def changed(**tables: Any) -> Overlay:
    """The town's state with some records replaced: name of the table to (table, suffix, record)."""
    overlay = Overlay(town().view)
    for table, suffix, record in tables.values():
        overlay.put(table.prefix + suffix, encode(record))
    return overlay


def example(kind: type) -> tuple[str, Operation]:
    return town().examples[kind]


def account_of(by: str) -> Any:
    account = State(town().view).get(ACCOUNTS, town().ids[by])
    assert account is not None
    return account


# places in an operation


def places(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every scalar and tuple of an operation, with the way to it."""
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from places(getattr(value, name), (*path, name))
        return
    yield path, value
    if isinstance(value, tuple):
        for index, part in enumerate(value):
            yield from places(part, (*path, index))


def with_value(value: Any, path: Path, new: Any) -> Any:
    if not path:
        return new
    head, rest = path[0], path[1:]
    if isinstance(head, int):
        return (*value[:head], with_value(value[head], rest, new), *value[head + 1 :])
    return msgspec.structs.replace(value, **{head: with_value(getattr(value, head), rest, new)})


def field_of(path: Path) -> str:
    return next(part for part in reversed(path) if isinstance(part, str))


def dotted(path: Path) -> str:
    return ".".join(str(part) for part in path)


def documented(kind: type) -> set[Code]:
    """The codes that the operation's documentation names, and OK."""
    text = kind.__doc__ or ""
    found = {Code(code) for code in re.findall(r"\bE_[A-Z_]+", text)} | {Code.OK}
    return found | TRADE_CODES if "own checks of a trade" in text else found


# the tests


def test_every_operation_has_an_example_that_succeeds() -> None:
    assert set(town().examples) == set(OPERATIONS)
    names = {kind.__name__ for kind in OPERATIONS}
    assert names >= PASSES_FROZEN and names >= {name for name, _ in OTHERWISE}


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_succeeds(kind: type) -> None:
    assert run(*example(kind))[0] is Code.OK


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_named_must_exist(kind: type) -> None:
    by, operation = example(kind)
    for path, value in places(operation):
        name = field_of(path)
        unknown: object = UNKNOWN
        if name == "cash":
            unknown = "XXX@NOBODY"
        elif not isinstance(value, bytes) or len(value) != 32 or name in NO_REFERENCE:
            continue
        expected = OTHERWISE.get((kind.__name__, dotted(path)), Code.NOT_FOUND)
        assert refused(by, with_value(operation, path, unknown)) is expected, dotted(path)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if OPERATIONS[kind].roles])
def test_without_the_role(kind: type) -> None:
    assert refused("EVE", example(kind)[1]) is Code.ROLE


@pytest.mark.parametrize("kind", KINDS)
def test_with_wrong_keys(kind: type) -> None:
    """Purpose, revocation, threshold, strangers, in this order of finding nothing else wrong."""
    by, operation = example(kind)
    rule = OPERATIONS[kind]
    stranger = SigningKey(sha256(b"stranger"))
    assert refused(by, operation, keys=[stranger]) is Code.AUTH
    for purpose in KeyPurpose:
        if purpose is not rule.purpose:
            expected = Code.AUTH if rule.signatory is Signatory.NODE else Code.KEY_PURPOSE
            assert refused(by, operation, purpose=purpose) is expected
    if kind in WITHOUT_SENDER:
        return
    suffix = town().ids[by] + key_of(by, rule.purpose).public
    record = State(town().view).get(KEYS, suffix)
    assert record is not None
    revoked = changed(key=(KEYS, suffix, msgspec.structs.replace(record, revoked_at=town().now)))
    assert refused(by, operation, revoked) is Code.KEY_REVOKED
    account = msgspec.structs.replace(account_of(by), thresholds=Thresholds(2, 2, 2))
    strict = changed(account=(ACCOUNTS, town().ids[by], account))
    assert refused(by, operation, strict) is (Code.OK if rule.one_key else Code.THRESHOLD)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sender_where_none_belongs_and_none_where_one_belongs(kind: type) -> None:
    by, operation = example(kind)
    if kind in WITHOUT_SENDER:
        keys = [key_of("EVE", OPERATIONS[kind].purpose)]
        assert refused("EVE", operation, sender=town().ids["EVE"], keys=keys) is Code.FORBIDDEN
    else:
        assert refused(by, operation, sender=b"") is Code.NOT_FOUND


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in WITHOUT_SENDER])
def test_under_a_full_freeze(kind: type) -> None:
    by, operation = example(kind)
    here = town()
    context = here.context()
    freeze = Freeze(here.ids[by], here.ids["REG"], True, (), bytes(32), context.now, None)
    account = account_of(by)
    account = msgspec.structs.replace(account, full_freezes=account.full_freezes + 1)
    view = changed(
        account=(ACCOUNTS, here.ids[by], account),
        freeze=(FREEZES, UNKNOWN, freeze),
        listed=(FREEZES_BY_ACCOUNT, here.ids[by] + UNKNOWN, MARKER),
    )
    expected = Code.OK if kind.__name__ in PASSES_FROZEN else Code.FROZEN
    assert refused(by, operation, view) is expected


@pytest.mark.parametrize("kind", KINDS)
def test_while_the_market_is_paused(kind: type) -> None:
    by, operation = example(kind)
    expected = Code.OK if OPERATIONS[kind].while_paused else Code.PAUSED
    assert refused(by, operation, changed(pause=(PAUSE, SINGLE, Pause(True)))) is expected


@pytest.mark.parametrize("kind", KINDS)
def test_on_behalf_of_another_needs_a_scope(kind: type) -> None:
    """Without an entrustment nothing is done for another; the role and the pause come before."""
    by, operation = example(kind)
    if kind in WITHOUT_SENDER:
        return
    code = refused(by, operation, on_behalf_of=town().ids[by], entrustment=UNKNOWN)
    assert code is Code.NOT_FOUND


@pytest.mark.parametrize("kind", KINDS)
def test_integers_at_their_bounds(kind: type) -> None:
    """0, 1 and the greatest end in a documented code or succeed; one more is no integer of the ledger."""
    by, operation = example(kind)
    for path, value in places(operation):
        if not isinstance(value, int) or isinstance(value, bool):
            continue
        for bound in (0, 1, INTEGER_MAX - 1, INTEGER_MAX):
            code = refused(by, with_value(operation, path, bound))
            allowed = documented(kind) | {Code.DECODE, *([Code.THRESHOLD] if kind is APPLIES else [])}
            assert code in allowed, f"{dotted(path)} = {bound}: {code}"
        assert refused(by, with_value(operation, path, INTEGER_MAX + 1)) is Code.DECODE
        below = refused(by, with_value(operation, path, -1))
        assert below is (Code.OK if field_of(path) == "utc_offset_minutes" else Code.DECODE), dotted(path)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_too_long_is_not_decoded(kind: type) -> None:
    by, operation = example(kind)
    for path, value in places(operation):
        longer: object
        if isinstance(value, str) and not hasattr(value, "value"):
            longer = "A" * 3_000
        elif isinstance(value, bytes):
            longer = bytes(limits.evidence_in_transaction_bytes_max + 1 if kind is EvidencePost else 65)
        elif isinstance(value, tuple) and value:
            longer = value[:1] * 600
        else:
            continue
        assert refused(by, with_value(operation, path, longer)) is Code.DECODE, dotted(path)


def test_every_field_is_bounded() -> None:
    """No operation has a text, a list or a number that only the size of a transaction bounds."""
    seen: set[object] = set()
    fresh: list[Any] = [msgspec.inspect.type_info(kind) for kind in KINDS]
    while fresh:
        kind = fresh.pop()
        match kind:
            case msgspec.inspect.StructType(cls=cls):
                fresh += [] if cls in seen else [field.type for field in kind.fields]
                seen.add(cls)
            case msgspec.inspect.UnionType(types=types):
                fresh += types
            case msgspec.inspect.VarTupleType(item_type=item):
                assert kind.max_length is not None, kind
                fresh.append(item)
            case msgspec.inspect.StrType() | msgspec.inspect.BytesType():
                assert kind.max_length is not None, kind
            case msgspec.inspect.IntType():
                assert kind.ge is not None and (kind.le is not None or kind.lt is not None), kind
            case msgspec.inspect.EnumType() | msgspec.inspect.BoolType() | msgspec.inspect.NoneType():
                pass
            case _:
                raise AssertionError(kind)


WRONG: tuple[Any, ...] = (None, True, 1.5, "text", b"raw", (), ("text",), {"a": 1}, 7, -7, 2**64 - 1)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_of_another_type_is_not_decoded(kind: type) -> None:
    """Whatever stands in the place of a field: no float, no map is ever read, and what can be read is judged."""
    by, operation = example(kind)
    allowed = documented(kind) | {Code.DECODE, Code.AUTH, Code.NOT_FOUND, Code.FIELD}
    allowed |= {Code.THRESHOLD, Code.KEY_PURPOSE} if kind is APPLIES else set()
    for path, value in places(operation):
        for wrong in WRONG:
            if type(wrong) is type(value):
                continue
            code = refused(by, with_value(operation, path, wrong))
            if isinstance(wrong, float | dict) or (wrong is True and not isinstance(value, bool)):
                assert code is Code.DECODE, f"{dotted(path)} = {wrong!r}: {code}"
            assert code in allowed, f"{dotted(path)} = {wrong!r}: {code}"


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_empty_or_short(kind: type) -> None:
    """An empty list or text is refused or means nothing; bytes of another length, and unknown words, are not read."""
    by, operation = example(kind)
    allowed = documented(kind) | {Code.DECODE, Code.FIELD, *([Code.THRESHOLD, Code.AUTH] if kind is APPLIES else [])}
    for path, value in places(operation):
        if isinstance(value, bytes) and len(value) == 32:
            for length in (0, 31, 33):
                assert refused(by, with_value(operation, path, bytes(length))) is Code.DECODE, dotted(path)
        elif isinstance(value, enum.Enum):
            for word in ("", "UNKNOWN", str(value.value).lower()):
                assert refused(by, with_value(operation, path, word)) is Code.DECODE, dotted(path)
        elif isinstance(value, str | tuple) and value:
            assert refused(by, with_value(operation, path, type(value)())) in allowed, dotted(path)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_listed_twice_is_refused_or_counts_once(kind: type) -> None:
    by, operation = example(kind)
    for path, value in places(operation):
        if isinstance(value, tuple) and value:
            assert refused(by, with_value(operation, path, value * 2)) in documented(kind) | {
                Code.DECODE,
                Code.FIELD,
            }, dotted(path)
