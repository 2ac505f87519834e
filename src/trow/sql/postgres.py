"""The engine in PostgreSQL, for many replicas: transactions run side by side, and locks that they name keep them apart.

https://www.postgresql.org/docs/current/transaction-iso.html,
https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import re
import ssl
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias, cast

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from trow.lib.backoff import Backoff
from trow.lib.errors import DatabaseError, SchemaError
from trow.oci.errors import StorageFull, Unavailable
from trow.sql import migrations
from trow.sql.lookups import LookUps
from trow.sql.transaction import LOCK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
    from pathlib import Path

    from asyncpg.pool import PoolConnectionProxy
    from asyncpg.transaction import Transaction as PostgresTransaction

    from trow.sql.transaction import Factory, Result, Row, Transaction, Value

    Connection: TypeAlias = PoolConnectionProxy[asyncpg.Record]
    AnyConnection: TypeAlias = Connection | asyncpg.Connection[asyncpg.Record]

log = logging.getLogger(__name__)

WORDS: Final = {"bytes": "BYTEA", "text": 'TEXT COLLATE "C"', "clustered": ""}

# Of the connections, so that look-ups never wait behind lists.
_PAGES: Final = 2
_SCANS: Final = 1
_OLDEST: Final = 15
_UNREACHABLE: Final = "PostgreSQL cannot be reached"
_TRIES: Final = 6
_CLOSE_SECONDS: Final = 10.0
# An index over many rows takes its time.
_MIGRATION_SECONDS: Final = 3600.0
_MIGRATION_TRIES: Final = 30
_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 0.5

# In one order for all transactions, so that none waits for another that waits for it.
_TAKE_LOCKS: Final = """
    SELECT CASE WHEN alone THEN pg_advisory_xact_lock(key)::text ELSE pg_advisory_xact_lock_shared(key)::text END
    FROM unnest($1::bigint[], $2::boolean[]) AS lock (key, alone)
"""
_MIGRATING: Final = "trow: migrations"
_STEPS: Final = """
    CREATE TABLE IF NOT EXISTS trow_schema (name TEXT PRIMARY KEY, steps INTEGER NOT NULL)
"""
_DONE: Final = "SELECT steps FROM trow_schema WHERE name = $1"
_SET_DONE: Final = """
    INSERT INTO trow_schema (name, steps) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET steps = excluded.steps
