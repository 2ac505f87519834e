"""Start: seconds until the first answer, with very many blobs stored."""

from __future__ import annotations

import hashlib
import time
from contextlib import closing
from typing import TYPE_CHECKING

import apsw
from bench import servers
from bench.contenders import REPOSITORY, folder
from bench.measure import Case, Goal, Result, Setting, interleaved

if TYPE_CHECKING:
    from pathlib import Path

    from bench.servers import Server

METHOD = """\
Two instances of Trow, started and stopped by turns: one holds 1 000 000 blobs, the other none; the full one also
after a `kill -9`. The blobs are laid into the stopped instance, as rows and as files of 8 bytes under their true
digests. The value is the time from `exec` to the first 200 on `/v2/`, asked every millisecond once the banner names
the port. The files were written shortly before, so the page cache is warm."""
BATCH = 10_000


def run(setting: Setting) -> list[Result]:
    with folder(setting, "start") as home:
        full, empty = servers.Trow(home / "full"), servers.Trow(home / "empty")
        fill(full, setting.sizes.blobs)
        measures = {
            "full": lambda _: start_seconds(full),
            "after a kill": lambda _: start_after_kill_seconds(full),
            "no blobs": lambda _: start_seconds(empty),
        }
        clean, killed, peer = interleaved(setting, "s", measures)
    blobs = f"{setting.sizes.blobs:,} blobs".replace(",", " ")
    return [
        Result(f"start to first request, {blobs}", "s", clean, peer, must=Goal("≤", 1, "s")),
        Result(f"the same after a `kill -9`, {blobs}", "s", killed, peer),
    ]


def start_seconds(server: Server) -> float:
    try:
        return server.start()
    finally:
        server.stop()


def start_after_kill_seconds(server: Server) -> float:
    server.start()
    server.kill()
    return start_seconds(server)


def fill(server: Server, count: int) -> None:
    """Let the server make its schema and folders, then add to them while it is stopped."""
    start_seconds(server)
    began = time.monotonic()
    with closing(apsw.Connection(str(server.data / "trow.db"))) as database:
        for start in range(0, count, BATCH):
            contents = [number.to_bytes(8, "big") for number in range(start, min(start + BATCH, count))]
            _add(database, server.data / "blobs" / "sha256", contents)
    print(f"    {count} blobs took {time.monotonic() - began:.0f} s", flush=True)


def _add(database: apsw.Connection, blobs: Path, contents: list[bytes]) -> None:
    by_digest = {hashlib.sha256(content).hexdigest(): content for content in contents}
    for hexadecimal, content in by_digest.items():
        path = blobs / hexadecimal[:2] / hexadecimal
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    rows = [(f"sha256:{hexadecimal}", f"sha256/{hexadecimal[:2]}/{hexadecimal}") for hexadecimal in by_digest]
    with database:
        database.executemany("INSERT INTO blob (digest, size, location) VALUES (?, 8, ?)", rows)
        database.executemany(
            "INSERT INTO blob_link (repository, digest) VALUES (?, ?)", [(REPOSITORY, digest) for digest, _ in rows]
        )


CASE = Case("start", METHOD, run)
