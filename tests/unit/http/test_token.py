from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import pytest

from support.gates import ALICE, BOB, ROOT, World
from support.registry import basic
from trow.access.identity import Identity, Method
from trow.access.permissions import Permission
from trow.http.challenge import BASIC
from trow.http.handlers.token import TokenService
from trow.oci.errors import Denied, RequestInvalid, Unauthorized, Unavailable
from trow.oci.names import Repository
from trow.registry.events import Action, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from support.fixtures import Make
    from trow.access.identity import Delegation
    from trow.http.request import Request
    from trow.http.response import Response

PULL: Final = frozenset({Permission.PULL})
PUSH: Final = frozenset({Permission.PUSH, Permission.ATTACH})
DELETE: Final = frozenset({Permission.DELETE})


def service(world: World, *, anonymous: bool = False) -> TokenService:
    return TokenService(
        world.access,
        world.authorizer,
        world.tokens,
        world.recorder,
        generation=world.metadata.generation,
        anonymous=anonymous,
    )


def asking(world: World, header: str | None, *scopes: str) -> Request:
    query = urlencode([("service", "trow"), *(("scope", scope) for scope in scopes)])
    return world.request(header, Permission.OPEN, Repository(""), path="/token", query=query)


def form(world: World, fields: Mapping[str, str] | Sequence[tuple[str, str]] | bytes) -> Request:
    body = fields if isinstance(fields, bytes) else urlencode(fields).encode()
    headers = {"content-length": str(len(body)), "content-type": "application/x-www-form-urlencoded"}
    return world.request(
        None, Permission.OPEN, Repository(""), method="POST", path="/token", headers=headers, body=body
    )


def answer(response: Response) -> dict[str, Any]:
    assert response.status == 200
    assert dict(response.headers)["cache-control"] == "no-store"
    found: dict[str, Any] = json.loads(response.body)
    assert found["token"] == found["access_token"]
    return found


def carried(world: World, response: Response) -> Delegation:
    """What the token is good for."""
    delegation = world.tokens.verify(answer(response)["token"]).delegation
    assert delegation is not None
    return delegation


def grants(delegation: Delegation) -> dict[str, frozenset[Permission]]:
    return {str(repository): permissions for repository, permissions in delegation.grants}


# What is asked for


@pytest.mark.parametrize(
    ("scopes", "granted", "lists"),
    [
        ([], {}, set()),
        ([""], {}, set()),
        (["repository:a:pull"], {"a": PULL}, set()),
        (["repository:a:push"], {"a": PUSH}, set()),
        (["repository:a:pull,push"], {"a": PULL | PUSH}, set()),
        (["repository:a:push,pull"], {"a": PULL | PUSH}, set()),
        (["repository:a:delete"], {"a": DELETE}, set()),
        (["repository:a:*"], {"a": PULL | PUSH | DELETE}, set()),
        (["repository:a/b/c:pull"], {"a/b/c": PULL}, set()),
        (["repository:a:pull", "repository:b:push"], {"a": PULL, "b": PUSH}, set()),
        (["repository:a:pull repository:b:push"], {"a": PULL, "b": PUSH}, set()),
        (["  repository:a:pull   repository:b:push "], {"a": PULL, "b": PUSH}, set()),
        (["repository:a:pull", "repository:a:push"], {"a": PULL | PUSH}, set()),
        (["repository:a:pull", "repository:a:pull"], {"a": PULL}, set()),
        (["repository(plugin):a:pull"], {"a": PULL}, set()),
        (["registry:catalog:*"], {}, {"catalog"}),
        (["registry:audit:*", "registry:admin:*"], {}, {"audit", "admin"}),
        (["repository:a:pull", "registry:catalog:*"], {"a": PULL}, {"catalog"}),
        # What is unknown is left out, as the specification wants it.
        (["repository:a:pull,fly"], {"a": PULL}, set()),
        (["repository:a:fly"], {}, set()),
        (["registry:everything:*"], {}, set()),
        (["plugin:a/b:pull", "repository:a:pull"], {"a": PULL}, set()),
        (["image:localhost:5000/a:pull"], {}, set()),
    ],
)
async def test_scopes(
    world: World, scopes: list[str], granted: dict[str, frozenset[Permission]], lists: set[str]
) -> None:
    delegation = carried(world, await service(world).get(asking(world, ROOT, *scopes)))
    assert grants(delegation) == granted
    assert delegation.lists == lists


