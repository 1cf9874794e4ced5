"""The demo, as a person starts it: the whole story, and nothing left running."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import cluster as daemons

pytestmark = pytest.mark.process

STORY_SECONDS_MAX = 240
ROOT = Path(__file__).parents[2]


def test_the_story_plays_to_its_end(tmp_path: Path) -> None:
    port = str(daemons.free_ports(8))
    command = [sys.executable, "-m", "otcnode", "localnet", "--demo", "--exit", "--directory", "net", "--port", port]
    done = subprocess.run(command, capture_output=True, text=True, timeout=STORY_SECONDS_MAX, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr
    for told in (
        "BANK signs before its turn: refused, E_SIGN_TURN",
        "all of them are final, each once",
        "ADA   asked for 400 and holds 333 units",
        "BO    asked for 350 and holds 292 units",
        "CHEN  asked for 300 and holds 250 units",
        "DORA  asked for 150 and holds 125 units",
        "nothing moved, and both locks are released",
        "exactly the sum",
        "otcnode verify package",
        "all 4 are equal",
        "groups of invariants hold",
    ):
        assert told in done.stdout, told
    for member in sorted((tmp_path / "net").glob("node*")):
        assert (member / "node.log").read_text().splitlines()[-1].startswith("20")
    evidence = sorted((tmp_path / "net" / "evidence").iterdir())
    assert [file.name for file in evidence] == ["issuance-contract.evidence", "settled-trade.evidence"]
    for file in evidence:
        chain = done.stdout.partition("--chain ")[2].split()[0]
        for checker in (["-m", "otcnode", "verify"], [str(ROOT / "verifier" / "otcverify.py")]):
            command = [sys.executable, *checker, "package", str(file), "--chain", chain]
            checked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
            assert checked.returncode == 0 and checked.stdout.startswith("OK"), checked.stdout + checked.stderr
    command = ["pgrep", "-f", str(tmp_path)]
    assert subprocess.run(command, capture_output=True, check=False).stdout == b""
