"""Blobs in the OCI Distribution Specification: download, delete, upload in every way it knows, mount."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trow.http.handlers.v2 import matches
from trow.http.response import Answer, FileResponse, Headers, Response
from trow.lib.source import source_of
from trow.oci.digest import ALGORITHMS, CANONICAL, Digest, parse_algorithm
from trow.oci.errors import ChunkOutOfOrder, DigestInvalid, DigestMismatch, NameInvalid, RequestInvalid, blob_unknown
from trow.oci.names import Repository, UploadId
from trow.oci.ranges import ByteRange, parse_chunk, parse_range
from trow.registry.events import Action
from trow.registry.ports import LocalFile
from trow.registry.sessions import Chunk, Pusher

if TYPE_CHECKING:
    from trow.http.gate import Gate
    from trow.http.recorder import Recorder
    from trow.http.request import Request
    from trow.registry.ports import Metadata
    from trow.registry.pull import Blob, Pull
    from trow.registry.push import Push


class BlobHandlers:
    """Handlers; each reads the request, calls one use case and words the answer."""

    def __init__(self, pull: Pull, push: Push, metadata: Metadata, gate: Gate, recorder: Recorder) -> None:
        self._pull = pull
        self._push = push
        self._metadata = metadata
        self._gate = gate
        self._recorder = recorder

    async def get(self, request: Request) -> Answer:
        """end-2, end-10: a blob or a range of it."""
        repository = request.repository
        digest = Digest.parse(request.parameters["digest"])
        blob = await self._pull.blob(repository, digest)
        etag = f'"{digest}"'
        headers: Headers = [("docker-content-digest", digest), ("etag", etag), ("accept-ranges", "bytes")]
        if matches(request.header_list("if-none-match"), etag):
            return Response(304, headers)
        headers.append(("content-type", "application/octet-stream"))
        wanted = _wanted(request, blob.size, etag)
        if wanted is not None:
            headers.append(("content-range", f"bytes {wanted.start}-{wanted.end - 1}/{blob.size}"))
        answer = _content(blob, wanted, headers)
        await self._recorder.blob(request, digest, answer.length)
        return answer

    async def delete(self, request: Request) -> Response:
        """end-10: take a blob from the repository."""
        repository = request.repository
        digest = Digest.parse(request.parameters["digest"])
        async with self._recorder.doing(request, Action.BLOB_DELETE, digest=digest):
            if not await self._metadata.unlink_blob(repository, digest):
                raise blob_unknown(repository, digest)
        return Response(202)

    async def begin(self, request: Request) -> Response:
        """end-4a, 4b, 4c, 11: open an upload, receive a whole blob, or mount one."""
        repository = request.repository
        wanted = _mount(request)
        if wanted is not None and await self._mount(request, repository, *wanted):
            return _created(repository, wanted[0])
        claimed = request.query("digest")
        digest = None if claimed is None else Digest.parse(claimed)
        expected = digest is not None and (request.has_body or digest == Digest.of(b"", digest.algorithm))
        if digest is not None and expected and await self._receive_whole(request, repository, digest):
            return _created(repository, digest)
        # A digest without the bytes announces what will come, as the session of a registry that takes no whole blobs.
        upload = await self._push.begin(repository, _pusher(request), _algorithm(request, digest))
        return Response(202, _upload_headers(repository, upload, 0))

    async def _mount(self, request: Request, repository: Repository, digest: Digest, source: Repository | None) -> bool:
        """A source that may not be read is like one that has no such blob: the client uploads instead."""

        async def readable(candidate: Repository) -> bool:
            return await self._gate.may_mount_from(request, candidate)

        await self._recorder.intend(request, Action.MOUNT, digest=digest)
        asker = request.identity.name or source_of(request.client)
        found = await self._push.mount(repository, digest, source, readable, asker)
        if found is not None:
            self._recorder.done(request, Action.MOUNT, digest=digest, source=found)
        return found is not None

    async def _receive_whole(self, request: Request, repository: Repository, digest: Digest) -> bool:
        """Whether there was a blob. Only its end tells of a body that was not announced whether it is empty."""
        await self._recorder.intend(request, Action.PUSH, digest=digest)
        chunk = Chunk(request.body(), None, request.content_length)
        try:
            await self._push.whole(repository, _pusher(request), chunk, digest)
        except DigestMismatch:
            if request.content_length is None and not request.received:
                return False
            raise
        self._recorder.received(request, request.received)
        return True

    async def append(self, request: Request) -> Response:
        """end-5: a chunk, or the whole as a stream."""
        repository, upload = _session(request)
        try:
            offset = await self._push.append(repository, request.identity.name, upload, _chunk(request))
        except ChunkOutOfOrder as error:
            error.location = _location(repository, upload)
            raise
        return Response(202, _upload_headers(repository, upload, offset))

    async def finish(self, request: Request) -> Response:
        """end-6: the last chunk, and the digest of the whole."""
        repository, upload = _session(request)
        digest = Digest.parse(request.query("digest") or "")
        await self._recorder.intend(request, Action.PUSH, digest=digest)
        try:
            size = await self._push.finish(repository, request.identity.name, upload, _chunk(request), digest)
        except ChunkOutOfOrder as error:
            error.location = _location(repository, upload)
            raise
        self._recorder.received(request, size)
        return _created(repository, digest)

    async def status(self, request: Request) -> Response:
        """end-13: how far an upload has come."""
        repository, upload = _session(request)
        offset = await self._push.status(repository, request.identity.name, upload)
        return Response(204, _upload_headers(repository, upload, offset))

    async def cancel(self, request: Request) -> Response:
        """end-14: give an upload up."""
        repository, upload = _session(request)
        await self._push.cancel(repository, request.identity.name, upload)
        return Response(204)


def _mount(request: Request) -> tuple[Digest, Repository | None] | None:
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
        DigestUnsupported: it is asked for another algorithm.
    """
    announced = CANONICAL if digest is None else digest.algorithm
    asked = request.query("digest-algorithm") or announced
    if asked not in ALGORITHMS and any(request.query_raw("mount")):
        return announced
    return parse_algorithm(asked)


