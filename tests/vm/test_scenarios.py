"""The stories under tests/scenarios hold; what cannot be played or does not hold says why and where."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec import inspect

from otcnode.cli.exits import EXIT_NO, EXIT_USAGE
from otcnode.cli.scenario import read, scenario
from otcnode.vm.events import Event
from otcnode.vm.scenario import calculations, conveniences, fixture, values
from otcnode.vm.scenario.building import SORTED, operation_types, struct_type
from otcnode.vm.scenario.checks import Checks
from otcnode.vm.scenario.malformed import ScenarioError
from otcnode.vm.scenario.runner import Played, play
from otcnode.vm.scenario.values import UNITS, Scale, Unit
from otcnode.vm.scenario.world import ITEM_TABLES

ROOT = Path(__file__).parent.parent.parent
STORIES = sorted((ROOT / "tests" / "scenarios").glob("*.toml"))
GUIDE = (ROOT / "docs" / "scenarios.md").read_text()
EXAMPLE = next(block for block in re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL) if block.startswith("title"))
HEAD = 'title = "t"\nstart = "2028-05-01T09:00:00+08:00"\n[fixture.investors]\nANN = { cash = "100.00" }\n'


@pytest.mark.parametrize("story", STORIES, ids=lambda path: path.stem)
def test_every_story_holds(story: Path) -> None:
    steps = list(play(str(story), read))
    assert len(steps) > 3
    for played in steps:
        assert played.held, shown(played)


def shown(played: Played) -> str:
    lines = [f"{m.where}: expected {m.expected}, actual {m.actual}" for m in played.mismatches]
    return f"{played.file}, step {played.step!r}: " + "; ".join(lines)


def run(text: str, **others: str) -> list[Played]:
    files = {"story.toml": text, **{f"{name}.toml": other for name, other in others.items()}}
    return list(play("story.toml", files.__getitem__))


def step(body: str, name: str = "s") -> str:
    return f'[[step]]\nname = "{name}"\n{body}\n'


WITHDRAW = step('by = "ANN"\ndo = "cash.withdraw"\nwith = { cash = "CNY@BANK", amount = "40.00" }\nas = "W"')


# the guide


def test_the_example_of_the_guide_holds() -> None:
    assert [played.held for played in run(EXAMPLE)] == [True] * 4


def test_the_guide_shows_what_a_wrong_expectation_prints(tmp_path: Path) -> None:
    path = tmp_path / "story.toml"
    path.write_text(EXAMPLE.replace('balance = "3,800.00"', 'balance = "3,800.01"'))
    result = CliRunner().invoke(scenario, ["run", str(path)])
    assert result.exit_code == EXIT_NO
    (block,) = re.findall(r"```text\n(.*?)```", GUIDE, re.DOTALL)
    for line in block.splitlines():
        assert line.replace("story.toml", str(path)) in result.output.splitlines()


def test_the_guide_names_everything_a_story_can_use() -> None:
    for name in (
        *conveniences.FILLERS,
        *fixture.MACROS,
        *calculations.FORMULAS,
        *Checks.__struct_fields__,
        *SORTED,
    ):
        assert f"`{name}`" in GUIDE, name


def integers(kind: inspect.Type, name: str, path: str) -> Iterator[tuple[str, str]]:
    """(field name, path) of every integer in a type."""
    match kind:
        case inspect.StructType():
            for entry in kind.fields:
                yield from integers(entry.type, entry.name, f"{path}.{entry.name}")
        case inspect.UnionType():
            for part in kind.types:
                yield from integers(part, name, path)
        case inspect.VarTupleType():
            yield from integers(kind.item_type, name, path)
        case inspect.IntType():
            yield name, path


def test_every_integer_of_an_operation_event_or_item_has_a_unit() -> None:
    """A new field needs an entry in values.NAMES, so that stories can write it in its unit."""
    union = inspect.type_info(Event)
    assert isinstance(union, inspect.UnionType)
    kinds = [*operation_types().values(), *union.types, *(struct_type(table.kind) for table in ITEM_TABLES)]
    for kind in kinds:
        assert isinstance(kind, inspect.StructType)
        for name, path in integers(kind, "", str(kind.tag or kind.cls.__name__)):
            assert name in UNITS, f"{path}: say its unit in otcnode/vm/scenario/values.py"


def test_no_field_has_two_units() -> None:
    names = [name for names in values.NAMES.values() for name in names.split()]
    assert len(names) == len(set(names))


# numbers


@pytest.mark.parametrize(
    ("unit", "text", "number"),
    [
        (Unit.MONEY, "1,234.56", 123_456),
        (Unit.MONEY, "0.1", 10),
        (Unit.MONEY, "-0.01", -1),
        (Unit.PRICE, "100.0050", 1_000_050),
        (Unit.QUANTITY, "1.5", 1_500),
        (Unit.QUANTITY, 2, 2_000),
        (Unit.RATE, "0.0001%", 1),
        (Unit.RATE, "100%", 1_000_000),
        (Unit.RATE, 250, 250),
        (Unit.INSTANT, "1970-01-01T08:00:00.001+08:00", 1),
        (Unit.INSTANT, "+1h", 3_607_000),
        (Unit.SPAN, "1d1h1m1s1ms", 90_061_001),
        (Unit.DATE, "1970-01-02", 1),
        (Unit.COUNT, 7, 7),
    ],
)
def test_numbers_are_read_exactly(unit: Unit, text: object, number: int) -> None:
    scale = Scale(quantity_decimals=3, now_ms=7_000)
    assert values.parse(unit, text, scale) == number


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        (Unit.MONEY, 100),
        (Unit.MONEY, "1.001"),
        (Unit.MONEY, "12,34.00"),
        (Unit.MONEY, "1e3"),
        (Unit.MONEY, "99999999999999999999.00"),
        (Unit.MONEY, 1.5),
        (Unit.MONEY, True),
        (Unit.PRICE, "1.00001"),
        (Unit.RATE, "1"),
        (Unit.INSTANT, "2028-01-01T00:00:00"),
        (Unit.INSTANT, "2028-01-01T00:00:00.0001Z"),
        (Unit.INSTANT, "1969-12-31T23:59:59Z"),
        (Unit.INSTANT, "tomorrow"),
        (Unit.INSTANT, "+"),
        (Unit.SPAN, ""),
        (Unit.SPAN, "1 h"),
        (Unit.DATE, "2028-02-30"),
        (Unit.COUNT, "7"),
    ],
)
def test_what_is_not_a_number_of_that_unit_is_refused(unit: Unit, text: object) -> None:
    with pytest.raises(ScenarioError):
        values.parse(unit, text, Scale())


@pytest.mark.parametrize("unit", [Unit.MONEY, Unit.PRICE, Unit.QUANTITY, Unit.INSTANT, Unit.SPAN, Unit.DATE])
@pytest.mark.parametrize("number", [0, 1, 9_999, 123_456_789])
def test_numbers_are_shown_as_they_are_read(unit: Unit, number: int) -> None:
    number = number % 100_000 if unit is Unit.DATE else number
    scale = Scale(quantity_decimals=8)
    assert values.parse(unit, values.show(unit, number, scale), scale) == number


def test_instants_beyond_the_calendar_are_shown() -> None:
    assert values.show_instant(2**63 - 1) == f"{2**63 - 1} ms"
    assert values.show(Unit.DATE, 2**40, Scale()) == f"day {2**40}"


# files that cannot be played


@pytest.mark.parametrize(
    ("text", "where", "detail"),
    [
        ("title = ", "story.toml", ""),
        ('title = "t"', "start", "needs a start"),
        ('colour = "red"\n' + HEAD, "story.toml", "colour"),
        (HEAD + step('at = "+1h"\ncolour = "red"'), "step 's'", "colour"),
        (HEAD + step('at = "2028-05-01T09:00:00.001+08:00"'), "step 's', at", "not after the block before"),
        (HEAD + step('at = "+99999999999999d"'), "step 's'", "64 bits"),
        (HEAD + step('at = "+9999999d"'), "step 's'", "beyond the calendar"),
        (HEAD + WITHDRAW + 'valid_until = "+99999999999999d"\n', "step 's'", "64 bits"),
        (HEAD + step('do = "contract.conclude"\nas = "C"\nwith = { slots = [["ANN"]] }'), "with.slots", "names one"),
        (HEAD + step("") + step(""), "step 's'", "taken"),
        (HEAD + step("", "fixture"), "step 'fixture'", "taken"),
        (HEAD + step('do = "cash.withdraw"'), "step 's', by", "who signs"),
        (HEAD + step('by = "ANN"\ndo = "cash.steal"'), "step 's', do", "no operation 'cash.steal'"),
        (HEAD + step('by = "BEN"\ndo = "cash.withdraw"'), "step 's'", "no account 'BEN'"),
        (HEAD + step('by = "ANN"\ndo = "cash.withdraw"\nwith = { cash = "CNY@BANK" }'), "with.amount", "required"),
        (
            HEAD + step('by = "ANN"\ndo = "cash.withdraw"\nwith = { cash = "CNY@BANK", amount = 4 }'),
            "step 's', with.amount",
            "decimal string",
        ),
        (
            HEAD + step('by = "ANN"\ndo = "cash.withdraw"\nwith = { cash = "CNY@BANK", amount = "4.00", tip = 1 }'),
            "with.tip",
            "unknown field",
        ),
        (
            HEAD + step('by = "ANN"\ndo = "cash.withdraw_cancel"\nwith = { withdrawal = "$W" }'),
            "with.withdrawal",
            "nothing was named 'W'",
        ),
        (HEAD + WITHDRAW.replace('as = "W"', 'as = "$W"'), "step 's'", "`$.as`"),
        (
            HEAD + step('by = "BANK"\ndo = "account.review"\nas = "X"\nwith = { account = "ANN", approve = "yes" }'),
            "with.approve",
            "true or false",
        ),
        (HEAD + WITHDRAW + 'expect = "E_NO_CASH"\n', "step 's', expect", "unknown code"),
        (HEAD + WITHDRAW + 'again = "x"\n', "step 's'", "exclude each other"),
        (HEAD + step('again = "x"'), "again", "no step 'x' sent"),
        (HEAD + step("transactions = [{ }]"), "transactions[0]", "do, operations or again"),
        (HEAD + step('do = "contract.conclude"\nexpect = "E_ROLE"\nas = "C"'), "expect", "all of them OK"),
        (
            HEAD + step('do = "contract.conclude"\nas = "C"\nwith = { kind = "MASTER", slots = ["NOBODY"] }'),
            "step 's'",
            "NOBODY",
        ),
        (HEAD + step('check.totals = { "CNY@NOWHERE" = "1.00" }'), "check.totals", "no cash"),
        (HEAD + step("check.balance = []"), "step 's', check", "balance"),
        (
            HEAD + step('check.balances = [{ of = "ANN", asset = "CNY@BANK", balance = 1 }]'),
            "check.balances[0]",
            "money",
        ),
        (
            HEAD + step('check.balances = [{ of = "ANN", asset = "CNY@BANK", as_of = "x" }]'),
            "check.balances[0]",
            "no step 'x'",
        ),
        (HEAD + step('check.items = [{ item = "ANN", colour = "red" }]'), "check.items[0].colour", "Account has"),
        (HEAD + step('check.arithmetic = [{ compute = "magic", is = "1.00" }]'), "check.arithmetic[0].compute", "cash"),
        (
            HEAD + step('by = "ANN"\ndo = "contract.sign"\nwith = { contract = "hash:x", slot = 32 }'),
            "with.slot",
            "less than 32",
        ),
        (HEAD + step("check.arithmetic = [{ compute = {} }]"), "check.arithmetic[0].compute", "cash"),
        (HEAD + step('check.arithmetic = [{ compute = "fee", cash_decimals = "2" }]'), "cash_decimals", "integer"),
        (HEAD + step('check.items = [{ item = "ANN", status = "ACTIVE", as_of = [] }]'), "check.items[0]", "no step"),
        (HEAD + step('check.arithmetic = [{ compute = "fee", is = "1.00" }]'), "check.arithmetic[0]", "fee takes"),
        (HEAD + step('check.automatic = [{ item = "ANN", colour = 1 }]'), "check.automatic", "receipt"),
        (HEAD.replace("100.00", "100.001"), "fixture.investors.ANN", "decimals"),
        ('title = "t"\nstart = "soon"', "story.toml", "ISO 8601"),
        ('title = "t"\nstart = "2028-05-01T09:00:00Z"\ngenesis.parameters = { speed = 1 }', "parameters", "'speed'"),
        ('title = "t"\nstart = "2028-05-01T09:00:00Z"\ngenesis.cash = ["CNY"]', "genesis.cash", ""),
        ('title = "t"\ninclude = { file = "story.toml" }', "story.toml", "includes itself"),
    ],
)
def test_a_file_that_cannot_be_played_says_where_and_why(text: str, where: str, detail: str) -> None:
    with pytest.raises(ScenarioError) as raised:
        run(text)
    assert str(raised.value).startswith("story.toml")
    assert where in str(raised.value)
    assert detail in str(raised.value)


def test_automatic_receipts_that_did_not_come_are_told() -> None:
    (_, played) = run(HEAD + step('check.automatic = [{ kind = "x" }]'))
    assert [(m.where, m.expected, m.actual) for m in played.mismatches] == [("automatic", "1 receipts", "0: none")]


# steps that do not hold


@pytest.mark.parametrize(
    ("check", "expected", "actual"),
    [
        ('balances = [{ of = "ANN", asset = "CNY@BANK", balance = "99.99" }]', "99.99", "100.00"),
        ('balances = [{ of = "ANN", asset = "CNY@BANK", available = "60.01" }]', "60.01", "60.00"),
        ('balances = [{ of = "ANN", asset = "CNY@BANK", locked = "0.00", as_of = "s" }]', "0.00", "40.00"),
        ('balances = [{ of = "ANN", asset = "CNY@BANK", locked = "0.01", as_of = "fixture" }]', "0.01", "0.00"),
        ('balances = [{ of = "ANN", asset = "CNY@BANK", frozen = "0.01" }]', "0.01", "0.00"),
        ('totals = { "CNY@BANK" = "100.01" }', "100.01", "100.00"),
        ('items = [{ item = "$W", status = "PAID" }]', "PAID", "LOCKED"),
        ('items = [{ item = "$W", amount = "40.01" }]', "40.01", "40.00"),
        ('items = [{ item = "$W", account = "BANK" }]', "BANK", "ANN"),
        ('items = [{ item = "ANN", status = "FROZEN" }]', "FROZEN", "ACTIVE"),
        ('items = [{ item = "ANN", encryption_key = "none" }]', "none", "…"),
        ('items = [{ item = "$W", status = "LOCKED", as_of = "fixture" }]', "an item", "nothing"),
        ('automatic = [{ kind = "withdrawal.end" }]', "1 receipts", "0: none"),
        ('events = ["cash.moved"]', "cash.moved", "no more events"),
        ('unchanged = [{ since = "fixture", of = ["ANN"] }]', "nothing", "40.00"),
        ('arithmetic = [{ compute = "fee", amount = "4.99", ppm = 1000, is = "0.01" }]', "0.01", "0.00"),
    ],
)
def test_a_wrong_expectation_is_told(check: str, expected: str, actual: str) -> None:
    last = run(HEAD + WITHDRAW + step(f"check.{check}", "check"))[-1]
    assert last.step == "check"
    (mismatch,) = last.mismatches
    assert mismatch.expected == expected
    assert mismatch.actual.endswith(actual)


def test_events_are_wanted_in_their_order() -> None:
    wanted = 'check.events = ["withdrawal.changed", "lock.opened"]\n'
    (mismatch,) = run(HEAD + WITHDRAW + wanted)[-1].mismatches
    assert (mismatch.where, mismatch.expected) == ("events: [1]", "lock.opened")
    assert run(HEAD + WITHDRAW + 'check.events = ["lock.opened", "withdrawal.changed"]\n')[-1].held
    field = 'check.events = [{ kind = "lock.opened", amount = "40.01" }]\n'
    assert "amount = 40.00" in run(HEAD + WITHDRAW + field)[-1].mismatches[0].actual
    assert not run(HEAD + WITHDRAW + 'check.no_events = ["lock.opened"]\n')[-1].held


def test_a_wrong_code_is_told_with_its_explanation_and_ends_the_story() -> None:
    text = HEAD + WITHDRAW.replace("40.00", "100.01") + step("", "never")
    (_, played) = run(text)
    (mismatch,) = played.mismatches
    assert (mismatch.where, mismatch.expected) == ("expect", "OK")
    assert mismatch.actual.startswith("E_LACK_CASH")


def test_the_failing_operation_and_the_explanation_are_checked() -> None:
    body = 'by = "ANN"\nexpect = "E_LACK_CASH"\noperations = [\n'
    for amount in ("60.00", "40.01"):
        body += f'{{ do = "cash.withdraw", with = {{ cash = "CNY@BANK", amount = "{amount}" }} }},\n'
    assert run(HEAD + step(body + "]\nfailing_operation = 1"))[-1].held
    (mismatch,) = run(HEAD + step(body + "]\nfailing_operation = 0"))[-1].mismatches
    assert (mismatch.where, mismatch.expected, mismatch.actual) == ("failing_operation", "0", "1")
    (mismatch,) = run(HEAD + step(body + ']\nbecause = "the moon"'))[-1].mismatches
    assert (mismatch.where, mismatch.expected) == ("because", "the moon")


def test_a_broken_invariant_fails_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    from otcnode.vm.violation import Violation

    monkeypatch.setattr("otcnode.vm.scenario.playing.check_state", lambda view: [Violation(1, "a fen is missing")])
    (played,) = run(HEAD)
    assert not played.held
    assert "a fen is missing" in played.mismatches[0].actual


def test_a_ledger_whose_events_do_not_add_up_fails_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otcnode.vm.scenario.playing.state_figures", lambda view: {})
    (played,) = run(HEAD)
    assert any("events say 10000, the state 0" in mismatch.actual for mismatch in played.mismatches)


# including


def test_an_included_story_is_played_up_to_a_step_and_gone_on_from_there() -> None:
    base = HEAD + WITHDRAW + step('check.totals = { "CNY@BANK" = "0.00" }', "wrong")
    branch = 'title = "b"\ninclude = { file = "base.toml", until = "s" }\n' + step(
        'check.items = [{ item = "$W", status = "LOCKED" }]', "mine"
    )
    steps = run(branch, base=base)
    assert [(played.file, played.step, played.held) for played in steps] == [
        ("story.toml", "fixture", True),
        ("base.toml", "s", True),
        ("story.toml", "mine", True),
    ]
    assert not run(branch.replace(', until = "s"', ""), base=base)[-1].held


def test_an_unknown_step_of_an_included_file_is_told() -> None:
    with pytest.raises(ScenarioError, match="no step 'x'"):
        run('title = "b"\ninclude = { file = "base.toml", until = "x" }', base=HEAD)


# playing


def test_a_story_is_the_same_every_time() -> None:
    assert run(EXAMPLE) == run(EXAMPLE)


def test_tomls_own_dates_and_times_are_read_too() -> None:
    text = HEAD + step("at = 2028-05-01T09:00:01.500+08:00")
    assert run(text)[-1].at == "2028-05-01T09:00:01.500+08:00"


def test_what_does_not_fit_its_field_is_inadmissible() -> None:
    body = 'by = "ANN"\ndo = "contract.confirm"\nwith = { contract = "hash:x", slot = 99 }\nexpect = "E_DECODE"'
    assert run(HEAD + step(body))[-1].held


def test_an_account_may_apply_in_the_story_itself() -> None:
    fields = 'with = { keys = { a = "MANAGE", b = "MANAGE" }, thresholds = { MANAGE = 2 } }\n'
    text = HEAD + step(
        f'by = "NEW"\ndo = "account.apply"\n{fields}check.items = [{{ item = "NEW", status = "PENDING" }}]'
    )
    text += step(f'by = "NEW/a"\ndo = "account.apply"\n{fields}expect = "E_THRESHOLD"', "too few")
    assert [played.held for played in run(text)] == [True, True, True]


# the command


def test_the_command_tells_which_story_does_not_hold(tmp_path: Path) -> None:
    good, bad, broken = (tmp_path / f"{name}.toml" for name in ("good", "bad", "broken"))
    good.write_text(EXAMPLE)
    bad.write_text(EXAMPLE.replace('"3,800.00"', '"3,800.01"'))
    broken.write_text("title = 1")
    assert CliRunner().invoke(scenario, ["run", str(good), "-v"]).exit_code == 0
    result = CliRunner().invoke(scenario, ["run", str(good), str(bad)])
    assert result.exit_code == EXIT_NO
    assert f"{good}: holds" in result.output
    assert f"{bad}: does not hold" in result.output
    result = CliRunner().invoke(scenario, ["run", str(broken), str(good), str(tmp_path / "absent.toml")])
    assert result.exit_code == EXIT_USAGE
    assert f"otcnode: {broken}" in result.stderr
    assert "absent.toml: cannot be read" in result.stderr


def test_the_command_writes_json(tmp_path: Path) -> None:
    path = tmp_path / "story.toml"
    path.write_text(EXAMPLE)
    result = CliRunner().invoke(scenario, ["run", "--json", str(path)])
    (story,) = json.loads(result.stdout)
    assert story["held"]
    assert story["steps"][0]["step"] == "fixture"
    assert story["steps"][1]["transactions"][0]["code"] == "E_LACK_CASH"
