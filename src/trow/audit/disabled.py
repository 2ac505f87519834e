"""The audit log where no record is kept (audit.enabled is false)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trow.oci.errors import RequestInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from trow.registry.events import Event, RecordPage


class NoAudit:
    """`AuditLog` and `AuditRecords` without a record."""

    fail_closed = False

    def record(self, event: Event) -> None:
        pass

    async def record_now(self, event: Event) -> None:
        pass

    def displaced(self) -> Sequence[Path]:
        return ()

    async def search(self, given: Mapping[str, str]) -> RecordPage:
        del given
        raise RequestInvalid("no record is kept here; set audit.enabled to keep one")
