"""`trow access can-i` against the server: both say the same about everybody, whatever they log in with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from support.team import ROOT, USERS
from trow.access.permissions import Permission
from trow.app import Impersonated, StartError, can_i
from trow.config import resolve
from trow.oci.names import Repository

if TYPE_CHECKING:
    from collections.abc import Mapping

    from support.registry import Client
    from support.team import Team
    from trow.config import Config

REPOSITORIES: Final = ("team-a/can-i", "team-b/can-i", "dev/can-i", "robots/can-i")
ASKED: Final = (Permission.PULL, Permission.PUSH, Permission.ATTACH, Permission.DELETE)
LISTS: Final = {"catalog": Permission.LIST, "audit": Permission.AUDIT, "admin": Permission.ADMIN}
SUBJECT: Final = "repo:acme/app:ref:refs/heads/main"


@pytest.fixture(scope="module")
def config(team: Team) -> Config:
    """What the server has."""
    flags = {
        "data_dir": str(team.data),
        "auth.user": ROOT,
        "auth.password_file": str(team.folder / "password"),
    }
    return resolve(team.folder / "trow.yaml", {}, flags).config


def granted(client: Client) -> set[str]:
    """What the server's token service gives somebody who asks for everything."""
    scopes = [f"scope=repository:{name}:pull,push,delete" for name in REPOSITORIES]
    scopes += [f"scope=registry:{name}:*" for name in LISTS]
    reply = client.get(f"/token?{'&'.join(scopes)}")
    assert reply.status == 200, reply
    allowed = [scope.split(":") for scope in reply.json["scope"].split()]
    return {f"{name} {action}" for _, name, actions in allowed for action in actions.split(",")}


def said(config: Config, who: Impersonated) -> set[str]:
    """What `can-i` says about the same."""
    yes = {
        f"{name} {permission.value}"
        for name in REPOSITORIES
        for permission in ASKED
        if can_i(config, who, permission, Repository(name)).allowed
    }
    return yes | {
        f"{name} *" for name, permission in LISTS.items() if can_i(config, who, permission, Repository("")).allowed
    }


@pytest.mark.parametrize("user", [ROOT, *USERS])
def test_users_with_their_groups(team: Team, config: Config, user: str) -> None:
    found = said(config, Impersonated(user))
    assert found == granted(team.user(user))
    assert "dev/can-i pull" in found, "by the group that the users file gives"


def test_robots(team: Team, config: Config) -> None:
    token = team.robot("can-i", "pull", "push", glob="robots/**")
    assert said(config, Impersonated("robot:can-i")) == granted(team.bearer(token)) != set()
    with pytest.raises(StartError, match="no valid token of robot:nobody"):
        said(config, Impersonated("robot:nobody"))


@pytest.mark.parametrize("repository", ["acme/app", "acme/other"])
def test_subjects_of_an_issuer(team: Team, config: Config, repository: str) -> None:
    claims: Mapping[str, list[str]] = {"repository": [repository]}
    token = team.oidc(sub=SUBJECT, repository=repository)
    expected = granted(team.bearer(token))
    for issuer in ("ci", ""):
        assert said(config, Impersonated(f"ci:{SUBJECT}", issuer=issuer, claims=claims)) == expected
    assert bool(expected) == (repository == "acme/app")


def test_nobody(team: Team, open_team: Team, config: Config) -> None:
    assert said(config, Impersonated()) == set()
    flags = {
        "data_dir": str(open_team.data),
        "auth.user": ROOT,
        "auth.password_file": str(open_team.folder / "password"),
    }
    opened = resolve(open_team.folder / "trow.yaml", {}, flags).config
    assert said(opened, Impersonated()) == granted(open_team.nobody()) != set()


def test_a_further_group_is_tried_beside_those_of_the_users_file(config: Config) -> None:
    assert "dev/can-i pull" in said(config, Impersonated("puller", groups=("other",)))
    assert "dev/can-i pull" in said(config, Impersonated("somebody-new", groups=("dev",)))
    assert said(config, Impersonated("somebody-new")) == set()


@pytest.mark.parametrize(
    ("who", "message"),
    [
        (Impersonated("system:admin"), "is not a ServiceAccount"),
        (Impersonated("ci:x", issuer="other"), "no issuer 'other'"),
        (Impersonated("x", issuer="ci"), "begin with 'ci:'"),
    ],
)
def test_whom_the_server_would_not_let_in(config: Config, who: Impersonated, message: str) -> None:
    with pytest.raises(StartError, match=message):
        said(config, who)
