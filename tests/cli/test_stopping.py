"""Commands that work long are told to stop at every line of theirs: each is put away, advises, and goes on."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from otcnode.bench.chain import genesis_of, make_home
from otcnode.cli.exits import EXIT_INTERRUPTED
from otcnode.cli.stopping import Stopping, stoppable
from tests.cli.stop_everywhere import COMMANDS, words_of

HEIGHT, TRANSACTIONS = 12, 2


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("built")
    make_home(directory / "home", HEIGHT, TRANSACTIONS, genesis=genesis_of(buckets=256))
    (directory / "again").mkdir()
    shutil.copy(directory / "home" / "genesis.json", directory / "again")
    words = words_of("snapshot", directory, out="snapshot")
    subprocess.run([sys.executable, "-m", "otcnode", *words], check=True, capture_output=True, timeout=120)
    return directory


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_stopped_at_any_line(name: str, built: Path, tmp_path: Path) -> None:
    """It ends with 130 and says what goes on, and that goes on; or it was done, and says so."""
    if "Parquet" in name and importlib.util.find_spec("pyarrow") is None:
        pytest.skip("pyarrow is not installed")
    command = [sys.executable, "-m", "tests.cli.stop_everywhere", name, str(built), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


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
