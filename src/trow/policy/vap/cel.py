"""Literals and variables of the Common Expression Language (CEL), to which policies are compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from trow.lib.globs import NAMESPACE
from trow.policy.vap.expressions import anchored

if TYPE_CHECKING:
    from collections.abc import Iterable


class Variable(NamedTuple):
    """A named expression, which later expressions use as ``variables.NAME``; it is evaluated once, at its first use."""

    name: str
    expression: str

    def __str__(self) -> str:
        return f"variables.{self.name}"


def text(value: str) -> str:
    """A string literal; CEL has the escapes of JSON."""
    return msgspec.json.encode(value).decode()


def regex(expression: str) -> str:
    """A regular expression as a raw string, which people can read; `NAMESPACE` is replaced as in `in_namespace`."""
    literal = text(expression) if "'" in expression else f"r'{expression}'"
    return in_namespace(literal) if NAMESPACE in expression else literal


def in_namespace(literal: str) -> str:
    """A string literal, with the namespace of the request in place of `NAMESPACE`."""
    return f"{literal}.replace({text(NAMESPACE)}, request.namespace)"


def matches(subject: str, expression: str) -> str:
    """Whether a regular expression matches the whole string."""
    return f"{subject}.matches({regex(anchored(expression))})"


def sequence(items: Iterable[object]) -> str:
    """A list of expressions."""
    return f"[{', '.join(map(str, items))}]"


def texts(values: Iterable[str]) -> str:
    """A list of string literals."""
    return sequence(map(text, values))
