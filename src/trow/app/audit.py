"""From settings to the audit trail."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import sys
import time
from typing import TYPE_CHECKING, Final

from trow.access.identity import Identity
from trow.audit import times
from trow.audit.database import try_writer
from trow.audit.errors import AuditError
from trow.audit.keys import SigningKey
from trow.audit.outputs import FileOutput, StreamOutput
from trow.audit.queries import AuditQueries, Query
from trow.audit.retention import Retention
from trow.audit.trail import AuditTrail
from trow.oci.errors import OciError, RequestInvalid
from trow.registry.events import Action, Event, RecordPage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
    from pathlib import Path

    from trow.audit.webhook import Target, Webhook
    from trow.config import Config
    from trow.http.metrics import Metrics
    from trow.registry.events import Audit, Records
    from trow.registry.ports import Outbox

log = logging.getLogger(__name__)

_DATABASE: Final = "audit.db"
_KEY: Final = "audit.pem"


class NoAudit:
    """Where no record is kept (audit.enabled is false)."""

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


class TrailRecords:
    """What is on record, from the trail's database."""

    def __init__(self, path: Path) -> None:
        self._queries = AuditQueries(path)

    async def search(self, given: Mapping[str, str]) -> RecordPage:
        found = await self._queries.search(Query.parse(given, times.microseconds(time.time())))
        return RecordPage([record.encode() for record in found.records], found.last if found.more else "")


@contextlib.asynccontextmanager
async def trail(config: Config, metrics: Metrics) -> AsyncIterator[tuple[AuditTrail | NoAudit, Records]]:
    """The audit trail of the settings.

    Raises:
        AuditError, ValueError: it cannot be kept; the message says what to do.
    """
    if not config.audit.enabled:
        none = NoAudit()
        yield none, none
        return
    path = config.data_dir / _DATABASE
    kept = _open(config, path)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, kept.close)
        for output in _outputs(config):
            kept.follow(output)
        webhook = await stack.enter_async_context(_webhook(config, kept))
        _add_counts(metrics, kept, webhook)
        kept.record(_started(config))
        yield kept, TrailRecords(path)


def _open(config: Config, path: Path) -> AuditTrail:
    audit = config.audit
    return AuditTrail(
        path,
        SigningKey.load_or_make(_key(config)),
        fail_closed=audit.fail_closed,
        retention=Retention(audit.retention, audit.max_size),
        webhook=audit.webhook is not None,
    )


def _key(config: Config) -> Path:
    return config.data_dir / "keys" / _KEY


def try_trail(config: Config) -> None:
    """See whether `trail` would do; nothing is made or changed.

    Raises:
        AuditError, ValueError: as `trail` would.
    """
    if not config.audit.enabled:
        return
    SigningKey.try_to_load(_key(config))
    try_writer(config.data_dir / _DATABASE)
    if config.audit.webhook is not None:
        _target(config, config.audit.webhook)


def _outputs(config: Config) -> Iterator[FileOutput | StreamOutput]:
    audit = config.audit
    if audit.file is not None:
        yield FileOutput(audit.file, most_bytes=audit.file_size, keep=audit.file_keep)
    if audit.stdout:
        yield StreamOutput(sys.stdout.fileno())


@contextlib.asynccontextmanager
async def _webhook(config: Config, kept: AuditTrail) -> AsyncIterator[Webhook | None]:
    audit = config.audit
    if audit.webhook is None:
        yield None
        return
    # It brings an HTTP client that takes as much memory as all else.
    from trow.audit.webhook import Webhook  # noqa: PLC0415

    webhook = Webhook(kept, _target(config, audit.webhook))
    sending = asyncio.create_task(webhook.run())
    try:
        yield webhook
    finally:
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sending


def _target(config: Config, url: str) -> Target:
    from trow.audit.webhook import Target  # noqa: PLC0415 - see above

    audit = config.audit
    return Target.parse(
        url,
        format=audit.webhook_format,
        source=config.listen.public_url or f"/{config.tokens.service}",
        ca_file=audit.webhook_ca_file,
        token_file=audit.webhook_token_file,
    )


def _add_counts(metrics: Metrics, kept: AuditTrail, webhook: Webhook | None) -> None:
    metrics.add_gauge("trow_audit_recorded", "Audit records since the start", lambda: kept.counts().recorded)
    metrics.add_gauge("trow_audit_lost", "Audit events that could not be recorded", lambda: kept.counts().lost)
    metrics.add_gauge("trow_audit_waiting", "Audit events not yet written", lambda: kept.counts().waiting)
    metrics.add_gauge("trow_audit_unsent", "Audit records the webhook has not taken", lambda: kept.counts().unsent)
    metrics.add_gauge(
        "trow_audit_webhook_failures", "Failed requests to the webhook", lambda: webhook.failures if webhook else 0
    )


def _started(config: Config) -> Event:
    """With which settings this run goes on; two runs with the same ones have the same hash."""
    text = repr(config).encode()
    return Event(Action.CONFIGURATION, detail=f"started with settings sha256:{hashlib.sha256(text).hexdigest()}")


class Changes:
    """Takes down what changes who may do what while the server runs: files that are read again, robot tokens."""

    def __init__(self, config: Config, outbox: Outbox, audit: Audit) -> None:
        self._outbox = outbox
        self._audit = audit
        tls = config.listen.tls
        self._paths = [config.auth.users_file, tls.certificate if tls else None, config.tokens.keys]
        self._seen = self._stamps()

    async def look(self) -> None:
        """Look once; call it every few seconds."""
        now = await asyncio.to_thread(self._stamps)
        for name in sorted(now.keys() | self._seen.keys()):
            if now.get(name) != self._seen.get(name):
                self._audit.record(Event(Action.CONFIGURATION, detail=f"{name} changed"))
        self._seen = now
        try:
            await self._take_down()
        except (OciError, AuditError):
            log.exception("changes to robot tokens are not on record yet; trying again")

    async def _take_down(self) -> None:
        events = await self._outbox.pending_events()
        for event in events:
            actor = Identity(event.actor)
            await self._audit.record_now(
                Event(Action.CONFIGURATION, actor=actor, detail=event.detail, started_at=event.at)
            )
        if events:
            await self._outbox.drop_pending_events(events)

    def _stamps(self) -> dict[str, tuple[int, int, int]]:
        files = [file for path in self._paths if path for file in (path, *(path.glob("*") if path.is_dir() else ()))]
        stamps = {}
        for file in files:
            with contextlib.suppress(OSError):
                stat = file.stat()
                stamps[str(file)] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        return stamps
