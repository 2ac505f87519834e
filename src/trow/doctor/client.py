"""The machine of somebody who pushes and pulls: docker's credentials."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from trow.doctor.findings import NotCheckedError, ok, problem
from trow.lib.kube_objects import mapping, text
from trow.lib.threads import aside

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trow.doctor.findings import Diagnosis
    from trow.doctor.place import Place

_PROGRAM: Final = "docker-credential-"


@dataclass(frozen=True, slots=True)
class DockerConfig:
    """What docker, and most other clients, know of credentials; no secret is kept.

    Attributes:
        broken: why the file cannot be used.
        hosts: whose credentials are in the file itself.
        helpers: by host, the program that keeps its credentials; "" is for all others.
        missing: of these, what is not installed.
    """

    path: Path
    broken: str = ""
    hosts: frozenset[str] = frozenset()
    helpers: tuple[tuple[str, str], ...] = ()
    missing: frozenset[str] = frozenset()


async def docker_config(place: Place) -> DockerConfig:
    """Read the file of the user who asks."""
    folder = place.options.environment.get("DOCKER_CONFIG", "")
    path = (Path(folder) if folder else place.options.home / ".docker") / "config.json"
    return await aside(lambda: _read(path, place.options.environment.get("PATH", "")))


def _read(path: Path, search: str) -> DockerConfig:
    try:
        found = msgspec.json.decode(path.read_bytes(), type=dict[str, object])
    except FileNotFoundError:
        raise NotCheckedError(f"there is no {path}: nobody has logged in with docker here") from None
    except OSError as error:
        return DockerConfig(path, f"cannot be read ({error.strerror})")
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return DockerConfig(path, "is not a JSON object")
    helpers = {"": text(found.get("credsStore")), **mapping(found.get("credHelpers"))}
    named = tuple((host, name) for host, name in helpers.items() if isinstance(name, str) and name)
    missing = frozenset(name for _, name in named if shutil.which(_PROGRAM + name, path=search) is None)
    return DockerConfig(path, "", frozenset(mapping(found.get("auths"))), named, missing)


def judge_docker(config: DockerConfig, hosts: Sequence[str], *, anonymous: bool) -> Iterable[Diagnosis]:
    """Will docker send credentials to the registry?

    Args:
        config: the file.
        hosts: names of the registry; it is enough to be logged in to one.
        anonymous: whether nobody has to log in.
    """
    path, named = str(config.path), dict(config.helpers)
    if config.broken:
        yield problem(config.broken, path, f"correct it, or move it away and log in again: docker login {hosts[0]}")
        return
    helper = next((named[host] for host in hosts if host in named), named.get("", ""))
    if helper in config.missing:
        yield problem(
            f"the program {_PROGRAM}{helper} that is to keep the credentials is not installed; docker says: error"
            " getting credentials",
            path,
            f"install it, or take credsStore and credHelpers out of the file and log in again: docker login {hosts[0]}",
        )
    elif config.hosts & set(hosts):
        yield ok(f"docker has credentials for {next(host for host in hosts if host in config.hosts)}", path)
    elif helper:
        yield ok(f"docker asks {_PROGRAM}{helper} for credentials", path)
    elif anonymous:
        yield ok("docker has no credentials, and none are needed to ask for /v2/", path)
    else:
        yield problem("docker has no credentials for the registry", path, f"docker login {hosts[0]}")
