"""The audit trail, as the settings say."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trow.audit.changes import ConfigurationChanges
from trow.audit.database import FILE_NAME, try_writer
from trow.audit.disabled import NoAudit
from trow.audit.keys import KEY_FILE, SigningKey
from trow.audit.queries import AuditQueries
from trow.audit.retention import Retention
from trow.audit.sinks import FileSink, StreamSink
from trow.audit.trail import AuditTrail
from trow.lib.background import every, in_background
from trow.registry.events import Action, Event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trow.audit.webhook import Target, Webhook
    from trow.config import Config
    from trow.http.metrics import Metrics
    from trow.registry.events import AuditRecords
    from trow.registry.ports import Outbox

_LOOK_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class AuditPart:
    """Where events are recorded, and what is on record."""

    trail: AuditTrail | NoAudit
    records: AuditRecords


@contextlib.asynccontextmanager
async def audit_of(config: Config, outbox: Outbox, metrics: Metrics) -> AsyncIterator[AuditPart]:
    """The audit trail of the settings.

    Raises:
        AuditError, ValueError: it cannot be kept; the message says what to do.
    """
    tls = config.listen.tls
    # These are read again while the server runs, and change who may do what.
    files = (config.auth.users_file, tls.certificate if tls is not None else None, config.tokens.keys)
    async with contextlib.AsyncExitStack() as stack:
        part = await stack.enter_async_context(_trail(config, metrics))
        changes = ConfigurationChanges([path for path in files if path is not None], outbox, part.trail)
        await stack.enter_async_context(in_background(every(_LOOK_SECONDS, changes.look)))
        yield part


@contextlib.asynccontextmanager
async def _trail(config: Config, metrics: Metrics) -> AsyncIterator[AuditPart]:
    audit = config.audit
    if not audit.enabled:
        disabled = NoAudit()
        yield AuditPart(disabled, disabled)
        return
    path = config.data_dir / FILE_NAME
    trail = AuditTrail(
        path,
        SigningKey.load_or_make(config.data_dir / KEY_FILE),
        fail_closed=audit.fail_closed,
        retention=Retention(audit.retention, audit.max_size),
        webhook=audit.webhook is not None,
    )
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, trail.close)
        if audit.file is not None:
            trail.add_sink(FileSink(audit.file, most_bytes=audit.file_size, keep=audit.file_keep))
        if audit.stdout:
            trail.add_sink(StreamSink(sys.stdout.fileno()))
        webhook = await stack.enter_async_context(_webhook(config, trail))
        _add_metrics(metrics, trail, webhook)
        # Two runs with the same settings have the same hash.
        trail.record(Event(Action.CONFIGURATION, detail=f"started with settings {config.fingerprint}"))
        yield AuditPart(trail, AuditQueries(path))


def try_audit(config: Config) -> None:
    """See whether `audit_of` would succeed; nothing is made or changed.

    Raises:
        AuditError, ValueError: as `audit_of` would.
    """
    if not config.audit.enabled:
        return
    SigningKey.try_to_load(config.data_dir / KEY_FILE)
    try_writer(config.data_dir / FILE_NAME)
    if config.audit.webhook is not None:
        _target(config, config.audit.webhook)


@contextlib.asynccontextmanager
async def _webhook(config: Config, trail: AuditTrail) -> AsyncIterator[Webhook | None]:
    audit = config.audit
    if audit.webhook is None:
        yield None
        return
    # The HTTP client that it brings takes as much memory as everything else.
    from trow.audit.webhook import Webhook  # noqa: PLC0415

    webhook = Webhook(trail.writer, _target(config, audit.webhook))
    async with in_background(webhook.run):
        yield webhook


def _target(config: Config, url: str) -> Target:
    from trow.audit.webhook import Target  # noqa: PLC0415 - see above

    audit = config.audit
    return Target(
        url,
        format=audit.webhook_format,
        source=config.listen.public_url or f"/{config.tokens.service}",
        ca_file=audit.webhook_ca_file,
        token_file=audit.webhook_token_file,
    )


def _add_metrics(metrics: Metrics, trail: AuditTrail, webhook: Webhook | None) -> None:
    metrics.add_counter("trow_audit_recorded_total", "Audit records written", lambda: trail.counts().recorded)
    metrics.add_counter("trow_audit_lost_total", "Audit events that could not be recorded", lambda: trail.counts().lost)
    metrics.add_gauge(
        "trow_audit_last_record_timestamp_seconds",
        "When the last audit record was written, in seconds since 1970",
        lambda: trail.counts().last,
    )
    metrics.add_gauge("trow_audit_waiting", "Audit events not yet written", lambda: trail.counts().waiting)
    metrics.add_gauge("trow_audit_unsent", "Audit records the webhook has not taken", lambda: trail.counts().unsent)
    metrics.add_counter(
        "trow_audit_webhook_failures_total",
        "Failed requests to the webhook",
        lambda: webhook.failures if webhook else 0,
    )