@pytest.mark.parametrize(
    "scope",
    ["a", "aws", "repository", "repository:a", "repository:a:", "repository::pull", "repository:::", ":::", ":",
     "REPOSITORY:a:pull", "repository:a:PULL", "repository:a:pull;push", "repository:a:metadata_read",
     "artifact-repository:a:pull", "repository(plugin:a", "registry:*:*", "registry:catalog", "repository:*:*",
     "repository:Foo/Bar:pull", "repository:a.example:5000/x:pull", "repository:team-a/**:pull", "repository:../a:pull",
     "repository:a//b:pull", "repository:_a:pull", "repository:\u00e4:pull", "repository:a\x00:pull",
     f"repository:{'a' * 513}:pull", f"repository:{'a' * 200}/{'b' * 200}:pull", "x" * 50_000],
)  # fmt: skip
async def test_a_scope_without_meaning_refuses_nobody_the_others(world: World, scope: str) -> None:
    for scopes in ([scope, "repository:a:pull"], ["repository:a:pull", scope], [f"{scope} repository:a:pull {scope}"]):
        delegation = carried(world, await service(world).get(asking(world, ROOT, *scopes)))
        assert grants(delegation) == {"a": PULL}
        assert not delegation.lists
    assert grants(carried(world, await service(world).get(asking(world, ROOT, scope)))) == {}
    fields = [("grant_type", "password"), ("username", "root"), ("password", "secret of root")]
    fields += [("scope", scope), ("scope", "repository:a:pull")]
    assert grants(carried(world, await service(world).post(form(world, fields)))) == {"a": PULL}


@pytest.mark.parametrize("together", [True, False])
async def test_of_too_many_scopes_the_first_are_granted_and_the_answer_says_which(
    world: World, *, together: bool
) -> None:
    scopes = [f"repository:{'a' * 100}/{'b' * 100}{number}:*" for number in range(900)]
    asked = [" ".join(scopes[:200])] if together else scopes
    response = await service(world).get(asking(world, ROOT, *asked))
    found = grants(carried(world, response))
    assert len(found) >= 10
    assert list(found) == [scope.split(":")[1] for scope in scopes[: len(found)]]
    assert [scope.split(":")[1] for scope in answer(response)["scope"].split()] == list(found)


async def test_the_same_repository_again_takes_no_room(world: World) -> None:
    scopes = [f"repository:a:{action}" for action in ("pull", "push", "delete")] * 300
    delegation = carried(world, await service(world).get(asking(world, ROOT, *scopes, "repository:b:pull")))
    assert grants(delegation) == {"a": PULL | PUSH | DELETE, "b": PULL}


# What is granted


async def test_grants_are_reduced_to_what_is_allowed_and_not_refused(world: World) -> None:
    scopes = ["repository:team-a/app:pull,push,delete", "repository:team-b/app:pull,push", "registry:audit:*"]
    response = await service(world).get(asking(world, ALICE, *scopes, "registry:catalog:*"))
    delegation = carried(world, response)
    assert grants(delegation) == {"team-a/app": PULL | PUSH | DELETE}
    assert delegation.lists == {"catalog"}
    assert answer(response)["scope"] == "repository:team-a/app:attach,delete,pull,push registry:catalog:*"


async def test_refused_scopes_are_on_record_with_what_decided(world: World) -> None:
    await service(world).get(asking(world, ALICE, "repository:team-b/app:pull,push", "registry:audit:*"))
    (event,) = world.audit.events
    assert (event.action, event.outcome, event.actor.name) == (Action.TOKEN_ISSUE, Outcome.DENIED, "alice")
    assert (event.repository, event.detail) == ("team-b/app", "granted nothing")
    pull, push, audit = event.reason.split("; ")
    assert pull == "may not pull team-b/app: no rule of access.rules allows it"
    assert push.startswith("may not push to team-b/app: ")
    assert audit.startswith("may not read the audit record: ")


