"""The port of SQL engines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from trow.sql.transaction import Factory, Result


class Engine(Protocol):
    """Runs transactions. Each method takes a factory, which may be called several times; the last result counts.

    Isolation: each statement of a read sees every write that has returned, and others may write between two of them. A
    write is serializable: nothing that it has read, or found to be absent, changes until it is committed. An engine
    that runs writes side by side takes the locks that a write yields before its first statement
    (`trow.sql.transaction.lock`): exclusive ones alone, shared ones with others. SERIALIZABLE of PostgreSQL is not
    enough for that, because an ``INSERT … ON CONFLICT DO NOTHING`` that finds a row does not lock it.

    Each method raises `Unavailable`, or `StorageFull`, when the engine cannot do its work; then nothing has changed.
    """

    async def read(self, make: Factory[Result]) -> Result:
        """Look something up. It takes a moment, whatever the database holds."""

    async def page(self, make: Factory[Result]) -> Result:
        """Read a page of a list, which may take longer than others should wait."""

    async def scan(self, make: Factory[Result]) -> Result:
        """Read whole tables, which may take long."""

    async def write(
        self, make: Factory[Result], *, frees: bool = False, committed: Callable[[], None] | None = None
    ) -> Result:
        """Change something. When this returns it survives a power cut.

        Args:
            make: makes the transaction. What it raises is raised here, and nothing has changed.
            frees: whether it gives space back, so that it has to be possible on a full volume.
            committed: called after the commit, before anybody is answered.
        """

    async def check(self) -> None:
        """See whether changes can be made. Raises `Unavailable` when not."""

    def displaced(self) -> Sequence[Path]:
        """The files of the database that are in use and no longer where they belong; none where it is on a server."""
