"""The little of the Common Expression Language that policies are compiled to: how its literals are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from trow.lib.globs import NAMESPACE
from trow.policy.vap.expressions import anchored

if TYPE_CHECKING:
    from collections.abc import Iterable


class Variable(NamedTuple):
    """A named expression, which later ones use as ``variables.NAME``; it is evaluated once, when first asked for."""

    name: str
    expression: str

    def __str__(self) -> str:
        return f"variables.{self.name}"


def text(value: str) -> str:
    """A text; CEL has the escapes of JSON."""
    return msgspec.json.encode(value).decode()


def regex(expression: str) -> str:
    """A regular expression: raw, so that people can read it; `NAMESPACE` in it becomes that of the request."""
    literal = text(expression) if "'" in expression else f"r'{expression}'"
    return here(literal) if NAMESPACE in expression else literal


def here(literal: str) -> str:
    """A text in which the request's namespace stands in the place of `NAMESPACE`."""
    return f"{literal}.replace({text(NAMESPACE)}, request.namespace)"


def matches(subject: str, expression: str) -> str:
    """Whether all of a text is like the regular expression."""
    return f"{subject}.matches({regex(anchored(expression))})"


def sequence(items: Iterable[object]) -> str:
    """A list of expressions."""
    return f"[{', '.join(map(str, items))}]"


def texts(values: Iterable[str]) -> str:
    """A list of texts."""
    return sequence(map(text, values))
