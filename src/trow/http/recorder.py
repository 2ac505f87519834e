"""What handlers put on record: who did what by a request."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from trow.oci.digest import Digest
from trow.oci.errors import Denied, OciError, Unauthorized
from trow.registry.actor import event_of
from trow.registry.events import Action, Outcome, before_effect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from trow.http.request import Request
    from trow.oci.names import Reference, Repository
    from trow.registry.events import AuditLog, Event
    from trow.registry.ports import ManifestRecord, TagMove
    from trow.registry.publish import Published
    from trow.registry.transfers import TransferTracker


class Recorder:
    """Records events. Where nothing may happen off the record, a record of the intent precedes each effect."""

    def __init__(self, audit: AuditLog, transfers: TransferTracker) -> None:
        self._audit = audit
        self._transfers = transfers

    # ---- what is read

    async def manifest(self, request: Request, reference: Reference, record: ManifestRecord, *, sent: bool) -> None:
        """A manifest is about to be sent.

        Raises:
            Unavailable: nothing may be sent that is not on record, and this cannot be recorded.
        """
        size = None if request.method == "HEAD" else len(record.content) if sent else 0
        await self._transfers.manifest(request, request.repository, reference, record, size)

    async def blob(self, request: Request, digest: Digest, size: int) -> None:
        """A blob is about to be sent; HEAD is not recorded. Raises like `manifest`."""
        if request.method != "HEAD":
            await self._transfers.blob(request, request.repository, digest, size)

    async def logged_in(self, request: Request) -> None:
        """A ping with credentials; the holder of a token has logged in before. Raises like `manifest`."""
        if not request.identity.anonymous and request.identity.delegation is None:
            await self.given(event_of(request, Action.LOGIN, status=200))

    def listed(self, request: Request, what: str, reference: str = "") -> None:
        """A list was sent: names of repositories, tags or referrers. Equal ones are counted.

        Args:
            request: who asked.
            what: the list, in words.
            reference: the tag or digest that it is about.
        """
        repository = request.repository
        event = event_of(request, Action.LIST, status=200, detail=what, repository=repository, reference=reference)
        self._transfers.aggregator.gather(event)

    async def reads_record(self, request: Request, given: Mapping[str, str]) -> None:
        """A part of the record is about to be sent. Raises like `manifest`."""
        by = ", ".join(f"{name} {value}" for name, value in sorted(given.items()))
        await self.given(event_of(request, Action.AUDIT_READ, status=200, detail=f"by {by}" if by else "all"))

    async def given(self, event: Event, *, first: bool = True) -> None:
        """Record an answer that a client can ask for again and again, before it is given. Raises like `manifest`.

        Args:
            event: what is answered to whom.
            first: whether it has to be on record before it is given, where `fail_closed` is set.
        """
        if not (first and await before_effect(self._audit, lambda: event)):
            self._transfers.aggregator.gather(event)

    # ---- what is refused

    def refused(self, request: Request, action: Action, error: OciError, repository: str = "") -> None:
        """A request was not let through. Equal ones are counted."""
        parameters = request.parameters
        event = event_of(
            request,
            action,
            Outcome.DENIED if isinstance(error, Unauthorized | Denied) else Outcome.FAILED,
            reason=str((error.detail or {}).get("reason") or error.message),
            repository=repository or parameters.get("repository", ""),
            reference=parameters.get("reference") or parameters.get("digest", ""),
            detail=f"{request.method} {request.route.path}" if request.route else request.method,
        )
        self._transfers.aggregator.gather(event)

    # ---- what is done

    async def intend(self, request: Request, action: Action, *, reference: str = "", digest: str = "") -> None:
        """Something is about to be done. Raises like `manifest`."""
        repository = request.repository
        await before_effect(
            self._audit,
            lambda: event_of(
                request, action, Outcome.INTENT, repository=repository, reference=reference, digest=digest
            ),
        )

    @contextlib.asynccontextmanager
    async def attempt(
        self, request: Request, action: Action, *, reference: str = "", digest: str = ""
    ) -> AsyncIterator[None]:
        """Something is done inside of the block, and recorded by its name when that has succeeded.

        Raises:
            Unavailable: nothing may be done that is not on record, and this cannot be recorded.
        """
        await self.intend(request, action, reference=reference, digest=digest)
        try:
            yield
        except OciError as error:
            self._audit.record(
                event_of(
                    request,
                    action,
                    Outcome.FAILED,
                    reason=error.message,
                    repository=request.repository,
                    reference=reference or digest,
                )
            )
            raise

    def received(self, request: Request, size: int) -> None:
        """A blob was stored."""
        self._transfers.received(request, request.repository, size)

    def mounted(self, request: Request, digest: Digest, source: Repository) -> None:
        """A blob of another repository was linked."""
        repository = request.repository
        event = event_of(request, Action.MOUNT, status=201, repository=repository, digest=digest, source=source)
        self._audit.record(event)

    def pushed(self, request: Request, reference: Reference, size: int, published: Published) -> None:
        """A manifest was stored, and tags point at it."""
        attached = f"attached to {published.subject}" if published.subject else ""
        previous_type = f"was {published.previous_type} before" if published.previous_type else ""
        event = event_of(
            request,
            Action.PUSH,
            status=201,
            repository=request.repository,
            reference=reference,
            digest=published.digest,
            media_type=published.media_type,
            detail=", ".join(filter(None, (attached, previous_type))),
            bytes=size,
        )
        self._transfers.pushed(request, request.repository, event)
        self._moved(request, Action.TAG_MOVE, published.moves, published.digest)

    def deleted(self, request: Request, reference: Reference, gone: Sequence[TagMove]) -> None:
        """A tag was deleted, or a manifest with its tags."""
        if isinstance(reference, Digest):
            self.unlinked(request, Action.MANIFEST_DELETE, reference)
        self._moved(request, Action.TAG_DELETE, gone, "")

    def unlinked(self, request: Request, action: Action, digest: Digest) -> None:
        """A manifest or a blob was taken from a repository."""
        self._audit.record(event_of(request, action, status=202, repository=request.repository, digest=digest))

    def _moved(self, request: Request, action: Action, moves: Sequence[TagMove], digest: str) -> None:
        for move in moves:
            event = event_of(
                request,
                action,
                repository=request.repository,
                reference=move.tag,
                digest=digest,
                previous=move.previous or "",
            )
            self._audit.record(event)
