"""What this registry knows of an image that somebody wants to run."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import pytest

import factories
from factories import OCI_CONFIG, Blob
from support import platforms
from support.core import OWNER, digest, pieces, publication, tag
from support.platforms import AMD64, ARM64, MADE, UNKNOWN, store
from support.trails import sql
from trow.oci import manifest as manifests
from trow.oci.errors import Unavailable
from trow.oci.names import Repository, UploadId
from trow.oci.numbers import finite
from trow.policy.facts import ImageConfig, ImageFacts, Need
from trow.policy.images import parse
from trow.registry.image_lookup import _CONFIGURATION, _INDEX, LocalImageLookup
from trow.registry.ports import BlobRecord

if TYPE_CHECKING:
    from pathlib import Path

    from factories import Manifest
    from support.fixtures import LocalBlobs
    from support.metadata import EmbeddedMetadata
    from trow.registry.pull import Pull

HERE: Final = "registry.example.com"
NAME: Final = "team/app"
OLD: Final = "2019-01-01T00:00:00Z"
ABSENT: Final = ImageFacts(exists=False)
LARGE_CONFIGURATION: Final = 2 * 2**20


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.fixture
def known(pull: Pull, metadata: EmbeddedMetadata) -> LocalImageLookup:
    return LocalImageLookup(pull, metadata, [HERE, "localhost:5000"])


async def facts(known: LocalImageLookup, reference: str = ":v1", registry: str = HERE) -> ImageFacts:
    return await known.facts(parse(f"{registry}/{NAME}{reference}"), tuple(Need))


async def made_at(known: LocalImageLookup) -> float | None:
    found = (await facts(known)).config
    assert found is not None
    return found.created


async def made_and_for(
    known: LocalImageLookup, metadata: EmbeddedMetadata, manifest: Manifest
) -> tuple[float | None, tuple[str, ...]]:
    """The date and the platforms of a manifest that is pushed."""
    await store(metadata, NAME, manifest, "v1")
    found = await facts(known)
    assert (found.exists, found.digest) == (True, manifest.digest)
    assert found.config is not None
    return found.config.created, found.config.platforms


# ---- one image


async def test_an_image(known: LocalImageLookup, metadata: EmbeddedMetadata) -> None:
    image = platforms.image()
    await store(metadata, NAME, image, "v1", "latest")
    wanted = ImageFacts(True, digest(image.digest), config=ImageConfig(seconds(MADE), ("linux/amd64",)))
    for reference in ("", ":v1", f"@{image.digest}"):
        assert await facts(known, reference) == wanted
    assert await facts(known, f":v1@{image.digest}") == replace(wanted, tag_verified=True)
    assert await facts(known, f":v2@{image.digest}") == wanted
    assert await facts(known, registry="localhost:5000") == wanted


async def test_only_what_is_needed_is_looked_up(known: LocalImageLookup, metadata: EmbeddedMetadata) -> None:
    image = platforms.image()
    await store(metadata, NAME, image, "v1")
    named = parse(f"{HERE}/{NAME}:v1@{image.digest}")
    for need in (Need.EXISTENCE, Need.DIGEST):
        assert await known.facts(named, [need]) == ImageFacts(exists=True, digest=digest(image.digest))
    assert (await known.facts(named, [Need.TAG])).tag_verified
    found = await known.facts(named, [Need.CONFIG])
    assert (found.tag_verified, found.config) == (False, ImageConfig(seconds(MADE), ("linux/amd64",)))


async def test_beside_a_digest_a_tag_says_nothing(known: LocalImageLookup, metadata: EmbeddedMetadata) -> None:
    first, second = platforms.image(), platforms.image()
    await store(metadata, NAME, first, "v1")
    await store(metadata, NAME, second, "v2")
    assert (await facts(known, f":v2@{first.digest}")).digest == first.digest
    assert (await facts(known, f":absent@{first.digest}")).digest == first.digest
    assert await facts(known, f":v1@{platforms.image().digest}") == ABSENT


@pytest.mark.parametrize("registry", ["docker.io", "registry.example.com:5000", "localhost", "localhost:5001"])
async def test_images_of_other_registries_are_not_here(
    known: LocalImageLookup, pull: Pull, metadata: EmbeddedMetadata, registry: str
) -> None:
    await store(metadata, NAME, platforms.image(), "v1")
    assert await facts(known, registry=registry) == ABSENT
    assert await LocalImageLookup(pull, metadata, []).facts(parse(f"{HERE}/{NAME}:v1"), tuple(Need)) == ABSENT


async def test_what_another_repository_has_is_not_here(known: LocalImageLookup, metadata: EmbeddedMetadata) -> None:
    image = platforms.image()
    await store(metadata, "team/other", image, "v1")
    assert await facts(known) == ABSENT
    assert await facts(known, f"@{image.digest}") == ABSENT


async def test_a_tag_that_moves_or_goes(known: LocalImageLookup, metadata: EmbeddedMetadata) -> None:
    first, second = platforms.image(), platforms.image()
    for image in (first, second):
        await store(metadata, NAME, image, "v1")
        assert (await facts(known)).digest == image.digest
    await metadata.delete_tag(Repository(NAME), tag("v1"), "")
    assert await facts(known) == ABSENT


@pytest.mark.parametrize(
    ("members", "platform"),
    [
        (AMD64, "linux/amd64"),
        ({"os": "linux", "architecture": "arm", "variant": "v7"}, "linux/arm/v7"),
        ({"os": "windows", "architecture": "amd64", "os.version": "10.0"}, "windows/amd64"),
        ({"os": "linux", "architecture": None}, "linux"),
        ({"os": None}, None),
        (UNKNOWN, None),
        ({"os": 1}, None),
    ],
)
async def test_platforms(
    known: LocalImageLookup, metadata: EmbeddedMetadata, members: dict[str, Any], platform: str | None
) -> None:
    _, found = await made_and_for(known, metadata, platforms.image(**members))
    assert found == ((platform,) if platform else ())


@pytest.mark.parametrize(
    ("created", "at"),
    [
        ("2023-11-01T12:00:00Z", 1698840000.0),
        ("2023-11-01T12:00:00+00:00", 1698840000.0),
        ("2023-11-01T14:00:00.123456789+02:00", 1698840000.123456),
        ("1970-01-01T00:00:00Z", 0.0),
        ("0001-01-01T00:00:00Z", -62135596800.0),
        ("2023-11-01T12:00:00", None),  # in whose time?
        ("2023-11-01", None),
        ("1698840000", None),
        ("0001-01-01T00:00:00+14:00", -62135647200.0),
        ("10000-01-01T00:00:00Z", None),
        ("yesterday", None),
        ("", None),
        (None, None),
        (1698840000, None),
    ],
)
async def test_dates(known: LocalImageLookup, metadata: EmbeddedMetadata, created: Any, at: float | None) -> None:
    assert (await made_and_for(known, metadata, platforms.image(created)))[0] == at


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff", b'{"created": "\xff"}', b"[" * 100_000, b'{"os": ["linux"]}']
)
async def test_a_configuration_that_cannot_be_read_says_nothing(
    known: LocalImageLookup, metadata: EmbeddedMetadata, content: bytes
) -> None:
    assert await made_and_for(known, metadata, platforms.image_of(Blob(content, OCI_CONFIG))) == (None, ())


async def test_a_configuration_of_no_use_is_not_even_read(known: LocalImageLookup, metadata: EmbeddedMetadata) -> None:
    large = platforms.config(filling="x" * LARGE_CONFIGURATION)
    assert await made_and_for(known, metadata, platforms.image_of(large)) == (None, ())


async def test_the_size_that_counts_is_that_of_the_blob(known: LocalImageLookup, metadata: EmbeddedMetadata) -> None:
    """A manifest may have been taken before its blob, and may have been wrong about it."""
    large = platforms.config(filling="x" * LARGE_CONFIGURATION)
    image = platforms.image_of(large)
    lying = factories.Manifest(image.raw.replace(str(large.size).encode(), b"100"), image.media_type)
    await metadata.publish(publication(Repository(NAME), lying, "v1"))
    await platforms.store_blobs(metadata, NAME, [large])
    assert await facts(known) == ImageFacts(True, digest(lying.digest), config=ImageConfig())


async def test_an_image_without_its_configuration(known: LocalImageLookup, metadata: EmbeddedMetadata) -> None:
    image = platforms.image()
    await metadata.publish(publication(Repository(NAME), image, "v1"))
    assert await facts(known) == ImageFacts(True, digest(image.digest), config=ImageConfig())


async def test_a_configuration_that_is_a_file(
    known: LocalImageLookup, metadata: EmbeddedMetadata, blobs: LocalBlobs
) -> None:
    configuration = platforms.config(filling="x" * 100_000)
    image = platforms.image_of(configuration)
    upload, name = UploadId.new(), digest(configuration.digest)
    staged = await blobs.resume(upload, "sha256", OWNER)
    await staged.write(pieces(configuration.content))
    record = BlobRecord(configuration.size, None, await staged.commit(name))
    await metadata.link_blob(Repository(NAME), name, record)
    await metadata.publish(publication(Repository(NAME), image, "v1"))
    assert await made_at(known) == seconds(MADE)


async def test_a_configuration_is_read_once(
    known: LocalImageLookup, metadata: EmbeddedMetadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await made_and_for(known, metadata, platforms.image()) == (seconds(MADE), ("linux/amd64",))
    monkeypatch.setattr("trow.registry.pull.Pull.content", None)
    assert await made_at(known) == seconds(MADE)


async def test_a_configuration_of_another_repository_is_not_known_by_its_digest(
    known: LocalImageLookup, metadata: EmbeddedMetadata
) -> None:
    """Knowing a digest is no right to what it stands for (CVE-2024-39897)."""
    image = platforms.image()
    await made_and_for(known, metadata, image)
    await metadata.publish(publication(Repository("other/app"), image, "v1"))
    found = await known.facts(parse(f"{HERE}/other/app:v1"), tuple(Need))
    assert found == ImageFacts(True, digest(image.digest), config=ImageConfig())


async def test_artifacts_are_no_images_of_any_platform(known: LocalImageLookup, metadata: EmbeddedMetadata) -> None:
    assert await made_and_for(known, metadata, factories.artifact()) == (None, ())


# ---- an index


async def test_the_oldest_platform_decides(known: LocalImageLookup, metadata: EmbeddedMetadata) -> None:
    index = platforms.index((platforms.image(), AMD64), (platforms.image(OLD, **ARM64), ARM64))
    assert await made_and_for(known, metadata, index) == (seconds(OLD), ("linux/amd64", "linux/arm64"))


async def test_a_list_of_docker(known: LocalImageLookup, metadata: EmbeddedMetadata) -> None:
    assert await made_and_for(known, metadata, factories.docker_list([platforms.image(OLD)])) == (
        seconds(OLD),
        ("linux/amd64",),
    )


async def test_attestations_are_no_platforms(known: LocalImageLookup, metadata: EmbeddedMetadata) -> None:
    attestation = platforms.image(None, **UNKNOWN)
    index = platforms.index((platforms.image(), AMD64), (attestation, UNKNOWN))
    assert await made_and_for(known, metadata, index) == (seconds(MADE), ("linux/amd64",))


@pytest.mark.parametrize(
    ("image", "platform"),
    [
        (platforms.image(None, **ARM64), ARM64),
        (platforms.image("yesterday", **ARM64), ARM64),
        (platforms.image_of(Blob(b"?", OCI_CONFIG)), ARM64),
        (platforms.image_of(platforms.config(OLD, filling="x" * LARGE_CONFIGURATION)), AMD64),
        (platforms.image(None, **UNKNOWN), AMD64),  # a runtime goes by the index
        (platforms.image(None, **UNKNOWN), None),
        (platforms.image(None, **UNKNOWN), {**UNKNOWN, "OS": "linux"}),  # as Go reads it: linux
        (platforms.index((platforms.image(OLD), AMD64)), AMD64),
    ],
)
async def test_one_that_does_not_say_its_age_leaves_all_unknown(
    known: LocalImageLookup, metadata: EmbeddedMetadata, image: Manifest, platform: dict[str, str] | None
) -> None:
    """Else an old image passes beside a young one that no node runs."""
    decoy = platforms.image()
    created, _ = await made_and_for(known, metadata, platforms.index((image, platform), (decoy, ARM64)))
    assert created is None


async def test_the_age_of_what_calls_itself_unknown_counts(known: LocalImageLookup, metadata: EmbeddedMetadata) -> None:
    hidden = platforms.image(OLD, **UNKNOWN)
    index = platforms.index((hidden, AMD64), (platforms.image(), ARM64))
    assert await made_and_for(known, metadata, index) == (seconds(OLD), ("linux/amd64",))


async def test_more_platforms_than_are_looked_at_leave_the_age_unknown(
    known: LocalImageLookup, metadata: EmbeddedMetadata
) -> None:
    many = [(platforms.image(), AMD64) for _ in range(64)]
    assert (await made_and_for(known, metadata, platforms.index(*many)))[0] == seconds(MADE)
    created, found = await made_and_for(known, metadata, platforms.index(*many, (platforms.image(OLD), AMD64)))
    assert (created, len(found)) == (None, 64)
    beside = platforms.index(*many, (platforms.image(None, **UNKNOWN), UNKNOWN))
    assert (await made_and_for(known, metadata, beside))[0] == seconds(MADE)


async def test_of_a_sparse_index_counts_what_is_here(known: LocalImageLookup, metadata: EmbeddedMetadata) -> None:
    present, absent = platforms.image(), platforms.image(OLD, **ARM64)
    await store(metadata, NAME, present)
    index = platforms.index((present, AMD64), (absent, ARM64))
    await metadata.publish(publication(Repository(NAME), index, "v1"))
    found = await facts(known)
    assert found.config == ImageConfig(seconds(MADE), ("linux/amd64",))
    await store(metadata, NAME, absent)
    assert await made_at(known) == seconds(OLD)


async def test_an_index_without_anything_here_says_nothing(known: LocalImageLookup, metadata: EmbeddedMetadata) -> None:
    for index in (platforms.index(), platforms.index((platforms.image(), AMD64))):
        await metadata.publish(publication(Repository(NAME), index, "v1"))
        assert await facts(known) == ImageFacts(True, digest(index.digest), config=ImageConfig())


# ---- trouble


async def test_a_database_that_does_not_answer(
    known: LocalImageLookup, metadata: EmbeddedMetadata, tmp_path: Path
) -> None:
    await store(metadata, NAME, platforms.image(), "v1")
    sql(tmp_path / "trow.db", "ALTER TABLE tag RENAME TO gone")
    with pytest.raises(Unavailable):
        await facts(known)


# ---- what takes time


async def test_large_documents_are_read_beside_the_event_loop(
    known: LocalImageLookup, metadata: EmbeddedMetadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    parse_manifest = manifests.parse

    def parsed(raw: bytes, content_type: str) -> manifests.Manifest:
        threads.append(threading.current_thread())
        return parse_manifest(raw, content_type)

    filling = {"filling": "x" * manifests.LARGE}
    await store(metadata, NAME, platforms.image_of(platforms.config(), annotations=filling), "v1")
    monkeypatch.setattr(manifests, "parse", parsed)
    assert (await facts(known)).exists
    assert threads
    assert threading.current_thread() not in threads


def test_numbers_of_an_index_that_are_hard_to_round_keep_nobody_waiting() -> None:
    for decoder in (_INDEX, _CONFIGURATION):
        assert decoder.float_hook is finite
