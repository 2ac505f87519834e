"""Numbered steps of a schema, applied in order at start; a step that has been released never changes.

Each is a file of SQL in a package, such as ``0001_registry.sql``, in the common subset of SQLite and PostgreSQL. Words
in braces stand for what differs between engines: ``{bytes}`` is the type of byte strings, ``{text}`` that of text that
sorts by bytes, and ``{clustered}`` tells that a table is kept in the order of its key.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SQLITE: Final = {"bytes": "BLOB", "text": "TEXT", "clustered": " WITHOUT ROWID"}


@dataclass(frozen=True, slots=True)
class Migration:
    """One step: its number, counted from 1, and its statements."""

    number: int
    name: str
    statements: tuple[str, ...]


def load(package: str, words: Mapping[str, str]) -> Sequence[Migration]:
    """All steps in order, in the words of one engine."""
    steps: list[Migration] = []
    files = (file for file in resources.files(package).iterdir() if file.name.endswith(".sql"))
    for file in sorted(files, key=lambda each: each.name):
        lines = file.read_text(encoding="utf-8").splitlines()
        text = "\n".join(line for line in lines if not line.lstrip().startswith("--"))
        for word, meaning in words.items():
            text = text.replace(f"{{{word}}}", meaning)
        number, _, title = file.name.removesuffix(".sql").partition("_")
        steps.append(Migration(int(number), title, tuple(s.strip() for s in text.split(";") if s.strip())))
    return steps
