"""Large blobs in: bytes a second until the server has verified and synced them."""

from __future__ import annotations

import hashlib
import time
from functools import partial
from typing import TYPE_CHECKING

from bench.contenders import REPOSITORY, folder, trow_and_distribution
from bench.content import MIB, Tail, push_large
from bench.measure import Case, Goal, Result, Setting, interleaved
from bench.wire import Connection

if TYPE_CHECKING:
    from pathlib import Path

    from bench.servers import Server

METHOD = """\
POST, then one PUT with `Content-Length`, its body sent by `sendfile` from the page cache; the clock stops at the 201.
Both registries verify the digest and sync the file before they answer (distribution 3: `fileWriter.Commit`). Every
round has a content of its own, the same for both, and its files are unlinked behind it. The limit is `hashlib.sha256`
over the same bytes in memory, 1 MiB at a time, on one core."""


def run(setting: Setting) -> list[Result]:
    with folder(setting, "blob-push") as home, trow_and_distribution(home) as pair:
        tail = Tail.make(home / "tail", setting.sizes.blob)
        measures = {server.name: partial(push_rate, server, tail) for server in pair}
        trow, peer, limit = interleaved(setting, "MB/s", {**measures, "sha256": partial(hash_rate, tail)})
    case = f"blob push {setting.sizes.blob / 1e6:.0f} MB, verified, synced"
    return [
        Result(case, "MB/s", trow, peer, must=Goal("≥", 1.5), hope=Goal("≥", 1.8)),
        Result(case, "MB/s", trow, limit, hope=Goal("≥", 0.75)),
    ]


def push_rate(server: Server, tail: Tail, number: int) -> float:
    blob = tail.blob(number)
    with Connection(server.address) as connection:
        began = time.perf_counter()
        push_large(connection, REPOSITORY, blob)
        seconds = time.perf_counter() - began
    unlink_larger_than(server.data, blob.size // 2)
    return blob.size / seconds / 1e6


def hash_rate(tail: Tail, number: int) -> float:
    content = memoryview(tail.blob(number).read())
    hashed = hashlib.sha256()
    began = time.perf_counter()
    for start in range(0, len(content), MIB):
        hashed.update(content[start : start + MIB])
    return len(content) / (time.perf_counter() - began) / 1e6


def unlink_larger_than(folder: Path, size: int) -> None:
    """Give back the space; no later round asks for this blob again."""
    for path in [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size > size]:
        path.unlink()


CASE = Case("blob-push", METHOD, run)