"""

_NUL: Final = "\0"
_ESCAPE: Final = "\x1a"
_ESCAPED: Final = re.compile("\x1a[\x1a0]")
_MEANINGS: Final = {"\x1a\x1a": "\x1a", "\x1a0": "\0"}

# What is over when it is tried again, from the start of the transaction.
_PASSING: Final = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
# The connection cannot be used any more: the server went away, or is a standby now.
_LOST: Final = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TargetServerAttributeNotMatched,
)
_FULL: Final = (asyncpg.DiskFullError, asyncpg.OutOfMemoryError)


@dataclass(frozen=True, slots=True)
class PostgresSettings:
    """How the server is reached.

    Attributes:
        url: as libpq takes it (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS).
        password_file: read for each new connection, so that a password can be changed while the server runs.
        ca_file: who may have issued the server's certificate, which is then always verified; None: as the URL says.
        connections: how many each replica has, at most.
        timeout: seconds for a statement, and for a place among the connections.
        statement_cache: how many prepared statements a connection keeps; 0 behind a PgBouncer in transaction mode.
    """

    url: str
    password_file: Path | None = None
    ca_file: Path | None = None
    connections: int = 16
    timeout: float = 10.0
    statement_cache: int = 200

    async def password(self) -> str:
        """The password as it is now. Raises OSError."""
        assert self.password_file is not None  # noqa: S101 - else nobody asks
        return (await asyncio.to_thread(self.password_file.read_text, "utf-8")).rstrip("\r\n")

    def options(self) -> dict[str, Any]:
        """What a connection is made with, beside the URL. Raises OSError, ssl.SSLError: the file cannot be used."""
        options: dict[str, Any] = {
            "command_timeout": self.timeout,
            "timeout": self.timeout,
            "statement_cache_size": self.statement_cache,
            "target_session_attrs": SessionAttribute.read_write,
        }
        if self.password_file is not None:
            options["password"] = self.password
        if self.ca_file is not None:
            options["ssl"] = ssl.create_default_context(cafile=str(self.ca_file))
        return options


class PostgresEngine:
    """The `Engine` of many replicas. Used on one event loop; made by `opened`."""

    def __init__(
        self, pool: asyncpg.Pool[asyncpg.Record], settings: PostgresSettings, observe: Callable[[float], None]
    ) -> None:
        self._pool = pool
        self._timeout = settings.timeout
        self._observe = observe
        self._pages = asyncio.Semaphore(_PAGES)
        self._scans = asyncio.Semaphore(_SCANS)
        self._look_ups = LookUps(self._fetch)

        # How often a transaction was run again, because of another one or because the connection was lost.
        self.repeated = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(
        cls, settings: PostgresSettings, *schemas: str, observe: Callable[[float], None] = lambda _: None
    ) -> AsyncIterator[Self]:
        """Connect, and bring the schemas up to date; replicas that start together do it one after the other.

        Args:
            settings: of the connections.
            schemas: the packages of the steps of the schemas.
            observe: told how many seconds each commit took.

        Raises:
            SchemaError: the database was written by a newer Trow, or by another program.
            DatabaseError: it cannot be used.
        """
        async with contextlib.AsyncExitStack() as stack:
            with _start_errors(_UNREACHABLE, "; check postgres.url"):
                pool = await asyncpg.create_pool(
                    settings.url, min_size=0, max_size=settings.connections, reset=_keep_as_it_is, **settings.options()
                )
                stack.push_async_callback(_close, pool)
                connection = await pool.acquire()
            with _start_errors("the database cannot be brought up to date"):
                await _check_server(connection)
                for schema in schemas:
                    await _migrate(connection, schema)
            await pool.release(connection)
            yield cls(pool, settings, observe)

    @property
    def connections(self) -> int:
        """How many are open."""
        return self._pool.get_size()

    @property
    def busy_connections(self) -> int:
        """How many are at work."""
        return self._pool.get_size() - self._pool.get_idle_size()

    async def read(self, make: Factory[Result]) -> Result:
        """Look something up, in queries that are shared with others where that can be."""
        return await _run(self._look_up, make)

    async def page(self, make: Factory[Result]) -> Result:
        """Read a page of a list."""
        async with self._pages:
            return await self._again_when_lost(lambda connection: _run(partial(_ask, connection), make))

    async def scan(self, make: Factory[Result]) -> Result:
        """Read whole tables."""
        async with self._scans:
            return await self._again_when_lost(lambda connection: _run(partial(_ask, connection), make))

    async def write(
        self,
        make: Factory[Result],
        *,
        frees: bool = False,  # noqa: ARG002 - the server keeps a reserve of its own
        committed: Callable[[], None] | None = None,
    ) -> Result:
        """Change something, in a transaction that others run beside."""
        result = await self._again_when_lost(lambda connection: self._transact(connection, make))
        if committed is not None:
            committed()
        return result

    async def _transact(self, connection: Connection, make: Factory[Result]) -> Result:
        transaction = connection.transaction(isolation="read_committed", readonly=False)
        await transaction.start()
        try:
            result = await _run(partial(_ask, connection), make)
        except BaseException:
            await _roll_back(connection, transaction)
            raise
        started = asyncio.get_running_loop().time()
        try:
            await transaction.commit()
        except (*_LOST, TimeoutError) as error:
            # Nobody can say whether it was committed, so it must not be done again.
            raise Unavailable(
                "the connection to PostgreSQL was lost in a commit; see whether the change is there, and try again"
            ) from error
        self._observe(asyncio.get_running_loop().time() - started)
        return result

    async def _look_up(self, statement: str, values: tuple[Value, ...]) -> list[Row]:
        if self._look_ups.take(statement, values):
            return _unescaped(await self._look_ups.rows(statement, _escaped(values)))
        return await self._again_when_lost(lambda connection: _ask(connection, statement, values))

    async def _fetch(self, statement: str, values: Sequence[object]) -> list[Row]:
        fetched = await self._again_when_lost(lambda connection: connection.fetch(statement, *values))
        return cast("list[Row]", fetched)

    async def _again_when_lost(self, work: Callable[[Connection], Awaitable[Result]]) -> Result:
        """Do it, and do it again when another transaction, or a connection that was lost, was in the way."""
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        for attempt in count(1):
            try:
                async with self._pool.acquire(timeout=self._timeout) as connection:
                    return await work(connection)
            except TimeoutError as error:  # which is an OSError, too: who has waited that long does not wait again
                raise _translated(error) from error
            except _PASSING as error:
                failed: BaseException = error
            except _LOST as error:
                failed = error
                await self._pool.expire_connections()
            except asyncpg.PostgresError as error:
                raise _translated(error) from error
            if attempt == _TRIES:
                raise _translated(failed) from failed
            self.repeated += 1
            await asyncio.sleep(backoff.fail())
        raise AssertionError  # the loop has no end

    async def check(self) -> None:
        """See whether changes can be made. Raises `Unavailable` when not."""
        await self.write(_nothing)

    def displaced(self) -> Sequence[Path]:
        """None: the files are the server's."""
        return ()


