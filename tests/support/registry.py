"""A live registry as its clients see it: every status and header of an answer, and pushes in one line."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import urllib3

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import TracebackType

    from factories import Blob, Manifest

SECONDS: Final = 30.0
_NEXT: Final = re.compile(r'<(?P<path>[^>]+)>; rel="next"')


@dataclass(frozen=True)
class Reply:
    """An answer, read to its end."""

    status: int
    headers: urllib3.HTTPHeaderDict
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def codes(self) -> list[str]:
        """The codes of an error, which has to have the specification's form."""
        assert self.headers["content-type"] == "application/json"
        errors = self.json["errors"]
        assert all(set(error) <= {"code", "message", "detail"} and error["message"] for error in errors)
        return [error["code"] for error in errors]

    @property
    def refusal(self) -> tuple[int, str]:
        """Status and code of an answer that has one error."""
        (code,) = self.codes
        return self.status, code

    @property
    def next(self) -> str | None:
        """Where the next page of a list is."""
        link = self.headers.get("link")
        if link is None:
            return None
        found = _NEXT.fullmatch(link)
        assert found, link
        return found["path"]


def basic(user: str, secret: str) -> str:
    """The ``Authorization`` header for a name and a password (RFC 7617)."""
    return f"Basic {base64.b64encode(f'{user}:{secret}'.encode()).decode()}"


def described(reply: Reply) -> dict[str, str]:
    """What the headers say of the content; the rest differs from one answer to the next."""
    return {name: value for name, value in reply.headers.items() if name.lower() not in {"date", "x-request-id"}}


class Client:
    """One server as one user sees it, over a connection that stays open."""

    def __init__(
        self,
        url: str,
        user: tuple[str, str] | None = None,
        *,
        bearer: str | None = None,
        address: str | None = None,
    ) -> None:
        """Connect as a user, or with a token.

        Args:
            url: the server's.
            user: name and password, sent with each request.
            bearer: a token, sent with each request.
            address: where the client seems to be, for a server that trusts this machine as a proxy.
        """
        self._headers = {}
        if user:
            self._headers["authorization"] = basic(*user)
        if bearer:
            self._headers["authorization"] = f"Bearer {bearer}"
        if address:
            self._headers["x-forwarded-for"] = address
        self._pool = urllib3.connection_from_url(url, timeout=SECONDS, retries=False, maxsize=4)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send a request; a body that is not bytes goes out in chunks of unannounced number."""
        answer = self._pool.urlopen(
            method,
            path,
            body=body,
            headers={**self._headers, **(headers or {})},
            redirect=False,
            assert_same_host=False,
            chunked=body is not None and not isinstance(body, bytes),
        )
        return Reply(answer.status, answer.headers, answer.data)

    def get(self, path: str, **headers: str) -> Reply:
        return self.request("GET", path, headers=_named(headers))

    def head(self, path: str, **headers: str) -> Reply:
        return self.request("HEAD", path, headers=_named(headers))

    def post(self, path: str, body: bytes | Iterable[bytes] = b"", **headers: str) -> Reply:
        return self.request("POST", path, body, _named(headers))

    def put(self, path: str, body: bytes | Iterable[bytes] = b"", **headers: str) -> Reply:
        return self.request("PUT", path, body, _named(headers))

    def patch(self, path: str, body: bytes | Iterable[bytes] = b"", **headers: str) -> Reply:
        return self.request("PATCH", path, body, _named(headers))

    def delete(self, path: str) -> Reply:
        return self.request("DELETE", path)

    def pages(self, path: str) -> Iterator[Reply]:
        """A list, page by page, as its links lead."""
        following: str | None = path
        while following is not None:
            reply = self.get(following)
            assert reply.status == 200, reply
            yield reply
            following = reply.next

    def close(self) -> None:
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    """``content_type`` is how a keyword spells ``content-type``."""
    return {name.replace("_", "-"): value for name, value in headers.items()}


class Repository:
    """One repository of a server; what it pushes is asserted to have been taken."""

    def __init__(self, client: Client, name: str) -> None:
        self.client = client
        self.name = name

    @property
    def path(self) -> str:
        return f"/v2/{self.name}"

    @property
    def uploads(self) -> str:
        return f"{self.path}/blobs/uploads/"

    def blob(self, digest: str) -> str:
        return f"{self.path}/blobs/{digest}"

    def manifest(self, reference: str) -> str:
        return f"{self.path}/manifests/{reference}"

    def referrers(self, digest: str) -> str:
        return f"{self.path}/referrers/{digest}"

    @property
    def tags(self) -> str:
        return f"{self.path}/tags/list"

    def history(self, tag: str) -> str:
        return f"/api/v1/repositories/{self.name}/tags/{tag}/history"

    def begin(self, query: str = "") -> str:
        """Open an upload; returns where it goes on."""
        reply = self.client.post(self.uploads + query)
        assert reply.status == 202, reply
        return reply.headers["location"]

    def push_blob(self, blob: Blob, digest: str | None = None) -> Reply:
        reply = self.client.post(f"{self.uploads}?digest={digest or blob.digest}", blob.content)
        assert reply.status == 201, reply
        return reply

    def put(self, manifest: Manifest, reference: str | None = None, query: str = "") -> Reply:
        """Send a manifest alone, by digest where no reference is given, and return whatever comes of it."""
        target = self.manifest(reference or manifest.digest) + query
        return self.client.put(target, manifest.raw, content_type=manifest.media_type)

    def push(self, manifest: Manifest, reference: str | None = None, query: str = "") -> Reply:
        """Send a manifest and all that it refers to."""
        for blob in manifest.blobs:
            self.push_blob(blob)
        for child in manifest.children:
            self.push(child)
        reply = self.put(manifest, reference, query)
        assert reply.status == 201, reply
        return reply
