"""What lies in a data directory, looked at from outside of the server."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FSCK_SECONDS: Final = 120
# Every file that a registry may make in its data directory.
_OURS: Final = re.compile(
    r"trow\.(lock|running|reserve|db|db-wal|db-shm)"
    r"|audit\.db(-wal|-shm)?"
    r"|keys/(audit|token-[0-9]{4})\.pem"
    r"|blobs/sha256/(?P<a>[0-9a-f]{2})/(?P=a)[0-9a-f]{62}\.[0-9a-f]{32}"
    r"|blobs/sha512/(?P<b>[0-9a-f]{2})/(?P=b)[0-9a-f]{126}\.[0-9a-f]{32}"
    r"|uploads/[0-9a-f]{32}(@sha256:[0-9a-f]{64}|@sha512:[0-9a-f]{128})?"
    r"|quarantine/(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}|database-[0-9-]{15}/trow\.db(-wal|-shm)?)"
)


@dataclass(frozen=True)
class Fsck:
    """The report of `trow fsck --json`, with its exit code and what it wrote to standard error."""

    code: int = 0
    errors: str = ""
    checked: int = 0
    problems: tuple[str, ...] = ()
    quarantined: int = 0
    removed: int = 0
    unreferenced: int = 0


def fsck(data: Path, *flags: str) -> Fsck:
    """Run `trow fsck` on a data directory; a server may be using it."""
    argv = [sys.executable, "-m", "trow", "fsck", "--data-dir", str(data), "--json", *flags]
    done = subprocess.run(argv, capture_output=True, check=False, timeout=FSCK_SECONDS)
    report = msgspec.json.decode(done.stdout or b"{}", type=Fsck)
    return replace(report, code=done.returncode, errors=done.stderr.decode())


def assert_clean(data: Path) -> Fsck:
    """Everything stored is what its name says, and no file takes space that belongs to nobody."""
    report = fsck(data)
    assert (report.code, report.problems, report.unreferenced) == (0, (), 0), report
    return report


def files(data: Path) -> Iterator[str]:
    """The names of all files, relative to the data directory."""
    return (str(path.relative_to(data)) for path in data.rglob("*") if not path.is_dir())


def strangers(data: Path) -> list[str]:
    """Files that a registry has no reason to have made."""
    return [name for name in files(data) if not _OURS.fullmatch(name)]


def staged(data: Path) -> list[str]:
    """Files of unfinished uploads."""
    return sorted(path.name for path in (data / "uploads").iterdir())
