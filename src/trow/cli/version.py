"""`trow version`: what runs, for a bug report."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import TYPE_CHECKING

import trow
from trow.cli.parser import command

if TYPE_CHECKING:
    import argparse

    from trow.cli.parser import Commands


def add(commands: Commands) -> None:
    command(commands, "version", "print the versions of Trow and of what it is built on", run)


def run(_args: argparse.Namespace) -> int:
    print(summary())
    return 0


def summary() -> str:
    parts = {
        "trow": trow.__version__,
        "python": platform.python_version(),
        **{library: importlib.metadata.version(library) for library in ("apsw", "granian")},
    }
    return "\n".join(f"{name:8}{number}" for name, number in parts.items())
