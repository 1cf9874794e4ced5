"""A byte changed, a file cut or gone anywhere in a home: found and named, or without consequence; never served."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from otcnode import genesis as genesis_module
from otcnode.bench.chain import ChainBuilder, genesis_of, validator_keys
from otcnode.cli.main import otcnode
from otcnode.codec import encode
from otcnode.config import Home, NodeConfiguration, load_configuration
from otcnode.consensus.record import Floored, birth
from otcnode.crypto import random_bytes
from otcnode.errors import ConfigurationError, OtcnodeError, StorageDamage
from otcnode.home import create_home, create_key
from otcnode.node import open_store
from otcnode.node_key import NodeKey
from otcnode.storage.documents_directory import open_documents
from otcnode.storage.level import LevelKeyValue
from otcnode.storage.votes_file import FileVotesLog
from otcnode.vm.documents.records import sealed_name

GENESIS = genesis_of(1, buckets=256)
HEIGHT = 6


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a validator that has made some blocks."""
    home = Home(tmp_path_factory.mktemp("sound") / "home")
    home.path.mkdir()
    create_key(home, NodeKey(validator_keys(1)[0].seed, random_bytes(32)))
    create_home(home, name="v", genesis=GENESIS, p2p_listen="127.0.0.1:26650", rpc_listen="127.0.0.1:26651")
    kv = LevelKeyValue(home.database, create=True)
    builder = ChainBuilder(kv, GENESIS)
    builder.grow(HEIGHT, 20)
    kv.close()
    record = FileVotesLog(home.record)
    assert record.load() == birth()
    for height in range(1, HEIGHT + 1):
        record.append([encode(Floored(height))])
        record.sync()
    record.close()
    return home.path


@pytest.fixture
def home(sound: Path, tmp_path: Path) -> Home:
    shutil.copytree(sound, tmp_path / "home")
    shutil.copytree(sound / "data" / "chain", tmp_path / "copy")
    return Home(tmp_path / "home")


def start(home: Home) -> tuple[NodeConfiguration, bytes, bytes, int, str | None]:
    """What a node reads before it takes part: configuration, chain, key, height, and why its record is of no use."""
    configuration = load_configuration(home)
    genesis = genesis_module.load(home.genesis)
    chain, key = genesis_module.chain_id(genesis), NodeKey.load(home.key)
    store = open_store(home, genesis, chain, configuration)
    try:
        record = FileVotesLog(home.record)
        record.load()
        record.close()
        return configuration, chain, key.signing.seed + key.static_secret, store.tip.height, record.trouble
    finally:
        store.close()


def flips(path: Path, count: int) -> list[bytes]:
    """The file with one bit changed, at places spread over all of it."""
    raw, chance = path.read_bytes(), random.Random(5)
    places = range(len(raw)) if len(raw) <= count else sorted(chance.sample(range(len(raw)), count))
    return [raw[:at] + bytes([raw[at] ^ 1 << chance.randrange(8)]) + raw[at + 1 :] for at in places]


def said(home: Home) -> str:
    with pytest.raises((ConfigurationError, StorageDamage)) as caught:
        start(home)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_sound_home_starts(home: Home) -> None:
    assert start(home)[3:] == (HEIGHT, None)


def test_a_byte_changed_in_the_genesis_is_named_or_says_the_same(home: Home) -> None:
    sound = start(home)
    refused = 0
    for raw in flips(home.genesis, 200):
        home.genesis.write_bytes(raw)
        try:
            assert start(home) == sound, "another genesis passes for this chain's"
        except ConfigurationError as error:
            refused += 1
            assert "genesis" in str(error)
    assert refused > 150


def test_a_byte_changed_in_the_key_is_named_or_says_the_same(home: Home) -> None:
    sound = start(home)
    refused = 0
    for raw in flips(home.key, 1_000):
        home.key.write_bytes(raw)
        try:
            assert start(home) == sound, "another key passes for this node's"
        except ConfigurationError as error:
            refused += 1
            assert "node.key" in str(error)
    assert refused > 200


def test_a_byte_changed_in_the_configuration_is_named_or_is_another_valid_one(home: Home) -> None:
    """It carries no checksum, because people write it: what it says is checked against what can be said."""
    sound = start(home)
    refused = 0
    for raw in flips(home.configuration, 1_000):
        home.configuration.write_bytes(raw)
        try:
            assert start(home)[1:] == sound[1:]
        except ConfigurationError as error:
            refused += 1
            assert "node.toml" in str(error) or "is not host:port" in str(error)
    assert refused > 50


