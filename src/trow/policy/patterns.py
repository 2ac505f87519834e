"""What a rule says of images: globs over the parts of a parsed reference, never over its text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from trow.oci.digest import Digest
from trow.oci.errors import OciError
from trow.policy import images
from trow.policy.globs import RepositoryGlob, matches
from trow.policy.images import InvalidImage

if TYPE_CHECKING:
    from trow.policy.images import ImageReference

ANY: Final = "*"
_ALL_REPOSITORIES: Final = RepositoryGlob("**")
_HOST_GLOB: Final = re.compile(r"[a-z0-9*](?:[a-z0-9.*-]*[a-z0-9*])?(?::(?:\*|[1-9][0-9]{0,4}))?")
_TAG_GLOB: Final = re.compile(r"[a-zA-Z0-9_*][a-zA-Z0-9._*-]{0,127}")
_LONGEST_HOST: Final = 261


@dataclass(frozen=True, slots=True)
class ImagePattern:
    """Images that are like this in every part. `parse` is its constructor.

    Attributes:
        registry: a host with its port; ``*`` stands for anything within one label, alone for any registry.
        repository: a glob by components.
        tag: a glob; ``*`` is any tag, and any digest too.
        digest: exactly this content; then there is no tag.
    """

    registry: str
    repository: RepositoryGlob = _ALL_REPOSITORIES
    tag: str = ANY
    digest: Digest | None = None

    @classmethod
    def parse(cls, registry: str, repository: str = "**", tag: str = ANY, digest: str = "") -> Self:
        """Read a pattern as an operator wrote it.

        Raises:
            ValueError: nothing could ever match it; the message says how it is written.
        """
        host = _host_glob(registry)
        if digest and tag != ANY:
            raise ValueError("write either a tag or a digest: with a digest, the tag decides nothing")
        if not _TAG_GLOB.fullmatch(tag):
            raise ValueError(f"{tag!r} is not a glob of tags: write a tag, with * for anything in it, such as v1.*")
        return cls(host, _repository_glob(host, repository), tag, _digest(digest))

    def covers(self, image: ImageReference, *, trusting: bool) -> bool:
        """Whether the image is one of those meant.

        Args:
            image: any.
            trusting: whether something is permitted by it. Beside a digest a tag proves nothing: it permits nothing,
                and forbids all the same.
        """
        return (
            self._covers_version(image, trusting=trusting)
            and covers_registry(self.registry, image.registry)
            and self.repository.covers(image.repository)
        )

    def _covers_version(self, image: ImageReference, *, trusting: bool) -> bool:
        if self.digest is not None:
            return image.digest == self.digest
        if self.tag == ANY:
            return True
        if image.tag is None or (image.digest is not None and trusting):
            return False
        return matches(self.tag, image.tag)

    def __str__(self) -> str:
        version = f"@{self.digest}" if self.digest else f":{self.tag}"
        return f"{self.registry}/{self.repository}{'' if version == ':*' else version}"


def covers_registry(glob: str, registry: str) -> bool:
    """Whether a registry is one of those meant: by labels, so that ``*.example.com`` has exactly one more in front."""
    if glob == ANY or "*" not in glob:
        return glob in (ANY, registry)
    wanted, given = glob.split("."), registry.split(".")
    return len(wanted) == len(given) and all(map(matches, wanted, given))


def _host_glob(text: str) -> str:
    try:
        if "*" not in text:
            return images.registry_of(text)
    except InvalidImage as error:
        raise ValueError(str(error)) from None
    lower = text.lower().removesuffix(":443").removesuffix(":80")
    if len(lower) > _LONGEST_HOST or not _HOST_GLOB.fullmatch(lower) or ".." in lower or "**" in lower:
        raise ValueError(
            f"{text!r} is not a glob of registries: write a host with * for anything in one label, such as"
            " *.example.com, or * for every registry"
        )
    return lower


def _repository_glob(registry: str, text: str) -> RepositoryGlob:
    return RepositoryGlob.parse(text if text == _ALL_REPOSITORIES else images.official(registry, text))


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text) if text else None
    except OciError as error:
        raise ValueError(f"{text!r} is {error}") from None
