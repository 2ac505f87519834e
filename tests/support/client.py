"""A registry client in the words of the specification, on a connection that can be looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from factories import OCI_IMAGE, digest_of, image_of
from support.wire import Answer, ConnectionEnded, Wire, chunked, request

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable
    from types import TracebackType


class WireClient:
    """Requests on one connection, opened again when the server has ended it."""

    def __init__(self, host: str, tls: ssl.SSLContext | None = None) -> None:
        self._host = host
        self._tls = tls
        self._wire: Wire | None = None

    @property
    def wire(self) -> Wire:
        """The connection of the next request."""
        self._wire = self._wire or Wire(self._host, self._tls)
        return self._wire

    def send(self, data: bytes, method: str) -> Answer:
        """Send the bytes of a request and read its answer.

        Raises:
            ConnectionEnded: no answer came; whether the request took effect is unknown.
        """
        try:
            self.wire.send_what_it_takes(data)
            answer = self.wire.answer(method)
        except (OSError, ConnectionEnded) as error:
            self.close()
            raise ConnectionEnded(str(error)) from error
        if answer.status >= 400:
            self.close()  # the server need not read what it refuses, and ends the connection then
        return answer

    def ask(
        self, method: str, target: str, headers: Iterable[tuple[str, str]] = (), body: bytes | None = None
    ) -> Answer:
        return self.send(request(method, target, headers, body), method)

    def get_blob(self, repository: str, digest: str) -> Answer:
        return self.ask("GET", f"/v2/{repository}/blobs/{digest}")

    def get_manifest(self, repository: str, reference: str) -> Answer:
        return self.ask("GET", f"/v2/{repository}/manifests/{reference}")

    def push_whole(self, repository: str, content: bytes) -> Answer:
        """POST alone."""
        return self.ask("POST", f"/v2/{repository}/blobs/uploads/?digest={digest_of(content)}", body=content)

    def begin(self, repository: str) -> str:
        """POST; the path of the session."""
        answer = self.ask("POST", f"/v2/{repository}/blobs/uploads/", body=b"")
        assert answer.status == 202, answer
        return urlsplit(answer.header("location")).path

    def append(self, session: str, chunk: bytes, offset: int) -> Answer:
        """PATCH with the chunk's place."""
        place = ("Content-Range", f"{offset}-{offset + len(chunk) - 1}")
        return self.ask("PATCH", session, [place], chunk)

    def stream(self, session: str, pieces: Iterable[bytes]) -> Answer:
        """PATCH in HTTP chunks."""
        headers = [("Transfer-Encoding", "chunked")]
        return self.send(request("PATCH", session, headers) + chunked(*pieces), "PATCH")

    def finish(self, session: str, digest: str, rest: bytes = b"") -> Answer:
        """PUT."""
        return self.ask("PUT", f"{session}?digest={digest}", body=rest)

    def offset(self, session: str) -> int:
        """GET of the session: how many bytes it has (the specification cannot tell none from one)."""
        answer = self.ask("GET", session)
        assert answer.status == 204, answer
        return int(answer.header("range").partition("-")[2]) + 1

    def put_manifest(self, repository: str, reference: str, manifest: bytes, media_type: str = OCI_IMAGE) -> Answer:
        return self.ask("PUT", f"/v2/{repository}/manifests/{reference}", [("Content-Type", media_type)], manifest)

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def push_image(host: str, repository: str, config: bytes, layer: bytes) -> None:
    """Push an image, with its blobs whole, and the tag ``kept``."""
    with WireClient(host) as client:
        assert client.push_whole(repository, config).status == 201
        assert client.push_whole(repository, layer).status == 201
        assert client.put_manifest(repository, "kept", image_of(config, [layer])).status == 201
