"""The policy of the configuration file, whose rules are prefixes of image names that end where a component ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trow.oci.digest import Digest
from trow.oci.errors import OciError
from trow.oci.names import Repository, Tag
from trow.policy import images
from trow.policy.images import DOCKER_HUB, InvalidImage
from trow.policy.patterns import ANY, ImagePattern
from trow.policy.rules import CONFIGURED, Effect, ImageRule, Mode, Policy

if TYPE_CHECKING:
    from collections.abc import Sequence

_HOW: Final = "write a registry, or a registry and the beginning of a name, such as quay.io or docker.io/acme/"


def policy_of(default: Effect, allow: Sequence[str], deny: Sequence[str], mode: Mode = Mode.ENFORCE) -> Policy:
    """The policy of `image_validation`.

    Raises:
        ValueError: an entry cannot be read.
    """
    rules = tuple(
        ImageRule(f"{effect.name.lower()} {entry}", effect, patterns_of(entry))
        for effect, entries in ((Effect.DENY, deny), (Effect.ALLOW, allow))
        for entry in entries
    )
    return Policy(CONFIGURED, CONFIGURED, default, rules, mode=mode)


def patterns_of(entry: str) -> tuple[ImagePattern, ...]:
    """The patterns of an entry: a repository and all below it, or one tag or digest of that repository.

    ``docker.io/nginx`` covers both the official image and the repositories of the organisation ``nginx``. An entry that
    ends with a slash covers only what is below it.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        host, path = _split(entry)
        registry = images.registry_of(host)
        if not path:
            return (ImagePattern(registry),)
        name, at, digest = path.partition("@")
        name, colon, tag = name.partition(":")
        if at or colon:
            repository, wanted = Repository.parse(name), Tag.parse(tag) if colon else ANY
            if at:  # the digest alone decides, as it does when the image is pulled
                return (ImagePattern.parse(registry, repository, digest=Digest.parse(digest)),)
            return (ImagePattern.parse(registry, repository, wanted),)
        repository = Repository.parse(name.removesuffix("/"))
        below = ImagePattern.parse(registry, f"{repository}/**")
        return (below,) if name.endswith("/") else (ImagePattern.parse(registry, repository), below)
    except (InvalidImage, OciError, ValueError) as error:
        raise ValueError(f"{entry!r} is not a prefix of images ({error}); {_HOW}") from None


def _split(entry: str) -> tuple[str, str]:
    """Host and path. An entry without a slash is a host if it looks like one."""
    host, path = images.split_host(entry)
    if host or not entry:
        return host, path
    name, colon, _ = entry.partition(":")
    if "/" in entry or "@" in entry:
        return DOCKER_HUB, entry
    if "." in name or name == "localhost" or name.startswith("["):
        return entry, ""
    if colon:
        raise ValueError(f"it may be a registry's port or an image's tag: write {entry}/ or {DOCKER_HUB}/{entry}")
    return DOCKER_HUB, entry
