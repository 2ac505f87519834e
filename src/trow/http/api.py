"""What Trow adds to the specification, under ``/api/v1``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from trow.http.response import json_response
from trow.oci.errors import RequestInvalid
from trow.oci.names import Tag
from trow.oci.page import PageRequest, next_link, parse_page

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trow.http.request import Request
    from trow.http.response import Response
    from trow.registry.browse import Browse
    from trow.registry.ports import TagEvent

_SEQUENCE_DIGITS: Final = 18


class Api:
    """Handlers."""

    def __init__(self, browse: Browse, *, page_size: int, max_page_size: int) -> None:
        self._browse = browse
        self._page_size = page_size
        self._max_page_size = max_page_size

    async def tag_history(self, request: Request) -> Response:
        """What a tag pointed at, newest first; ``n`` and ``last`` (a sequence number) page through it."""
        repository = request.repository
        tag = Tag.parse(request.parameters["tag"])
        page = self._page(request)
        events = await self._browse.history(repository, tag, page)
        headers = []
        if events.more:
            following = {"n": str(page.limit), "last": str(events.items[-1].sequence)}
            headers.append(("link", next_link(request.path, following)))
        body = {"name": repository, "tag": tag, "history": [_line(event) for event in events.items]}
        return json_response(200, body, headers)

    def _page(self, request: Request) -> PageRequest:
        last = request.query("last")
        if last is not None and not (last.isascii() and last.isdigit() and len(last) <= _SEQUENCE_DIGITS):
            raise RequestInvalid("last is not the sequence number of a line of history")
        return parse_page(request.query("n"), last, default=self._page_size, most=self._max_page_size)


def _line(event: TagEvent) -> Mapping[str, object]:
    at = datetime.fromtimestamp(event.at, tz=UTC)
    return {
        "sequence": event.sequence,
        "action": "delete" if event.digest is None else "push",
        "digest": event.digest,
        "at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "subject": event.subject or None,
    }
