"""Every client with every kind of credential, whether it is sent to the token service or asked for a password."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from clients.drivers import CLIENTS, TOKENS
from clients.refusals import words
from clients.registry import ALICE, CAROL, Login

if TYPE_CHECKING:
    from clients.drivers import Connect
    from clients.registry import Registry


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("kind", ["password", "robot"])
def test_what_was_pushed_is_what_is_pulled(
    kind: str, client: str, challenging: Registry, connect: Connect, repository: str
) -> None:
    driver = connect(client, challenging)
    driver.login(ALICE if kind == "password" else challenging.robot)
    driver.push(repository)
    assert driver.pull(repository) == challenging.complete(*driver.pushed(repository)).digest


@pytest.mark.parametrize(("kind", "client"), TOKENS)
def test_a_token_stands_where_clients_keep_tokens(
    kind: str, client: str, private: Registry, connect: Connect, repository: str
) -> None:
    driver = connect(client, private)
    driver.know_token(kind, private.robot.password)
    driver.push(repository)
    assert driver.pull(repository) == private.complete(*driver.pushed(repository)).digest


@pytest.mark.parametrize("client", CLIENTS)
def test_nothing_is_taken_without_credentials_or_with_wrong_ones(
    client: str, challenging: Registry, connect: Connect, repository: str
) -> None:
    driver = connect(client, challenging)
    assert words(challenging, client).without in driver.push_refused(repository)
    # A name of its own for each: ctr tries a password five times, and for a sixth time it would have to wait.
    assert words(challenging, client).wrong in driver.login_refused(Login(f"nobody-{client}", "wrong"))
    assert not challenging.has(*driver.pushed(repository))


@pytest.mark.parametrize("client", CLIENTS)
def test_who_may_not_pull_is_told_so_and_has_nothing(
    client: str, challenging: Registry, connect: Connect, repository: str
) -> None:
    driver = connect(client, challenging)
    driver.login(ALICE)
    driver.push(repository)
    driver.login(CAROL)
    assert words(challenging, client).denied in driver.pull_refused(repository)
