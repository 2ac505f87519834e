"""Objects of the API, each by its path: read, listed, watched and written.

https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

import re
from contextlib import aclosing, asynccontextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Meta, Struct, field

from trow.kube.client import KubeRequest
from trow.kube.errors import BadAnswer, NotFound, Status, TooLarge, refusal
from trow.oci.errors import Unavailable
from trow.oci.numbers import finite

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence

    from trow.kube.client import KubeClient

Manifest: TypeAlias = dict[str, object]
ObjectKey: TypeAlias = tuple[str, str]  # namespace, "" for what belongs to none, and name

_MOST_PAGE_BYTES: Final = 16 << 20
# Decoding a page of this size takes about ten milliseconds, for which all other requests wait.
_PAGE_BYTES: Final = 1 << 20
_FIRST_PAGE: Final = 100
_MOST_LIST_BYTES: Final = 128 << 20
_MOST_PAGES: Final = 1000
# An API server takes no larger request than 3 MiB; what it adds to the object, the managers of fields, is less.
_LONGEST_LINE: Final = 8 << 20
_APPLY: Final = "application/apply-patch+yaml"  # JSON is YAML
# Of a name in a path the API forbids little more than a slash; these are the characters that names are made of.
_PATH: Final = re.compile(r"/api(/v[a-z0-9]+|s/[a-z0-9.-]+/v[a-z0-9]+)(/(?!\.{1,2}(/|$))[A-Za-z0-9._:-]+){1,5}")

_Answer = TypeVar("_Answer")
# An empty version would mean any version.
_Version: TypeAlias = Annotated[str, Meta(min_length=1)]


class Change(StrEnum):
    """The type of a watch event; a bookmark only reports the version reached."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


class PatchType(StrEnum):
    """The form of a patch: a list of operations (RFC 6902), or the members to set (RFC 7396)."""

    JSON = "application/json-patch+json"
    MERGE = "application/merge-patch+json"


class WatchEvent(Struct, frozen=True):
    """One line of a watch.

    Attributes:
        key: of the object; empty for a bookmark.
        version: from where a watch can go on.
        manifest: the object, for a deletion as it was last.
    """

    change: Change
    key: ObjectKey
    version: str
    manifest: Manifest


class Collection(Struct, frozen=True):
    """All objects at one moment.

    Attributes:
        version: from where a watch misses nothing.
    """

    version: str
    objects: dict[ObjectKey, Manifest]


class _ListMeta(Struct, rename="camel"):
    resource_version: _Version
    next: str = field(default="", name="continue")


class _Page(Struct, rename="camel"):
    api_version: str
    kind: str
    metadata: _ListMeta
    items: list[Manifest] | None = None

    def objects(self, path: str) -> dict[ObjectKey, Manifest]:
        """The items as they are when they stand alone: a list of a built-in kind leaves out what its head says."""
        head: Manifest = {"apiVersion": self.api_version, "kind": self.kind.removesuffix("List")}
        return {_metadata(item, path)[0]: head | item for item in self.items or ()}


class _Metadata(Struct, rename="camel"):
    resource_version: _Version
    namespace: str = ""
    name: str = ""


class _Object(Struct):
    metadata: _Metadata


class _Line(Struct):
    type: str
    object: msgspec.Raw


