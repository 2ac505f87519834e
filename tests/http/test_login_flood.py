"""Logins of honest people while others try wrong passwords without a pause, over connections of their own."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import statistics
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import pytest

from support.server import Trow
from trow.identity import htpasswd
from trow.identity.htpasswd import PasswordUser

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

pytestmark = pytest.mark.slow

# As many connections as were enough to keep nine of ten right passwords out.
ATTACKERS: Final = 45
# Those who log in while an attack comes from elsewhere, and while it comes from their own address.
PASSWORDS: Final = {
    where: {f"{where}{number}": f"right {number}" for number in range(4)} for where in ("elsewhere", "here")
}
# Five times what it is on a quiet machine, for the attack runs on the same cores.
LONGEST_STOP_SECONDS: Final = 0.5
KNOWN: Final = ("known", "right from the start")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trow]:
    """With hashes of the ordinary strength: it is their time that an attack spends."""
    folder = tmp_path_factory.mktemp("flooded")
    users = folder / "users"
    pairs = [KNOWN, *(pair for group in PASSWORDS.values() for pair in group.items())]
    lines = [PasswordUser(name, htpasswd.hash_password(password)).line() for name, password in pairs]
    users.write_text("\n".join([*lines, ""]), "utf-8")
    users.chmod(0o600)
    rule = {"users": ["*"], "repositories": ["**"], "actions": ["pull"]}
    config = {"auth": {"users_file": str(users)}, "access": {"rules": [rule]}}
    with Trow.start(folder, config=config) as trow:
        yield trow


async def status(server: Trow, path: str, source: str, credentials: tuple[str, str] | None = None) -> int:
    """The status of one request on a connection from this address of loopback; 0 where there is no answer."""
    address = urlsplit(server.url)
    lines = [f"GET {path} HTTP/1.1", f"host: {address.netloc}", "connection: close"]
    if credentials is not None:
        secret = base64.b64encode(":".join(credentials).encode()).decode()
        lines.append(f"authorization: Basic {secret}")
    with contextlib.suppress(OSError, ValueError):
        reader, writer = await asyncio.open_connection(address.hostname, address.port, local_addr=(source, 0))
        try:
            writer.write("\r\n".join([*lines, "", ""]).encode())
            answer = await reader.readline()
            await reader.read()
            return int(answer.split()[1])
        finally:
            writer.close()
    return 0


@contextlib.asynccontextmanager
async def attacked(server: Trow, source_of: Callable[[int], str]) -> AsyncIterator[None]:
    """Wrong passwords, each of another user, from these addresses."""
    guesses = itertools.count()

    async def attack(number: int) -> None:
        while True:
            guess = next(guesses)
            await status(server, "/v2/", source_of(number), (f"nobody{guess}", f"guess {guess}"))

    tasks = [asyncio.create_task(attack(number)) for number in range(ATTACKERS)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def elsewhere(number: int) -> str:
    return f"127.1.0.{number + 1}"


def here(number: int) -> str:
    del number
    return "127.0.0.1"


@pytest.mark.parametrize("source_of", [elsewhere, here])
async def test_right_passwords_pass_beside_a_flood_of_wrong_ones(server: Trow, source_of: Callable[[int], str]) -> None:
    honest = [*PASSWORDS[source_of.__name__].items()]
    assert await status(server, "/v2/", "127.0.0.1", KNOWN) == 200
    async with attacked(server, source_of):
        first = [await status(server, "/v2/", "127.0.0.1", each) for each in honest]
        again = [await status(server, "/token", "127.0.0.1", each) for each in (*honest, KNOWN) * 3]
    assert first == [200] * len(first), "of those who log in for the first time"
    assert again == [200] * len(again), "of those who have logged in before"


async def test_the_event_loop_does_not_wait_for_password_hashes(server: Trow) -> None:
    seconds = []
    async with attacked(server, elsewhere):
        for _ in range(50):
            began = time.perf_counter()
            assert await status(server, "/healthz", "127.0.0.1") == 200
            seconds.append(time.perf_counter() - began)
    assert statistics.median(sorted(seconds)[-5:]) < LONGEST_STOP_SECONDS
