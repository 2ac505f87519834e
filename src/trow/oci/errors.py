"""Everything that can be wrong with a request, in the words of the OCI Distribution Specification.

    OciError
    ├── NameInvalid · NameUnknown
    ├── TagInvalid
    ├── DigestInvalid · DigestMismatch · DigestUnsupported
    ├── ManifestInvalid · ManifestUnknown · ManifestTooLarge · ManifestBlobUnknown · TooManyTags
    ├── BlobUnknown · BlobTooLarge · SizeInvalid
    ├── UploadUnknown · UploadInvalid · UploadBusy · ChunkOutOfOrder · BodyTimeout · BodyIncomplete
    ├── RangeNotSatisfiable
    ├── RequestInvalid · RequestTooLarge · EndpointUnknown · MethodUnsupported
    ├── Unauthorized · Denied · TagExists · ManifestExists
    ├── TooManyRequests
    └── Unavailable
        └── StorageFull

Use cases raise them; ``trow.http.errors`` alone turns them into responses. ``code`` is the specification's error code
(https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MOST_ERRORS: Final = 100


class OciError(Exception):
    """A refusal that the client is told about.

    Attributes:
        code: the error code of the specification.
        message: a sentence for people: what is wrong and, where it can be said, the fix.
        detail: facts for programs, small and free of secrets.
        others: further errors of the same request (one for each missing blob, for example).
    """

    code: ClassVar[str] = "UNKNOWN"

    def __init__(
        self, message: str, detail: Mapping[str, object] | None = None, others: tuple[OciError, ...] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.others = others


class NameInvalid(OciError):
    """The repository name is outside the grammar."""

    code = "NAME_INVALID"


class NameUnknown(OciError):
    """The repository is not known here."""

    code = "NAME_UNKNOWN"


class TagInvalid(OciError):
    """The tag is outside the grammar; the specification has no code of its own for it."""

    code = "MANIFEST_INVALID"


class DigestInvalid(OciError):
    """The digest is not well-formed."""

    code = "DIGEST_INVALID"


class DigestUnsupported(DigestInvalid):
    """The digest is well-formed, its algorithm is not supported here."""


class DigestMismatch(DigestInvalid):
    """The content does not have the digest that was claimed for it."""


class ManifestInvalid(OciError):
    """The manifest breaks a rule of the image specification, or of its own media type."""

    code = "MANIFEST_INVALID"


class ManifestTooLarge(ManifestInvalid):
    """The manifest is over the configured limit."""


class TooManyTags(ManifestInvalid):
    """More ``tag=`` parameters than one push may carry."""


class ManifestUnknown(OciError):
    """The repository has no such manifest."""

    code = "MANIFEST_UNKNOWN"


def manifest_unknown(repository: str, reference: str) -> ManifestUnknown:
    """No manifest has this tag or digest there."""
    return ManifestUnknown(
        f"{repository} has no manifest {reference}; check the name and the tag or digest, or push it first",
        {"reference": reference},
    )


class ManifestBlobUnknown(OciError):
    """The manifest refers to content that the repository does not have."""

    code = "MANIFEST_BLOB_UNKNOWN"


def blobs_unknown(what: str, digests: Sequence[str], fix: str) -> ManifestBlobUnknown:
    """One error that names each of these, up to a hundred: ``WHAT DIGEST; FIX``."""
    first, *others = (
        ManifestBlobUnknown(f"{what} {digest}; {fix}", {"digest": digest}) for digest in digests[:_MOST_ERRORS]
    )
    return ManifestBlobUnknown(first.message, first.detail, tuple(others))


class BlobUnknown(OciError):
    """The repository has no such blob."""

    code = "BLOB_UNKNOWN"


def blob_unknown(repository: str, digest: str) -> BlobUnknown:
    """No blob has this digest there."""
    return BlobUnknown(f"{repository} has no blob {digest}; push it first", {"digest": digest})


class SizeInvalid(OciError):
    """The size that was claimed is not the size of the content."""

    code = "SIZE_INVALID"


class BlobTooLarge(SizeInvalid):
    """The blob is over the configured limit."""


class UploadUnknown(OciError):
    """There is no such upload session in this repository, or it has expired."""

    code = "BLOB_UPLOAD_UNKNOWN"


class UploadInvalid(OciError):
    """The upload cannot go on like this."""

    code = "BLOB_UPLOAD_INVALID"


class UploadBusy(UploadInvalid):
    """Another request is writing to the same upload session."""


class BodyTimeout(UploadInvalid):
    """The body comes too slowly."""


class BodyIncomplete(UploadInvalid):
    """The body ended before its announced length."""


class ChunkOutOfOrder(UploadInvalid):
    """A chunk does not start where the last one ended.

    Attributes:
        offset: how many bytes the session holds, which is where the next chunk has to start.
    """

    def __init__(self, message: str, *, offset: int) -> None:
        super().__init__(message, {"offset": offset})
        self.offset = offset


class RangeNotSatisfiable(OciError):
    """The requested range lies outside the content (RFC 9110, section 15.5.17)."""

    code = "SIZE_INVALID"

    def __init__(self, message: str, *, size: int) -> None:
        super().__init__(message, {"size": size})
        self.size = size


class RequestInvalid(OciError):
    """The request itself cannot be understood (a query parameter, a header)."""

    code = "UNSUPPORTED"


class RequestTooLarge(RequestInvalid):
    """The request's body is larger than anything that is sent there."""


class EndpointUnknown(OciError):
    """There is no such endpoint."""

    code = "UNSUPPORTED"


class MethodUnsupported(OciError):
    """The endpoint exists, but not with this method."""

    code = "UNSUPPORTED"

    def __init__(self, message: str, *, allowed: tuple[str, ...]) -> None:
        super().__init__(message, {"allowed": list(allowed)})
        self.allowed = allowed


class Unauthorized(OciError):
    """Credentials are missing or wrong."""

    code = "UNAUTHORIZED"


class Denied(OciError):
    """The credentials are good, the permission is missing."""

    code = "DENIED"


class TagExists(Denied):
    """The tag points at something else already, and the right to overwrite is missing."""


class ManifestExists(Denied):
    """The manifest is there as another media type, and the right to overwrite is missing."""


class TooManyRequests(OciError):
    """The client is over a limit.

    Attributes:
        retry_after: whole seconds after which the request may be repeated.
    """

    code = "TOOMANYREQUESTS"

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(OciError):
    """Storage or database cannot do their work now; nothing was changed."""

    code = "UNAVAILABLE"


class StorageFull(Unavailable):
    """There is no space left for the content."""
