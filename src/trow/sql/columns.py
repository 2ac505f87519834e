"""The values of columns, which have the types that the schema says."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trow.sql.transaction import Value


def text(value: Value) -> str:
    """The value of a column of text."""
    assert isinstance(value, str)  # noqa: S101 - the schema says so
    return value


def integer(value: Value) -> int:
    """The value of a column of whole numbers."""
    assert isinstance(value, int)  # noqa: S101
    return value


def number(value: Value) -> float:
    """The value of a column of numbers."""
    assert isinstance(value, (int, float))  # noqa: S101
    return float(value)


def optional_text(value: Value) -> str | None:
    """The value of a column of text that may be null."""
    return None if value is None else text(value)


def optional_number(value: Value) -> float | None:
    """The value of a column of numbers that may be null."""
    return None if value is None else number(value)


def optional_bytes(value: Value) -> bytes | None:
    """The value of a column of bytes that may be null."""
    assert value is None or isinstance(value, bytes)  # noqa: S101
    return value
