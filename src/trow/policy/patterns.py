"""The patterns of rules: globs over the parts of a parsed image reference, never over its text."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Self

from trow.lib.globs import NAMESPACE, RepositoryGlob, matches
from trow.oci.digest import Digest
from trow.oci.errors import OciError
from trow.oci.names import Repository
from trow.policy import images
from trow.policy.images import InvalidImage
from trow.policy.versions import VersionRange

if TYPE_CHECKING:
    from trow.policy.images import ImageReference

ANY: Final = "*"
_ALL_REPOSITORIES: Final = RepositoryGlob("**")
_TAG_GLOB: Final = re.compile(r"(?!.*\*\*)[a-zA-Z0-9_*][a-zA-Z0-9._*-]{0,127}")
# Replacements for a star, to test whether a glob matches any registry: a letter, and a number for addresses.
_SAMPLES: Final = ("x", "1")


@dataclass(frozen=True, slots=True)
class ImagePattern:
    """Covers the images that match in every part. `parse` is its constructor.

    Attributes:
        registry: a glob over host and port; ``*`` matches within one label, as the port any port or none, and alone any
            registry.
        repository: a glob by components.
        tag: a glob; ``*`` matches any tag, and images without a tag too.
        digest: exactly this digest; then `tag` is ``*``.
        semver: tags that are versions in this range; then `tag` is ``*``.
    """

    registry: str
    repository: RepositoryGlob = _ALL_REPOSITORIES
    tag: str = ANY
    digest: Digest | None = None
    semver: VersionRange | None = None

    @classmethod
    def parse(cls, registry: str, repository: str = "**", tag: str = ANY, digest: str = "", semver: str = "") -> Self:
        """Read a pattern as an operator wrote it.

        Raises:
            ValueError: it could not match any image; the message says how to write it.
        """
        host = _host_glob(registry)
        if digest and tag != ANY:
            raise ValueError("write either a tag or a digest: with a digest, the tag decides nothing")
        if not _TAG_GLOB.fullmatch(tag):
            raise ValueError(f"{tag!r} is not a glob of tags: write a tag, with * for anything in it, such as v1.*")
        if semver and (digest or tag != ANY):
            raise ValueError("write one of tag, semver and digest")
        versions = VersionRange.parse(semver) if semver else None
        glob = _repository_glob(host, repository)
        try:
            return cls(host, glob, tag, Digest.parse(digest) if digest else None, versions)
        except OciError as error:
            raise ValueError(f"{digest!r} is not a digest: {error}") from None

    @property
    def by_tag(self) -> bool:
        """Whether it selects images by their tags."""
        return self.digest is None and (self.tag != ANY or self.semver is not None)

    @property
    def in_namespaces(self) -> bool:
        """Whether it depends on the namespace in which the image is to run."""
        return NAMESPACE in self.repository

    def covers(self, image: ImageReference, *, ignore_tag: bool, namespace: str = "") -> bool:
        """Whether it covers the image.

        Args:
            image: any.
            namespace: where it is to run; "" if that is not known.
            ignore_tag: whether to ignore a tag beside a digest. A rule that allows ignores it, because nothing proves
                that the tag points at the digest; a rule that denies does not.
        """
        return (
            self._covers_version(image, ignore_tag=ignore_tag)
            and covers_registry(self.registry, image.registry)
            and self.repository.covers(image.repository, namespace)
        )

    def _covers_version(self, image: ImageReference, *, ignore_tag: bool) -> bool:
        if self.digest is not None:
            return image.digest == self.digest
        if not self.by_tag:
            return True
        if image.tag is None or (image.digest is not None and ignore_tag):
            return False
        return self.semver.covers(image.tag) if self.semver else matches(self.tag, image.tag)

    def any_digest(self) -> Self:
        """The same pattern for any digest."""
        return replace(self, digest=None)

    def __str__(self) -> str:
        version = f"@{self.digest}" if self.digest else f":semver({self.semver})" if self.semver else f":{self.tag}"
        return f"{self.registry}/{self.repository}{'' if version == ':*' else version}"


def covers_registry(glob: str, registry: str) -> bool:
    """Whether a glob covers a registry, label by label: ``*.example.com`` has exactly one more label.

    Only ``*`` alone or the address itself covers an IPv6 address, which has no labels.
    """
    if glob == ANY or "*" not in glob:
        return glob in (ANY, registry)
    (host_glob, port_glob), (host, port) = images.split_port(glob), images.split_port(registry)
    globs, labels = host_glob.split("."), host.split(".")
    return (
        matches(port_glob, port)
        and len(globs) == len(labels)
        and all(map(matches, globs, labels))
        and not host.startswith("[")
    )


def _host_glob(text: str) -> str:
    host, slash, path = text.partition("://")[2].partition("/") if "://" in text else text.partition("/")
    if slash or host != text:
        beside = f", and repository: {path}" if path else ""
        raise ValueError(f"{text!r} is more than the host of a registry; write registry: {host}{beside}")
    try:
        if "*" not in text:
            return images.registry_of(text)
    except InvalidImage as error:
        raise ValueError(str(error)) from None
    glob = text.lower().removesuffix(":443").removesuffix(":80")
    if (glob == ANY) != (text == ANY) or not _is_host_glob(text):
        raise ValueError(
            f"{text!r} is not a glob of registries: write a host with * for anything in one label, such as"
            " *.example.com, or * for every registry"
        )
    if glob != ANY and any(covers_registry(glob, name) for name in images.HUB_NAMES - {images.DOCKER_HUB}):
        raise ValueError(f"{text!r} is about names of Docker Hub, which has one name here: write {images.DOCKER_HUB}")
    return glob


def _is_host_glob(text: str) -> bool:
    """Whether it could match some registry; the port is a number or a star."""
    host, port = images.split_port(text)
    if "**" in text or "[" in text:
        return False
    end = "" if port in ("", ANY) else f":{port}"
    for sample in _SAMPLES:
        with contextlib.suppress(InvalidImage):
            return bool(images.registry_of(host.replace("*", sample) + end))
    return False


def _repository_glob(registry: str, text: str) -> RepositoryGlob:
    written = text if text == _ALL_REPOSITORIES else images.official(registry, text)
    glob = RepositoryGlob.parse(written, in_namespaces=True)
    try:
        Repository.parse(glob.replace(NAMESPACE, "x").replace("**", "x").replace("*", "x"))
    except OciError as error:
        raise ValueError(f"{text!r} is not a glob of repositories: {error}") from None
    return glob
