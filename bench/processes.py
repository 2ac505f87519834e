"""What the kernel knows of a server: its processes, their CPU time and their memory."""

from __future__ import annotations

import os
import re
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
KB = 1024


def tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    children = [child for task in Path(f"/proc/{pid}/task").iterdir() for child in _children(task)]
    return [pid, *(descendant for child in children for descendant in tree(child))]


def cpu_seconds(pid: int) -> float:
    """User and system time spent by the whole tree so far."""
    return sum(_ticks(member) for member in tree(pid)) / TICKS_PER_SECOND


def resident(pid: int) -> dict[int, int]:
    """Bytes of memory in use now, by process."""
    return {member: _status(member, "VmRSS") for member in tree(pid)}


def resident_peak(pid: int) -> dict[int, int]:
    """The most bytes each process of the tree ever used."""
    return {member: _status(member, "VmHWM") for member in tree(pid)}


def _children(task: Path) -> list[int]:
    try:
        return [int(child) for child in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []  # a thread that has ended since its folder was listed


def _ticks(pid: int) -> int:
    # The command name may hold spaces and parentheses; the numbers start behind the last one.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system = fields[11:13]
    return int(user) + int(system)


def _status(pid: int, field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    if not found:
        raise RuntimeError(f"process {pid} has no {field}: it has ended")
    return int(found[1]) * KB
