"""What an engine runs: transactions as generators, free of any driver.

A transaction is a generator that yields statements, is sent their rows, and returns its result, so that the same code
runs on a synchronous engine (SQLite) and on an asynchronous one. An engine is handed a *factory* of them: it may have
to run one again, after a serialization failure for example, and a generator runs only once. So nothing inside a
transaction has an effect outside of the database.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Final, TypeAlias, TypeVar

Value: TypeAlias = str | int | float | bytes | None
Row: TypeAlias = Sequence[Value]
Statement: TypeAlias = tuple[str, tuple[Value, ...]]
Result = TypeVar("Result")
Transaction: TypeAlias = Generator[Statement, list[Row], Result]
Factory: TypeAlias = Callable[[], Transaction[Result]]

LOCK: Final = "LOCK"


def lock(*, exclusive: Iterable[str] = (), shared: Iterable[str] = ()) -> Statement:
    """What a write yields first: the locks that make it serializable. An engine with a single writer skips it.

    Args:
        exclusive: names of what nobody else may rely on, move or remove meanwhile.
        shared: names of what this write relies on, together with others.
    """
    return LOCK, (*exclusive, None, *shared)
