"""What a scenario file says, typed; unknown keys are refused. Reading files is the caller's: `Reader`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, field

from otcnode.genesis import KeyPurpose, Role
from otcnode.vm.accounts.records import AccountKind, Category
from otcnode.vm.scenario.malformed import ScenarioError

Table: TypeAlias = dict[str, Any]
Reader: TypeAlias = Callable[[str], str]
"""Path to the file's text; raises ScenarioError."""
Name: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$", max_length=64)]
NewName: TypeAlias = Annotated[str, Meta(pattern=r"^([A-Za-z][A-Za-z0-9_.-]*)?$", max_length=64)]
"""Empty for what gets no name."""
T = TypeVar("T")
FIXTURE = "fixture"
"""The name under which the state after the fixture is remembered."""


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Keyring(_Part, frozen=True, kw_only=True):
    """`keys` are names of keys to their purpose; a purpose without one gets a key of its own name."""

    keys: dict[Name, KeyPurpose] = {}
    thresholds: dict[KeyPurpose, int] = {}


class Desk(Keyring, frozen=True, kw_only=True):
    """An account of the genesis."""

    roles: tuple[Role, ...]
    organisation: str = ""


CashId: TypeAlias = Annotated[str, Meta(pattern=r"^[!-?A-~]+@[A-Za-z][A-Za-z0-9_.-]*$", max_length=31)]
"""Currency @ the custodian's account."""


class Cash(_Part, frozen=True, kw_only=True):
    id: CashId
    decimals: int = 2
    daily_deposit_limit: str | None = None


class GenesisPart(_Part, frozen=True, kw_only=True):
    cash: Annotated[tuple[CashId | Cash, ...], Meta(min_length=1)] = ("CNY@BANK",)
    parameters: dict[str, int] = {}
    accounts: dict[Name, Desk] = {}


class Investor(Keyring, frozen=True, kw_only=True):
    """`cash` is an amount of the only cash id, or amounts by cash id. Without `certificate` false, certified."""

    kind: AccountKind = AccountKind.PERSON
    cash: str | dict[str, str] = {}
    certified: bool = True
    risk: int = 5
    category: Category = Category.PROFESSIONAL
    valid_until: str = "+365d"
    ultimate_holders: int = 1


class ConcludedContract(_Part, frozen=True, kw_only=True):
    """`terms` etc. are the fields of contract.create; `signers` a short form of its slots."""

    fields: Table = field(name="with")
    accede: tuple[str, ...] = ()


class Fixture(_Part, frozen=True, kw_only=True):
    investors: dict[Name, Investor] = {}
    contracts: dict[Name, ConcludedContract] = {}


class Act(_Part, frozen=True, kw_only=True):
    """One operation."""

    do: str
    fields: Table = field(name="with", default_factory=dict)
    creates: NewName = field(name="as", default="")


class Submission(_Part, frozen=True, kw_only=True):
    """One transaction: one operation (`do`), or several."""

    by: str | tuple[str, ...] = ""
    do: str = ""
    fields: Table = field(name="with", default_factory=dict)
    creates: NewName = field(name="as", default="")
    operations: tuple[Act, ...] = ()
    on_behalf_of: str = ""
    entrustment: str = ""
    valid_until: str = "+1m"
    chain: str = ""
    again: str = ""
    """The name of an earlier step whose transaction is submitted once more, to the byte."""
    expect: str = "OK"
    failing_operation: int | None = None
    because: str = ""
    """A part of the explanation."""

    @property
    def acts(self) -> tuple[Act, ...]:
        return self.operations or ((Act(do=self.do, fields=self.fields, creates=self.creates),) if self.do else ())


class Include(_Part, frozen=True, kw_only=True):
    file: str
    until: str = ""
    """The last step that is played; all of them if empty."""


class Step(Submission, frozen=True, kw_only=True):
    """One block."""

    name: str
    at: str = "+1ms"
    transactions: tuple[Submission, ...] = ()
    check: Table = field(default_factory=dict)

    @property
    def submissions(self) -> tuple[Submission, ...]:
        return self.transactions or ((self,) if self.do or self.operations or self.again else ())


class _File(_Part, frozen=True, kw_only=True):
    title: str
    about: str = ""
    start: str = ""
    include: Include | None = None
    genesis: GenesisPart | None = None
    fixture: Fixture | None = None
    step: tuple[Table, ...] = ()


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """A whole story, what it includes worked in: every step with the file it comes from."""

    title: str
    file: str
    start: str
    genesis: GenesisPart
    fixture: Fixture
    steps: tuple[tuple[str, Step], ...]


def load(file: str, read: Reader) -> Story:
    """Read a story and what it includes. Raises ScenarioError."""
    return _load(file, read, ())


def _load(file: str, read: Reader, including: tuple[str, ...]) -> Story:
    if file in including:
        raise ScenarioError(f"includes itself by way of {' and '.join(including)}", file=file)
    try:
        content = _as_written(msgspec.toml.decode(read(file)))
    except msgspec.DecodeError as error:
        raise ScenarioError(str(error), file=file) from None
    document = convert(content, _File, file=file)
    own = tuple([(file, _step(table, file, number)) for number, table in enumerate(document.step, 1)])
    if document.include is None:
        if not document.start:
            raise ScenarioError("a story needs a start, or includes another", file=file, field="start")
        genesis, fixture = document.genesis or GenesisPart(), document.fixture or Fixture()
        story = Story(
            title=document.title, file=file, start=document.start, genesis=genesis, fixture=fixture, steps=own
        )
    else:
        if document.start or document.genesis or document.fixture:
            raise ScenarioError("start, genesis and fixture are those of the included file", file=file)
        path = _beside(file, document.include.file)
        base = _load(path, read, (*including, file))
        steps = _until(base.steps, document.include.until, file)
        story = msgspec.structs.replace(base, title=document.title, file=file, steps=(*steps, *own))
    names = [step.name for _, step in story.steps]
    for name in names:
        if names.count(name) > 1 or name == FIXTURE:
            raise ScenarioError("this name is taken", file=file, step=name)
    return story


def _as_written(value: Any) -> Any:
    """TOML's own dates and times as the strings they are written as elsewhere."""
    match value:
        case dict():
            return {name: _as_written(entry) for name, entry in value.items()}
        case list():
            return [_as_written(entry) for entry in value]
        case datetime() | date():
            return value.isoformat()
    return value


def _beside(file: str, other: str) -> str:
    folder, separator, _ = file.rpartition("/")
    return folder + separator + other


def _until(steps: tuple[tuple[str, Step], ...], last: str, file: str) -> tuple[tuple[str, Step], ...]:
    if not last:
        return steps
    for count, (_, step) in enumerate(steps, 1):
        if step.name == last:
            return steps[:count]
    raise ScenarioError(f"the included file has no step {last!r}", file=file, field="include.until")


def _step(table: Table, file: str, number: int) -> Step:
    name = table.get("name")
    step = convert(table, Step, file=file, step=name if isinstance(name, str) else f"number {number}")
    ways = [bool(step.do), bool(step.operations), bool(step.transactions), bool(step.again)]
    if sum(ways) > 1:
        raise ScenarioError("do, operations, transactions and again exclude each other", file=file, step=step.name)
    return step


def convert(content: object, kind: type[T], *, file: str = "", step: str = "", field: str = "") -> T:
    """Raises ScenarioError with the place inside `content`."""
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise ScenarioError(str(error), file=file, step=step, field=field) from None
