"""The webhooks that the API server calls before it stores something."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from trow.admission.review import Ruling, decode, encode
from trow.http.response import Response
from trow.oci.errors import RequestInvalid, RequestTooLarge

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trow.admission.mutate import Mutation
    from trow.admission.review import Review
    from trow.admission.validate import Validation
    from trow.http.request import Request

# Two objects, the stored and the new one, each at most as large as the API server takes requests (3 MiB), in JSON that
# may be longer than what was sent.
LARGEST_REVIEW: Final = 16 * 1024 * 1024
# Larger ones are read beside the event loop.
_LARGE: Final = 256 * 1024


class AdmissionHandlers:
    """Handlers."""

    def __init__(self, validation: Validation, mutation: Mutation) -> None:
        self._validation = validation
        self._mutation = mutation

    async def validate(self, request: Request) -> Response:
        """May this be stored."""
        return await self._answer(request, lambda review: self._validation.answer(review, request.origin))

    async def mutate(self, request: Request) -> Response:
        """What is to be changed in this before it is stored."""
        return await self._answer(request, lambda review: self._mutation.answer(review, request.origin))

    async def _answer(self, request: Request, rule: Callable[[Review], Awaitable[Ruling]]) -> Response:
        body = await _body(request)
        review = decode(body) if len(body) < _LARGE else await asyncio.to_thread(decode, body)
        return Response(200, [("content-type", "application/json")], encode(review.uid, await rule(review)))


async def _body(request: Request) -> bytes:
    """The whole body.

    Raises:
        RequestInvalid: it is not JSON.
        RequestTooLarge: it is larger than any review.
    """
    if (request.header("content-type") or "").partition(";")[0].strip().lower() != "application/json":
        raise RequestInvalid("an AdmissionReview is sent as application/json")
    body = bytearray()
    async for piece in request.body():
        body += piece
        if len(body) > LARGEST_REVIEW:
            raise RequestTooLarge(f"an AdmissionReview has at most {LARGEST_REVIEW} bytes")
    return bytes(body)