async def test_token_is_on_record_with_what_it_carries_and_without_its_text(world: World) -> None:
    response = await service(world).get(asking(world, ALICE, "repository:team-a/app:pull"))
    (event,) = world.audit.events
    assert (event.action, event.outcome, event.status) == (Action.TOKEN_ISSUE, Outcome.OK, 200)
    assert (event.repository, event.detail) == ("team-a/app", "granted repository:team-a/app:pull")
    assert answer(response)["token"] not in repr(event)
    assert "secret of alice" not in repr(event)


async def test_token_without_any_scope_is_a_login(world: World) -> None:
    delegation = carried(world, await service(world).get(asking(world, BOB)))
    assert (delegation.grants, delegation.lists) == ((), frozenset())
    (event,) = world.audit.events
    assert (event.action, event.outcome, event.actor.name) == (Action.LOGIN, Outcome.OK, "bob")


async def test_only_who_may_attach_gets_that_alone(world: World) -> None:
    header = await world.token(ALICE, Permission.ATTACH)
    delegation = carried(world, await service(world).get(asking(world, header, "repository:team-a/app:push")))
    assert grants(delegation) == {"team-a/app": frozenset({Permission.ATTACH})}


async def test_token_for_a_token_carries_no_more_and_ends_no_later(world: World) -> None:
    old = await world.token(ALICE, Permission.PULL)
    world.clock.now += 100
    response = await service(world).get(asking(world, old, "repository:team-a/app:pull,push,delete"))
    assert grants(carried(world, response)) == {"team-a/app": PULL}
    assert answer(response)["expires_in"] == 200
    world.clock.now += 201
    with pytest.raises(Unauthorized):
        await service(world).get(asking(world, old, "repository:team-a/app:pull"))


async def test_robot_and_its_token_have_what_it_was_granted(world: World) -> None:
    for header in (world.robot, basic("anything", world.robot_secret)):
        scope = "repository:team-a/app:pull,push"
        delegation = carried(world, await service(world).get(asking(world, header, scope)))
        assert grants(delegation) == {"team-a/app": PULL}


async def test_answer_tells_when_the_token_was_made_and_for_how_long_it_is_good(world: World) -> None:
    world.clock.now = 1_700_000_000.25
    found = answer(await service(world).get(asking(world, BOB)))
    assert (found["issued_at"], found["expires_in"]) == ("2023-11-14T22:13:20.250Z", 300)


async def test_token_of_a_holder_with_too_many_groups_is_refused_and_not_on_record_as_issued(make: Make) -> None:
    world = make(open_to_all=True)
    groups = tuple(f"certificate:{'g' * 100}{number}" for number in range(80))
    request = asking(world, None, "repository:a:pull")
    request.identity = Identity("certificate:x", Method.CERTIFICATE, groups=groups)
    with pytest.raises(Denied, match="too large"):
        await service(world).get(request)
    assert [event for event in world.audit.events if event.outcome is Outcome.OK] == []


# Who asks


async def test_who_has_no_credentials_is_asked_for_a_password(world: World) -> None:
    request = asking(world, None, "repository:team-a/app:pull")
    with pytest.raises(Unauthorized):
        await service(world).get(request)
    assert world.challenge.to(request) == BASIC
    assert world.audit.events == []


async def test_who_has_no_credentials_gets_what_everybody_may_do(make: Make) -> None:
    world = make(anonymous="pull")
    response = await service(world, anonymous=True).get(asking(world, None, "repository:team-a/app:pull,push"))
    assert grants(carried(world, response)) == {"team-a/app": PULL}
    assert world.tokens.verify(answer(response)["token"]).anonymous


@pytest.mark.parametrize("anonymous", [True, False])
async def test_wrong_credentials_are_refused_and_on_record(make: Make, *, anonymous: bool) -> None:
    world = make(anonymous="pull")
    with pytest.raises(Unauthorized):
        await service(world, anonymous=anonymous).get(asking(world, basic("alice", "hunter2")))
    (event,) = world.audit.events
    assert (event.action, event.outcome, event.detail) == (Action.LOGIN, Outcome.DENIED, "GET /token")
    assert "hunter2" not in repr(event)


