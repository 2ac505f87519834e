"""Members of the objects of other programs, with a check of their types."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trow.lib.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class UnreadableSource(StartError):
    """A file does not have the format of its program; the message says where."""


def mapping(value: object, where: str) -> Mapping[str, object]:
    """The value, which has to be a mapping; null is an empty one. Raises: UnreadableSource."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UnreadableSource(f"{where} is not a mapping")
    return value


def sequence(value: object, where: str) -> Sequence[object]:
    """The value, which has to be a list; null is an empty one. Raises: UnreadableSource."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise UnreadableSource(f"{where} is not a list")
    return value


def texts(value: object, where: str) -> Sequence[str]:
    """The value, which has to be a list of strings; null is an empty one. Raises: UnreadableSource."""
    found = sequence(value, where)
    if not all(isinstance(each, str) for each in found):
        raise UnreadableSource(f"{where} is not a list of texts")
    return [str(each) for each in found]


def text(value: object, where: str) -> str:
    """The value, which has to be a string; null is "". Raises: UnreadableSource."""
    if not isinstance(value, str | None):
        raise UnreadableSource(f"{where} is not a text")
    return value or ""
