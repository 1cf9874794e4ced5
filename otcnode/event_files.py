"""Recorded events on disk: files of bounded size in a directory, the oldest removed, every record chained to the last.

A file is MAGIC and then records: a head of length (4 bytes) and its check (16 bytes), a check of the payload (16
bytes), and the payload. Each check is over the one before and what it is of, so that a record changed, left out or
moved is found, and a wrong length never passes for the record that a killed process left incomplete. The first record
is the configuration, each other one step.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from otcnode.codec import decode, encode
from otcnode.consensus.effects import Effect
from otcnode.consensus.events import Event, Now
from otcnode.engine.recording import RecordedConfiguration, RecordedStep, effects_hash
from otcnode.errors import ConfigurationError, DecodeError, StorageDamage

NAME = b"OTCEVNT"
"""What a recording begins with, whatever otcnode has written it; the digit of its version follows."""
VERSION = 2
MAGIC = NAME + b"%d" % VERSION
MAGIC_BYTES = len(MAGIC)
CHECK_BYTES = 16
LENGTH_BYTES = 4
HEAD_BYTES = LENGTH_BYTES + 2 * CHECK_BYTES
FILE_BYTES = 64 << 20
FILES_KEPT = 8
SUFFIX = ".events"

Sign = Callable[[bytes], bytes]


def _check(before: bytes, content: bytes) -> bytes:
    return hashlib.sha256(before + content).digest()[:CHECK_BYTES]


class FileRecorder:
    """An engine.recording.Recorder. A disk that refuses ends the recording, not the node."""

    def __init__(
        self,
        directory: Path,
        configuration: RecordedConfiguration,
        trouble: Callable[[str], None],
        *,
        file_bytes: int = FILE_BYTES,
        files_kept: int = FILES_KEPT,
    ) -> None:
        """`trouble` is told once why there is no recording any more. Raises ConfigurationError if the directory cannot
        be made."""
        self._directory = directory
        self._configuration = configuration
        self._trouble = trouble
        self._file_bytes = file_bytes
        self._files_kept = files_kept
        self._file: int | None = None
        self._written = 0
        self._check = b""
        self._signatures: list[bytes] = []
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"cannot record events in {directory}: {error.strerror}") from None

    @property
    def full(self) -> bool:
        return self._file is not None and self._written >= self._file_bytes

    def signing(self, sign: Sign) -> Sign:
        """`sign`, with what it gives noted for the step under way."""

        def noted(message: bytes) -> bytes:
            signature = sign(message)
            self._signatures.append(signature)
            return signature

        return noted

    def begin(self) -> None:
        self.close()
        try:
            paths = files(self._directory)
            number = int(paths[-1].stem) + 1 if paths else 1
            for old in paths[: max(0, len(paths) + 1 - self._files_kept)]:
                old.unlink()
            path = self._directory / f"{number:08}{SUFFIX}"
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(self._file, MAGIC)
        except OSError as error:
            self._give_up(error)
            return
        self._written, self._check, self._signatures = MAGIC_BYTES, MAGIC, []
        self._append(encode(self._configuration))

    def step(self, event: Event, now: Now, effects: Sequence[Effect]) -> None:
        signatures, self._signatures = tuple(self._signatures), []
        if self._file is not None:
            self._append(encode(RecordedStep(now, event, signatures, effects_hash(effects))))

    def _append(self, payload: bytes) -> None:
        assert self._file is not None
        length = len(payload).to_bytes(LENGTH_BYTES, "big")
        head_check = _check(self._check, length)
        self._check = _check(head_check, payload)
        raw = length + head_check + self._check + payload
        try:
            if os.write(self._file, raw) != len(raw):
                raise OSError(0, "a part of a record could not be written")
        except OSError as error:
            self._give_up(error)
            return
        self._written += len(raw)

    def _give_up(self, error: OSError) -> None:
        self.close()
        self._trouble(f"events are no longer recorded in {self._directory}: {error.strerror}")

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def files(directory: Path) -> list[Path]:
    """The recordings in a directory, oldest first."""
    return sorted(path for path in directory.glob(f"*{SUFFIX}") if path.stem.isdigit())


def read(path: Path) -> tuple[RecordedConfiguration, Iterator[RecordedStep]]:
    """What was recorded. An incomplete last record, as of a process that was killed, is left out. Raises
    ConfigurationError for a file that is none, StorageDamage (the steps, too) for a record that does not check."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
    _require_version(raw, path)
    payloads = _payloads(raw, path)
    try:
        configuration = decode(RecordedConfiguration, next(payloads))
    except (StopIteration, DecodeError):
        raise ConfigurationError(f"{path} is a recording without a beginning, or of another version") from None
    return configuration, _steps(payloads, path)


def _require_version(raw: bytes, path: Path) -> None:
    version = raw[len(NAME) : MAGIC_BYTES]
    if not raw.startswith(NAME) or not version.isdigit():
        raise ConfigurationError(f"{path} is not a recording of events")
    if int(version) != VERSION:
        other = "an earlier" if int(version) < VERSION else "a later"
        raise ConfigurationError(f"{path} was recorded by {other} version of otcnode: replay it with that one")


def _steps(payloads: Iterator[bytes], path: Path) -> Iterator[RecordedStep]:
    for number, payload in enumerate(payloads, 1):
        try:
            yield decode(RecordedStep, payload)
        except DecodeError as error:
            raise StorageDamage(f"{path}: step {number} is not one of this version: {error}") from None


def _payloads(raw: bytes, path: Path) -> Iterator[bytes]:
    """Of every whole record; what is left at the end is shorter than a head, or than its head says."""
    offset, check = MAGIC_BYTES, MAGIC
    number = 0
    while offset + HEAD_BYTES <= len(raw):
        start = offset + HEAD_BYTES
        length, checks = raw[offset : offset + LENGTH_BYTES], raw[offset + LENGTH_BYTES : start]
        end = start + int.from_bytes(length, "big")
        head_check = _check(check, length)
        if checks[:CHECK_BYTES] != head_check:
            raise _damage(path, number, offset)
        if end > len(raw):
            return
        payload = raw[start:end]
        check = _check(head_check, payload)
        if checks[CHECK_BYTES:] != check:
            raise _damage(path, number, offset)
        yield payload
        number += 1
        offset = end


def _damage(path: Path, number: int, offset: int) -> StorageDamage:
    place = f"behind step {number - 1}" if number else "at its beginning"
    return StorageDamage(f"{path} is damaged {place} ({offset} bytes are intact)")
