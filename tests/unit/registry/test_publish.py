from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

import factories
from factories import OCI_IMAGE
from support.actors import Somebody
from support.core import OTHER, REPO, digest, pieces, publication, tag
from support.metadata import EmbeddedMetadata
from trow.access.permissions import Permission
from trow.oci.errors import (
    Denied,
    DigestMismatch,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameUnknown,
    TooManyTags,
)
from trow.oci.page import PageRequest
from trow.registry.browse import Browse
from trow.registry.ports import PublishRules, TagMove
from trow.registry.publish import Publish, Published
from trow.registry.sessions import Chunk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from factories import Manifest
    from support.fixtures import LocalBlobs
    from trow.oci.names import Reference, Repository, Tag
    from trow.registry.ports import ManifestRecord
    from trow.registry.pull import Pull
    from trow.registry.push import Push


class UseCases:
    """The use cases under test, with less to write."""

    def __init__(self, blobs: LocalBlobs, push: Push, pull: Pull, metadata: EmbeddedMetadata, **rules: int) -> None:
        given = {"sparse_images": 1, "sparse_indexes": 1, "strict_sizes": 0, "most_tags": 3} | rules
        self.wrong_sizes = 0
        self.pull = pull
        self.browse = Browse(metadata)
        self.actor = Somebody(everything=True)
        self._push = push
        self._publish = Publish(
            blobs,
            metadata,
            PublishRules(
                sparse_images=bool(given["sparse_images"]),
                sparse_indexes=bool(given["sparse_indexes"]),
                strict_sizes=bool(given["strict_sizes"]),
                most_tags=given["most_tags"],
            ),
            self._note_wrong_sizes,
        )

    def _note_wrong_sizes(self) -> None:
        self.wrong_sizes += 1

    async def put(self, manifest: Manifest, reference: str = "", *tags: str) -> Published:
        target: Reference = tag(reference) if reference else digest(manifest.digest)
        return await self._publish.put(
            REPO, target, [tag(each) for each in tags], manifest.media_type, manifest.raw, self.actor
        )

    async def put_raw(self, raw: bytes, reference: Reference) -> Published:
        return await self._publish.put(REPO, reference, [], OCI_IMAGE, raw, self.actor)

    async def push(self, manifest: Manifest, repository: Repository = REPO) -> None:
        for blob in manifest.blobs:
            await self._push.monolithic(repository, self.actor, Chunk(pieces(blob.content)), digest(blob.digest))

    async def delete(self, reference: Reference) -> list[TagMove]:
        return [*await self._publish.delete(REPO, reference, "alice")]

    async def tags(self) -> list[str]:
        try:
            return [*(await self.browse.tags(REPO, PageRequest(100))).items]
        except NameUnknown:
            return []

    async def has(self, reference: Reference) -> bool:
        try:
            return bool((await self.pull.manifest(REPO, reference)).content)
        except ManifestUnknown:
            return False


@pytest.fixture
def shelf(blobs: LocalBlobs, push: Push, pull: Pull, metadata: EmbeddedMetadata) -> UseCases:
    return UseCases(blobs, push, pull, metadata)


@pytest.fixture
def strict(blobs: LocalBlobs, push: Push, pull: Pull, metadata: EmbeddedMetadata) -> UseCases:
    return UseCases(blobs, push, pull, metadata, sparse_images=0, sparse_indexes=0, strict_sizes=1)


async def test_manifest_is_read_as_it_was_pushed(strict: UseCases) -> None:
    image = factories.image()
    await strict.push(image)
    assert await strict.put(image, "v1") == Published(
        digest(image.digest), OCI_IMAGE, None, (), (TagMove(tag("v1"), None),)
    )
    for reference in (tag("v1"), digest(image.digest)):
        record = await strict.pull.manifest(REPO, reference)
        assert (record.digest, record.media_type, record.content) == (image.digest, OCI_IMAGE, image.raw)
        with pytest.raises(ManifestUnknown):
            await strict.pull.manifest(OTHER, reference)


