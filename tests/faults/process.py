"""What the kernel tells of a running server."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_SECONDS: Final = 60.0
_KIB: Final = 1024


def open_files(pid: int) -> list[str]:
    """What the file descriptors of a process stand for."""
    names = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            names.append(str(entry.readlink()))
    return sorted(names)


def sockets(pid: int) -> int:
    """How many of them are sockets."""
    return sum(name.startswith("socket:") for name in open_files(pid))


def memory(pid: int) -> int:
    """Bytes that a process holds in memory."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text("ascii"), re.MULTILINE)
    assert found
    return int(found[1]) * _KIB


def threads(pid: int) -> int:
    """How many threads a process has."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def becomes(condition: Callable[[], bool]) -> bool:
    """Whether something comes true, looked at again and again within bounds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (true := condition()) and time.monotonic() < deadline:
        threading.Event().wait(0.005)
    return true
