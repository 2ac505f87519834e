"""A bucket that speaks the S3 protocol: typed calls over aiobotocore, whose errors are those of the registry.

Servers differ: a second CompleteMultipartUpload is answered 200 by some and 404 by others, and some list multipart
uploads only for an exact key. What is here holds on all of them.

https://docs.aws.amazon.com/AmazonS3/latest/API/Welcome.html
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, TypeAlias

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from aiohttp import ClientError as HttpError
from botocore.exceptions import BotoCoreError, ClientError

from trow.oci.errors import BlobUnknown, StorageFull, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path

    Observe: TypeAlias = Callable[[str, float, bool], None]

log = logging.getLogger(__name__)

_CONNECT_SECONDS: Final = 5.0
_ATTEMPTS: Final = 4
_READ: Final = 64 * 1024
# How often a stream that breaks off goes on where it was.
_RESUMED: Final = 3
_ABSENT: Final = frozenset({"404", "NoSuchKey", "NoSuchUpload", "NotFound"})
_FULL: Final = frozenset({"507", "QuotaExceeded", "XMinioStorageFull", "InsufficientCapacity"})
_TROUBLE: Final = (BotoCoreError, ClientError, HttpError, OSError, TimeoutError)
# CopyObject takes no more.
_LARGEST_COPY: Final = 5 * 2**30
_COPIED_PART: Final = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketSettings:
    """Where a bucket is, and how it is asked.

    Attributes:
        prefix: what all keys begin with.
        region, endpoint, ca_file: None leaves them to the environment and the profile, as the AWS tools do.
        path_style: whether the bucket stands in the path, and not in the name of the host.
        public_endpoint: where clients reach the bucket, for redirects; None is where Trow does.
        encryption: "AES256" or "aws:kms"; None is what the bucket says.
        kms_key: None is the bucket's.
        timeout: how many seconds of silence a call may have.
        connections: how many there are at most.
    """

    name: str
    prefix: str = ""
    region: str | None = None
    endpoint: str | None = None
    path_style: bool = False
    public_endpoint: str | None = None
    ca_file: Path | None = None
    encryption: str | None = None
    kms_key: str | None = None
    timeout: float = 30.0
    connections: int = 64


class UploadPart(NamedTuple):
    """A part of a multipart upload that has arrived; ``end`` is the offset behind its last byte."""

    number: int
    etag: str
    end: int


class Bucket:
    """Objects by key. Each method raises `Unavailable`, or `StorageFull`, when the bucket does not work."""

    def __init__(self, client: Any, presigner: Any, settings: BucketSettings, observe: Observe) -> None:
        self._client = client
        self._observe = observe
        self._presigner = presigner
        self._settings = settings
        self._where = {"Bucket": settings.name}
        self._encryption: dict[str, str] = {}
        if settings.encryption is not None:
            self._encryption["ServerSideEncryption"] = settings.encryption
        if settings.kms_key is not None:
            self._encryption["SSEKMSKeyId"] = settings.kms_key

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(cls, settings: BucketSettings, observe: Observe = lambda *_: None) -> AsyncIterator[Self]:
        """Make the clients. Credentials come from where the AWS tools look for them, and are renewed.

        Args:
            settings: where the bucket is.
            observe: told the name of each call, how many seconds it took, and whether it failed.
        """
        session = get_session()
        verify = None if settings.ca_file is None else str(settings.ca_file)
        config = AioConfig(
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=settings.timeout,
            max_pool_connections=settings.connections,
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},  # with exponential back-off and jitter
            signature_version="s3v4",
            s3={"addressing_style": "path" if settings.path_style else "auto"},
            request_checksum_calculation="when_required",  # each body has its MD5, which every server knows
            response_checksum_validation="when_required",
        )
        made: dict[str, Any] = {"region_name": settings.region, "verify": verify, "config": config}
        async with contextlib.AsyncExitStack() as stack:

            async def client_of(endpoint: str | None) -> Any:
                return await stack.enter_async_context(session.create_client("s3", endpoint_url=endpoint, **made))

            with _translated("cannot be used"):
                client = await client_of(settings.endpoint)
                public = settings.public_endpoint
                presigner = client if public is None else await client_of(public)
            yield cls(client, presigner, settings, observe)

    @contextlib.contextmanager
    def _call(self, operation: str, what: str, absent: Exception | None = None) -> Iterator[None]:
        began, failed = time.monotonic(), True
        try:
            with _translated(what, absent):
                yield
            failed = False
        except (BlobUnknown, GeneratorExit):
            failed = False
            raise
        finally:
            self._observe(operation, time.monotonic() - began, failed)

    def _at(self, key: str) -> dict[str, str]:
        return {**self._where, "Key": self._settings.prefix + key}

    async def check(self) -> None:
        """See whether the bucket is there, and whether it may be read."""
        with self._call("check", "cannot be reached"):
            await self._client.head_bucket(**self._where)

    async def put(self, key: str, body: bytes) -> None:
        """Store an object, durably."""
        digest = await asyncio.to_thread(_md5, body)
        with self._call("put", "takes nothing"):
            await self._client.put_object(**self._at(key), Body=body, ContentMD5=digest, **self._encryption)

    async def size(self, key: str) -> int | None:
        """How many bytes an object has, None when there is none."""
        with contextlib.suppress(BlobUnknown), self._call("head", "does not answer"):
            return int((await self._client.head_object(**self._at(key)))["ContentLength"])
        return None

    async def read(self, key: str, start: int, end: int | None) -> AsyncGenerator[bytes, None]:
        """Bytes of an object, as fast as they are taken; one that breaks off is asked for the rest.

        Raises:
            BlobUnknown: there is none.
        """
        left = _RESUMED
        while end is None or start < end:
            found = 0
            try:
                async with contextlib.aclosing(self._read(key, start, end)) as pieces:
                    async for piece in pieces:
                        found += len(piece)
                        yield piece
            except Unavailable:
                if not left:
                    raise
                left -= 1
                start += found
            else:
                return

    async def _read(self, key: str, start: int, end: int | None) -> AsyncGenerator[bytes, None]:
        absent = BlobUnknown(f"the bytes at {key} are lost; push the blob again", {"location": key})
        with self._call("get", "does not answer", absent):
            whole = not start and end is None
            wanted = {} if whole else {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
            try:
                answer = await self._client.get_object(**self._at(key), **wanted)
            except ClientError as error:
                if end is None and _code(error) == "InvalidRange":  # nothing is behind its last byte
                    return
                raise
            async with answer["Body"] as body:
                async for piece in body.iter_chunks(_READ):
                    yield piece

    async def delete(self, key: str) -> None:
        """Remove an object, if there is one, and uploads that nobody has finished."""
        await self.remove(key)
        for upload in await self._uploads(key):
            await self.abort(key, upload)

    async def remove(self, key: str) -> None:
        """Remove an object, if there is one."""
        with self._call("delete", "removes nothing"):
            await self._client.delete_object(**self._at(key))

    async def _uploads(self, key: str) -> Sequence[str]:
        with self._call("list", "does not answer"):
            listed = await self._client.list_multipart_uploads(**self._where, Prefix=self._settings.prefix + key)
        return [each["UploadId"] for each in listed.get("Uploads", ()) if each["Key"] == self._settings.prefix + key]

    async def list(self, folder: str, after: str, most: int) -> Sequence[str]:
        """The keys below a folder that come after one, in their order and without the folder."""
        prefix = self._settings.prefix + folder
        with self._call("list", "lists nothing"):
            listed = await self._client.list_objects_v2(
                **self._where, Prefix=prefix, StartAfter=prefix + after, MaxKeys=most
            )
        return [each["Key"].removeprefix(prefix) for each in listed.get("Contents", ())]

    async def move(self, key: str, target: str) -> None:
        """Give an object another key. Raises BlobUnknown when there is none."""
        size = await self.size(key)
        if size is None:
            raise BlobUnknown(f"the bucket has no object {key}; push the blob again", {"key": key})
        source = self._at(key)
        with self._call("copy", "copies nothing"):
            if size <= _LARGEST_COPY:
                await self._client.copy_object(**self._at(target), CopySource=source, **self._encryption)
            else:
                await self._copy_parts(source, target, size)
            await self._client.delete_object(**source)

    async def _copy_parts(self, source: dict[str, str], target: str, size: int) -> None:
        upload, parts = await self.begin(target), list[UploadPart]()
        for number, start in enumerate(range(0, size, _COPIED_PART), 1):
            end = min(size, start + _COPIED_PART)
            copied = await self._client.upload_part_copy(
                **self._at(target), UploadId=upload, PartNumber=number, CopySource=source,
                CopySourceRange=f"bytes={start}-{end - 1}",
            )  # fmt: skip
            parts.append(UploadPart(number, copied["CopyPartResult"]["ETag"], end))
        await self.complete(target, upload, parts)

    async def begin(self, key: str) -> str:
        """Begin a multipart upload."""
        with self._call("begin", "takes nothing"):
            begun = await self._client.create_multipart_upload(**self._at(key), **self._encryption)
            return str(begun["UploadId"])

    async def part(self, key: str, upload: str, number: int, body: bytes) -> str:
        """Send a part; returns by what it is known."""
        digest = await asyncio.to_thread(_md5, body)
        gone = Unavailable("the bucket has given the upload up; begin another")
        with self._call("part", "takes nothing", gone):
            sent = await self._client.upload_part(
                **self._at(key), UploadId=upload, PartNumber=number, Body=body, ContentMD5=digest
            )
            return str(sent["ETag"])

    async def parts(self, key: str, upload: str) -> Sequence[UploadPart]:
        """The parts that have arrived, in order. Raises BlobUnknown: the upload is gone."""
        found, end = list[UploadPart](), 0
        marker: int | None = 0
        while marker is not None:
            with self._call("list", "lists nothing"):
                page = await self._client.list_parts(**self._at(key), UploadId=upload, PartNumberMarker=marker)
            for each in page.get("Parts", ()):
                end += int(each["Size"])
                found.append(UploadPart(int(each["PartNumber"]), str(each["ETag"]), end))
            marker = int(page["NextPartNumberMarker"]) if page.get("IsTruncated") else None
        return found

    async def complete(self, key: str, upload: str, parts: Sequence[UploadPart]) -> bool:
        """Make one object of the parts, durably; returns whether it is sure to be made of these.

        When the answer is lost, the second time some servers say that there is no such upload, and others say yes to
        whatever is asked: the object tells. The checksums of its parts tell, unless KMS changes them.
        """
        named = [{"PartNumber": each.number, "ETag": each.etag} for each in parts]
        with contextlib.suppress(BlobUnknown, Unavailable), self._call("complete", "does not finish the upload"):
            await self._client.complete_multipart_upload(
                **self._at(key), UploadId=upload, MultipartUpload={"Parts": named}
            )
        try:
            with self._call("head", "does not answer"):
                found = await self._client.head_object(**self._at(key))
        except BlobUnknown:
            found = {"ContentLength": -1}
        if int(found["ContentLength"]) != parts[-1].end:
            raise Unavailable("the bucket has not finished the upload; try again")
        return str(found["ETag"]).strip('"') == _etag(parts)

    async def abort(self, key: str, upload: str) -> None:
        """Give a multipart upload up."""
        with contextlib.suppress(BlobUnknown), self._call("abort", "removes nothing"):
            await self._client.abort_multipart_upload(**self._at(key), UploadId=upload)

    async def presigned(self, key: str, seconds: int) -> str:
        """An address where anybody gets the object for some time."""
        with self._call("sign", "cannot be signed for"):
            address = await self._presigner.generate_presigned_url(
                "get_object", Params=self._at(key), ExpiresIn=seconds
            )
            return str(address)


# The first part of the key of a blob.
BLOBS: Final = "blobs/"


def _md5(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def _etag(parts: Sequence[UploadPart]) -> str:
    """By what servers know an object of these parts; "" where they have checksums of another kind."""
    with contextlib.suppress(ValueError):
        sums = b"".join(bytes.fromhex(each.etag.strip('"')) for each in parts)
        return f"{hashlib.md5(sums, usedforsecurity=False).hexdigest()}-{len(parts)}"
    return ""


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@contextlib.contextmanager
def _translated(what: str, absent: Exception | None = None) -> Iterator[None]:
    """Errors of the bucket become those of the registry; what it said goes into the log, and not to clients."""
    try:
        yield
    except _TROUBLE as error:
        code = _code(error) if isinstance(error, ClientError) else type(error).__name__
        if code in _ABSENT:
            raise absent or BlobUnknown("an object of the bucket is lost; push its blob again") from error
        log.warning("the bucket %s", what, extra={"error": f"{code}: {error}"})
        if code in _FULL:
            raise StorageFull("the bucket has no space left for this content; free some, or raise its quota") from error
        raise Unavailable(f"the registry's bucket {what} ({code}); see its log, and try again") from error
