"""What the operations guide says, done by its commands: keys, genesis, homes, a running network, questions to it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from otcnode.localnet import Cluster
from tests.processes import cluster as daemons

pytestmark = pytest.mark.process


def otcnode(*arguments: str, code: int = 0) -> str:
    command = [sys.executable, "-m", "otcnode", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout.strip()


def test_institutions_make_a_network_together(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("correct horse\n")
    printed = otcnode("keygen", "--output", str(tmp_path / "bank.json"), "--passphrase-file", str(tmp_path / "secret"))
    keys = dict(line.split() for line in printed.splitlines())
    assert set(keys) == {"MANAGE", "TRADE", "SIGN", "ENC"}
    base = daemons.free_ports(4)
    names = ["node1", "node2"]
    found = [otcnode("init", "--home", str(tmp_path / name), "--name", name) for name in names]
    validators = "".join(
        f'''
[[validators]]
name = "{name}"
id = "{node}"
organisation = "Bank {name}"
address = "127.0.0.1:{base + 2 * index}"
'''
        for index, (name, node) in enumerate(zip(names, found, strict=True))
    )
    (tmp_path / "genesis.toml").write_text(
        f'''
network = "test"
time_ms = 1790000000000
clock = {{ origin_ms = 1790000000000 }}
parameters = {{ state_buckets = 256 }}
cash = [{{ id = "CNY@BANK", custodian = "BANK" }}]
{validators}
[[accounts]]
name = "BANK"
organisation = "Harbour Bank"
roles = ["CUSTODIAN"]
keys = [{{ purpose = "TRADE", key = "{keys["TRADE"]}" }}]
'''
    )
    genesis = tmp_path / "genesis.json"
    chain = otcnode("genesis", "build", str(tmp_path / "genesis.toml"), "--output", str(genesis))
    assert chain.split()[1] in otcnode("genesis", "show", str(genesis)).replace("\n", "")
    otcnode("genesis", "build", str(tmp_path / "genesis.toml"), "--output", str(genesis), code=2)
    for index, name in enumerate(names):
        addresses = ("--p2p", f"127.0.0.1:{base + 2 * index}", "--rpc", f"127.0.0.1:{base + 2 * index + 1}")
        otcnode("init", "--home", str(tmp_path / name), "--name", name, "--genesis", str(genesis), *addresses)
    with Cluster(tmp_path) as cluster:
        cluster.start_all()
        cluster.wait_ready()
        urls = [part for url in cluster.urls for part in ("--url", url)]
        status = json.loads(otcnode("status", "--json", *urls))
        assert {answer["name"] for answer in status.values()} == set(names)
        assert "height" in otcnode("explain", *urls)
        assert otcnode("status", *urls)
        cluster.kill("node2")
        nobody = ("--url", cluster.member("node2").url)
        assert "no answer" in otcnode("status", *urls)
        otcnode("status", *nobody, code=3)


def test_a_key_that_no_genesis_names_gets_no_home(tmp_path: Path) -> None:
    cluster = daemons.make(tmp_path / "net", 1)
    genesis = str(cluster.members[0].home.genesis)
    otcnode("init", "--home", str(tmp_path / "stranger"), "--name", "stranger")
    otcnode("init", "--home", str(tmp_path / "stranger"), "--name", "stranger", "--genesis", genesis, code=2)
