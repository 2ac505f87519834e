"""Strangers, and users who may do nothing, push nothing out of the record that others did."""

from __future__ import annotations

import asyncio
import base64
import itertools
from contextlib import closing
from sqlite3 import connect
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import pytest

import factories
from support.admission import body, pod
from support.records import stored, verified
from support.registry import Client, Repository
from support.server import Trow
from support.team import users_file
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

MIB: Final = 2**20
ALICE: Final = ("alice", "correct horse")
BOB: Final = ("bob", "correct horse as well")
CONFIG: Final[dict[str, Any]] = {
    "listen": {"trusted_proxies": ["127.0.0.0/8"]},
    "audit": {"max_size": "8MiB", "pull_idle": "100ms"},
    "image_validation": {"default": "Deny"},
    "admission": {"on_registry_addresses": True},
    "access": {"rules": [{"users": ["alice"], "repositories": ["**"], "actions": ["push", "pull", "delete"]}]},
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Trow]:
    users = tmp_path / "users"
    users.write_text(users_file(dict([ALICE, BOB])))
    users.chmod(0o600)
    with Trow.start(tmp_path, config=CONFIG | {"auth": {"users_file": str(users)}}) as trow:
        yield trow


def wire(method: str, path: str, source: str, headers: Iterable[tuple[str, str]], content: bytes) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: trow", f"x-forwarded-for: {source}", f"content-length: {len(content)}"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers), "", ""]).encode() + content


async def send(trow: Trow, requests: Iterable[bytes], connections: int = 8) -> list[int]:
    """Send them all; the statuses."""
    waiting, found = iter(requests), list[int]()

    async def work() -> None:
        reader, writer = await asyncio.open_connection(urlsplit(trow.url).hostname, urlsplit(trow.url).port)
        for request in waiting:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            await reader.readexactly(int(head.partition("content-length: ")[2].split()[0]))
            found.append(int(head.split()[1]))
        writer.close()

    await asyncio.gather(*(work() for _ in range(connections)))
    return found


def reviews(count: int) -> Iterator[bytes]:
    """Each 100 kB, and of something else."""
    for number in range(count):
        content = body(pod(f"docker.io/evil/{number}:{'x' * 100}", hostname="y" * 100_000), name=f"pod-{number}")
        yield wire("POST", "/admission/validate", "192.0.2.1", [("content-type", "application/json")], content)


def addresses() -> Iterator[str]:
    return (f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}" for number in itertools.count())


def logins(count: int) -> Iterator[bytes]:
    """With tokens that nobody has, each from another address."""
    for number, source in zip(range(count), addresses(), strict=False):
        yield wire(
            "GET", "/v2/", source, [("authorization", f"Bearer trow_{number:032}"), ("user-agent", "z" * 250)], b""
        )


def questions(count: int) -> Iterator[bytes]:
    """Of a user who may do nothing, for tokens to repositories of others."""
    secret = base64.b64encode(":".join(BOB).encode()).decode()
    for number, source in zip(range(count), addresses(), strict=False):
        scopes = "&".join(f"scope=repository:{'r' * 200}/{number}-{other}:pull,push,delete" for other in range(10))
        yield wire("GET", f"/token?{scopes}", source, [("authorization", f"Basic {secret}")], b"")


def done_by_alice(trow: Trow) -> list[tuple[str, ...]]:
    records = stored(trow.folder / "data", user="alice", repository="team-a/app")
    return sorted((record["action"], record.get("reference", ""), record.get("digest", "")) for record in records)


def verify(trow: Trow) -> str:
    """What the command says, which finds nothing altered."""
    return trow.command("audit", "verify")


def size(trow: Trow) -> int:
    with closing(connect(trow.folder / "data" / "audit.db")) as database:
        pages, free, each = (database.execute(f"PRAGMA {name}").fetchone()[0] for name in
                             ("page_count", "freelist_count", "page_size"))  # fmt: skip
    return int((pages - free) * each)


async def test_strangers_push_out_nothing_that_users_did(server: Trow) -> None:
    with Client(server.url, ALICE) as client:
        repository, image = Repository(client, "team-a/app"), factories.image(1)
        repository.push(image, "v1")
        assert client.delete(repository.manifest("v1")).status == 202
    until(lambda: len(done_by_alice(server)) >= 3)
    before = done_by_alice(server)
    assert {action for action, _, _ in before} >= {"push", "tag.move", "tag.delete"}
    for _ in range(2):
        assert set(await send(server, reviews(300))) == {200}
        assert set(await send(server, logins(5_000))) == {401}
        assert set(await send(server, questions(300))) <= {200, 429}
    until(lambda: all(part in verify(server) for part in ("(reviews): records 1 to", "(anonymous): records 1 to")))
    until(lambda: size(server) < 8 * MIB)
    assert done_by_alice(server) == before
    words = verify(server)
    assert "(anonymous): " in words
    assert "removed by rule" in words
    assert [line for line in words.splitlines() if "(effects)" in line and "removed" in line] == []
    assert verified(server.folder / "data").records > 100


def test_names_that_reviews_say_are_marked_as_unproven(server: Trow) -> None:
    said = {"username": "alice", "groups": ["system:masters"]}
    with Client(server.url) as client:
        content = body(pod("docker.io/evil/app:1"), userInfo=said)
        assert client.post("/admission/validate", content, content_type="application/json").status == 200
    (record,) = until(lambda: stored(server.folder / "data", action="admission"))
    assert record["actor"] == {"user": "alice", "groups": ["system:masters"], "method": "review", "unproven": True}
    assert record["writer"].endswith(".reviews")
