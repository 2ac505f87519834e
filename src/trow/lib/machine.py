"""The limits of the machine for this process: open files and memory."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path
from typing import Final

# As a container sees its own: version 2 (https://docs.kernel.org/admin-guide/cgroup-v2.html, memory.max), version 1.
_MEMORY_FILES: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
# Without a limit, version 1 tells the largest number of pages; no machine has so much.
_NO_LIMIT: Final = 2**60
# Where there is no limit of open files, the kernel's own (fs.nr_open) is not far above this.
_MOST_FILES: Final = 2**20


def most_files() -> int:
    """How many files this process may have open, once `raise_files` has been called."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return _MOST_FILES if hard == resource.RLIM_INFINITY else hard


def raise_files() -> None:
    """Take as many open files as the system gives: the soft limit is often 1 024, for the sake of select(2)."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):  # some systems give less than they say
        resource.setrlimit(resource.RLIMIT_NOFILE, (most_files(), hard))


def memory_limit() -> int | None:
    """Bytes of memory that the container may have; None without a limit."""
    for path in _MEMORY_FILES:
        with contextlib.suppress(OSError, ValueError):
            limit = int(path.read_text(encoding="ascii"))
            return limit if limit < _NO_LIMIT else None
    return None
