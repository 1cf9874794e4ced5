"""Commands that work long are told to stop at every line of theirs: each is put away, advises, and goes on."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, NoReturn

import click
import pytest
from click.testing import CliRunner

import otcnode
from otcnode.__main__ import main
from otcnode.bench.chain import genesis_of, make_home
from otcnode.cli.exits import EXIT_INTERRUPTED
from otcnode.cli.stopping import Stopping, stoppable
from otcnode.maintenance import export as exports
from otcnode.storage import pruning

HEIGHT, TRANSACTIONS = 12, 2
INSTANTS = 8
"""Of a command, spread over its lines; besides these the last ones."""
LAST = {"export as JSON lines": 30}
LAST_OF_OTHERS = 6
ROOT = Path(otcnode.__file__).parent
TRACED = (str(ROOT / "cli"), str(ROOT / "maintenance" / "export.py"))

COMMANDS = {
    "verify": ("verify", "--home", "{home}"),
    "replay": ("replay", "--home", "{home}"),
    "rollback": ("rollback", "--home", "{home}", "--to", "3"),
    "prune": ("prune", "--home", "{home}", "--keep-blocks", "3"),
    "snapshot": ("snapshot", "--home", "{home}", "--to", "{out}"),
    "restore": ("restore", "--home", "{again}", "--from", "{snapshot}"),
    "export as JSON lines": ("export", "events", "--home", "{home}", "--output", "{out}"),
    "export as Parquet": ("export", "events", "--home", "{home}", "--format", "parquet", "--output", "{out}"),
}


class Line(NamedTuple):
    file: str
    function: str
    number: int


class Ended(NamedTuple):
    code: int
    said: str
    lines: list[Line]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("built")
    make_home(directory / "home", HEIGHT, TRANSACTIONS, genesis=genesis_of(buckets=256))
    (directory / "again").mkdir()
    shutil.copy(directory / "home" / "genesis.json", directory / "again")
    assert run(words_of("snapshot", directory, out="snapshot"), directory).code == 0
    return directory


def words_of(name: str, directory: Path, out: str = "out") -> list[str]:
    places = {place: directory / place for place in ("home", "again", "snapshot")} | {"out": directory / out}
    return ["db", *(word.format(**places) for word in COMMANDS[name]), "--json"]


def run(words: list[str], directory: Path, instant: int | None = None) -> Ended:
    """The command line in a process of its own, which is interrupted ahead of the line of this number."""
    said, lines = directory / "said", directory / "lines"
    child = os.fork()
    if not child:
        _child(words, said, lines, instant)
    _, status = os.waitpid(child, 0)
    told = [Line(*line) for line in json.loads(lines.read_text())]
    return Ended(os.waitstatus_to_exitcode(status), said.read_text(), told)


def _child(words: list[str], said: Path, told: Path, instant: int | None) -> NoReturn:
    code = 99
    try:
        for number in (1, 2):
            os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if number == 1 else os.O_APPEND)), number)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        signal.signal(signal.SIGINT, signal.default_int_handler)
        lines: list[Line] = []

        def trace(frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
            if not frame.f_code.co_filename.startswith(TRACED):
                return None
            if event == "line":
                lines.append(Line(frame.f_code.co_filename, frame.f_code.co_name, frame.f_lineno))
                if len(lines) - 1 == instant:
                    signal.raise_signal(signal.SIGINT)
            return trace

        sys.settrace(trace)
        try:
            sys.argv = ["otcnode", *words]
            main()
        except SystemExit as end:
            assert isinstance(end.code, int)
            code = end.code
        finally:
            sys.settrace(None)
            told.write_text(json.dumps(lines))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def instants(lines: list[Line], last_lines: int) -> list[int]:
    """Of each line the first and the last time: some of them, and all of the last ones."""
    first = {line: number for number, line in reversed(list(enumerate(lines)))}
    last = {line: number for number, line in enumerate(lines)}
    every = sorted({*first.values(), *last.values()})
    return sorted({*every[:: max(1, len(every) // INSTANTS)], *every[-last_lines:]})


def content(directory: Path) -> dict[str, bytes]:
    paths: Iterable[Path] = sorted(directory.rglob("*")) if directory.is_dir() else [directory]
    return {path.name: path.read_bytes() for path in paths if path.is_file()}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_stopped_at_any_line(
    name: str, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends with 130 and says what goes on, and that goes on; or it was done, and says so."""
    if "Parquet" in name:
        pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    # Every process would load it anew.
    importlib.import_module("otcnode.cli.db")
    monkeypatch.setattr(exports, "BLOCKS_PER_STEP", 4)
    monkeypatch.setattr(exports, "BLOCKS_PER_PARQUET_FILE", 5)
    monkeypatch.setattr(pruning, "BLOCKS_PER_WRITE", 4)
    whole = tmp_path / "whole"
    shutil.copytree(built, whole)
    undisturbed = run(words_of(name, whole), whole)
    assert undisturbed.code == 0, undisturbed.said
    word = COMMANDS[name][0]
    begun = next(number for number, line in enumerate(undisturbed.lines) if line.function == word)
    seen = set()
    for instant in instants(undisturbed.lines, LAST.get(name, LAST_OF_OTHERS)):
        place = tmp_path / str(instant)
        shutil.copytree(built, place)
        words = words_of(name, place)
        ended = run(words, place, instant)
        where = f"{undisturbed.lines[instant]}: {ended.code} {ended.said}"
        seen.add(ended.code)
        assert ended.code in (0, EXIT_INTERRUPTED) and "Traceback" not in ended.said, where
        if ended.code == EXIT_INTERRUPTED:
            assert "stopped" in ended.said, where
            assert instant <= begun + 1 or "go on with" in ended.said, where
            assert not (place / "out" / "draft").exists(), where
            after = run(words, place)
            assert after.code == 0, f"{where}, then {after.said}"
        if (whole / "out").exists():
            assert content(place / "out") == content(whole / "out"), where
        shutil.rmtree(place)
    assert seen == {0, EXIT_INTERRUPTED}


