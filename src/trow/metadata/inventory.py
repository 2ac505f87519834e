"""Everything in a database of SQLite that may be damaged, or not be there at all.

It is read around the port of SQL engines, for no other engine has such files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import apsw

from trow.metadata import sql
from trow.oci.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from trow.oci.digest import Digest
    from trow.registry.location import BlobLocation

_ROWS: Final = 500
# Of one database; it is damaged anyhow.
_MOST_COMPLAINTS: Final = 100
# What reading a row raises when it is damaged: the second where a text is not in UTF-8 any more.
_UNREADABLE: Final = (apsw.Error, UnicodeDecodeError)


class SqliteInventory:
    """The `Inventory` of a database file. It reads on the event loop, where nothing else runs in a check."""

    def __init__(self, path: Path) -> None:
        self._connection: apsw.Connection | None = None
        self.damage: list[str] = []
        try:
            self._connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
            self._connection.set_busy_timeout(5_000)
        except apsw.Error as error:
            self.damage.append(f"it cannot be opened ({error})")

    def close(self) -> None:
        """Close the database."""
        if self._connection is not None:
            self._connection.close()

    async def inspect(self) -> None:
        lines = self._rows(f"PRAGMA integrity_check({_MOST_COMPLAINTS})", "structure")
        self.damage += [str(line) for (line,) in lines if line != "ok"]

    async def blobs(self) -> AsyncIterator[str]:
        for (digest,) in self._keys("blob", "digest"):
            yield str(digest)

    async def blob(self, digest: Digest) -> tuple[object, object, object] | None:
        row = self._row(sql.BLOB_BY_DIGEST, digest)
        return None if row is None else (row[0], row[1], row[2])

    async def knows_location(self, location: BlobLocation) -> bool | None:
        try:
            return None if self._connection is None else self._row(sql.LOCATION_EVER, location, location) is not None
        except Unavailable:
            return None

    async def manifests(self) -> AsyncIterator[tuple[str, str]]:
        for repository, digest in self._keys("manifest", "repository", "digest"):
            yield str(repository), str(digest)

    async def manifest(self, repository: str, digest: Digest) -> object | None:
        row = self._row(sql.MANIFEST, repository, digest)
        return None if row is None else row[2]

    async def dangling_links(self) -> Sequence[tuple[str, str]]:
        return [(str(row[0]), str(row[1])) for row in self._rows(sql.DANGLING_LINKS, "links")]

    async def dangling_tags(self) -> Sequence[tuple[str, str, str]]:
        return [(str(row[0]), str(row[1]), str(row[2])) for row in self._rows(sql.DANGLING_TAGS, "tags")]

    async def drop_blob(self, digest: Digest) -> bool:
        return self._change((sql.DROP_BLOB, (digest,)), (sql.DROP_BLOB_LINKS, (digest,)))

    async def drop_manifest(self, repository: str, digest: Digest) -> bool:
        return self._change(
            (sql.DELETE_MANIFEST, (repository, digest)),
            (sql.DROP_TAGS_OF, (repository, digest)),
            (sql.DROP_EMPTY_REPOSITORY, (repository,)),
        )

    async def unlink_blob(self, repository: str, digest: str) -> bool:
        return self._change((sql.UNLINK_BLOB, (repository, digest)))

    async def delete_tag(self, repository: str, tag: str) -> bool:
        return self._change((sql.DELETE_TAG, (repository, tag)))

    def _keys(self, table: str, *columns: str) -> Iterator[tuple[str, ...]]:
        """All keys of a table; where a page cannot be read, those that other ways lead to.

        The first way is by the index. The others are from the end of it, and without it: for a column that it lacks.
        """
        names, places = ", ".join(columns), ", ".join("?" * len(columns))
        up = f"SELECT {names} FROM {table} WHERE ({names}) > ({places}) ORDER BY {names} LIMIT ?"  # noqa: S608 - our own names
        down = f"SELECT {names} FROM {table} ORDER BY {', '.join(f'{name} DESC' for name in columns)}"  # noqa: S608
        scan = f"SELECT {names}, size FROM {table}"  # noqa: S608
        last, error = ("",) * len(columns), None
        while error is None:
            some, error = self._read(up, (*last, _ROWS))
            yield from some
            if error is None and not some:
                return
            last = some[-1] if some else last
        self.damage.append(f"its {table}s cannot be read in order ({error})")
        seen: set[tuple[str, ...]] = set()
        for statement in (down, scan):
            for row in self._read(statement)[0]:
                key = row[: len(columns)]
                if all(isinstance(part, str) for part in key) and key > last and key not in seen:
                    seen.add(key)
                    yield key

    def _row(self, statement: str, *key: str) -> tuple[Any, ...] | None:
        found, error = self._read(statement, key)
        if error is not None:
            raise Unavailable(str(error))
        return next(iter(found), None)

    def _rows(self, statement: str, what: str) -> Sequence[tuple[Any, ...]]:
        """All rows that can be read."""
        found, error = self._read(statement)
        if error is not None:
            self.damage.append(f"its {what} cannot be read to the end ({error})")
        return found

    def _read(
        self, statement: str, values: tuple[str | int, ...] = ()
    ) -> tuple[Sequence[tuple[Any, ...]], Exception | None]:
        """The rows up to the end, or to an error."""
        found: list[tuple[Any, ...]] = []
        try:
            for row in self._connection.execute(statement, values) if self._connection is not None else ():
                found.append(row)  # noqa: PERF402 - those before an error are wanted
        except _UNREADABLE as error:
            return found, error
        return found, None

    def _change(self, *statements: tuple[str, tuple[str, ...]]) -> bool:
        """Change something; whether that was possible."""
        assert self._connection is not None  # noqa: S101 - rows are named by what was read from it
        try:
            with self._connection:
                for statement, values in statements:
                    self._connection.execute(statement, values).fetchall()
        except apsw.Error:
            return False
        return True
