"""What is on record, as the rest of Trow searches it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from trow.audit.queries import AuditQueries, Query
from trow.lib import times
from trow.registry.events import RecordPage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class TrailRecords:
    """`Records` from the trail's database."""

    def __init__(self, path: Path) -> None:
        self._queries = AuditQueries(path)

    async def search(self, given: Mapping[str, str]) -> RecordPage:
        found = await self._queries.search(Query.parse(given, times.microseconds(time.time())))
        return RecordPage([record.encode() for record in found.records], found.last if found.more else "")
