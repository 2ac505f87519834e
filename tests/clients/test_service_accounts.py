"""Every client with the token of a ServiceAccount, and the cluster's Roles decide what it may do."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from clients.drivers import CLIENTS, TOKENS
from clients.refusals import words
from clients.registry import ALICE, CAROL, Login, Registry, start_private
from support.kubernetes import AUDIENCE, bind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clients.drivers import Connect
    from support.cluster import Cluster


@dataclass(frozen=True)
class Accounts:
    """A namespace with a ServiceAccount that may push and pull, and one that may do nothing."""

    namespace: str
    pusher: str
    stranger: str


@pytest.fixture(scope="module")
def team(cluster: Cluster, kubeconfig: Path) -> Accounts:
    name = f"team-{secrets.token_hex(4)}"
    cluster.create_namespace(name)
    cluster.kubectl("create", "serviceaccount", "stranger", "--namespace", name)
    bind(cluster, "trow-image-pusher", name, f"serviceaccount={name}:default")
    return Accounts(name, *(cluster.token(name, account, AUDIENCE) for account in ("default", "stranger")))


@pytest.fixture(scope="module", params=["bearer", "basic"])
def clustered(
    request: pytest.FixtureRequest, kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Registry]:
    """A private registry that knows the cluster, with each way to ask for credentials."""
    settings = {"kubeconfig": str(kubeconfig), "audiences": [AUDIENCE], "authorization": True}
    challenge: str = request.param
    folder = tmp_path_factory.mktemp("clustered")
    with start_private(folder, f"--challenge={challenge}", kubernetes=settings) as trow:
        yield Registry(trow, ALICE, challenge)


@pytest.mark.parametrize("client", CLIENTS)
def test_the_token_is_a_password(
    clustered: Registry, client: str, connect: Connect, team: Accounts, repository: str
) -> None:
    driver = connect(client, clustered)
    name = repository.replace("clients", team.namespace)
    driver.login(Login("any-name", team.pusher))
    driver.push(name)
    assert driver.pull(name) == clustered.complete(*driver.pushed(name)).digest
    driver.login(Login("any-name", team.stranger))
    stranger = f"system:serviceaccount:{team.namespace}:stranger"
    assert words(clustered, client).denied.replace(CAROL.name, stranger) in driver.pull_refused(name)


@pytest.mark.parametrize("clustered", ["bearer"], indirect=True)
@pytest.mark.parametrize(("kind", "client"), TOKENS)
def test_the_token_stands_where_clients_keep_tokens(
    clustered: Registry, kind: str, client: str, connect: Connect, team: Accounts, repository: str
) -> None:
    driver = connect(client, clustered)
    name = repository.replace("clients", team.namespace)
    driver.know_token(kind, team.pusher)
    driver.push(name)
    assert driver.pull(name) == clustered.complete(*driver.pushed(name)).digest
