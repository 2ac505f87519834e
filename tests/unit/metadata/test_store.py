"""Metadata over an engine whose reads wait, as those of a server do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from support.core import digest, tag
from trow.metadata.manifest_cache import ManifestCache
from trow.metadata.store import SqlMetadata
from trow.oci.names import Repository
from trow.registry.ports import ManifestRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

REPO = Repository("team/app")
OLD = ManifestRecord(digest(f"sha256:{'0' * 64}"), "application/vnd.oci.image.manifest.v1+json", b"old")
NEW = ManifestRecord(digest(f"sha256:{'1' * 64}"), "application/vnd.oci.image.manifest.v1+json", b"new")


class WaitingEngine:
    """Answers a read with what was there when it began, once it may go on."""

    def __init__(self) -> None:
        self.there = OLD
        self.go_on = asyncio.Event()

    async def read(self, make: object) -> Any:
        del make
        found = self.there
        await self.go_on.wait()
        return found

    async def write(self, make: object, *, frees: bool = False, committed: Callable[[], None] | None = None) -> Any:
        del make, frees
        self.there = NEW
        if committed is not None:
            committed()

    async def page(self, make: object) -> Any:
        return await self.read(make)

    async def scan(self, make: object) -> Any:
        return await self.read(make)

    async def check(self) -> None:
        """It is there."""

    def displaced(self) -> Sequence[Path]:
        return ()

    def close(self) -> None:
        """Nothing is open."""


async def test_what_was_read_before_a_change_is_not_found_after_it() -> None:
    engine = WaitingEngine()
    metadata = SqlMetadata(engine, ManifestCache(), history=1)
    reading = asyncio.create_task(metadata.tagged_manifest(REPO, tag("v1")))
    await asyncio.sleep(0)
    await metadata.delete_tag(REPO, tag("v1"), "alice")
    engine.go_on.set()
    assert await reading == OLD
    assert await metadata.tagged_manifest(REPO, tag("v1")) == NEW
