"""What an engine runs: transactions as generators, free of any driver.

A transaction is a generator that yields statements, is sent their rows, and returns its result, so that the same code
runs on a synchronous engine (SQLite) and on an asynchronous one. An engine is handed a *factory* of them: it may have
to run one again, after a serialization failure for example, and a generator runs only once. So nothing inside a
transaction has an effect outside of the database.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TypeAlias, TypeVar

Value: TypeAlias = str | int | float | bytes | None
Row: TypeAlias = Sequence[Value]
Statement: TypeAlias = tuple[str, tuple[Value, ...]]
Result = TypeVar("Result")
Transaction: TypeAlias = Generator[Statement, list[Row], Result]
Factory: TypeAlias = Callable[[], Transaction[Result]]
