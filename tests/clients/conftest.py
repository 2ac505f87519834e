"""Live registries for each worker, what clients need to talk to them, and a home of its own for each test."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from clients.box import Box, DaemonError
from clients.daemons import Containerd, Docker, docker_socket, start_containerd, start_dockerd
from clients.drivers import ALONE, Connect, ContainerdDriver, DockerDriver, Driver
from clients.registry import ALICE, Registry, start_private
from conformance.summary import JUDGE
from support.server import Trow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """HTTP, open to everybody."""
    with Trow.start(tmp_path_factory.mktemp("plain")) as trow:
        yield Registry(trow)


@pytest.fixture(scope="session")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """TLS with an authority of its own, open to everybody."""
    with Trow.start(tmp_path_factory.mktemp("secure"), tls=True) as trow:
        yield Registry(trow)


@pytest.fixture(scope="session")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """TLS with an authority of its own, and users, who are sent to the token service."""
    with start_private(tmp_path_factory.mktemp("private")) as trow:
        yield Registry(trow, ALICE)


@pytest.fixture(scope="session")
def basic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """The same, but users are asked for their password with each request."""
    with start_private(tmp_path_factory.mktemp("basic"), "--challenge=basic") as trow:
        yield Registry(trow, ALICE, "basic")


@pytest.fixture(params=["bearer", "basic"])
def challenging(request: pytest.FixtureRequest) -> Registry:
    """A private registry, with each way to ask for credentials."""
    registry: Registry = request.getfixturevalue({"bearer": "private", "basic": "basic"}[request.param])
    return registry


@pytest.fixture(scope="session")
def dockerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path | DaemonError]:
    """The socket of a dockerd, or its log."""
    home = tmp_path_factory.mktemp("docker")
    try:
        with start_dockerd(home):
            yield docker_socket(home)
    except DaemonError as error:
        yield error


@pytest.fixture
def docker(box: Box, dockerd: Path | DaemonError, record_property: Callable[[str, object], None]) -> Docker:
    """The one client that may be missing: a machine may not let dockerd start, and then the log says why."""
    if isinstance(dockerd, DaemonError):
        record_property(JUDGE, f"docker: NOT TESTED, {dockerd}")
        pytest.skip(str(dockerd))
    return Docker(box, dockerd)


@pytest.fixture(scope="session")
def containerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containerd]:
    home = tmp_path_factory.mktemp("containerd")
    with start_containerd(home):
        yield Containerd(Box(home))


@pytest.fixture
def connect(request: pytest.FixtureRequest, box: Box) -> Connect:
    """A client by its name, told of a registry. Daemons are started when a test has use for them."""

    def connected(client: str, registry: Registry) -> Driver:
        if client == "docker":
            return DockerDriver(request.getfixturevalue("docker"), registry)
        if client == "ctr":
            return ContainerdDriver(request.getfixturevalue("containerd"), registry)
        return ALONE[client](box, registry)

    return connected


@pytest.fixture
def box(tmp_path: Path) -> Box:
    (tmp_path / "auth.json").write_text("{}", encoding="utf-8")
    return Box(tmp_path)


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> str:
    """A repository that no other test uses, so that tests can share a registry."""
    words = re.findall(r"[a-z0-9]+", f"{request.path.stem} {request.node.name}".lower())
    return f"clients/{'-'.join(words)}"