async def test_large_manifest(shelf: UseCases) -> None:
    """Read beside the event loop."""
    image = factories.sized_image(1_000_000)
    await shelf.put(image, "large")
    assert (await shelf.pull.manifest(REPO, tag("large"))).content == image.raw


async def test_sha512_reference_is_the_manifests_digest(shelf: UseCases) -> None:
    image = factories.image()
    published = await shelf.put_raw(image.raw, digest(image.sha512))
    assert published.digest == image.sha512
    assert await shelf.has(digest(image.sha512))
    assert not await shelf.has(digest(image.digest))


async def test_push_by_digest_points_all_its_tags(shelf: UseCases) -> None:
    image = factories.image()
    published = await shelf.put(image, "", "b", "a", "c")
    assert [move.tag for move in published.moves] == ["b", "a", "c"]
    assert await shelf.tags() == ["a", "b", "c"]


async def test_push_by_digest_without_tags(shelf: UseCases) -> None:
    await shelf.put(factories.image())
    assert await shelf.tags() == []


async def test_too_many_tags_store_nothing(shelf: UseCases) -> None:
    image = factories.image()
    with pytest.raises(TooManyTags, match="4 tag parameters are too many; send at most 3"):
        await shelf.put(image, "", "a", "b", "c", "d")
    assert not await shelf.has(digest(image.digest))


async def test_tag_parameters_go_with_a_digest(shelf: UseCases) -> None:
    image = factories.image()
    with pytest.raises(ManifestInvalid, match="by digest"):
        await shelf.put(image, "v1", "v2")
    assert not await shelf.has(digest(image.digest))


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_wrong_digest_stores_nothing(shelf: UseCases, algorithm: str) -> None:
    image = factories.image()
    claimed = digest(factories.digest_of(b"other", algorithm))
    with pytest.raises(DigestMismatch):
        await shelf.put_raw(image.raw, claimed)
    assert not await shelf.has(claimed)
    assert not await shelf.has(digest(image.digest))


async def test_invalid_manifest_stores_nothing(shelf: UseCases) -> None:
    with pytest.raises(ManifestInvalid):
        await shelf.put_raw(b"{}", tag("v1"))
    assert await shelf.tags() == []


# What it refers to


async def test_missing_blobs_are_named_one_by_one(strict: UseCases) -> None:
    image = factories.image(3)
    with pytest.raises(ManifestBlobUnknown) as caught:
        await strict.put(image, "v1")
    errors = [caught.value, *caught.value.others]
    assert [error.detail for error in errors] == [{"digest": blob.digest} for blob in image.blobs]
    assert not await strict.has(tag("v1"))
    await strict.push(image)
    await strict.put(image, "v1")
    assert await strict.has(tag("v1"))


async def test_blob_of_another_repository_is_missing(strict: UseCases) -> None:
    image = factories.image()
    await strict.push(image, OTHER)
    with pytest.raises(ManifestBlobUnknown):
        await strict.put(image)


async def test_missing_children_are_named(strict: UseCases) -> None:
    index = factories.index()
    with pytest.raises(ManifestBlobUnknown) as caught:
        await strict.put(index)
    named = [error.detail for error in (caught.value, *caught.value.others)]
    assert named == [{"digest": child.digest} for child in index.children]
    for child in index.children:
        await strict.push(child)
        await strict.put(child)
    assert (await strict.put(index)).warnings == ()


async def test_errors_about_missing_blobs_are_bounded(strict: UseCases) -> None:
    with pytest.raises(ManifestBlobUnknown) as caught:
        await strict.put(factories.image(300))
    assert len(caught.value.others) < 300


@pytest.mark.parametrize(
    ("rules", "image_stays", "index_stays"),
    [
        ({"sparse_images": 0, "sparse_indexes": 1}, False, True),
        ({"sparse_images": 1, "sparse_indexes": 0}, True, False),
    ],
)
async def test_sparse_images_and_sparse_indexes_are_ruled_apart(
    blobs: LocalBlobs,
    push: Push,
    pull: Pull,
    metadata: EmbeddedMetadata,
    rules: dict[str, int],
    image_stays: bool,  # noqa: FBT001
    index_stays: bool,  # noqa: FBT001
) -> None:
    shelf = UseCases(blobs, push, pull, metadata, **rules)
    for manifest, stays in ((factories.image(), image_stays), (factories.index(), index_stays)):
        try:
            await shelf.put(manifest)
        except ManifestBlobUnknown:
            assert not stays
        assert await shelf.has(digest(manifest.digest)) == stays


