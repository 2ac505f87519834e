"""Live servers, started once for each worker, and a repository of its own for each test."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

import pytest

from support.issuer import Issuer
from support.records import verified
from support.registry import Client, Repository
from support.server import Trow
from support.team import Team

if TYPE_CHECKING:
    from collections.abc import Iterator

ALICE: Final = ("alice", "correct horse")
# Every limit small enough to be met, and everything on that is off by default.
STRICT: Final = """
listen:
  cors: [https://ui.example.com]
registry:
  max_manifest_size: 64KiB
  max_blob_size: 1MiB
  sparse_images: false
  sparse_indexes: false
  tag_history: 3
  notice: moving on "friday"
limits:
  page_size: 2
  max_page_size: 3
  max_tags_per_push: 3
"""


@pytest.fixture(scope="session")
def trow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trow]:
    """All settings as they are when nobody changes them."""
    with Trow.start(tmp_path_factory.mktemp("plain")) as server:
        yield server


@pytest.fixture(scope="session")
def client(trow: Trow) -> Iterator[Client]:
    with Client(trow.url) as connected:
        yield connected


def fresh(client: Client) -> Repository:
    """A repository that no other test uses, so that tests can share a server."""
    return Repository(client, f"http/{secrets.token_hex(8)}")


@pytest.fixture
def repository(client: Client) -> Repository:
    return fresh(client)


@pytest.fixture
def other(client: Client) -> Repository:
    return fresh(client)


@pytest.fixture(scope="session")
def strict_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("strict")
    (folder / "trow.yaml").write_text(STRICT, encoding="utf-8")
    with Trow.start(folder, "--config", str(folder / "trow.yaml")) as server, Client(server.url) as connected:
        yield connected


@pytest.fixture
def strict(strict_client: Client) -> Repository:
    """A repository of the server with small limits."""
    return fresh(strict_client)


@pytest.fixture(scope="session")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trow]:
    """A server with a user, where everybody else may do nothing."""
    with Trow.start(tmp_path_factory.mktemp("private"), user=ALICE) as server:
        yield server


@pytest.fixture(scope="session")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trow]:
    """A server with a user, where everybody else may pull."""
    with Trow.start(tmp_path_factory.mktemp("public"), "--anonymous", "pull", user=ALICE) as server:
        yield server


@pytest.fixture(scope="session")
def issuer() -> Iterator[Issuer]:
    """An OIDC issuer."""
    with Issuer.start() as issuer:
        yield issuer


@pytest.fixture(scope="session")
def team(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> Iterator[Team]:
    """A server where everybody has rights of their own; in the end its record is whole, and holds no secret."""
    with Team(tmp_path_factory.mktemp("team"), issuer) as team:
        yield team
        assert verified(team.data).records


@pytest.fixture(scope="session")
def open_team(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> Iterator[Team]:
    """The same, where everybody else may pull."""
    with Team(tmp_path_factory.mktemp("open-team"), issuer, auth={"anonymous": "pull"}) as team:
        yield team
        assert verified(team.data).records