def _wanted(request: Request, size: int, etag: str) -> ByteRange | None:
    """The range a GET asks for; RFC 9110 has HEAD ignore it, and ``If-Range`` guards it (sections 14.2, 13.1.5)."""
    header = request.optional_header("range")
    if header is None or request.method != "GET":
        return None
    guard = request.header_list("if-range")
    return parse_range(header, size) if guard is None or guard.strip() == etag else None


def _content(blob: Blob, wanted: ByteRange | None, headers: Headers) -> Answer:
    start, end = (wanted.start, wanted.end) if wanted else (0, blob.size)
    status = 206 if wanted else 200
    if isinstance(blob.source, LocalFile):
        return FileResponse(status, headers, blob.source.path, start, end, whole=wanted is None)
    return Response(status, headers, blob.source[start:end] if wanted else blob.source)


def _pusher(request: Request) -> Pusher:
    return Pusher(request.identity.name, source_of(request.client))


def _session(request: Request) -> tuple[Repository, UploadId]:
    return request.repository, UploadId.parse(request.parameters["upload"])


def _chunk(request: Request) -> Chunk:
    place = request.header("content-range")
    return Chunk(request.body(), parse_chunk(place) if place else None, request.content_length)


def _location(repository: Repository, upload: UploadId) -> str:
    return f"/v2/{repository}/blobs/uploads/{upload}"


def _upload_headers(repository: Repository, upload: UploadId, offset: int) -> Headers:
    return [
        ("location", _location(repository, upload)),
        ("range", f"0-{max(0, offset - 1)}"),
        ("docker-upload-uuid", upload),
    ]


def _created(repository: Repository, digest: Digest) -> Response:
    return Response(201, [("location", f"/v2/{repository}/blobs/{digest}"), ("docker-content-digest", digest)])
