"""References to images as a Pod names them, made comparable: parsed once, by one strict grammar.

What cannot be read with certainty is refused, never repaired: a name that two programs read differently is how images
get past a policy. The grammar is that of distribution/reference, which containerd and docker use; what is narrower here
(ports, trailing dots, characters outside of ASCII) does not reach a registry in any other way.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from trow.oci.digest import Digest
from trow.oci.errors import OciError
from trow.oci.names import Repository, Tag

DOCKER_HUB: Final = "docker.io"
LATEST: Final = Tag("latest")
# All of them are answered by the same registry.
_HUB_NAMES: Final = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})
_HUB_OFFICIAL: Final = "library/"
_DEFAULT_PORTS: Final = frozenset({"", "443", "80"})
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")
_HIGHEST_PORT: Final = 65535
_LONGEST_NAME: Final = 253
# Host, repository, tag and digest at their longest.
_LONGEST: Final = 1024
_BARE_IDENTIFIER: Final = re.compile(r"[a-f0-9]{64}")


class InvalidImage(ValueError):
    """A text that is no reference to an image; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class ImageReference:
    """Where an image comes from, in the one form that is compared.

    Attributes:
        registry: host in lower case, with its port unless that is 443 or 80; `docker.io` for all names of Docker Hub.
        repository: with `library/` where Docker Hub adds it.
        tag: as written; `latest` where neither tag nor digest is.
        digest: if there is one, it alone decides what is pulled, and the tag is a remark that nothing vouches for.
    """

    registry: str
    repository: Repository
    tag: Tag | None
    digest: Digest | None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"


@lru_cache(maxsize=8192)
def parse(text: str) -> ImageReference:
    """Read the value of an `image` field.

    Raises:
        InvalidImage: it is outside the grammar, or programs may disagree on what it means.
    """
    if not text:
        raise InvalidImage("no image is named")
    if len(text) > _LONGEST:
        raise InvalidImage(f"an image's name is at most {_LONGEST} characters long")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidImage(f"{text!r} has characters that no image's name may have")
    if _BARE_IDENTIFIER.fullmatch(text):
        raise InvalidImage(f"{text!r} is an identifier, which names no registry; write the image's name")
    name, at, digest = text.partition("@")
    host, rest = split_host(name)
    path, colon, tag = rest.partition(":")
    registry = registry_of(host) if host else DOCKER_HUB
    try:
        return ImageReference(
            registry=registry,
            repository=_repository(registry, path),
            tag=Tag.parse(tag) if colon else (None if at else LATEST),
            digest=Digest.parse(digest) if at else None,
        )
    except OciError as error:
        raise InvalidImage(f"{text!r} is not the name of an image: {error}") from None


def split_host(name: str) -> tuple[str, str]:
    """The registry's host and what follows it; the host is "" where there is none.

    The first component is a host if it has a dot, a colon or a capital letter, or is `localhost`, as distribution's
    `splitDockerDomain` has it.
    """
    first, slash, rest = name.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first or first.lower() != first):
        return first, rest
    return "", name


def registry_of(host: str) -> str:
    """The one way to write a registry's host and port.

    Raises:
        InvalidImage: it is not a host with at most a port.
    """
    name, port = _split_port(host.lower())
    if port not in _DEFAULT_PORTS and not (_PORT.fullmatch(port) and int(port) <= _HIGHEST_PORT):
        raise InvalidImage(f"{host!r} has no port between 1 and {_HIGHEST_PORT}")
    if name.startswith("["):
        name = _ipv6(host, name)
    elif len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        raise InvalidImage(f"{host!r} is not the host of a registry")
    if port in _DEFAULT_PORTS:
        return DOCKER_HUB if name in _HUB_NAMES else name
    return f"{name}:{port}"


def _split_port(host: str) -> tuple[str, str]:
    """Name and port; what follows the last colon is a port, except in an IPv6 address."""
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        return host, ""
    return name, port or "none"


def _ipv6(host: str, name: str) -> str:
    try:
        if name.endswith("]") and "%" not in name:
            return f"[{ipaddress.IPv6Address(name[1:-1])}]"
    except ValueError:
        pass
    raise InvalidImage(f"{host!r} is not the host of a registry")


def official(registry: str, path: str) -> str:
    """The path with `library/` where Docker Hub adds it."""
    return _HUB_OFFICIAL + path if registry == DOCKER_HUB and "/" not in path else path


def _repository(registry: str, path: str) -> Repository:
    return Repository.parse(official(registry, path) if path else path)
