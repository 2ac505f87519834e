"""Words that readers of English stumble over, in documents and in the source; plainer ones say the same."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from support.pages import PAGES, ROOT, name, prose

if TYPE_CHECKING:
    from pathlib import Path

# Each with what to write instead.
WORDS: Final = {
    "anew": "again",
    "and the like": "name them",
    "comes? about": "happens, succeeds",
    "for ever": "forever",
    "in words": "as text",
    "of (?:no )?use": "works, useful",
    "perhaps": "may, optionally",
    "so many": "a number of, too many",
    "to the letter": "exactly",
    "(?<!there )(?:is|are|was|were) no(?! longer| more)": "is not a",
}
FOUND: Final = re.compile("|".join(rf"\b(?:{words})\b" for words in WORDS), re.IGNORECASE)
# The name of a variable, and an answer in English.
ALLOWED: Final = re.compile(r"\bin words\b|The answer is no\b", re.IGNORECASE)


def lines_with(text: str) -> list[str]:
    return [f"{number}: {line.strip()}" for number, line in enumerate(text.splitlines(), 1) if FOUND.search(line)]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_documents_are_in_plain_words(page: Path) -> None:
    assert lines_with(prose(page)) == []


@pytest.mark.parametrize("module", sorted((ROOT / "src").rglob("*.py")), ids=name)
def test_the_source_is_in_plain_words(module: Path) -> None:
    assert lines_with(ALLOWED.sub("", module.read_text("utf-8"))) == []
