"""What the command line makes of errors: one line and a documented exit code, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from otcnode.cli import main as command_line
from otcnode.cli.exits import EXIT_UNREACHABLE, EXIT_USAGE
from otcnode.cli.main import main
from otcnode.client.errors import NodeUnavailable


@pytest.mark.parametrize(
    "words", [["init", "--home", "{file}", "--name", "x"], ["init", "--home", "{file}/below", "--name", "x"]]
)
def test_a_place_that_cannot_be_used_is_named_in_one_line(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a file"
    file.write_text("in the way")
    with pytest.raises(SystemExit) as ended:
        main([word.format(file=file) for word in words])
    assert ended.value.code == EXIT_USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"otcnode: cannot use {file}") and line.rpartition(": ")[2] in (
        "File exists",
        "Not a directory",
    )


def test_no_node_to_ask_has_an_exit_code_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise NodeUnavailable("http://127.0.0.1:9", "refused; http://127.0.0.1:7: no answer within 10 s")

    monkeypatch.setattr(command_line.otcnode, "main", unreachable)
    with pytest.raises(SystemExit) as ended:
        main(["governance", "list"])
    assert ended.value.code == EXIT_UNREACHABLE
    assert capsys.readouterr().err.splitlines() == [
        "otcnode: http://127.0.0.1:9: refused; http://127.0.0.1:7: no answer within 10 s"
    ]