def test_an_interrupt_behind_the_end_is_none() -> None:
    late = "import atexit, signal; atexit.register(signal.raise_signal, signal.SIGINT)"
    line = (
        f"{late}; signal.signal(signal.SIGINT, signal.default_int_handler); from otcnode.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", line, "--version"], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_interrupt_before_the_beginning_says_stopped() -> None:
    """While the command line is loaded."""
    early = "import importlib, signal; importlib.import_module = lambda _: signal.raise_signal(signal.SIGINT)"
    line = (
        f"{early}; signal.signal(signal.SIGINT, signal.default_int_handler); from otcnode.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", line, "--version"], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (EXIT_INTERRUPTED, b"stopped\n")


@pytest.fixture
def ctrl_c() -> Callable[[], None]:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return lambda: signal.raise_signal(signal.SIGINT)


class Finalized:
    """Python cannot raise what is raised while an object goes."""

    def __init__(self, press: Callable[[], None]) -> None:
        self._press = press

    def __del__(self) -> None:
        self._press()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_was_lost_is_heard_at_the_next_word(
    ctrl_c: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    @stoppable("go on with it")
    def work(stopping: Stopping) -> None:
        Finalized(ctrl_c)
        stopping.check()
        raise AssertionError("it was not heard")

    with pytest.raises(SystemExit) as ended:
        work()
    assert ended.value.code == EXIT_INTERRUPTED
    assert capsys.readouterr().err.endswith("stopped; go on with it\n")


def test_cleaning_up_is_not_interrupted_again(ctrl_c: Callable[[], None]) -> None:
    cleaned = []

    @stoppable("go on with it")
    def work(stopping: Stopping) -> None:
        try:
            ctrl_c()
        finally:
            ctrl_c()
            cleaned.append(True)

    with pytest.raises(SystemExit):
        work()
    assert cleaned


def test_who_ignores_an_interrupt_still_does() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Stopping("").listen()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_a_program_that_runs_a_command_has_its_signals_back(ctrl_c: Callable[[], None]) -> None:
    """Also where it was stopped: the program would be deaf to them ever after."""

    @click.command()
    @click.option("--long", is_flag=True)
    @stoppable("go on with it")
    def work(stopping: Stopping, long: bool) -> None:
        if long:
            ctrl_c()

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    for words, code in (([], 0), (["--long"], EXIT_INTERRUPTED)):
        assert CliRunner().invoke(work, words).exit_code == code
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    with pytest.raises(KeyboardInterrupt):
        ctrl_c()


def test_a_program_may_run_a_command_in_any_thread(ctrl_c: Callable[[], None]) -> None:
    """Where no signal is heard, and none can be set."""
    worked = []

    @stoppable("go on with it")
    def work(stopping: Stopping) -> None:
        stopping.check()
        worked.append(threading.current_thread() is threading.main_thread())

    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result(timeout=60)
    assert worked == [False] and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_command_hears_the_signals_that_an_earlier_one_in_its_process_has_left(ctrl_c: Callable[[], None]) -> None:
    earlier = Stopping("")
    earlier.listen()
    earlier.settle()

    @stoppable("go on with it")
    def work(stopping: Stopping) -> None:
        ctrl_c()
        raise AssertionError("it was not heard")

    with pytest.raises(SystemExit) as ended:
        work()
    assert ended.value.code == EXIT_INTERRUPTED