def test_a_byte_changed_in_the_record_is_damage(home: Home) -> None:
    """And the validator is silent: what it said last must not be forgotten, for it would say something else."""
    assert FileVotesLog(home.record).load() is not None
    for raw in flips(home.record, 400):
        home.record.write_bytes(raw)
        record = FileVotesLog(home.record)
        assert record.load() is None
        assert record.trouble is not None and "is damaged" in record.trouble


def test_a_cut_file_is_named(home: Home) -> None:
    for path in (home.genesis, home.key):
        raw = path.read_bytes()
        for length in range(0, len(raw) - 2, max(1, len(raw) // 50)):
            path.write_bytes(raw[:length])
            assert path.name in said(home)
        path.write_bytes(raw)
    raw = home.record.read_bytes()
    for length in range(0, len(raw), 7):
        home.record.write_bytes(raw[:length])
        record = FileVotesLog(home.record)
        entries = record.load()
        assert entries is not None or (record.trouble or "").endswith("is damaged")
        record.close()


@pytest.mark.parametrize("name", ["configuration", "genesis", "key", "record"])
def test_a_missing_file_is_named(home: Home, name: str) -> None:
    path: Path = getattr(home, name)
    path.unlink()
    if name == "record":
        assert start(home)[4] == f"the voting record {path} is missing"
    else:
        assert path.name in said(home)


def test_a_cut_file_of_the_database_is_named_and_never_served(home: Home) -> None:
    """Only cut blocks at the end of LevelDB's log can pass, as blocks that were never written: the record's floor is
    for that."""
    for path in sorted(home.database.iterdir()):
        raw = path.read_bytes()
        if path.name in ("LOCK", "LOG", "LOG.old") or not raw:
            continue
        for length in range(0, len(raw), max(1, len(raw) // 12)):
            path.write_bytes(raw[:length])
            try:
                height = start(home)[3]
            except (OtcnodeError, ConfigurationError) as error:
                assert "otcnode db" in str(error) or "holds no chain" in str(error), error
            else:
                assert path.name.endswith(".log") and height < HEIGHT
            shutil.rmtree(home.database)
            shutil.copytree(home.path.parent / "copy", home.database)


def test_damage_in_the_documents_is_named_with_advice_that_helps_and_never_served(home: Home) -> None:
    """Whichever file of them is harmed: what is given back is the document, and `db verify` says what to do."""
    sealed = [b"sealed %d" % number * 50 for number in range(40)]
    documents = open_documents(home.documents, home.database)
    for raw in sealed:
        documents.keep(raw, HEIGHT)
    documents.close()
    kv = LevelKeyValue(home.documents)
    kv.compact()
    kv.close()
    shutil.copytree(home.documents, home.path.parent / "documents")
    refused = verified = 0
    for path in sorted(home.documents.iterdir()):
        if path.name in ("LOCK", "LOG", "LOG.old") or not path.stat().st_size:
            continue
        for raw in flips(path, 6):
            path.write_bytes(raw)
            try:
                documents = open_documents(home.documents, home.database)
                try:
                    assert [documents.get(sealed_name(raw)) for raw in sealed] == sealed
                finally:
                    documents.close()
            except StorageDamage as damage:
                refused += 1
                assert "documents" in str(damage)
            result = CliRunner().invoke(otcnode, ["db", "verify", "--home", str(home.path)])
            if isinstance(result.exception, StorageDamage):
                verified += 1
                assert "data/documents back from a copy" in str(result.exception)
            shutil.rmtree(home.documents)
            shutil.copytree(home.path.parent / "documents", home.documents)
    assert refused > 5 and verified >= refused


def test_a_flipped_bit_in_the_last_part_of_any_table_is_named_or_without_consequence(home: Home) -> None:
    """That is where a table's index lies, and its last keys: no chain may be taken for none, and written over."""
    kv = LevelKeyValue(home.database)
    kv.compact()
    kv.close()
    LevelKeyValue(home.database).close()
    sound, refused = start(home), 0
    for path in sorted(home.database.glob("*.ldb")):
        raw = path.read_bytes()
        for back in range(100, min(8 << 10, len(raw)), 900):
            place = len(raw) - back
            path.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
            try:
                assert start(home) == sound
            except StorageDamage as damage:
                refused += 1
                assert "otcnode db" in str(damage)
            result = CliRunner().invoke(otcnode, ["db", "verify", "--home", str(home.path)])
            assert result.exit_code == 0 or isinstance(result.exception, StorageDamage), result.exception
            path.write_bytes(raw)
            assert start(home) == sound, "something was written over the chain"
    assert refused >= 3


def test_tables_of_which_nothing_is_told_are_no_place_for_a_new_chain(home: Home) -> None:
    kv = LevelKeyValue(home.database)
    kv.write([(key, None) for key, _ in kv.scan(b"")])
    kv.close()
    LevelKeyValue(home.database).close()
    assert "nothing of a chain can be read" in said(home)
