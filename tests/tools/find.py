"""Where a tool of the tests is: `tool("crane")` is its path, or an error that says how to get it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from .versions import APT_TOOLS, CACHED_TOOLS, TOOLS

# Debian's own folders first, so that a client and its daemon come from the same package; `sbin` is not in every PATH.
SYSTEM_PATH: Final = os.pathsep.join(("/usr/sbin", "/usr/bin", "/sbin", "/bin"))


class ToolMissingError(LookupError):
    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not installed: run `make test`, or `python -m tests.tools.install`")


def cache() -> Path:
    """The folder of built tools, outside every checkout; TEST_TOOLS_CACHE moves it."""
    chosen = os.environ.get("TEST_TOOLS_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "trow-tools"


def search_path() -> str:
    return os.pathsep.join((SYSTEM_PATH, os.environ.get("PATH", "")))


def search(name: str) -> Path | None:
    """The path of the tool, or None where it is not installed."""
    for cached in CACHED_TOOLS:
        if cached.name == name:
            binary = cache() / cached.folder / "bin" / name
            return binary if binary.exists() else None
    folders = (known.folder for known in APT_TOOLS if known.name == name and known.folder)
    found = shutil.which(name, path=os.pathsep.join((*folders, search_path())))
    return Path(found) if found else None


def tool(name: str) -> Path:
    """The path of a tool in the table of versions."""
    if all(name != known.name for known in TOOLS):
        raise LookupError(f"{name} is not in tests/tools/versions.py")
    found = search(name)
    if found is None:
        raise ToolMissingError(name)
    return found
