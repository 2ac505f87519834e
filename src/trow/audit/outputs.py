"""Where records go as JSON lines: a file that is rotated, or a stream."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

import msgspec

from trow.audit.chain import Checkpoint  # noqa: TC001 - msgspec reads it
from trow.audit.record import Record
from trow.lib.lines import write_all

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

# A record has at most about 200 kB; the end of a file holds several.
_TAIL_BYTES: Final = 2**20


class _CheckpointLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    checkpoint: Checkpoint


_RECORD: Final = msgspec.json.Decoder(Record)
_CHECKPOINT: Final = msgspec.json.Decoder(_CheckpointLine)


def read_line(line: bytes) -> Record | Checkpoint:
    """A line of a file.

    Raises:
        ValueError: it is neither a record nor a checkpoint.
    """
    return _CHECKPOINT.decode(line).checkpoint if line.startswith(b'{"checkpoint":') else _RECORD.decode(line)


class StreamOutput:
    """Writes to standard output, for whoever collects a container's logs."""

    name = "stdout"
    remembers = False

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def resume(self, writers: Collection[str]) -> Mapping[str, tuple[int, int]]:  # noqa: ARG002
        """None: a stream does not know what it has shown."""
        return {}

    def write(self, lines: bytes, opening: Callable[[], bytes]) -> None:  # noqa: ARG002 - a stream has no beginning
        write_all(self._fd, lines)

    def close(self) -> None:
        """Does nothing: the stream belongs to the process."""


class FileOutput:
    """Writes to a file; at a size it becomes ``NAME.1``, the one before ``NAME.2``, and so on.

    The file may be moved away at any time, and a new one is begun.

    Args:
        path: the file.
        most_bytes: a file is closed before it grows beyond.
        keep: how many closed ones stay.
    """

    name = "file"
    remembers = True

    def __init__(self, path: Path, *, most_bytes: int = 100 * 2**20, keep: int = 9) -> None:
        self._path = path
        self._most = most_bytes
        self._keep = keep
        self._fd = -1
        self._size = 0
        self._foreign = False

    def resume(self, writers: Collection[str]) -> Mapping[str, tuple[int, int]]:
        """Reads the last record of the file, or of the file before it when this one is empty."""
        self._open()
        self._drop_half_a_line()
        for path in (self._path, *([] if self._size else [self._old(1)])):
            with contextlib.suppress(FileNotFoundError):
                if held := _held(_tail(path), writers):
                    return held
        # Another database's records, or none at all: ours begin in a file of their own.
        self._foreign = self._size > 0
        return {}

    def write(self, lines: bytes, opening: Callable[[], bytes]) -> None:
        self._open()
        if self._size and (self._foreign or self._size + len(lines) > self._most):
            self._rotate()
            self._foreign = False
            self._open()
        content = lines if self._size else opening() + lines
        try:
            self._write_all(content)
        except OSError:
            # Half a line would spoil the next one.
            os.ftruncate(self._fd, self._size)
            raise
        self._size += len(content)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write_all(self, content: bytes) -> None:
        left = memoryview(content)
        while left:
            left = left[os.write(self._fd, left) :]

    def _open(self) -> None:
        """Open the file, or what is in its place by now."""
        if self._fd >= 0 and not self._is_current():
            self.close()
        if self._fd < 0:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._fd), self._path.stat())
        except FileNotFoundError:
            return False

    def _drop_half_a_line(self) -> None:
        """What a crash has left at the end; it is written again."""
        end = os.pread(self._fd, _TAIL_BYTES, max(0, self._size - _TAIL_BYTES))
        if end and not end.endswith(b"\n"):
            self._size -= len(end) - (end.rfind(b"\n") + 1)
            os.ftruncate(self._fd, self._size)

    def _old(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _rotate(self) -> None:
        if not self._keep:
            self._path.unlink()
            return
        for number in range(self._keep - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                self._old(number).replace(self._old(number + 1))
        self._path.replace(self._old(1))


def _tail(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL_BYTES))
        return file.read().split(b"\n")


def _held(lines: list[bytes], writers: Collection[str]) -> dict[str, tuple[int, int]]:
    """The last record and the last checkpoint of each writer in these lines; none where another's are the last."""
    held: dict[str, tuple[int, int]] = {}
    for line in reversed(lines):
        try:
            read = read_line(line)
        except ValueError:
            continue
        if read.writer in writers:
            # A record's checkpoint may still be missing, hence only what is before the record is surely covered.
            held.setdefault(read.writer, (read.sequence, read.sequence - isinstance(read, Record)))
        if not held or len(held) == len(writers):
            break
    return held
