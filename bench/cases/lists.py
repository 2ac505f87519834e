"""Long lists: what a page costs at their start, middle and end, and whether their length matters."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from bench import servers
from bench.clients import in_processes
from bench.contenders import folder
from bench.content import INDEX, digest_of
from bench.measure import Case, Goal, Result, Series, Setting, interleaved
from bench.wire import Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.servers import Server

METHOD = """\
Two instances of Trow, one filled with the long lists and one with the short, through the API (an index without
entries, put under many `tag=` at a time). A page is asked for at the start, in the middle and at the end of the list,
20 times each over one connection; a round's value is the slowest of the three medians, from request to last byte. A
list shorter than the page is not a fair comparison, so the page of 1 000 repositories stands alone."""
SMALL_TAGS = 1_000
SMALL_REPOSITORIES = 100
TAGGED = "bench/aaa"
PAGES_A_ROUND = 20
LOADERS = 8
TAGS_A_REQUEST = 50
EMPTY_INDEX = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).encode()
MUST = Goal("≤", 10, "ms")


@dataclass(frozen=True)
class Listing:
    """One list on one server."""

    server: Server
    target: str
    key: str
    names: list[str]

    def slowest_page(self, n: int, _: int) -> float:
        """Milliseconds for a page at the start, in the middle or at the end, whichever takes longest."""
        with Connection(self.server.address) as connection:
            return max(
                median(self._timed(connection, n, start) for _ in range(PAGES_A_ROUND)) for start in self._starts(n)
            )

    def _starts(self, n: int) -> list[int]:
        return sorted({0, max(0, len(self.names) - n) // 2, max(0, len(self.names) - n)})

    def _timed(self, connection: Connection, n: int, start: int) -> float:
        last = f"&last={self.names[start - 1]}" if start else ""
        began = time.perf_counter()
        response = connection.request("GET", f"{self.target}?n={n}{last}")
        milliseconds = (time.perf_counter() - began) * 1e3
        if json.loads(response.expect(200).body)[self.key] != self.names[start : start + n]:
            raise RuntimeError(f"not the page of {n} from {start} of {self.target}")
        return milliseconds


def run(setting: Setting) -> list[Result]:
    sizes = setting.sizes
    with (
        folder(setting, "lists") as home,
        servers.Trow(home / "long") as long,
        servers.Trow(home / "short") as short,
    ):
        long_tags, long_repositories = fill(long, sizes.tags, sizes.repositories)
        short_tags, short_repositories = fill(short, SMALL_TAGS, SMALL_REPOSITORIES)
        return [
            _row(setting, "tags/list", 100, long_tags, short_tags),
            _row(setting, "tags/list", 1_000, long_tags, short_tags),
            _row(setting, "catalogue", 100, long_repositories, short_repositories),
            _row(setting, "catalogue", 1_000, long_repositories, None),
        ]


def _row(setting: Setting, what: str, n: int, long: Listing, short: Listing | None) -> Result:
    print(f"  {what}, page of {n}", flush=True)
    listings = {f"{len(each.names):,} entries".replace(",", " "): each for each in (long, short) if each}
    measures = {name: partial(each.slowest_page, n) for name, each in listings.items()}
    ours, *peers = interleaved(setting, "ms", measures)
    case = f"{what} page of {n} at {ours.name}"
    return Result(case, "ms", Series("Trow", ours.values), next(iter(peers), None), must=MUST)


def fill(server: Server, tag_count: int, repository_count: int) -> tuple[Listing, Listing]:
    """One repository with many tags, and many with one manifest each."""
    tags = [f"v{number:07}" for number in range(tag_count)]
    repositories = [TAGGED, *(f"bench/r{number:07}" for number in range(1, repository_count))]
    requests = [*_tag_requests(tags), *(f"/v2/{name}/manifests/v1" for name in repositories[1:])]

    def client(index: int, ready: Callable[[], object]) -> float:
        mine = requests[index::LOADERS]
        with Connection(server.address) as connection:
            ready()
            for target in mine:
                connection.request("PUT", target, {"content-type": INDEX}, EMPTY_INDEX).expect(201)
        return len(mine)

    began = time.monotonic()
    in_processes(LOADERS, client)
    print(f"    {tag_count} tags and {repository_count} repositories took {time.monotonic() - began:.0f} s", flush=True)
    return (
        Listing(server, f"/v2/{TAGGED}/tags/list", "tags", tags),
        Listing(server, "/v2/_catalog", "repositories", repositories),
    )


def _tag_requests(tags: list[str]) -> Iterator[str]:
    digest = digest_of(EMPTY_INDEX)
    for start in range(0, len(tags), TAGS_A_REQUEST):
        yield f"/v2/{TAGGED}/manifests/{digest}?" + "&".join(
            f"tag={tag}" for tag in tags[start : start + TAGS_A_REQUEST]
        )


CASE = Case("lists", METHOD, run)
