"""Keystore files: what was sealed comes back, and only with the passphrase."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otcnode.client import keystore
from otcnode.client.errors import KeystoreError
from otcnode.client.keystore import KeyKind, Secret
from otcnode.crypto import SigningKey, verify

CHEAP: dict[str, Any] = {"memory_bytes": 8192, "operations": 1}
SECRETS = {"trade": Secret(KeyKind.ED25519, bytes(range(32))), "documents": Secret(KeyKind.X25519, b"\x07" * 32)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "keys.json"
    keystore.write(file, SECRETS, b"open sesame", **CHEAP)
    return file


def test_keys_come_back_and_sign(path: Path) -> None:
    secrets = keystore.read(path, b"open sesame")
    assert secrets == SECRETS
    key = secrets["trade"].signing_key()
    assert key.public == SigningKey(bytes(range(32))).public
    assert verify(key.public, b"message", key.sign(b"message"))
    with pytest.raises(KeystoreError, match="cannot sign"):
        secrets["documents"].signing_key()


def test_public_keys_need_no_passphrase_and_no_secret_is_in_the_file(path: Path) -> None:
    assert keystore.public_keys(path) == {name: (secret.kind, secret.public) for name, secret in SECRETS.items()}
    raw = path.read_bytes()
    for secret in SECRETS.values():
        assert secret.seed not in raw and msgspec.json.encode(secret.seed)[1:-1] not in raw
        assert secret.seed.hex() not in repr(secret)


def test_the_file_is_its_owners_and_nothing_else_is_left(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["keys.json"]


def test_a_wrong_passphrase_is_said_plainly(path: Path) -> None:
    for wrong in (b"", b"open sesame ", b"Open sesame"):
        with pytest.raises(KeystoreError, match="the passphrase is wrong"):
            keystore.read(path, wrong)


def test_a_keystore_is_not_overwritten_by_mistake(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(KeystoreError, match="exists"):
        keystore.write(path, {}, b"another", **CHEAP)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["keys.json"]
    keystore.write(path, {}, b"another", **CHEAP, replace=True)
    assert keystore.read(path, b"another") == {}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def change(path: Path, **fields: Any) -> None:
    content = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode(content | fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"version": 2},
        {"cipher": "none"},
        {"extra": 1},
        {"derivation": {"memory_bytes": 2**40, "operations": 1, "salt": "A" * 22 + "==", "algorithm": "argon2id13"}},
        {"derivation": {"memory_bytes": 8192, "operations": 10**6, "salt": "A" * 22 + "==", "algorithm": "argon2id13"}},
        {"derivation": {"memory_bytes": 8192, "operations": 1, "salt": "AAAA", "algorithm": "argon2id13"}},
        {"keys": {"trade": {"kind": "rsa", "public": "A" * 43 + "="}}},
    ],
)
def test_a_file_of_another_form_is_refused_before_any_work(path: Path, fields: dict[str, Any]) -> None:
    change(path, **fields)
    with pytest.raises(KeystoreError, match="not a keystore of version 1"):
        keystore.read(path, b"open sesame")


def test_public_keys_that_are_not_the_sealed_ones_are_noticed(path: Path) -> None:
    content = msgspec.json.decode(path.read_bytes())
    content["keys"]["trade"]["public"] = msgspec.json.decode(msgspec.json.encode(bytes(32)))
    path.write_bytes(msgspec.json.encode(content))
    with pytest.raises(KeystoreError, match="public keys"):
        keystore.read(path, b"open sesame")


def test_unreadable_places_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(KeystoreError, match="cannot read"):
        keystore.read(tmp_path / "absent", b"")
    with pytest.raises(KeystoreError, match="cannot write"):
        keystore.write(tmp_path / "absent" / "keys.json", SECRETS, b"", **CHEAP)


LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from otcnode.client import keystore
from otcnode.client.errors import KeystoreError
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
for act in (
    lambda: keystore.read(Path(sys.argv[1]), b"p"),
    lambda: keystore.write(Path(sys.argv[1] + ".other"), {}, b"p", memory_bytes=1 << 31, operations=1),
):
    try:
        act()
    except KeystoreError as error:
        print(error)
"""


def test_too_little_memory_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keystore.write(path, SECRETS, b"p", **CHEAP)
    path.write_text(path.read_text().replace("8192", str(1 << 31)))
    done = subprocess.run([sys.executable, "-c", LITTLE_MEMORY, str(path)], capture_output=True, text=True, timeout=60)
    assert (done.stderr, done.returncode) == ("", 0)
    said = done.stdout.splitlines()
    assert len(said) == 2 and all("take 2048 MiB of memory" in line for line in said)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(position=st.integers(min_value=0), flip=st.integers(1, 255))
def test_any_changed_byte_gives_the_same_keys_or_a_typed_error(tmp_path: Path, position: int, flip: int) -> None:
    path = tmp_path / "keys.json"
    keystore.write(path, SECRETS, b"p", **CHEAP, replace=True)
    raw = bytearray(path.read_bytes())
    raw[position % len(raw)] ^= flip
    path.write_bytes(bytes(raw))
    content = _parameters(bytes(raw))
    if content is not None and (content["memory_bytes"] > 1 << 20 or content["operations"] > 10):
        return
    try:
        assert keystore.read(path, b"p") == SECRETS
    except KeystoreError as error:
        assert "\n" not in str(error)


def _parameters(raw: bytes) -> dict[str, int] | None:
    """What the file asks Argon2 for, so that a flipped digit does not cost the test a minute."""
    try:
        found: dict[str, int] = msgspec.json.decode(raw)["derivation"]
        return found if {"memory_bytes", "operations"} <= found.keys() else None
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError):
        return None
