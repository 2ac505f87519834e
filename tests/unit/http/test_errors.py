from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest

from support.codes import CODES
from trow.http.errors import STATUS, status_of, to_response
from trow.oci import errors
from trow.oci.errors import OciError

if TYPE_CHECKING:
    from collections.abc import Iterator

# For what the specification has no word: the server's own mistakes, and its storage.
OURS: Final = {"UNAVAILABLE", "UNKNOWN"}


def family(kind: type[OciError] = OciError) -> Iterator[type[OciError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from family(child)


@pytest.mark.parametrize("kind", list(family()))
def test_every_error_has_a_code_and_a_status(kind: type[OciError]) -> None:
    status = status_of(kind.__new__(kind))
    assert kind.code in CODES | OURS
    assert 400 <= status < 600
    assert (status >= 500) == (kind.code in OURS)


def test_every_code_is_used() -> None:
    assert {kind.code for kind in family()} == CODES | OURS


def test_table_has_no_line_that_says_what_its_parent_says() -> None:
    for kind, status in STATUS.items():
        parent = next((base for base in kind.__mro__[1:] if base in STATUS), None)
        assert parent in (None, OciError) or STATUS[parent] != status


def test_body_is_that_of_the_specification() -> None:
    error = errors.ManifestBlobUnknown("first", {"digest": "a"}, (errors.ManifestBlobUnknown("second"),))
    response = to_response(error)
    assert (response.status, response.headers) == (400, [("content-type", "application/json")])
    assert json.loads(response.body) == {
        "errors": [
            {"code": "MANIFEST_BLOB_UNKNOWN", "message": "first", "detail": {"digest": "a"}},
            {"code": "MANIFEST_BLOB_UNKNOWN", "message": "second"},
        ]
    }


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (errors.BlobUnknown("m"), 404, {}),
        (errors.Unauthorized("m"), 401, {"www-authenticate": 'Basic realm="R"'}),
        (errors.Denied("m"), 403, {}),
        (errors.MethodUnsupported("m", allowed=("GET", "HEAD")), 405, {"allow": "GET, HEAD"}),
        (errors.TooManyRequests("m", retry_after=3), 429, {"retry-after": "3"}),
        (errors.RangeNotSatisfiable("m", size=7), 416, {"content-range": "bytes */7"}),
        (errors.ChunkOutOfOrder("m", offset=0), 416, {"range": "0-0", "location": "/x"}),
        (errors.ChunkOutOfOrder("m", offset=7), 416, {"range": "0-6", "location": "/x"}),
        (errors.Unavailable("m"), 503, {"retry-after": "10"}),
        (errors.StorageFull("m"), 507, {"retry-after": "10"}),
        (errors.UploadBusy("m"), 409, {}),
        (errors.BodyIncomplete("m"), 400, {}),
        (errors.BodyTimeout("m"), 408, {}),
        (errors.DigestMismatch("m"), 400, {}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, OciError) else "",
)
def test_headers_that_go_with_an_error(error: OciError, status: int, headers: dict[str, str]) -> None:
    response = to_response(error, challenge='Basic realm="R"', path="/x")
    assert (response.status, dict(response.headers[1:])) == (status, headers)
