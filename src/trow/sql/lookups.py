"""Look-ups in PostgreSQL that share a query: one asks for all who wait at that moment.

A request's own query would cost the server and this process three times as much. What is asked after a write has
returned sees it, on every replica, because the query begins after the request.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from trow.sql.transaction import Row, Value

    Fetch: TypeAlias = Callable[[str, Sequence[object]], Awaitable[list[Row]]]
    Waiting: TypeAlias = list[tuple[tuple[Value, ...], asyncio.Future[list[Row]]]]

# Two queries are on their way at a time, so that one that waits for its answer does not hold up all others.
_AT_ONCE: Final = 2
# A longer query would make all of these wait for its last row.
_MOST: Final = 256


class LookUps:
    """Gathers look-ups, by their statement. Used on one event loop.

    Args:
        fetch: runs a statement with parameters ``$1``, ``$2``, and returns its rows.
    """

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._waiting: defaultdict[str, Waiting] = defaultdict(list)
        self._running: set[asyncio.Task[None] | None] = set()

    @staticmethod
    def take(statement: str, values: tuple[Value, ...]) -> bool:
        """Whether a statement can be shared: its parameters are texts, and none of them is a limit."""
        return bool(values) and "LIMIT" not in statement and all(isinstance(value, str) for value in values)

    async def rows(self, statement: str, values: tuple[Value, ...]) -> list[Row]:
        """The rows of one look-up. Raises what the query raises that it was part of."""
        future: asyncio.Future[list[Row]] = asyncio.get_running_loop().create_future()
        self._waiting[statement].append((values, future))
        if len(self._running) < _AT_ONCE:
            self._running.add(asyncio.create_task(self._work()))
        return await future

    async def _work(self) -> None:
        task = asyncio.current_task()
        try:
            await self._ask_for_all()
        finally:
            self._running.discard(task)  # at once: who asks next has to start another

    async def _ask_for_all(self) -> None:
        while self._waiting:
            statement = next(iter(self._waiting))  # the one that has waited longest
            waiting = self._waiting.pop(statement)
            if len(waiting) > _MOST:
                self._waiting[statement] = waiting[_MOST:]
            await self._ask(statement, waiting[:_MOST])

    async def _ask(self, statement: str, waiting: Waiting) -> None:
        try:
            columns = [*zip(*(values for values, _ in waiting), strict=True)]
            found: list[list[Row]] = [[] for _ in waiting]
            for number, *row in await self._fetch(_shared(statement), columns):
                assert isinstance(number, int)  # noqa: S101 - the query says so
                found[number - 1].append(row)
        except Exception as error:  # noqa: BLE001 - handed to those who wait for it
            for _, future in waiting:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), rows in zip(waiting, found, strict=True):
            if not future.done():
                future.set_result(rows)


@lru_cache(maxsize=100)
def _shared(statement: str) -> str:
    """The statement, for a list of each of its parameters; the number of the look-up stands before each row."""
    first, *others = statement.split("?")
    numbers = range(1, len(others) + 1)
    names = ", ".join(f"p{number}" for number in numbers)
    lists = ", ".join(f"${number}::text[]" for number in numbers)
    one = first + "".join(f"asked.p{number}{part}" for number, part in zip(numbers, others, strict=True))
    return (
        f"SELECT asked.number, found.* FROM unnest({lists}) WITH ORDINALITY AS asked ({names}, number),"  # noqa: S608
        f" LATERAL ({one}) AS found"
    )
