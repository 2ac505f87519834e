"""The comparison says something in every cell, where it comes from, and what Trow has not."""

from __future__ import annotations

import re
from typing import Final

from support.pages import ROOT

PAGE: Final = (ROOT / "docs" / "explanation" / "comparison.md").read_text("utf-8")
README: Final = (ROOT / "README.md").read_text("utf-8")
MISSING: Final = PAGE.partition("## What Trow does not have\n")[2].partition("\n## ")[0]


def tables() -> list[list[list[str]]]:
    found = re.findall(r"(?:^\|.*\|\n)+", PAGE, re.MULTILINE)
    return [[[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()] for table in found]


def test_every_cell_says_something() -> None:
    compared = [table for table in tables() if len(table[0]) > 3]
    assert len(compared) == 2
    for head, _, *rows in compared:
        assert len(rows) > 15
        assert [row for row in rows if len(row) != len(head) or not all(row)] == []


def test_every_program_has_a_source_that_can_be_read() -> None:
    others = {program for table in tables() if len(table[0]) > 3 for program in table[0][2:]}
    notes = dict(re.findall(r"^\[\^(\w+)\]: ((?:.*\n)(?:    .*\n)*)", PAGE, re.MULTILINE))
    sources = {name: notes[note] for name, _, note in (program.rstrip("]").partition("[^") for program in others)}
    assert set(sources) >= {"Trow 0.10", "distribution", "zot", "Harbor", "Quay", "Kyverno", "Connaisseur"}
    assert [name for name, note in sources.items() if "https://" not in note] == []


def test_every_column_is_about_a_version_and_dated() -> None:
    assert re.search(r"Checked on \d+ [A-Z][a-z]+ \d{4}, cell by\ncell", PAGE)
    for table in tables():
        if len(table[0]) > 3:
            _, _, versions, dates, *_ = table
            assert (versions[0], dates[0]) == ("Version", "As of")
            assert [date for date in dates[1:] if not re.fullmatch(r"(\d+ )?[A-Z][a-z]+ \d{4}", date)] == []


def test_what_the_readme_says_is_missing_is_missing_in_the_comparison_too() -> None:
    said = re.findall(r"it lacks things that they have: \*\*(.*?)\*\*", README, re.DOTALL)[0]
    parts = [" ".join(part.split()) for part in said.split(",")]
    assert len(parts) > 4
    assert [part for part in parts if not any(word in MISSING.lower() for word in ends(part.lower()))] == []


def ends(part: str) -> tuple[str, str]:
    """The first and the last word, one of which says what it is."""
    return part.split(maxsplit=1)[0], part.rsplit(maxsplit=1)[-1]
