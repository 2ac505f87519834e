"""Numbered steps of the schema, applied in order at start; a step that has been released never changes.

The SQL is the common subset of SQLite and PostgreSQL. ``{bytes}`` stands for the type of byte strings; text sorts by
bytes in both (``{text}`` carries the collation where the engine needs one).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True, slots=True)
class Migration:
    """One step: its number, counted from 1, and its statements."""

    number: int
    name: str
    statements: tuple[str, ...]


def load(*, bytes_type: str, text_type: str) -> list[Migration]:
    """All steps in order, in the types of one engine."""
    files = sorted(file.name for file in resources.files(__name__).iterdir() if file.name.endswith(".sql"))
    return [_read(name, bytes_type, text_type) for name in files]


def _read(name: str, bytes_type: str, text_type: str) -> Migration:
    sql = resources.files(__name__).joinpath(name).read_text(encoding="utf-8")
    lines = [line for line in sql.splitlines() if not line.lstrip().startswith("--")]
    text = "\n".join(lines).replace("{bytes}", bytes_type).replace("{text}", text_type)
    number, _, title = name.removesuffix(".sql").partition("_")
    return Migration(int(number), title, tuple(s.strip() for s in text.split(";") if s.strip()))