async def _close(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    """Let what is running finish, within bounds, and close all connections."""
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await pool.close()
    except (*_LOST, asyncpg.PostgresError, TimeoutError):
        pool.terminate()


def _nothing() -> Transaction[None]:
    ((read_only,),) = yield "SELECT current_setting('transaction_read_only')", ()
    if read_only == "on":  # which the next statement would not mind
        raise asyncpg.ReadOnlySQLTransactionError("the server takes no writes")
    yield "SELECT pg_current_xact_id()", ()  # takes a number, which a standby refuses


async def _run(ask: Callable[[str, tuple[Value, ...]], Awaitable[list[Row]]], make: Factory[Result]) -> Result:
    """Run the statements of a transaction, and return what it returns."""
    transaction = make()
    try:
        statement, values = next(transaction)
        while True:
            statement, values = transaction.send(await ask(statement, values))
    except StopIteration as stop:
        result: Result = stop.value
        return result
    finally:
        transaction.close()


async def _ask(connection: Connection, statement: str, values: tuple[Value, ...]) -> list[Row]:
    if statement is LOCK:
        return await _lock(connection, values)
    return _unescaped(cast("list[Row]", await connection.fetch(_numbered(statement), *_escaped(values))))


async def _lock(connection: Connection, names: Sequence[Value]) -> list[Row]:
    """Wait for the locks. What is read afterwards, in the statements that follow, is what the others have left."""
    boundary = names.index(None)
    alone = dict.fromkeys(map(_key, names[boundary + 1 :]), False) | dict.fromkeys(map(_key, names[:boundary]), True)
    keys = sorted(alone)
    await connection.execute(_TAKE_LOCKS, keys, [alone[key] for key in keys])
    return []


def _key(name: Value) -> int:
    """The number of a lock. Two names may have the same, and then wait for each other without need."""
    return int.from_bytes(hashlib.blake2b(str(name).encode(), digest_size=8).digest(), "big", signed=True)


def _escaped(values: tuple[Value, ...]) -> tuple[Value, ...]:
    """With NUL, which PostgreSQL's text cannot hold, as a letter after `_ESCAPE`."""
    if not any(_NUL in value or _ESCAPE in value for value in values if isinstance(value, str)):
        return values
    return tuple(
        value.replace(_ESCAPE, _ESCAPE * 2).replace(_NUL, f"{_ESCAPE}0") if isinstance(value, str) else value
        for value in values
    )


def _unescaped(rows: list[Row]) -> list[Row]:
    if not any(_ESCAPE in value for row in rows for value in row if isinstance(value, str)):
        return rows
    return [
        tuple(
            _ESCAPED.sub(lambda found: _MEANINGS[found[0]], value) if isinstance(value, str) else value for value in row
        )
        for row in rows
    ]


@lru_cache(maxsize=1_000)
def _numbered(statement: str) -> str:
    """``$1``, ``$2`` for each ``?``. No statement has one in a literal."""
    first, *others = statement.split("?")
    return first + "".join(f"${number}{part}" for number, part in enumerate(others, 1))


async def _roll_back(connection: Connection, transaction: PostgresTransaction) -> None:
    if not connection.is_closed():
        try:
            await transaction.rollback()
        except (*_LOST, asyncpg.PostgresError, TimeoutError):
            connection.terminate()


async def try_server(settings: PostgresSettings, *schemas: str) -> bool:
    """See whether `PostgresEngine.opened` would do; nothing is changed. Raises like that.

    Returns:
        Whether the database holds anything of Trow.
    """
    with _start_errors(_UNREACHABLE, "; check postgres.url"):
        connection = await asyncpg.connect(settings.url, **settings.options())
    try:
        with _start_errors("the database cannot be used"):
            await _check_server(connection)
            used = await connection.fetchval("SELECT to_regclass('trow_schema')") is not None
            if used:
                for schema in schemas:
                    await _steps_done(connection, schema, len(migrations.load(schema, WORDS)))
            return used
    finally:
        await connection.close(timeout=_CLOSE_SECONDS)


async def run_offline(settings: PostgresSettings, schemas: Sequence[str], make: Factory[Result]) -> Result:
    """Run one transaction in a command, beside servers that may be running or not.

    Raises:
        DatabaseError, Unavailable: it was not run.
    """
    if not await try_server(settings, *schemas):
        raise DatabaseError("there is no registry in that database; give the --config that trow serve has")
    async with PostgresEngine.opened(settings, *schemas) as engine:
        return await engine.write(make)


async def _keep_as_it_is(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Nothing is reset on the server between two uses, for that is a query: nothing is set outside transactions."""
    del connection


async def _check_server(connection: AnyConnection) -> None:
    """An answer means that a change survives a power cut. Raises DatabaseError."""
    version = connection.get_server_version()
    if version.major < _OLDEST:
        raise DatabaseError(f"the server is PostgreSQL {version.major}, and Trow needs {_OLDEST} or newer; upgrade it")
    if (encoding := await connection.fetchval("SELECT current_setting('server_encoding')")) != "UTF8":
        raise DatabaseError(f"the database has the encoding {encoding}; make one with ENCODING 'UTF8'")
    for setting in ("synchronous_commit", "fsync", "full_page_writes"):
        if await connection.fetchval(f"SELECT current_setting('{setting}')") == "off":
            log.warning(
                "%s is off in PostgreSQL: a power cut may lose changes that were answered; switch it on", setting
            )


async def _migrate(connection: Connection, schema: str) -> None:
    """Bring the schema up to date, one process at a time, while replicas of the version before go on.

    A step waits only a moment for the table that it changes, because everybody else would wait behind it.
    """
    for attempt in count(1):
        try:
            async with connection.transaction(isolation="read_committed"):
                await _take_steps(connection, migrations.load(schema, WORDS), schema)
        except asyncpg.LockNotAvailableError:
            if attempt == _MIGRATION_TRIES:
                raise
            await asyncio.sleep(_LONGEST_PAUSE)
        else:
            return


async def _take_steps(connection: Connection, steps: Sequence[migrations.Migration], schema: str) -> None:
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _key(_MIGRATING), timeout=_MIGRATION_SECONDS)
    await connection.execute(_STEPS)
    done = await _steps_done(connection, schema, len(steps))
    if done == len(steps):
        return
    await connection.execute("SET LOCAL lock_timeout = '2s'")
    for step in steps[done:]:
        for statement in step.statements:
            await connection.execute(statement, timeout=_MIGRATION_SECONDS)
    await connection.execute(_SET_DONE, schema, len(steps))


async def _steps_done(connection: AnyConnection, schema: str, known: int) -> int:
    """How many steps of a schema the database has gone through. Raises SchemaError: more than are known."""
    done = int(await connection.fetchval(_DONE, schema) or 0)
    if done > known:
        raise SchemaError(
            f"the database has schema {done}, this version of Trow knows up to {known}; start the newer version"
        )
    return done


@contextlib.contextmanager
def _start_errors(what: str, fix: str = "") -> Iterator[None]:
    try:
        yield
    except (*_LOST, asyncpg.PostgresError, TimeoutError, ValueError) as error:
        raise DatabaseError(f"{what}: {str(error) or type(error).__name__}{fix}") from error


def _translated(error: BaseException) -> Unavailable:
    """What is wrong, in words for clients."""
    if isinstance(error, _FULL):
        return StorageFull("the registry's database has no space left; free some or enlarge its volume")
    return Unavailable("the registry's database does not work at the moment; try again")
