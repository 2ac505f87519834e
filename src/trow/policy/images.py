"""References to images as a Pod names them, made comparable: parsed once, by one strict grammar.

What cannot be read with certainty is refused, never repaired: a name that two programs read differently is how images
get past a policy. The grammar is that of distribution/reference, which containerd and docker use; what is narrower here
(ports, numeric hosts, trailing dots, characters outside of ASCII) does not reach a registry in any other way.
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
HUB_NAMES: Final = frozenset(
    {
        DOCKER_HUB,
        "index.docker.io",
        "registry-1.docker.io",
        "registry.docker.io",
        "registry.hub.docker.com",
        "registry.ipv6.docker.com",
    }
)
_HUB_OFFICIAL: Final = "library/"
_DEFAULT_PORTS: Final = frozenset({"", "443", "80"})
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
# Resolvers take these for addresses, though 127.1 and 2130706433 are 127.0.0.1 to some of them only.
_NUMERIC: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_IPV6: Final = re.compile(r"\[([0-9a-f:]+)\]")
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")
_HIGHEST_PORT: Final = 65535
_LONGEST_HOST: Final = 253
# Host and repository together: older releases of containerd count so, newer ones the repository alone.
_LONGEST_NAME: Final = 255
# Host, repository, tag and digest at their longest.
LONGEST: Final = 1024
# Nodes look these up among the images that they have: `sha256:...` runs what anybody pulled, from wherever.
_IDENTIFIER: Final = re.compile(r"[a-f0-9]{64}|sha(?:256|384|512):[^/]*")
_EXAMPLE: Final = "registry.example.com/team/app:1.0"


class InvalidImage(ValueError):
    """A text that is not a reference to an image; the message says what is wrong with it."""


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
        # Without a dot or a port, a host would be read as the first part of a repository of Docker Hub.
        host = self.registry if split_host(f"{self.registry}/")[0] else f"{self.registry}:443"
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{host}/{self.repository}{tag}{digest}"


@lru_cache(maxsize=8192)
def parse(text: str) -> ImageReference:
    """Read the value of an `image` field.

    Raises:
        InvalidImage: it is outside the grammar, or programs may disagree on what it means.
    """
    _check_text(text)
    name, at, digest = text.partition("@")
    host, rest = split_host(name)
    path, colon, tag = rest.partition(":")
    registry = registry_of(host) if host else DOCKER_HUB
    try:
        return ImageReference(
            registry=registry,
            repository=_repository(host or DOCKER_HUB, registry, path),
            tag=Tag.parse(tag) if colon else (None if at else LATEST),
            digest=Digest.parse(digest) if at else None,
        )
    except OciError as error:
        raise InvalidImage(f"{text!r} is not the name of an image: {error}") from None


def _check_text(text: str) -> None:
    if not text:
        raise InvalidImage(f"no image is named; write one, such as {_EXAMPLE}")
    if len(text) > LONGEST:
        raise InvalidImage(f"an image's name is at most {LONGEST} characters long; write it shorter")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidImage(
            f"{text!a} has characters that no image's name may have; write letters and digits of ASCII, and ./:@_- only"
        )
    if _IDENTIFIER.fullmatch(text):
        raise InvalidImage(
            f"{text!r} is an identifier, which names no registry; write the image's name, such as {_EXAMPLE}"
        )


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
    name, port = split_port(host.lower() if host.isascii() else "")
    if port not in _DEFAULT_PORTS and not (_PORT.fullmatch(port) and int(port) <= _HIGHEST_PORT):
        raise InvalidImage(f"{host!r} has no port between 1 and {_HIGHEST_PORT}; write HOST:PORT, or HOST alone")
    canonical = _host(name)
    if canonical is None:
        raise InvalidImage(f"{host!a} is not the host of a registry; write HOST or HOST:PORT, such as quay.io")
    if port in _DEFAULT_PORTS:
        return DOCKER_HUB if canonical in HUB_NAMES else canonical
    return f"{canonical}:{port}"


def split_port(host: str) -> tuple[str, str]:
    """Name and port, "" where there is none; what follows the last colon is a port, except in an IPv6 address."""
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        return host, ""
    return name, port or "none"


def _host(name: str) -> str | None:
    """The one spelling of a name or address in lower case; None where it has none that all programs agree on."""
    try:
        if match := _IPV6.fullmatch(name):
            address = ipaddress.IPv6Address(match[1])
            return None if address.ipv4_mapped else f"[{address}]"
        if _NUMERIC.fullmatch(name):
            return str(ipaddress.IPv4Address(name))
    except ValueError:
        return None
    return name if len(name) <= _LONGEST_HOST and _NAME.fullmatch(name) else None


def official(registry: str, path: str) -> str:
    """The path with `library/` where Docker Hub adds it."""
    return _HUB_OFFICIAL + path if registry == DOCKER_HUB and "/" not in path else path


def _repository(host: str, registry: str, path: str) -> Repository:
    repository = Repository.parse(official(registry, path) if path else path)
    if len(f"{host}/{repository}") > _LONGEST_NAME:
        raise InvalidImage(f"registry and repository are at most {_LONGEST_NAME} characters long; write a shorter name")
    return repository
