"""Blobs in the OCI Distribution Specification: download, delete, upload in every way it knows, mount."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from trow.http.connections import SMALL
from trow.http.handlers.v2 import etag_matches
from trow.http.response import Answer, FileResponse, Headers, HeadResponse, Response, StreamResponse
from trow.oci.digest import ALGORITHMS, CANONICAL, Digest, parse_algorithm
from trow.oci.errors import DigestInvalid, DigestMismatch, NameInvalid, RequestInvalid
from trow.oci.names import Repository, UploadId
from trow.oci.ranges import ByteRange, parse_chunk, parse_range
from trow.registry.events import Action
from trow.registry.ports import LocalFile, Redirect, Stream
from trow.registry.sessions import Chunk, SessionKey

if TYPE_CHECKING:
    from trow.http.access import AccessController
    from trow.http.recorder import Recorder
    from trow.http.request import Request
    from trow.registry.pull import Blob, Pull
    from trow.registry.push import Push


class BlobHandlers:
    """Handlers; each reads the request, calls one use case and writes the answer."""

    def __init__(self, pull: Pull, push: Push, access: AccessController, recorder: Recorder) -> None:
        self._pull = pull
        self._push = push
        self._access = access
        self._recorder = recorder

    async def get(self, request: Request) -> Answer:
        """end-2, end-10: a blob or a range of it."""
        repository = request.repository
        digest = Digest.parse(request.parameters["digest"])
        blob = await self._pull.blob(repository, digest)
        etag = f'"{digest}"'
        headers: Headers = [("docker-content-digest", digest), ("etag", etag), ("accept-ranges", "bytes")]
        if etag_matches(request.header_list("if-none-match"), etag):
            return Response(304, headers)
        headers.append(("content-type", "application/octet-stream"))
        wanted, header = None, request.optional_header("range")
        # RFC 9110 has HEAD ignore a range, and ``If-Range`` guards it (sections 14.2, 13.1.5).
        if header is not None and request.method == "GET":
            guard = request.header_list("if-range")
            wanted = parse_range(header, blob.size) if guard is None or guard.strip() == etag else None
        if wanted is not None:
            headers.append(("content-range", f"bytes {wanted.start}-{wanted.end - 1}/{blob.size}"))
        await self._recorder.blob(request, digest, wanted.length if wanted else blob.size)
        if request.method == "HEAD":
            return HeadResponse(200, headers, blob.size)
        return await _content(blob, wanted, headers)

    async def delete(self, request: Request) -> Response:
        """end-10: take a blob from the repository."""
        repository = request.repository
        digest = Digest.parse(request.parameters["digest"])
        async with self._recorder.attempt(request, Action.BLOB_DELETE, digest=digest):
            await self._push.delete(repository, digest)
        self._recorder.unlinked(request, Action.BLOB_DELETE, digest)
        return Response(202)

    async def begin(self, request: Request) -> Response:
        """end-4a, 4b, 4c, 11: open an upload, receive a whole blob, or mount one."""
        repository = request.repository
        wanted = _requested_mount(request)
        if wanted is not None and await self._mount(request, repository, *wanted):
            return _created(repository, wanted[0])
        claimed = request.query("digest")
        digest = None if claimed is None else Digest.parse(claimed)
        expected = digest is not None and (request.has_body or digest == Digest.of(b"", digest.algorithm))
        if digest is not None and expected and await self._receive(request, repository, digest):
            return _created(repository, digest)
        # A digest without bytes announces what will come, for clients of registries that take no whole blobs.
        key = await self._push.sessions.begin(repository, request, _algorithm(request, digest))
        return Response(202, _upload_headers(key, 0))

    async def _mount(self, request: Request, repository: Repository, digest: Digest, source: Repository | None) -> bool:
        """A source that may not be read is like one that has no such blob: the client uploads instead."""
        await self._recorder.intend(request, Action.MOUNT, digest=digest)
        found = await self._push.mount(repository, digest, source, self._access.actor(request))
        if found is not None:
            self._recorder.mounted(request, digest, found)
        return found is not None

    async def _receive(self, request: Request, repository: Repository, digest: Digest) -> bool:
        """Whether there was a blob. A body that was not announced may prove empty at its end."""
        await self._recorder.intend(request, Action.PUSH, digest=digest)
        chunk = Chunk(request.body(), None, request.content_length)
        try:
            await self._push.monolithic(repository, request, chunk, digest)
        except DigestMismatch:
            if request.content_length is None and not request.received:
                return False
            raise
        self._recorder.received(request, request.received)
        return True

    async def append(self, request: Request) -> Response:
        """end-5: a chunk, or the whole as a stream."""
        key = _session(request)
        offset = await self._push.append(key, _chunk(request))
        return Response(202, _upload_headers(key, offset))

    async def finish(self, request: Request) -> Response:
        """end-6: the last chunk, and the digest of the whole."""
        key = _session(request)
        digest = Digest.parse(request.query("digest") or "")
        await self._recorder.intend(request, Action.PUSH, digest=digest)
        size = await self._push.finish(key, _chunk(request), digest)
        self._recorder.received(request, size)
        return _created(key.repository, digest)

    async def status(self, request: Request) -> Response:
        """end-13: how far an upload has come."""
        key = _session(request)
        return Response(204, _upload_headers(key, await self._push.status(key)))

    async def cancel(self, request: Request) -> Response:
        """end-14: give an upload up."""
        await self._push.cancel(_session(request))
        return Response(204)


def _requested_mount(request: Request) -> tuple[Digest, Repository | None] | None:
    """What is to be mounted, and from where; None where that is nothing, whatever is wrong with it.

    A mount saves an upload and is never a reason to refuse one (distribution-spec, end-11).
    """
    try:
        digest, source = request.query("mount"), request.query("from")
        return Digest.parse(digest or ""), Repository.parse(source) if source else None
    except (RequestInvalid, DigestInvalid, NameInvalid):
        return None


def _algorithm(request: Request, digest: Digest | None) -> str:
    """What a session hashes with. One that is opened for a mount that cannot be made takes any digest in the end.

    Raises:
        DigestUnsupported: the client asks for another algorithm.
    """
    announced = CANONICAL if digest is None else digest.algorithm
    asked = request.query("digest-algorithm") or announced
    if asked not in ALGORITHMS and any(request.query_raw("mount")):
        return announced
    return parse_algorithm(asked)


async def _content(blob: Blob, wanted: ByteRange | None, headers: Headers) -> Answer:
    start, end = (wanted.start, wanted.end) if wanted else (0, blob.size)
    status = 206 if wanted else 200
    match blob.source:
        case bytes() as content:
            return Response(status, headers, content[start:end] if wanted else content)
        case LocalFile(path=path):
            return FileResponse(status, headers, path, start, end, whole=wanted is None)
        case Stream(read=read) if end - start > SMALL:
            return StreamResponse(status, headers, end - start, read(start, end))
        case Stream(read=read):
            return Response(status, headers, b"".join([piece async for piece in read(start, end)]))
        case Redirect(url=url):  # the client asks there for the range once more
            return Response(307, [("location", url)])
        case _:
            assert_never(blob.source)


def _session(request: Request) -> SessionKey:
    return SessionKey(request.repository, request.identity.name, UploadId.parse(request.parameters["upload"]))


def _chunk(request: Request) -> Chunk:
    place = request.header("content-range")
    return Chunk(request.body(), parse_chunk(place) if place else None, request.content_length)


def _upload_headers(key: SessionKey, offset: int) -> Headers:
    return [
        ("location", f"/v2/{key.repository}/blobs/uploads/{key.upload}"),
        ("range", f"0-{max(0, offset - 1)}"),
        ("docker-upload-uuid", key.upload),
    ]


def _created(repository: Repository, digest: Digest) -> Response:
    return Response(201, [("location", f"/v2/{repository}/blobs/{digest}"), ("docker-content-digest", digest)])
