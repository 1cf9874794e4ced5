"""The configuration that ships is valid, complete, and says the defaults."""

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from otcnode import limits
from otcnode.cli.node import genesis
from otcnode.config import Home, NodeConfiguration, P2PSection, load_configuration, split_address
from otcnode.errors import ConfigurationError
from otcnode.genesis import check, load

CONFIG = Path(__file__).parents[1] / "config"


def test_the_example_configuration_says_every_setting_and_its_default(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_bytes((CONFIG / "node.toml").read_bytes())
    configuration = load_configuration(Home(tmp_path))
    defaults = NodeConfiguration(name="validator1", p2p=P2PSection(peers={"validator2": "10.0.0.2:26650"}))
    assert configuration == defaults
    written = (CONFIG / "node.toml").read_text()
    for section in ("p2p", "rpc", "consensus", "storage", "snapshots", "log"):
        assert f"[{section}]" in written
        for name in getattr(configuration, section).__struct_fields__:
            assert f"{name} = " in written


def test_the_example_genesis_builds(tmp_path: Path) -> None:
    output = tmp_path / "genesis.json"
    result = CliRunner().invoke(genesis, ["build", str(CONFIG / "genesis.toml"), "--output", str(output)])
    assert result.exit_code == 0, result.output
    document = load(output)
    check(document)
    assert document.cash[0].id == "CNY@BANK"


def test_a_genesis_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    output = tmp_path / "genesis.json"
    CliRunner().invoke(genesis, ["build", str(CONFIG / "genesis.toml"), "--output", str(output)])
    document = load(output)
    replace = msgspec.structs.replace
    twice = replace(document, validators=document.validators * 2)
    first = document.validators[0]
    many = tuple(replace(first, id=bytes([index]) * 32, name=f"v{index}") for index in range(limits.validators_max + 1))
    check(replace(document, validators=many[:-1]))
    crowd = replace(document, validators=many)
    nobody = replace(document, validators=())
    no_bank = replace(document, cash=(replace(document.cash[0], custodian="KYC"),))
    buckets = replace(document, parameters=replace(document.parameters, state_buckets=100))
    stopped = replace(document, clock=replace(document.clock, rate=0))
    for wrong in (twice, crowd, nobody, no_bank, buckets, stopped):
        with pytest.raises(ConfigurationError):
            check(wrong)


@pytest.mark.parametrize("address", ["", "host", ":1", "host:", "host:x", "host:65536", "host:-1"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(ConfigurationError):
        split_address(address)


@pytest.mark.parametrize(("address", "parts"), [("a:1", ("a", 1)), ("[::1]:65535", ("::1", 65535))])
def test_addresses(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts


@pytest.mark.parametrize("setting", ["blocks_kept = 999", "blocks_kept = -1", "history_blocks = -1", "cache_bytes = 0"])
def test_storage_settings_out_of_bounds_are_refused(tmp_path: Path, setting: str) -> None:
    name = setting.split()[0]
    (tmp_path / "node.toml").write_text(f'name = "v"\n[storage]\n{setting}\n')
    with pytest.raises(ConfigurationError, match=f"storage.{name}"):
        load_configuration(Home(tmp_path))
