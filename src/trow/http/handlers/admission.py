"""The webhooks that the API server calls before it stores something."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from trow.admission.review import LARGE, AdmissionResponse, decode, encode
from trow.http.bodies import Bodies
from trow.http.response import Response
from trow.lib.shares import Bounds, Shares
from trow.lib.source import source_of
from trow.oci.errors import RequestInvalid, RequestTooLarge
from trow.policy.webhooks import PROBE_ANSWER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trow.admission.mutate import Mutation
    from trow.admission.review import Review
    from trow.admission.validate import Validation
    from trow.http.request import Request

# Two objects, the stored and the new one, each at most as large as the API server takes requests (`MaxRequestBodyBytes`
# of k8s.io/apiserver, 3 MiB), and what is around them.
LARGEST_REVIEW: Final = 2 * 3 * 1024 * 1024 + 128 * 1024
# This many reviews are under way: all the bytes of their bodies that can be here at a time are 16 MiB of small ones and
# 26 MiB of others. An API server waits up to `timeoutSeconds`, and asks from one or a few addresses.
SMALL: Final = Bounds(total=256, each=64, waiting=2048, waiting_each=1024, patience=2.0)
OTHERS: Final = Bounds(total=4, each=2, waiting=256, waiting_each=64, patience=2.0)
# An API server has the whole body before it sends the first byte.
_BODY_SECONDS: Final = 10.0


class AdmissionHandlers:
    """Handlers. Nobody has shown who they are: each source has a share, and a body is read when it has got one."""

    def __init__(self, validation: Validation, mutation: Mutation) -> None:
        self._validation = validation
        self._mutation = mutation
        self._small = Shares(SMALL, "reviews")
        self._others = Shares(OTHERS, "large reviews")
        self._bodies = Bodies(LARGEST_REVIEW, _too_large, (), seconds=_BODY_SECONDS)

    async def validate(self, request: Request) -> Response:
        """May this be stored."""
        return await self._answer(request, lambda review: self._validation.answer(review, request.origin))

    async def mutate(self, request: Request) -> Response:
        """What is to be changed in this before it is stored."""
        return await self._answer(request, lambda review: self._mutation.answer(review, request.origin))

    async def reach(self, request: Request) -> Response:
        """Say that this is Trow, to the API server and thereby to the client that made it ask."""
        return await self._answer(request, _here)

    async def _answer(self, request: Request, respond: Callable[[Review], Awaitable[AdmissionResponse]]) -> Response:
        small = _is_small(request)
        async with (self._small if small else self._others).hold(source_of(request.client)):
            if small:
                review = decode(await request.whole_body(_BODY_SECONDS))
            else:
                async with self._bodies.receive(request) as body:
                    review = await asyncio.to_thread(decode, body)
                del body
            answer = await respond(review)
        return Response(200, [("content-type", "application/json")], encode(review.uid, answer))


async def _here(_: Review) -> AdmissionResponse:
    return AdmissionResponse(allowed=False, message=PROBE_ANSWER)


def _is_small(request: Request) -> bool:
    """Whether the body will be a small one, as far as the headers tell.

    Raises:
        RequestInvalid: it is not JSON.
        RequestTooLarge: it is larger than any review.
    """
    if (request.header("content-type") or "").partition(";")[0].strip().lower() != "application/json":
        raise RequestInvalid("the Content-Type is not application/json; send an AdmissionReview as that")
    length = request.content_length
    if length is not None and length > LARGEST_REVIEW:
        raise _too_large()
    return length is not None and length <= LARGE


def _too_large() -> RequestTooLarge:
    return RequestTooLarge(
        f"the body is larger than {LARGEST_REVIEW} bytes, and an AdmissionReview never is; check what sends it"
    )
