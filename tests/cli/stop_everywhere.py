"""Stop a command at every line of its, in a process that nothing else has begun a thread in: forks of it are whole.

`python -m tests.cli.stop_everywhere NAME BUILT PLACE`
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, NoReturn

import otcnode
from otcnode.__main__ import main
from otcnode.cli.exits import EXIT_INTERRUPTED
from otcnode.maintenance import export as exports
from otcnode.storage import pruning

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


def stop_everywhere(name: str, built: Path, tmp_path: Path) -> None:
    """It ends with 130 and says what goes on, and that goes on; or it was done, and says so."""
    # Every process would load it anew.
    importlib.import_module("otcnode.cli.db")
    exports.BLOCKS_PER_STEP = 4
    exports.BLOCKS_PER_PARQUET_FILE = 5
    pruning.BLOCKS_PER_WRITE = 4
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


if __name__ == "__main__":
    stop_everywhere(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
