"""The names of images in Pods, parsed by one strict grammar into references that can be compared.

An ambiguous name is rejected, never repaired: a name that two programs read differently bypasses a policy. The grammar
is that of distribution/reference, which containerd and docker use, and stricter where runtimes differ: ports, numeric
hosts, trailing dots, characters outside of ASCII.
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
# The hosts of Docker Hub.
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
# Resolvers read these as addresses, but only some of them read 127.1 and 2130706433 as 127.0.0.1.
_NUMERIC: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_IPV6: Final = re.compile(r"\[([0-9a-f:]+)\]")
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")
_HIGHEST_PORT: Final = 65535
_LONGEST_HOST: Final = 253
# Characters of host and repository together, as older releases of containerd count; newer ones count the repository.
LONGEST_NAME: Final = 255
# Characters of the longest host, repository, tag and digest together.
LONGEST: Final = 1024
# A node looks these up among the images that it has, so `sha256:...` runs an image that anybody pulled from anywhere.
IDENTIFIER: Final = r"[a-f0-9]{64}|sha(?:256|384|512):[^/]*"
_IDENTIFIER: Final = re.compile(IDENTIFIER)
_EXAMPLE: Final = "registry.example.com/team/app:1.0"


class InvalidImage(ValueError):
    """The text is not the name of an image; the message says why."""


@dataclass(frozen=True, slots=True)
class ImageReference:
    """The canonical reference of an image.

    Attributes:
        registry: host in lower case, with its port unless that is 443 or 80; `docker.io` for all hosts of Docker Hub.
        repository: with `library/` where Docker Hub adds it.
        tag: as written; `latest` if neither a tag nor a digest is written.
        digest: if there is one, a runtime pulls by it and ignores the tag, so nothing proves that the tag points at it.
    """

    registry: str
    repository: Repository
    tag: Tag | None
    digest: Digest | None

    def __str__(self) -> str:
        # A host without a dot or a port would be read as the first component of a repository of Docker Hub.
        host = self.registry if split_host(f"{self.registry}/")[0] else f"{self.registry}:443"
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{host}/{self.repository}{tag}{digest}"


@lru_cache(maxsize=8192)
def parse(text: str) -> ImageReference:
    """Read the value of an `image` field.

    Raises:
        InvalidImage: it does not match the grammar, or is ambiguous.
    """
    _check_text(text)
    name, at, digest = text.partition("@")
    host, rest = split_host(name)
    path, colon, tag = rest.partition(":")
    registry = registry_of(host) if host else DOCKER_HUB
    try:
        repository = Repository.parse(official(registry, path) if path else path)
        if len(f"{host or DOCKER_HUB}/{repository}") > LONGEST_NAME:
            raise InvalidImage(
                f"registry and repository are at most {LONGEST_NAME} characters long; write a shorter name"
            )
        return ImageReference(
            registry=registry,
            repository=repository,
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
    """The host of the registry, and the rest of the name; the host is "" if none is written.

    The first component is a host if it has a dot, a colon or a capital letter, or is `localhost`
    (`splitDockerDomain` of distribution/reference).
    """
    first, slash, rest = name.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first or first.lower() != first):
        return first, rest
    return "", name


def registry_of(host: str) -> str:
    """The canonical form of a registry's host and port.

    Raises:
        InvalidImage: it is not a host, or a host and a port.
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
    """Host and port; the port is "" if none is written. The last colon starts a port, except in an IPv6 address."""
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        return host, ""
    return name, port or "none"


def _host(name: str) -> str | None:
    """The canonical form of a host name or address in lower case; None if it is not valid, or ambiguous."""
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
