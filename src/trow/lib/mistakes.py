"""Mistakes in values, said for those who write YAML; msgspec names types of Python and JSON."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

_KINDS: Final = {
    "array": "a list",
    "object": "a mapping",
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "nothing",
    "datetime": "a date and time",
}
_OTHER_KIND: Final = re.compile(r"Expected `([a-z |]+)`, got `([a-z]+)`")
_OUTSIDE: Final = re.compile(r"Expected `([a-z |]+)` (.+)", re.DOTALL)
_UNKNOWN: Final = re.compile(r"Object contains unknown field `([^`]*)`")
_MISSING: Final = re.compile(r"Object missing required field `([^`]*)`")
_NO_CHOICE: Final = re.compile(r"Invalid enum value (.*)", re.DOTALL)


def reword(said: str, members: Collection[str] = ()) -> str:
    """What msgspec says of a value, to stand behind the name of it: ``is text and has to be a list``.

    Args:
        said: its message, without the path at the end.
        members: names that the value may have, for one that is misspelt.
    """
    if other := _OTHER_KIND.fullmatch(said):
        return f"is {_words(other[2])} and has to be {_words(other[1])}"
    if outside := _OUTSIDE.fullmatch(said):
        return f"has to be {_words(outside[1])} {outside[2]}"
    if unknown := _UNKNOWN.fullmatch(said):
        near = difflib.get_close_matches(unknown[1], members, n=1)
        return f"has an unknown {unknown[1]!r}" + (f" (did you mean {near[0]}?)" if near else "")
    if missing := _MISSING.fullmatch(said):
        return f"lacks {missing[1]!r}"
    if choice := _NO_CHOICE.fullmatch(said):
        return f"cannot be {choice[1]}"
    return said


def _words(kinds: str) -> str:
    """Of what may be left out, too: nobody writes null on purpose."""
    names = kinds.split(" | ")
    return " or ".join(_KINDS.get(name, name) for name in names if name != "null" or len(names) == 1)