async def test_remarks_say_what_is_missing(shelf: UseCases) -> None:
    image = factories.image(2)
    assert (await shelf.put(image)).warnings == ("3 blobs of this manifest are not in the repository",)
    await shelf.push(image)
    assert (await shelf.put(image)).warnings == ()
    index = factories.index([image, factories.image()])
    assert (await shelf.put(index)).warnings == ("1 manifests of this index are not in the repository",)


async def test_foreign_layers_are_never_missing_and_remarked_on(strict: UseCases) -> None:
    foreign = factories.blob(10, "application/vnd.oci.image.layer.nondistributable.v1.tar")
    config = factories.blob(10, factories.OCI_CONFIG)
    raw = factories.encode(
        {
            "schemaVersion": 2,
            "config": config.descriptor,
            "layers": [foreign.descriptor | {"urls": ["https://a.example"]}],
        }
    )
    image = factories.Manifest(raw, OCI_IMAGE, (config,))
    await strict.push(image)
    (remark,) = (await strict.put(image)).warnings
    assert "non-distributable" in remark


def with_sizes(size: int | None) -> factories.Manifest:
    """An image whose layer of 50 bytes is said to have so many."""
    layer, config = factories.blob(50), factories.blob(10, factories.OCI_CONFIG)
    document = {"schemaVersion": 2, "config": config.descriptor, "layers": [layer.descriptor | {"size": size}]}
    return factories.Manifest(factories.encode(document), OCI_IMAGE, (config, layer))


@pytest.mark.parametrize("size", [0, 49, 51, -1, None])
async def test_wrong_size_is_accepted_remarked_on_and_counted(shelf: UseCases, size: int | None) -> None:
    """Digests are what says that content is right, and images of the wild have wrong sizes."""
    image = with_sizes(size)
    await shelf.push(image)
    (remark,) = (await shelf.put(image, "v1")).warnings
    assert remark.startswith("1 sizes in this manifest are wrong or missing")
    assert (await shelf.tags(), shelf.wrong_sizes) == (["v1"], 1)


async def test_right_sizes_are_not_counted(shelf: UseCases) -> None:
    image = with_sizes(50)
    await shelf.push(image)
    assert (await shelf.put(image)).warnings == ()
    assert shelf.wrong_sizes == 0


@pytest.mark.parametrize(
    ("size", "says"), [(51, "51 bytes, and it has 50"), (-1, "the size of"), (None, "the size of")]
)
async def test_wrong_size_is_refused_where_sizes_are_strict(strict: UseCases, size: int | None, says: str) -> None:
    image = with_sizes(size)
    await strict.push(image)
    with pytest.raises(ManifestInvalid, match=rf"{says}.*registry\.strict_sizes"):
        await strict.put(image, "v1")
    assert (await strict.tags(), strict.wrong_sizes) == ([], 0)


async def test_wrong_size_of_a_child(shelf: UseCases, strict: UseCases) -> None:
    child = factories.image()
    await shelf.push(child)
    await shelf.put(child)
    raw = factories.index([child]).raw.replace(b'"size": %d' % child.size, b'"size": 7')
    (remark,) = (await shelf.put(factories.Manifest(raw, factories.OCI_INDEX))).warnings
    assert "wrong or missing" in remark
    with pytest.raises(ManifestInvalid):
        await strict.put(factories.Manifest(raw, factories.OCI_INDEX))


async def test_subject_need_not_be_here(strict: UseCases) -> None:
    subject = factories.image()
    artifact = factories.artifact(subject=subject)
    await strict.push(artifact)
    assert (await strict.put(artifact)).subject == subject.digest


# Rights


@pytest.fixture
def subject() -> Manifest:
    return factories.image()


