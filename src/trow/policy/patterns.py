"""What a rule says of images: globs over the parts of a parsed reference, never over its text."""

from __future__ import annotations

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
# What may stand for a star: a number in an address, a letter elsewhere.
_ANYTHING: Final = ("x", "1")


@dataclass(frozen=True, slots=True)
class ImagePattern:
    """Images that are like this in every part. `parse` is its constructor.

    Attributes:
        registry: a host with its port; ``*`` stands for anything within one label, as the port for any port or none,
            alone for any registry.
        repository: a glob by components.
        tag: a glob; ``*`` is any tag, and any digest too.
        digest: exactly this content; then there is no tag.
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
            ValueError: nothing could ever match it; the message says how it is written.
        """
        host = _host_glob(registry)
        if digest and tag != ANY:
            raise ValueError("write either a tag or a digest: with a digest, the tag decides nothing")
        if not _TAG_GLOB.fullmatch(tag):
            raise ValueError(f"{tag!r} is not a glob of tags: write a tag, with * for anything in it, such as v1.*")
        if semver and (digest or tag != ANY):
            raise ValueError("write one of tag, semver and digest")
        versions = VersionRange.parse(semver) if semver else None
        return cls(host, _repository_glob(host, repository), tag, _digest(digest), versions)

    @property
    def by_tag(self) -> bool:
        """Whether the tag of an image decides."""
        return self.digest is None and (self.tag != ANY or self.semver is not None)

    @property
    def in_namespaces(self) -> bool:
        """Whether it takes the namespace to know what is meant."""
        return NAMESPACE in self.repository

    def covers(self, image: ImageReference, *, ignore_tag: bool, namespace: str = "") -> bool:
        """Whether the image is one of those meant.

        Args:
            image: any.
            namespace: where it is to run; "" where that is not known.
            ignore_tag: whether a tag beside a digest is ignored. It is where the pattern would allow the image, for
                nothing proves that the tag points at the digest, and it is not where the pattern would deny it.
        """
        return (
            self._covers_version(image, ignore_tag=ignore_tag)
            and covers_registry(self.registry, image.registry)
            and self.repository.covers(image.repository, namespace)
        )

    def any_digest(self) -> Self:
        """The same with whatever content."""
        return replace(self, digest=None)

    def _covers_version(self, image: ImageReference, *, ignore_tag: bool) -> bool:
        if self.digest is not None:
            return image.digest == self.digest
        if not self.by_tag:
            return True
        if image.tag is None or (image.digest is not None and ignore_tag):
            return False
        return self.semver.covers(image.tag) if self.semver else matches(self.tag, image.tag)

    def __str__(self) -> str:
        version = f"@{self.digest}" if self.digest else f":semver({self.semver})" if self.semver else f":{self.tag}"
        return f"{self.registry}/{self.repository}{'' if version == ':*' else version}"


def covers_registry(glob: str, registry: str) -> bool:
    """Whether a registry is one of those meant: by labels, so that ``*.example.com`` has exactly one more in front.

    An address of IPv6 has no labels; it is written out, or covered by ``*`` alone.
    """
    if glob == ANY or "*" not in glob:
        return glob in (ANY, registry)
    (host, port), (given, its_port) = images.split_port(glob), images.split_port(registry)
    wanted, labels = host.split("."), given.split(".")
    return (
        matches(port, its_port)
        and len(wanted) == len(labels)
        and all(map(matches, wanted, labels))
        and not given.startswith("[")
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
    """Whether it is like some registry; a port is a number or a star."""
    host, port = images.split_port(text)
    if "**" in text or "[" in text:
        return False
    end = "" if port in ("", ANY) else f":{port}"
    return any(_is_registry(host.replace("*", each) + end) for each in _ANYTHING)


def _is_registry(text: str) -> bool:
    try:
        images.registry_of(text)
    except InvalidImage:
        return False
    return True


def _repository_glob(registry: str, text: str) -> RepositoryGlob:
    written = text if text == _ALL_REPOSITORIES else images.official(registry, text)
    glob = RepositoryGlob.parse(written, in_namespaces=True)
    try:
        Repository.parse(glob.replace(NAMESPACE, "x").replace("**", "x").replace("*", "x"))
    except OciError as error:
        raise ValueError(f"{text!r} is not a glob of repositories: {error}") from None
    return glob


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text) if text else None
    except OciError as error:
        raise ValueError(f"{text!r} is not a digest: {error}") from None
