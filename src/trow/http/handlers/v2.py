"""The OCI Distribution Specification but for blobs: ping, manifests, tags, referrers, catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from trow.http.response import Headers, Response, encode, json_response
from trow.oci import media
from trow.oci.digest import Digest
from trow.oci.errors import OciError
from trow.oci.names import Tag, parse_reference
from trow.oci.page import PageRequest, next_link
from trow.registry.events import Action

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trow.admission.pull_policy import PullPolicy
    from trow.http.access import AccessController
    from trow.http.handlers.lists import Lists
    from trow.http.handlers.manifests import ManifestBodies
    from trow.http.recorder import Recorder
    from trow.http.request import Request
    from trow.oci.page import Page
    from trow.registry.browse import Browse
    from trow.registry.ports import Referrer
    from trow.registry.publish import Publish
    from trow.registry.pull import Pull


class V2:
    """Handlers; each reads the request, calls one use case and writes the answer.

    Args:
        pulls: the policies of images at pull time; None where they are not enforced here.
    """

    def __init__(  # noqa: PLR0913 - the composition root's one call
        self,
        pull: Pull,
        publish: Publish,
        browse: Browse,
        access: AccessController,
        recorder: Recorder,
        *,
        bodies: ManifestBodies,
        lists: Lists,
        pulls: PullPolicy | None,
    ) -> None:
        self._pull = pull
        self._publish = publish
        self._browse = browse
        self._access = access
        self._recorder = recorder
        self._bodies = bodies
        self._lists = lists
        self._pulls = pulls

    async def ping(self, request: Request) -> Response:
        """end-1: this is a registry, and the credentials are good."""
        await self._recorder.logged_in(request)
        return json_response(200, {})

    async def get_manifest(self, request: Request) -> Response:
        """end-3: a manifest by tag or digest."""
        repository = request.repository
        reference = parse_reference(request.parameters["reference"])
        record = await self._pull.manifest(repository, reference)
        if self._pulls is not None and self._pulls.concerns(request.identity):
            try:
                await self._pulls.check(request.identity, request.peer.host, repository, reference, record)
            except OciError as error:
                self._recorder.refused(request, Action.ADMISSION, error, repository)
                raise
        etag = f'"{record.digest}"'
        headers = [("docker-content-digest", record.digest), ("etag", etag)]
        unchanged = etag_matches(request.header_list("if-none-match"), etag)
        await self._recorder.manifest(request, reference, record, sent=not unchanged)
        if unchanged:
            return Response(304, headers)
        headers.append(("content-type", record.media_type))
        return Response(200, headers, record.content)

    async def put_manifest(self, request: Request) -> Response:
        """end-7a, end-7b: store a manifest by tag, or by digest with any number of tags."""
        repository = request.repository
        reference = parse_reference(request.parameters["reference"])
        tags = [Tag.parse(tag) for tag in dict.fromkeys(request.query_all("tag"))]
        content_type = request.header("content-type") or ""
        actor = self._access.actor(request)
        async with (
            self._bodies.receive(request) as raw,
            self._recorder.attempt(request, Action.PUSH, reference=reference),
        ):
            published = await self._publish.put(repository, reference, tags, content_type, raw, actor)
            self._recorder.pushed(request, reference, len(raw), published)
        headers: Headers = [
            ("location", f"/v2/{repository}/manifests/{published.digest}"),
            ("docker-content-digest", published.digest),
        ]
        if published.subject is not None:
            headers.append(("oci-subject", published.subject))
        headers.extend(("oci-tag", tag) for tag in tags)
        headers.extend(("warning", warning(remark)) for remark in published.warnings)
        return Response(201, headers)

    async def delete_manifest(self, request: Request) -> Response:
        """end-9: delete a tag, or a manifest with its tags."""
        repository = request.repository
        reference = parse_reference(request.parameters["reference"])
        action = Action.MANIFEST_DELETE if isinstance(reference, Digest) else Action.TAG_DELETE
        async with self._recorder.attempt(request, action, reference=reference):
            gone = await self._publish.delete(repository, reference, request.identity.name)
        self._recorder.deleted(request, reference, gone)
        return Response(202)

    async def list_tags(self, request: Request) -> Response:
        """end-8a, end-8b: a repository's tags in byte order."""
        repository = request.repository
        page = self._lists.page(request)
        async with self._lists.turn(request):
            tags = await self._browse.tags(repository, page)
        self._recorder.listed(request, "tags")
        return json_response(200, {"name": repository, "tags": tags.items}, _link(request, page, tags))

    async def list_repositories(self, request: Request) -> Response:
        """``_catalog``: the names of all repositories that the client may pull, in byte order."""
        page = self._lists.page(request)
        async with self._lists.turn(request):
            repositories = await self._browse.repositories(page, self._access.actor(request))
        self._recorder.listed(request, "repositories")
        return json_response(200, {"repositories": repositories.items}, _link(request, page, repositories))

    async def list_referrers(self, request: Request) -> Response:
        """end-12a, end-12b: an index of the manifests that refer to a digest."""
        repository = request.repository
        subject = Digest.parse(request.parameters["digest"])
        # Clients write a bare plus, which reads as a space in a query; a media type has none (RFC 6838, section 4.2).
        artifact_type = (request.query("artifactType") or "").replace(" ", "+") or None
        page = self._lists.page(request)
        async with self._lists.turn(request):
            found = await self._browse.referrers(repository, subject, artifact_type, page)
        self._recorder.listed(request, "referrers", subject)
        headers: Headers = [("content-type", media.OCI_INDEX)]
        filters = {} if artifact_type is None else {"artifactType": artifact_type}
        if artifact_type is not None:
            headers.append(("oci-filters-applied", "artifactType"))
        if left_out := sum(each.left_out for each in found.items):
            remark = f"the annotations of {left_out} entries are larger than a list shows; they are in the manifests"
            headers.append(("warning", warning(remark)))
        if found.more:
            following = {**filters, "n": str(page.limit), "last": found.items[-1].digest}
            headers.append(("link", next_link(request.path, following)))
        descriptors = [_descriptor(each) for each in found.items]
        index = {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": descriptors}
        return Response(200, headers, encode(index))


def etag_matches(condition: str | None, etag: str) -> bool:
    """Whether ``If-None-Match`` names the entity (RFC 9110, section 13.1.2; weak comparison)."""
    if condition is None:
        return False
    return any(each.strip().removeprefix("W/") in (etag, "*") for each in condition.split(","))


def warning(text: str) -> str:
    """A ``Warning`` header value (RFC 7234, section 5.5, as the distribution specification wants it)."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'299 - "{escaped}"'


def _link(request: Request, page: PageRequest, found: Page[str]) -> Headers:
    if not found.more:
        return []
    return [("link", next_link(quote(request.path), {"n": str(page.limit), "last": found.items[-1]}))]


def _descriptor(referrer: Referrer) -> Mapping[str, object]:
    descriptor: dict[str, object] = {
        "mediaType": referrer.media_type,
        "digest": referrer.digest,
        "size": referrer.size,
    }
    if referrer.artifact_type is not None:
        descriptor["artifactType"] = referrer.artifact_type
    if referrer.annotations:
        descriptor["annotations"] = msgspec.Raw(referrer.annotations.encode())
    return descriptor