async def test_push_needs_the_right_to_push(shelf: UseCases) -> None:
    shelf.actor = Somebody(Permission.PULL, Permission.ATTACH, Permission.DELETE)
    image = factories.image()
    for reference in ("v1", ""):
        with pytest.raises(Denied):
            await shelf.put(image, reference)
    assert shelf.actor.asked == [Permission.PUSH, Permission.PUSH]
    assert not await shelf.has(digest(image.digest))
    assert await shelf.tags() == []


async def test_signature_by_digest_needs_no_right_to_push(shelf: UseCases, subject: Manifest) -> None:
    shelf.actor = Somebody()
    signature = factories.artifact(subject=subject)
    assert (await shelf.put(signature)).subject == subject.digest
    assert shelf.actor.asked == []
    assert await shelf.has(digest(signature.digest))


@pytest.mark.parametrize(("reference", "tags"), [("v1", ()), ("", ("v1",))])
async def test_signature_that_gets_a_tag_is_a_push(
    shelf: UseCases, subject: Manifest, reference: str, tags: tuple[str, ...]
) -> None:
    shelf.actor = Somebody(Permission.ATTACH)
    signature = factories.artifact(subject=subject)
    with pytest.raises(Denied):
        await shelf.put(signature, reference, *tags)
    assert shelf.actor.asked == [Permission.PUSH]
    assert not await shelf.has(digest(signature.digest))


async def test_right_to_overwrite_is_asked_for_only_where_a_tag_moves(shelf: UseCases) -> None:
    shelf.actor = Somebody(Permission.PUSH)
    first, second = factories.image(), factories.image()
    for _ in range(2):
        await shelf.put(first, "v1")  # the second time it is where it was
    await shelf.put(second, "v2")
    assert set(shelf.actor.asked) == {Permission.PUSH}
    with pytest.raises(Denied):
        await shelf.put(second, "v1")
    assert shelf.actor.asked[-1] is Permission.TAG_OVERWRITE
    shelf.actor = Somebody(Permission.PUSH, Permission.TAG_OVERWRITE)
    assert (await shelf.put(second, "v1")).moves == (TagMove(tag("v1"), digest(first.digest)),)


def as_types(*media_types: str, subject: Manifest | None = None) -> list[Manifest]:
    """The same bytes, which do not say what they are."""
    image = factories.image(0, subject=subject)
    raw = factories.encode(image.document | {"mediaType": None})
    return [factories.Manifest(raw, media_type, image.blobs) for media_type in media_types]


@pytest.mark.parametrize("reference", ["v1", ""])
async def test_right_to_overwrite_is_asked_for_where_the_same_bytes_become_another_media_type(
    shelf: UseCases, reference: str
) -> None:
    """Clients read a manifest by its media type, so it is another one for everybody who pulls it."""
    oci, docker = as_types(OCI_IMAGE, factories.DOCKER_IMAGE)
    await shelf.put(oci, "v1")
    shelf.actor = Somebody(Permission.PUSH)
    with pytest.raises(Denied):
        await shelf.put(docker, reference)
    assert shelf.actor.asked[-1] is Permission.TAG_OVERWRITE
    assert (await shelf.pull.manifest(REPO, tag("v1"))).media_type == OCI_IMAGE
    assert (await shelf.put(oci, reference)).previous_type == ""
    shelf.actor = Somebody(Permission.PUSH, Permission.TAG_OVERWRITE)
    assert (await shelf.put(docker, reference)).previous_type == OCI_IMAGE
    assert (await shelf.pull.manifest(REPO, tag("v1"))).media_type == factories.DOCKER_IMAGE


async def test_right_to_attach_changes_no_media_type(shelf: UseCases, subject: Manifest) -> None:
    oci, docker = as_types(OCI_IMAGE, factories.DOCKER_IMAGE, subject=subject)
    await shelf.put(oci)
    shelf.actor = Somebody(Permission.ATTACH)
    with pytest.raises(Denied):
        await shelf.put(docker)
    assert (await shelf.pull.manifest(REPO, digest(oci.digest))).media_type == OCI_IMAGE


