"""What the report says of the machine: enough to compare, nothing that names it."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path


def describe(data: Path) -> list[tuple[str, str]]:
    model = _first(r"model name\s*: (.+)", "/proc/cpuinfo")
    memory = int(_first(r"MemTotal:\s+(\d+)", "/proc/meminfo"))
    return [
        ("CPU", f"{model}, {os.cpu_count()} cores"),
        ("memory", f"{memory / 1e6:.0f} GB"),
        ("kernel", platform.release()),
        ("file system of the data", file_system(data)),
        ("Python", platform.python_version()),
    ]


def file_system(path: Path) -> str:
    """The type of the deepest mount that holds the path."""
    fields = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    holding = [(mount, kind) for _, mount, kind, *_ in fields if path.resolve().is_relative_to(mount)]
    return max(holding, key=lambda found: len(found[0]))[1]


def _first(pattern: str, path: str) -> str:
    found = re.search(pattern, Path(path).read_text())
    return found[1].strip() if found else "unknown"
