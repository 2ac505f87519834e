"""What handlers tell the audit trail: who did what, in the words of a request."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from trow.http.gate import caller
from trow.oci.digest import Digest
from trow.oci.errors import OciError
from trow.registry.events import Action, Event, Outcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from trow.http.request import Request
    from trow.oci.names import Reference, Repository
    from trow.registry.events import Audit
    from trow.registry.ports import ManifestRecord, TagMove
    from trow.registry.publish import Published
    from trow.registry.transfers import Transfers


class Recorder:
    """Words events. Where nothing may happen off the record, each effect is preceded by a record of the intent."""

    def __init__(self, audit: Audit, transfers: Transfers) -> None:
        self._audit = audit
        self._transfers = transfers

    async def manifest(self, request: Request, reference: Reference, record: ManifestRecord, *, sent: bool) -> None:
        """A manifest is about to be sent."""
        size = None if request.method == "HEAD" else len(record.content) if sent else 0
        await self._transfers.manifest(caller(request), request.repository, reference, record, size)

    async def blob(self, request: Request, digest: Digest, size: int) -> None:
        """A blob is about to be sent; looking whether it is there is no access to it."""
        if request.method != "HEAD":
            await self._transfers.blob(caller(request), request.repository, digest, size)

    async def logged_in(self, request: Request) -> None:
        """A ping with credentials of its own; a token's holder has logged in before."""
        identity = request.identity
        if identity.anonymous or identity.delegation is not None:
            return
        event = Event(Action.LOGIN, Outcome.OK, identity, request.origin, 200)
        if self._audit.fail_closed:
            await self._audit.record_now(event)
        else:
            self._transfers.gather(event)

    def listed(self, request: Request, what: str, reference: str = "") -> None:
        """Somebody is told what there is: names of repositories, tags, referrers. Equal ones are counted.

        Args:
            request: who asked.
            what: the list, in words.
            reference: the tag or digest that it is about.
        """
        event = self._asked(request, Action.LIST, what)
        self._transfers.gather(replace(event, repository=request.repository, reference=reference))

    async def reads_record(self, request: Request, given: Mapping[str, str]) -> None:
        """Somebody is about to be told what is on record.

        Raises:
            Unavailable: nothing may be done that is not on record, and this cannot be recorded.
        """
        by = ", ".join(f"{name} {value}" for name, value in sorted(given.items()))
        event = self._asked(request, Action.AUDIT_READ, f"by {by}" if by else "all")
        if self._audit.fail_closed:
            await self._audit.record_now(event)
        else:
            self._transfers.gather(event)

    @staticmethod
    def _asked(request: Request, action: Action, what: str) -> Event:
        return Event(action, Outcome.OK, request.identity, request.origin, 200, detail=what)

    def received(self, request: Request, size: int) -> None:
        """A blob was stored."""
        self._transfers.received(caller(request), request.repository, size)

    async def intend(self, request: Request, action: Action, *, reference: str = "", digest: str = "") -> None:
        """Something is about to be done.

        Raises:
            Unavailable: nothing may be done that is not on record, and this cannot be recorded.
        """
        if self._audit.fail_closed:
            await self._audit.record_now(
                Event(
                    action,
                    Outcome.INTENT,
                    request.identity,
                    request.origin,
                    repository=request.repository,
                    reference=reference,
                    digest=digest,
                )
            )

    def done(self, request: Request, action: Action, *, digest: str = "", source: Repository | None = None) -> None:
        """Something was done."""
        self._audit.record(
            Event(
                action,
                Outcome.OK,
                request.identity,
                request.origin,
                201 if action is Action.MOUNT else 202,
                repository=request.repository,
                digest=digest,
                source=source or "",
            )
        )

    @contextlib.asynccontextmanager
    async def doing(self, request: Request, action: Action, *, digest: str) -> AsyncIterator[None]:
        """Something is done inside of the block."""
        await self.intend(request, action, digest=digest)
        try:
            yield
        except OciError as error:
            self._failed(request, action, digest, error)
            raise
        self.done(request, action, digest=digest)

    @contextlib.asynccontextmanager
    async def pushing(
        self, request: Request, reference: Reference, size: int
    ) -> AsyncIterator[Callable[[Published], None]]:
        """A manifest is stored inside of the block."""
        await self.intend(request, Action.PUSH, reference=reference)
        try:
            yield lambda published: self._pushed(request, reference, size, published)
        except OciError as error:
            self._failed(request, Action.PUSH, reference, error)
            raise

    def _pushed(self, request: Request, reference: Reference, size: int, published: Published) -> None:
        event = Event(
            Action.PUSH,
            Outcome.OK,
            request.identity,
            request.origin,
            201,
            repository=request.repository,
            reference=reference,
            digest=published.digest,
            media_type=published.media_type,
            detail=_detail(published),
            bytes=size,
        )
        self._transfers.pushed(caller(request), request.repository, event)
        self._moved(request, Action.TAG_MOVE, published.moves, published.digest)

    def _moved(self, request: Request, action: Action, moves: Sequence[TagMove], digest: str) -> None:
        for move in moves:
            self._audit.record(
                Event(
                    action,
                    Outcome.OK,
                    request.identity,
                    request.origin,
                    repository=request.repository,
                    reference=move.tag,
                    digest=digest,
                    previous=move.previous or "",
                )
            )

    @contextlib.asynccontextmanager
    async def deleting(
        self, request: Request, reference: Reference
    ) -> AsyncIterator[Callable[[Sequence[TagMove]], None]]:
        """A manifest or a tag is deleted inside of the block."""
        action = Action.MANIFEST_DELETE if isinstance(reference, Digest) else Action.TAG_DELETE
        await self.intend(request, action, reference=reference)
        try:
            yield lambda gone: self._deleted(request, action, reference, gone)
        except OciError as error:
            self._failed(request, action, reference, error)
            raise

    def _deleted(self, request: Request, action: Action, reference: Reference, gone: Sequence[TagMove]) -> None:
        if action is Action.MANIFEST_DELETE:
            self.done(request, action, digest=reference)
        self._moved(request, Action.TAG_DELETE, gone, "")

    def _failed(self, request: Request, action: Action, reference: str, error: OciError) -> None:
        self._audit.record(
            Event(
                action,
                Outcome.FAILED,
                request.identity,
                request.origin,
                reason=error.message,
                repository=request.repository,
                reference=reference,
            )
        )


def _detail(published: Published) -> str:
    attached = f"attached to {published.subject}" if published.subject else ""
    retyped = f"was {published.retyped} before" if published.retyped else ""
    return ", ".join(filter(None, (attached, retyped)))
