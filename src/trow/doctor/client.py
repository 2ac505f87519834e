"""The machine of somebody who pushes and pulls: the credentials of docker and podman."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from trow.doctor.endpoint import endpoint
from trow.doctor.findings import NotCheckedError, ok, problem
from trow.doctor.place import host_of
from trow.lib.kube_objects import mapping, text
from trow.lib.threads import aside

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from trow.doctor.findings import Diagnosis
    from trow.doctor.place import Options, Place

_PROGRAM: Final = "docker-credential-"


@dataclass(frozen=True, slots=True)
class CredentialsFile:
    """What a file of credentials has; no secret is kept.

    Attributes:
        broken: why it cannot be used.
        hosts: whose credentials are in the file itself.
        helpers: by host, the program that keeps its credentials; "" is for all others.
        missing: of these programs, what is not installed.
    """

    path: Path
    broken: str = ""
    hosts: frozenset[str] = frozenset()
    helpers: tuple[tuple[str, str], ...] = ()
    missing: frozenset[str] = frozenset()

    def helper(self, hosts: Sequence[str]) -> str:
        """The program that keeps the credentials of one of these hosts."""
        named = dict(self.helpers)
        return next((named[host] for host in hosts if host in named), named.get("", ""))


def credentials_in(path: Path, search: str, program: str) -> CredentialsFile | None:
    """Read a file, as a program does; None where there is none. Helpers are looked for in ``search``, a ``PATH``."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=dict[str, object])
    except FileNotFoundError:
        return None
    except OSError as error:
        return CredentialsFile(path, f"cannot be read ({error.strerror})")
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return CredentialsFile(path, "is not a JSON object")
    store = text(found.get("credsStore")) if program == "docker" else ""  # podman knows helpers of hosts only
    helpers = {"": store, **mapping(found.get("credHelpers"))}
    named = tuple((host_of(key), name) for key, name in helpers.items() if isinstance(name, str) and name)
    missing = frozenset(name for _, name in named if shutil.which(_PROGRAM + name, path=search) is None)
    return CredentialsFile(path, "", frozenset(map(host_of, mapping(found.get("auths")))), named, missing)


def docker_files(options: Options) -> Sequence[Path]:
    """Where docker has credentials."""
    folder = options.environment.get("DOCKER_CONFIG", "")
    return [(Path(folder) if folder else options.home / ".docker") / "config.json"]


def podman_files(options: Options) -> Sequence[Path]:
    """Where podman, buildah and skopeo have theirs; the first one that has any counts (containers-auth.json(5))."""
    environment = options.environment
    if named := environment.get("REGISTRY_AUTH_FILE"):
        return [Path(named)]
    runtime, settings = environment.get("XDG_RUNTIME_DIR"), environment.get("XDG_CONFIG_HOME")
    return [
        Path(runtime, "containers/auth.json") if runtime else options.root / f"run/containers/{os.getuid()}/auth.json",
        Path(settings or options.home / ".config", "containers/auth.json"),
    ]


async def check_docker(place: Place) -> AsyncIterator[Diagnosis]:
    """Will docker send credentials to the registry?"""
    async for found in _check(place, "docker", docker_files(place.options)):
        yield found


async def check_podman(place: Place) -> AsyncIterator[Diagnosis]:
    """Will podman? It also takes what docker has, so that this is a question only where it has a file of its own."""
    async for found in _check(place, "podman", podman_files(place.options), docker_files(place.options)):
        yield found


async def _check(
    place: Place, program: str, own: Sequence[Path], others: Sequence[Path] = ()
) -> AsyncIterator[Diagnosis]:
    search = place.options.environment.get("PATH", "")
    read = await aside(lambda: [credentials_in(path, search, program) for path in (*own, *others)])
    if not any(read[: len(own)]):
        raise NotCheckedError(f"there is no {own[-1]}: nobody has logged in with {program} here")
    at = await endpoint(place)
    hosts = [*dict.fromkeys([at.host_port, *await place.hosts()])]
    login, files = f"{program} login {hosts[0]}", [each for each in read if each is not None]
    for file in files:
        if file.broken:
            yield problem(file.broken, str(file.path), f"correct it, or move it away and log in again: {login}")
            return
        helper = file.helper(hosts)
        if helper in file.missing:
            yield problem(
                f"the program {_PROGRAM}{helper} that is to keep the credentials is not installed; {program} says:"
                " error getting credentials",
                str(file.path),
                f"install it, or take credsStore and credHelpers out of the file and log in again: {login}",
            )
            return
        if known := next((host for host in hosts if host in file.hosts), ""):
            yield ok(f"{program} has credentials for {known}", str(file.path))
            return
        if helper:
            yield ok(f"{program} asks {_PROGRAM}{helper} for credentials", str(file.path))
            return
    path = str(files[0].path)
    if at.answer is not None and at.answer.status == HTTPStatus.OK:
        yield ok(f"{program} has no credentials, and none are needed to ask for /v2/", path)
    else:
        yield problem(f"{program} has no credentials for the registry", path, login)
