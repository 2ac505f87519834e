"""The policy of the configuration file: prefixes that end where a component ends."""

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
    from collections.abc import Iterator, Sequence

_HOW: Final = "write a registry, or a registry and the beginning of a name, such as quay.io or docker.io/acme/"


def policy_of(default: Effect, allow: Sequence[str], deny: Sequence[str], mode: Mode = Mode.ENFORCE) -> Policy:
    """The policy that `image_validation` stands for.

    Raises:
        ValueError: an entry cannot be read.
    """
    rules = (*_rules(Effect.DENY, deny), *_rules(Effect.ALLOW, allow))
    return Policy(CONFIGURED, CONFIGURED, default, rules, mode=mode)


def _rules(effect: Effect, entries: Sequence[str]) -> Iterator[ImageRule]:
    for entry in entries:
        yield ImageRule(f"{effect.name.lower()} {entry}", effect, patterns_of(entry))


def patterns_of(entry: str) -> tuple[ImagePattern, ...]:
    """What an entry covers: the repository that it names and all below it, or one tag or digest of that repository.

    ``docker.io/nginx`` is two things, the official image and what the organisation of that name has; both are meant. An
    entry that ends with a slash is the beginning of names, and names no repository itself.

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
            return (_version(registry, name, tag if colon else None, digest if at else None),)
        return tuple(_below(registry, name))
    except (InvalidImage, OciError, ValueError) as error:
        raise ValueError(f"{entry!r} is not a prefix of images ({error}); {_HOW}") from None


def _split(entry: str) -> tuple[str, str]:
    """Host and path; without a slash it is a host if it looks like one."""
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


def _version(registry: str, name: str, tag: str | None, digest: str | None) -> ImagePattern:
    """One tag or digest; with both, the digest alone decides, as it does when the image is pulled."""
    repository = Repository.parse(name)
    wanted = ANY if tag is None else Tag.parse(tag)
    if digest is None:
        return ImagePattern.parse(registry, repository, wanted)
    return ImagePattern.parse(registry, repository, digest=Digest.parse(digest))


def _below(registry: str, path: str) -> Iterator[ImagePattern]:
    name = Repository.parse(path.removesuffix("/"))
    if not path.endswith("/"):
        yield ImagePattern.parse(registry, name)
    yield ImagePattern.parse(registry, f"{name}/**")
