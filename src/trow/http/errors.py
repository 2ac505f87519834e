"""The one place where errors become responses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trow.http.response import Response, json_response
from trow.oci import errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# The closest class in an error's family tree decides.
STATUS: Final[Mapping[type[errors.OciError], int]] = {
    errors.OciError: 500,
    errors.NameInvalid: 400,
    errors.NameUnknown: 404,
    errors.TagInvalid: 400,
    errors.DigestInvalid: 400,
    errors.ManifestInvalid: 400,
    errors.ManifestTooLarge: 413,
    errors.TooManyTags: 414,
    errors.ManifestUnknown: 404,
    errors.ManifestBlobUnknown: 400,
    errors.BlobUnknown: 404,
    errors.SizeInvalid: 400,
    errors.BlobTooLarge: 413,
    errors.UploadUnknown: 404,
    errors.UploadInvalid: 400,
    errors.UploadBusy: 409,
    errors.BodyTimeout: 408,
    errors.ChunkOutOfOrder: 416,
    errors.RangeNotSatisfiable: 416,
    errors.RequestInvalid: 400,
    errors.RequestTooLarge: 413,
    errors.EndpointUnknown: 404,
    errors.MethodUnsupported: 405,
    errors.Unauthorized: 401,
    errors.Denied: 403,
    errors.TooManyRequests: 429,
    errors.Unavailable: 503,
    errors.StorageFull: 507,
}
_RETRY_SECONDS: Final = 10


def status_of(error: errors.OciError) -> int:
    """The HTTP status of an error."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def to_response(error: errors.OciError, *, challenge: str = "", path: str = "") -> Response:
    """An error as the specification wants it (spec.md, "Error Codes").

    Args:
        error: what went wrong.
        challenge: the ``WWW-Authenticate`` value for an error that asks for credentials.
        path: what was asked for.
    """
    body = {"errors": [_entry(each) for each in (error, *error.others)]}
    return json_response(status_of(error), body, list(_headers(error, challenge, path)))


def _entry(error: errors.OciError) -> dict[str, object]:
    entry: dict[str, object] = {"code": error.code, "message": error.message}
    if error.detail is not None:
        entry["detail"] = error.detail
    return entry


def _headers(error: errors.OciError, challenge: str, path: str) -> Iterator[tuple[str, str]]:
    match error:
        case errors.Unauthorized():
            yield "www-authenticate", challenge
        case errors.MethodUnsupported(allowed=allowed):
            yield "allow", ", ".join(allowed)
        case errors.TooManyRequests(retry_after=seconds):
            yield "retry-after", str(seconds)
        case errors.RangeNotSatisfiable(size=size):
            yield "content-range", f"bytes */{size}"
        case errors.ChunkOutOfOrder(offset=offset):
            yield "range", f"0-{max(0, offset - 1)}"
            yield "location", path  # chunks are sent to the session, whose name was read strictly
        case errors.Unavailable():
            yield "retry-after", str(_RETRY_SECONDS)