async def test_token_without_authentication_is_one_for_nobody(make: Make) -> None:
    world = make(open_to_all=True)
    response = await service(world, anonymous=True).get(asking(world, ALICE, "repository:a:pull,push"))
    assert grants(carried(world, response)) == {"a": PULL | PUSH}
    assert world.tokens.verify(answer(response)["token"]).anonymous


# Forms


@pytest.mark.parametrize(
    ("fields", "holder"),
    [
        ({"grant_type": "password", "username": "alice", "password": "secret of alice"}, "alice"),
        ({"grant_type": "password", "username": "alice", "password": "secret of alice", "client_id": "x"}, "alice"),
        ({"grant_type": "password", "username": "x", "password": "ROBOT"}, "robot:ci"),
        ({"grant_type": "refresh_token", "refresh_token": "ROBOT"}, "robot:ci"),
    ],
)
async def test_form(world: World, fields: dict[str, str], holder: str) -> None:
    fields = {name: world.robot_secret if value == "ROBOT" else value for name, value in fields.items()}
    scopes = {"service": "trow", "scope": "repository:team-a/app:pull repository:team-b/app:pull"}
    response = await service(world).post(form(world, fields | scopes))
    assert world.tokens.verify(answer(response)["token"]).name == holder
    assert grants(carried(world, response)) == {"team-a/app": PULL}


async def test_form_may_name_several_scopes(world: World) -> None:
    fields = [("grant_type", "password"), ("username", "root"), ("password", "secret of root")]
    scopes = [("scope", "repository:a:pull"), ("scope", "repository:b:pull")]
    response = await service(world).post(form(world, [*fields, *scopes]))
    assert grants(carried(world, response)) == {"a": PULL, "b": PULL}


@pytest.mark.parametrize(
    "fields",
    [
        b"",
        {"grant_type": "password", "username": "alice"},
        {"grant_type": "password", "password": "x"},
        {"grant_type": "refresh_token"},
        {"grant_type": "authorization_code", "code": "x"},
        {"username": "alice", "password": "secret of alice"},
        [("grant_type", "password"), ("grant_type", "password"), ("username", "a"), ("password", "b")],
        [("grant_type", "password"), ("username", "a"), ("username", "alice"), ("password", "b")],
        b"grant_type=password&username=%ff&password=x",
        "grant_type=password&username=ä&password=x".encode("latin-1"),
        b'{"grant_type": "password"}',
        b"&".join(b"a=b" for _ in range(101)),
        b"grant_type=password&username=a&password=" + b"x" * 70_000,
    ],
)
async def test_form_that_cannot_be_used(world: World, fields: dict[str, str] | list[tuple[str, str]] | bytes) -> None:
    with pytest.raises(RequestInvalid):
        await service(world).post(form(world, fields))
    assert world.audit.events == []


@pytest.mark.parametrize(
    "fields",
    [
        {"grant_type": "password", "username": "alice", "password": "hunter2"},
        {"grant_type": "refresh_token", "refresh_token": "hunter2"},
        {"grant_type": "password", "username": "", "password": ""},
    ],
)
async def test_form_with_wrong_credentials(world: World, fields: dict[str, str]) -> None:
    with pytest.raises(Unauthorized):
        await service(world).post(form(world, fields))
    (event,) = world.audit.events
    assert (event.action, event.outcome) == (Action.LOGIN, Outcome.DENIED)
    assert "hunter2" not in repr(event)


# Where nothing may happen off the record


async def test_token_is_on_record_before_it_is_given_away(make: Make) -> None:
    world = make(fail_closed=True)
    await service(world).get(asking(world, ALICE, "repository:team-a/app:pull"))
    assert [event.action for event in world.audit.now] == [Action.TOKEN_ISSUE]


async def test_no_token_is_given_away_that_cannot_be_recorded(make: Make) -> None:
    world = make(fail_closed=True)
    world.audit.full = True
    with pytest.raises(Unavailable):
        await service(world).get(asking(world, ALICE, "repository:team-a/app:pull"))