async def test_denied_overwrite_changes_nothing(shelf: UseCases, metadata: EmbeddedMetadata) -> None:
    old, new = factories.image(), factories.image()
    await shelf.put(old, "b")
    shelf.actor = Somebody(Permission.PUSH)
    with pytest.raises(Denied):
        await shelf.put(new, "", "a", "b", "c")
    assert await shelf.tags() == ["b"]
    assert not await shelf.has(digest(new.digest))
    found = await metadata.tagged_manifest(REPO, tag("b"))
    assert found is not None
    assert found.digest == old.digest
    assert len((await shelf.browse.history(REPO, tag("b"), PageRequest(9))).items) == 1


class Late(EmbeddedMetadata):
    """A database in which somebody else's tag appears between the look and the transaction."""

    theirs: Manifest | None = None

    async def tagged_manifest(self, repository: Repository, tag: Tag) -> ManifestRecord | None:
        found = await super().tagged_manifest(repository, tag)
        if self.theirs is not None:
            theirs, self.theirs = self.theirs, None
            await self.publish(publication(repository, theirs, tag))
        return found


@pytest.fixture
def late(tmp_path: Path) -> Iterator[Late]:
    with contextlib.closing(Late(tmp_path / "late.db")) as database:
        yield database


async def test_tag_that_appears_in_the_last_moment_is_not_overwritten_without_the_right(
    blobs: LocalBlobs, push: Push, pull: Pull, late: Late
) -> None:
    shelf, ours, theirs = UseCases(blobs, push, pull, late), factories.image(), factories.image()
    shelf.actor = Somebody(Permission.PUSH)
    late.theirs = theirs
    with pytest.raises(Denied):
        await shelf.put(ours, "v1")
    assert shelf.actor.asked == [Permission.PUSH, Permission.TAG_OVERWRITE]
    found = await late.tagged_manifest(REPO, tag("v1"))
    assert found is not None
    assert found.digest == theirs.digest
    assert await late.manifest(REPO, digest(ours.digest)) is None


async def test_tag_that_appears_in_the_last_moment_is_overwritten_with_the_right(
    blobs: LocalBlobs, push: Push, pull: Pull, late: Late
) -> None:
    shelf, ours, theirs = UseCases(blobs, push, pull, late), factories.image(), factories.image()
    shelf.actor = Somebody(Permission.PUSH, Permission.TAG_OVERWRITE)
    late.theirs = theirs
    assert (await shelf.put(ours, "v1")).moves == (TagMove(tag("v1"), digest(theirs.digest)),)


async def test_of_many_who_create_a_tag_at_once_one_does(shelf: UseCases) -> None:
    shelf.actor = Somebody(Permission.PUSH)
    images = [factories.image() for _ in range(20)]
    answers = await asyncio.gather(*(shelf.put(image, "v1") for image in images), return_exceptions=True)
    assert sum(isinstance(answer, Published) for answer in answers) == 1
    assert sum(isinstance(answer, Denied) for answer in answers) == 19
    assert sum([await shelf.has(digest(image.digest)) for image in images]) == 1


# Deleting


async def test_delete_of_a_tag_keeps_the_manifest(shelf: UseCases) -> None:
    image = factories.image()
    await shelf.put(image, "", "a", "b")
    assert await shelf.delete(tag("a")) == [TagMove(tag("a"), digest(image.digest))]
    assert await shelf.tags() == ["b"]
    assert await shelf.has(digest(image.digest))


async def test_delete_of_a_manifest_takes_its_tags_along(shelf: UseCases) -> None:
    image, other = factories.image(), factories.image()
    await shelf.put(image, "", "a", "b")
    await shelf.put(other, "c")
    gone = await shelf.delete(digest(image.digest))
    assert sorted(move.tag for move in gone) == ["a", "b"]
    assert {move.previous for move in gone} == {image.digest}
    assert await shelf.tags() == ["c"]
    assert not await shelf.has(digest(image.digest))


async def test_delete_of_what_is_not_there(shelf: UseCases) -> None:
    await shelf.put(factories.image(), "a")
    for reference in (tag("b"), digest(factories.image().digest)):
        with pytest.raises(ManifestUnknown):
            await shelf.delete(reference)
