"""What Trow adds to the specification, under ``/api/v1``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from trow.http.response import json_response
from trow.lib.times import rfc3339
from trow.oci.errors import RequestInvalid
from trow.oci.names import Tag
from trow.oci.page import next_link

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trow.controllers.nodes import NodeReader
    from trow.http.access import AccessController
    from trow.http.handlers.lists import Lists
    from trow.http.recorder import Recorder
    from trow.http.request import Request
    from trow.http.response import Response
    from trow.registry.browse import Browse
    from trow.registry.events import AuditRecords

_SEQUENCE_DIGITS: Final = 18
# What may stand in a repository's name (distribution-spec, "Pull"), in any order.
_PART_OF_A_NAME: Final = re.compile(r"[a-z0-9._/-]{1,255}")


class Repositories(msgspec.Struct, frozen=True):
    """The answer to a search: names in byte order."""

    repositories: Sequence[str]


class Api:
    """Handlers."""

    def __init__(
        self,
        browse: Browse,
        records: AuditRecords,
        access: AccessController,
        recorder: Recorder,
        lists: Lists,
        nodes: NodeReader | None = None,
    ) -> None:
        self._browse = browse
        self._records = records
        self._access = access
        self._recorder = recorder
        self._lists = lists
        self._nodes = nodes

    async def repositories(self, request: Request) -> Response:
        """Repositories that the client may pull with ``q`` in their names; ``n`` and ``last`` page through them."""
        text = _text(request.query("q"))
        page = self._lists.page(request)
        async with self._lists.turn(request):
            found = await self._browse.repositories(page, self._access.actor(request), text)
        self._recorder.listed(request, "repositories", text)
        headers = []
        if found.more:
            asked = {"q": text} if text else {}
            following = asked | {"n": str(page.limit), "last": found.items[-1]}
            headers.append(("link", next_link(request.path, following)))
        return json_response(200, Repositories(found.items), headers)

    async def history(self, request: Request) -> Response:
        """What a tag pointed at, newest first; ``n`` and ``last`` (a sequence number) page through it."""
        repository = request.repository
        tag = Tag.parse(request.parameters["tag"])
        last = request.query("last")
        if last is not None and not (last.isascii() and last.isdigit() and len(last) <= _SEQUENCE_DIGITS):
            raise RequestInvalid(
                "last is not the sequence number of a line of history; take it from the Link of the page before"
            )
        page = self._lists.numbered(request, last)
        async with self._lists.turn(request):
            events = await self._browse.history(repository, tag, page)
        self._recorder.listed(request, "history", tag)
        headers = []
        if events.more:
            following = {"n": str(page.limit), "last": str(events.items[-1].sequence)}
            headers.append(("link", next_link(request.path, following)))
        history = [
            {
                "sequence": event.sequence,
                "action": "delete" if event.digest is None else "push",
                "digest": event.digest,
                "at": rfc3339(event.at, "milliseconds"),
                "subject": event.subject or None,
            }
            for event in events.items
        ]
        body = {"name": repository, "tag": tag, "history": history}
        return json_response(200, body, headers)

    async def audit(self, request: Request) -> Response:
        """What is on record, newest first."""
        given = {name: value for name in request.query_names() if (value := request.query(name))}
        await self._recorder.reads_record(request, given)
        found = await self._records.search(given)
        headers = [("link", next_link(request.path, given | {"last": found.next}))] if found.next else []
        return json_response(200, {"records": [msgspec.Raw(record) for record in found.records]}, headers)

    async def nodes(self, request: Request) -> Response:
        """Which node of the cluster can pull, since when, and if not, why."""
        if self._nodes is None:
            raise RequestInvalid("this registry knows no node agents; set kubernetes.node_agents to their namespace")
        async with self._lists.turn(request):
            found = await self._nodes.read()
        self._recorder.listed(request, "nodes")
        return json_response(200, {"nodes": found})


def _text(q: str | None) -> str:
    """What to search for; "" is in every name."""
    if q is None or _PART_OF_A_NAME.fullmatch(q):
        return q or ""
    raise RequestInvalid(
        "q is not a part of a repository name; leave it out, or give lower-case letters, digits, '.', '_', '-' and '/',"
        " at most 255 characters"
    )