class Objects:
    """Asks the API server; paths are those of the API, such as ``/api/v1/namespaces/web/configmaps/colours``.

    All methods raise `KubeRefused`, one of its kinds where there is one, when the API server will not do it,
    `Unavailable` when there is no answer to rely upon, and `ValueError` for what is not a path of the API.

    Args:
        seconds: how long one request may take, and how much later than promised a watch may be heard of.
    """

    def __init__(self, client: KubeClient, *, seconds: float = 30.0) -> None:
        self._client = client
        self._seconds = seconds

    async def get(self, path: str) -> Manifest | None:
        """The object; None where there is none."""
        try:
            return await self._manifest("get", KubeRequest("GET", _url(path)))
        except NotFound:
            return None

    async def list_all(
        self, path: str, *, limit: int = 500, part: Callable[[Manifest], Manifest] | None = None
    ) -> Collection:
        """A collection, in pages of at most ``limit`` objects and, as far as one is like the one before, 1 MiB.

        Args:
            path: of the collection.
            limit: see above.
            part: what to keep of each object; of a large cluster all would be as much memory as Trow has.

        Raises:
            Expired: it took so long that the API server no longer knows what it was like in the beginning.
            TooLarge: there are more than 128 MiB or 1000 pages of it.
        """
        objects: dict[ObjectKey, Manifest] = {}
        version, token, size = "", "", 0
        most, limit = limit, min(limit, _FIRST_PAGE)
        for _ in range(_MOST_PAGES):
            raw, taken = await self._page(path, token, limit)
            most = min(most, taken) if taken < limit else most
            limit = max(1, min(most, taken * _PAGE_BYTES // max(1, len(raw))))
            size += len(raw)
            if size > _MOST_LIST_BYTES:
                break
            page = _decoded(raw, _Page, path)
            found = page.objects(path)
            objects |= {key: part(each) for key, each in found.items()} if part else found
            # All pages show the same moment. If they did not, a watch from the first one's would tell what is missing.
            version, token = version or page.metadata.resource_version, page.metadata.next
            if not token:
                return Collection(version, objects)
        raise TooLarge(
            f"{path} of the Kubernetes API holds more than {_MOST_LIST_BYTES} bytes or {_MOST_PAGES} pages;"
            " delete what is not needed"
        )

    @asynccontextmanager
    async def watch(
        self, path: str, version: str, *, seconds: int = 120
    ) -> AsyncIterator[AsyncGenerator[WatchEvent, None]]:
        """The changes of a collection after a version, until the API server ends the watch after about these seconds.

        Raises:
            Expired: the version is no longer known; list again.
            BadAnswer: something else than an event comes.
        """
        query = {"resourceVersion": version, "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds)}
        request = KubeRequest("GET", _url(path, watch="true", **query))
        # It may be silent until its end: bookmarks are not promised.
        idle = seconds + self._seconds
        opened = self._client.lines(request, seconds=self._seconds, idle_seconds=idle, longest=_LONGEST_LINE)
        async with opened as lines, aclosing(_events(path, lines)) as events:
            yield events

    async def create(self, path: str, manifest: Mapping[str, object], *, dry_run: bool = False) -> Manifest:
        """Create an object in a collection.

        Args:
            path: of the collection.
            manifest: what it shall be.
            dry_run: ask only whether it would be allowed, and what would come of it.

        Raises:
            Conflict: there is one of that name.
        """
        url = _url(path, fieldManager="trow", **({"dryRun": "All"} if dry_run else {}))
        request = KubeRequest("POST", url, msgspec.json.encode(manifest), repeatable=False)
        return await self._manifest("create", request)

    async def apply(self, path: str, manifest: Mapping[str, object]) -> Manifest:
        """Apply an object, which is created if it does not exist: server-side apply (KEP-555), with force.

        Args:
            path: of the object.
            manifest: apiVersion, kind and name, and the fields that are to have a value; those set by an earlier
                call and missing now are removed.
        """
        url = _url(path, fieldManager="trow", force="true")
        return await self._manifest("apply", KubeRequest("PATCH", url, msgspec.json.encode(manifest), _APPLY))

    async def apply_status(self, path: str, manifest: Mapping[str, object]) -> Manifest:
        """`apply` for the status of an object that exists; a ``spec`` in the manifest does not count."""
        return await self.apply(f"{path}/status", manifest)

    async def patch(
        self, path: str, body: Mapping[str, object] | Sequence[Mapping[str, object]], kind: PatchType
    ) -> Manifest:
        """Change an object that exists.

        Raises:
            Conflict: a ``resourceVersion`` in the patch is no longer the present one.
            Invalid: a JSON patch's test fails, or the result breaks a rule.
        """
        url = _url(path, fieldManager="trow")
        request = KubeRequest("PATCH", url, msgspec.json.encode(body), kind.value, repeatable=kind is PatchType.MERGE)
        return await self._manifest("patch", request)

    async def delete(self, path: str) -> bool:
        """Delete an object, or mark it for its finalizers; False where there is none."""
        try:
            await self._send("delete", KubeRequest("DELETE", _url(path)))
        except NotFound:
            return False
        return True

    async def _page(self, path: str, token: str, limit: int) -> tuple[bytes, int]:
        """A page and the limit that it took: large objects must not prevent a collection from being read."""
        while True:
            query = {"limit": str(limit)} | ({"continue": token} if token else {})
            try:
                return await self._send("list", KubeRequest("GET", _url(path, **query))), limit
            except TooLarge:
                if limit == 1:
                    raise
                limit = max(1, limit // 4)

    async def _manifest(self, operation: str, request: KubeRequest) -> Manifest:
        return _decoded(await self._send(operation, request), dict[str, object], str(request))

    async def _send(self, operation: str, request: KubeRequest) -> bytes:
        return await self._client.send(operation, request, seconds=self._seconds, most_bytes=_MOST_PAGE_BYTES)


def _url(path: str, **query: str) -> str:
    if not _PATH.fullmatch(path):
        raise ValueError(f"{path!r} is not the path of an object or a collection of the Kubernetes API")
    return f"{path}?{urlencode(query, quote_via=quote)}" if query else path


async def _events(path: str, lines: AsyncIterator[bytes]) -> AsyncGenerator[WatchEvent, None]:
    async for raw in lines:
        line = _decoded(raw, _Line, path)
        if line.type == "ERROR":
            status = Status.parse(line.object)
            raise refusal(f"to go on with {path}", status.code, status) or Unavailable(
                f"the Kubernetes API server breaks off the watch of {path}: {status.words()}; try again later"
            )
        try:
            change = Change(line.type)
        except ValueError:
            raise BadAnswer(f"the Kubernetes API server tells an unknown event of {path}; check its URL") from None
        manifest = _decoded(line.object, dict[str, object], path)
        if change is Change.BOOKMARK:
            yield WatchEvent(change, ("", ""), _converted(manifest, path).resource_version, manifest)
        else:
            yield WatchEvent(change, *_metadata(manifest, path), manifest)


def _metadata(manifest: Manifest, path: str) -> tuple[ObjectKey, str]:
    found = _converted(manifest, path)
    if not found.name:
        raise BadAnswer(f"the Kubernetes API server shows an object without a name in {path}; check its URL")
    return (found.namespace, found.name), found.resource_version


def _converted(manifest: Manifest, path: str) -> _Metadata:
    try:
        return msgspec.convert(manifest, _Object).metadata
    except msgspec.ValidationError as error:
        raise BadAnswer(
            f"the Kubernetes API server shows something else than an object in {path} ({error}); check its URL"
        ) from None


def _decoded(raw: bytes | msgspec.Raw, kind: type[_Answer], where: str) -> _Answer:
    try:
        # Objects of tenants may have numbers of any size.
        return msgspec.json.Decoder(kind, float_hook=finite).decode(raw)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise BadAnswer(
            f"the Kubernetes API server answers {where} with something else than is expected; check its URL"
        ) from None
