from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

import factories
from support.core import digest, publication
from support.gates import ALICE, APP, BOB, ROOT, World
from support.registry import basic
from trow.access.identity import Method
from trow.access.permissions import Permission
from trow.access.ports import ClientCertificate
from trow.http.challenge import BASIC
from trow.oci.errors import Denied, OciError, TooManyRequests, Unauthorized
from trow.oci.names import Repository
from trow.registry.events import Action, Outcome
from trow.tls.peer import Peer

if TYPE_CHECKING:
    from support.fixtures import Make
    from trow.http.request import Request

OTHER: Final = Repository.parse("team-b/app")
REALM: Final = 'Bearer realm="http://registry.example:5000/token",service="trow"'
# The columns of the tables below.
ASKED: Final = (
    Permission.PING, Permission.LIST, Permission.PULL, Permission.PUSH, Permission.ATTACH, Permission.TAG_OVERWRITE,
    Permission.DELETE, Permission.AUDIT, Permission.ADMIN,
)  # fmt: skip


async def outcome(world: World, request: Request, permission: Permission) -> int:
    """The status that this request would be answered with, 200 where it passes."""
    try:
        await world.access.admit(request, permission)
    except Unauthorized:
        return 401
    except Denied:
        return 403
    return 200


async def credential(world: World, who: str) -> str | None:
    match who.split():
        case ["nobody"]:
            return None
        case ["robot"]:
            return world.robot
        case [name]:
            return basic(name, f"secret of {name}")
        case [name, "token", *words]:
            permissions = [Permission(word) for word in words if word != "catalog"]
            lists = frozenset({"catalog"} & set(words))
            return await world.token(basic(name, f"secret of {name}"), *permissions, lists=lists)
    raise ValueError(who)


@pytest.mark.parametrize(
    ("who", "expected"),
    [
        #                           ping list pull push att. over del. aud. adm.
        ("nobody",                 (401, 401, 401, 401, 401, 401, 401, 401, 401)),
        ("alice",                  (200, 200, 200, 200, 200, 200, 200, 403, 403)),
        ("bob",                    (200, 403, 403, 403, 403, 403, 403, 403, 403)),
        ("root",                   (200, 200, 200, 200, 200, 200, 200, 200, 200)),
        ("robot",                  (200, 403, 200, 403, 403, 403, 403, 403, 403)),
        ("alice token",            (200, 401, 401, 401, 401, 401, 401, 403, 403)),
        ("alice token pull",       (200, 401, 200, 401, 401, 401, 401, 403, 403)),
        ("alice token pull push",  (200, 401, 200, 200, 200, 200, 401, 403, 403)),
        ("alice token delete",     (200, 401, 401, 401, 401, 401, 200, 403, 403)),
        ("alice token catalog",    (200, 200, 401, 401, 401, 401, 401, 403, 403)),
        ("bob token",              (200, 403, 403, 403, 403, 403, 403, 403, 403)),
        ("root token pull",        (200, 401, 200, 401, 401, 401, 401, 401, 401)),
    ],
)  # fmt: skip
async def test_who_may_pass(world: World, who: str, expected: tuple[int, ...]) -> None:
    """401 where other credentials or another token would help, 403 where nothing would."""
    header = await credential(world, who)
    found = [await outcome(world, world.request(header, asked), asked) for asked in ASKED]
    assert dict(zip(ASKED, found, strict=True)) == dict(zip(ASKED, expected, strict=True))


@pytest.mark.parametrize("who", ["alice", "robot"])
async def test_right_is_one_to_the_repositories_that_it_names(world: World, who: str) -> None:
    header = await credential(world, who)
    for asked in (Permission.PULL, Permission.PUSH, Permission.DELETE):
        assert await outcome(world, world.request(header, asked, OTHER), asked) == 403


async def test_token_is_one_for_the_repository_that_it_names(world: World) -> None:
    header = await world.token(ALICE, Permission.PULL)
    sibling = Repository.parse("team-a/apps")
    assert await outcome(world, world.request(header, Permission.PULL, sibling), Permission.PULL) == 401
    assert await outcome(world, world.request(header, Permission.PULL, OTHER), Permission.PULL) == 403


async def refusal(world: World, header: str | None, asked: Permission) -> str:
    with pytest.raises(OciError) as caught:
        await world.access.admit(world.request(header, asked), asked)
    return caught.value.message


async def test_a_refusal_says_who_may_not_do_what_where_and_what_would_allow_it(world: World) -> None:
    """In the message, for that is what clients and kubelets show."""
    assert await refusal(world, BOB, Permission.PULL) == (
        "bob may not pull team-a/app: no rule of access.rules allows it. For an administrator to allow it: add"
        " {users: [bob], repositories: [team-a/app], actions: [pull]} to access.rules"
    )
    assert (await refusal(world, ALICE, Permission.AUDIT)).startswith("alice may not read the audit record: no rule")
    assert await refusal(world, world.robot, Permission.DELETE) == (
        f"robot:ci may not delete anything of team-a/app: its token {world.robot_secret.split('_')[1]} grants pull on"
        " team-a/** and nothing else. For an administrator to allow it: make another token with `trow token create"
        " --name ci --repository team-a/app --action delete`"
    )
    assert await refusal(world, None, Permission.PULL) == "log in to pull team-a/app"


async def test_of_a_token_the_true_reason_is_told(world: World) -> None:
    """Another token helps only where its holder has the right."""
    token = await world.token(BOB)
    assert await refusal(world, token, Permission.DELETE) == await refusal(world, BOB, Permission.DELETE)
    assert await refusal(world, await world.token(ALICE, Permission.PULL), Permission.DELETE) == (
        "the registry token does not carry 'delete' on team-a/app; ask for a token that does"
    )


async def test_everybody_may_pull_where_that_is_configured(make: Make) -> None:
    world = make(anonymous="pull")
    for header in (None, BOB, await world.token(BOB, Permission.PULL)):
        assert await outcome(world, world.request(header, Permission.PULL), Permission.PULL) == 200
    for asked in (Permission.PUSH, Permission.DELETE, Permission.AUDIT, Permission.PING):
        assert await outcome(world, world.request(None, asked), asked) == 401


async def test_everybody_may_do_everything_without_authentication_and_credentials_are_ignored(make: Make) -> None:
    world = make(open_to_all=True)
    for header in (None, ALICE, "Basic nonsense", "Bearer nonsense"):
        for asked in ASKED:
            request = world.request(header, asked)
            assert await outcome(world, request, asked) == 200
            assert request.identity.anonymous
    assert world.audit.events == []


@pytest.mark.parametrize(
    "header",
    ["Basic nonsense", "Bearer nonsense", "Digest x", basic("alice", "wrong"), basic("carol", "x"), "Bearer trow_x_y"],
)
@pytest.mark.parametrize("asked", [Permission.PING, Permission.PULL])
async def test_wrong_credentials_are_refused_also_where_none_are_needed(
    make: Make, header: str, asked: Permission
) -> None:
    world = make(anonymous="pull")
    request = world.request(header, asked)
    assert await outcome(world, request, asked) == 401
    assert request.identity.anonymous


async def test_two_authorization_headers_are_refused(world: World) -> None:
    request = world.request(ALICE, Permission.PING, headers={"authorization": BOB})
    assert await outcome(world, request, Permission.PING) == 401


async def test_guessing_has_an_end(world: World) -> None:
    for number in range(5):
        assert await outcome(world, world.request(basic("alice", f"wrong {number}")), Permission.PULL) == 401
    with pytest.raises(TooManyRequests):
        await outcome(world, world.request(ALICE), Permission.PULL)
    (*_, last) = world.audit.events
    assert last.outcome is Outcome.FAILED


async def test_client_certificate_says_who_it_is(make: Make) -> None:
    peer = Peer("192.0.2.9", "", "https", "", ClientCertificate("node-1", ("nodes",), "ab" * 32))
    world = make(tls_connections={"/inner/1": peer})
    request = world.request(None, Permission.PING, client="/inner/1")
    assert await outcome(world, request, Permission.PING) == 200
    assert (request.identity.name, request.identity.method) == ("certificate:node-1", Method.CERTIFICATE)
    assert request.client == "192.0.2.9"


# The actor


async def test_actor_has_the_rights_of_who_asks(world: World) -> None:
    request = world.request(await world.token(ALICE, Permission.ATTACH), Permission.ATTACH)
    await world.access.admit(request, Permission.ATTACH)
    actor = world.access.actor(request)
    assert (actor.identity.name, actor.client) == ("alice", "192.0.2.1")
    await actor.require(Permission.ATTACH, APP)
    for asked in (Permission.PUSH, Permission.TAG_OVERWRITE):
        with pytest.raises(Unauthorized):
            await actor.require(asked, APP)


async def test_mount_is_from_where_the_holder_may_pull_whatever_the_token_carries(world: World) -> None:
    request = world.request(await world.token(ALICE, Permission.PUSH), Permission.ATTACH)
    await world.access.admit(request, Permission.ATTACH)
    actor = world.access.actor(request)
    assert await actor.may(Permission.PULL, Repository.parse("team-a/base"))
    assert not await actor.may(Permission.PULL, OTHER)


async def test_list_shows_what_who_asks_may_pull(world: World) -> None:
    names = [APP, OTHER]
    for header, shown in ((ALICE, [True, False]), (ROOT, [True, True]), (BOB, [False, False])):
        request = world.request(header, Permission.PING)
        await world.access.admit(request, Permission.PING)
        assert [*await world.access.actor(request).visible(names)] == shown


# The challenge


@pytest.mark.parametrize(
    ("asked", "scope"),
    [
        (Permission.PING, ""),
        (Permission.PULL, ',scope="repository:team-a/app:pull"'),
        (Permission.PUSH, ',scope="repository:team-a/app:pull,push"'),
        (Permission.ATTACH, ',scope="repository:team-a/app:pull,push"'),
        (Permission.TAG_OVERWRITE, ',scope="repository:team-a/app:pull,push"'),
        (Permission.DELETE, ',scope="repository:team-a/app:delete"'),
        (Permission.LIST, ',scope="registry:catalog:*"'),
        (Permission.AUDIT, ',scope="registry:audit:*"'),
        (Permission.ADMIN, ',scope="registry:admin:*"'),
    ],
)
async def test_challenge_tells_what_the_token_has_to_carry(world: World, asked: Permission, scope: str) -> None:
    request = world.request(None, asked)
    assert world.challenge.to(request) == REALM + scope
    token = world.request(await world.token(BOB), asked)
    with pytest.raises(OciError):
        await world.access.admit(token, Permission.ADMIN)
    assert world.challenge.to(token) == REALM + scope + ',error="insufficient_scope"'


async def test_challenge_without_a_route_asks_for_a_login(world: World) -> None:
    request = world.request(None)
    request.route = None
    request.repository = Repository("")
    assert world.challenge.to(request) == REALM


async def test_token_service_itself_asks_for_a_password(world: World) -> None:
    assert world.challenge.to(world.request(None, Permission.OPEN, path="/token")) == BASIC


async def test_basic_challenge_where_that_is_configured(make: Make) -> None:
    world = make(challenge="basic")
    for asked in ASKED:
        assert world.challenge.to(world.request(None, asked)) == BASIC


async def test_realm_is_the_public_url_where_there_is_one(make: Make) -> None:
    world = make(public_url="https://registry.example.com/prefix")
    challenge = world.challenge.to(world.request(None, Permission.PING, host="elsewhere"))
    assert challenge == 'Bearer realm="https://registry.example.com/prefix/token",service="trow"'


@pytest.mark.parametrize(
    ("host", "query", "realm"),
    [
        ("198.51.100.7:30500", "ns=registry.example.com", "http://198.51.100.7:30500"),
        ("[2001:db8::1]:80", "ns=registry.example.com", "http://[2001:db8::1]:80"),
        ("198.51.100.7:30500", "", "https://registry.example.com"),
        ("127.0.0.1:8000", "ns=registry.example.com", "https://registry.example.com"),
        ("inside.example", "ns=registry.example.com", "https://registry.example.com"),
        ("198.51.100.7", "&".join(["ns=x"] * 20_000), "https://registry.example.com"),
        ("", "ns=registry.example.com", "https://registry.example.com"),
    ],
    ids=["containerd", "IPv6", "anybody", "a proxy on this machine", "a proxy's name", "too many", "no host"],
)
async def test_a_node_that_was_led_to_an_address_gets_its_token_there(
    make: Make, host: str, query: str, realm: str
) -> None:
    world = make(public_url="https://registry.example.com")
    challenge = world.challenge.to(world.request(None, Permission.PING, host=host, query=query))
    assert f'realm="{realm}/token"' in challenge


@pytest.mark.parametrize(
    ("host", "realm"),
    [
        ("registry.example.com", "http://registry.example.com/token"),
        ("[2001:db8::1]:5000", "http://[2001:db8::1]:5000/token"),
        ("my_host.local-1:80", "http://my_host.local-1:80/token"),
        ("REGISTRY.Example.Com:5000", "http://registry.example.com:5000/token"),
    ],
)
async def test_realm_is_where_the_client_has_found_us(world: World, host: str, realm: str) -> None:
    assert f'realm="{realm}"' in world.challenge.to(world.request(None, Permission.PING, host=host))


@pytest.mark.parametrize(
    "host",
    [
        'evil",scope="repository:x:push',
        'a"b',
        "a\r\nset-cookie: x=y",
        "a\nb",
        "a b",
        "a\\",
        "a,b",
        "user:pass@evil.example",
        "evil.example/token?x=",
        "evil.example#",
        "bücher.example",
        "\u2028",
        "\x00",
        "'",
        "",
        "a:b",
        "a:65536",
        "a:1:2",
        "reg.example.comtrow.internal:8000, x",
        "a..b",
        ".",
        "[::1",
        "[::g]",
        "[1.2.3.4]",
        "a" * 300,
    ],
)
async def test_what_is_no_host_sends_nobody_anywhere(world: World, host: str) -> None:
    """Where the address of the token service is not known, credentials are asked for here."""
    assert world.challenge.to(world.request(None, Permission.PING, host=host)) == BASIC


# Repositories that come and go


async def publish(world: World, repository: Repository, subject: str) -> str:
    image = factories.image(0)
    await world.metadata.publish(publication(repository, image, "v1", subject=subject))
    return image.digest


async def test_token_for_a_deleted_repository_is_none_for_its_namesake_as_it_was_in_harbor_issue_22900(
    world: World,
) -> None:
    image = await publish(world, APP, "alice")
    header = await world.token(ALICE, Permission.PULL)
    assert await outcome(world, world.request(header), Permission.PULL) == 200
    await world.metadata.delete_manifest(APP, digest(image), "alice")
    assert await outcome(world, world.request(header), Permission.PULL) == 200  # there is nothing to pull
    await publish(world, APP, "root")
    request = world.request(header)
    with pytest.raises(Unauthorized, match="older than the repository"):
        await world.access.admit(request, Permission.PULL)
    assert 'scope="repository:team-a/app:pull"' in world.challenge.to(request)
    assert await outcome(world, world.request(await world.token(ALICE, Permission.PULL)), Permission.PULL) == 200
    assert await outcome(world, world.request(ALICE), Permission.PULL) == 200, "a password is never old"


@pytest.mark.parametrize("hours", [-1000, -1, 0, 1, 1000])
async def test_no_clock_makes_a_token_older_than_the_repository(world: World, hours: int) -> None:
    """The repository was made while the clock was ahead, or since then it was set back."""
    await publish(world, APP, "root")
    await publish(world, OTHER, "root")
    world.clock.now += hours * 3600
    for repository, who in ((APP, ALICE), (OTHER, ROOT)):
        header = await world.token(who, Permission.PULL, repository=repository)
        assert await outcome(world, world.request(header, repository=repository), Permission.PULL) == 200


async def test_token_with_which_a_repository_was_made_goes_on(world: World) -> None:
    header = await world.token(ALICE, Permission.PULL, Permission.PUSH)
    await publish(world, APP, "alice")
    for asked in (Permission.PULL, Permission.PUSH):
        assert await outcome(world, world.request(header, asked), asked) == 200


async def test_token_renewed_with_a_token_is_as_old_as_that(world: World) -> None:
    old = await world.token(ALICE, Permission.PULL)
    await publish(world, APP, "root")
    renewed = await world.token(old, Permission.PULL)
    assert await outcome(world, world.request(renewed), Permission.PULL) == 401


# The record


async def test_refused_login_is_on_record_without_the_secret(world: World) -> None:
    headers = {"user-agent": "docker/27"}
    await outcome(world, world.request(basic("alice", "hunter2"), Permission.PING, headers=headers), Permission.PING)
    (event,) = world.audit.events
    assert (event.action, event.outcome, event.actor.name) == (Action.LOGIN, Outcome.DENIED, "")
    assert (event.origin.address, event.origin.agent) == ("192.0.2.1", "docker/27")
    assert event.reason.startswith("the user name or the password is wrong;")
    assert "hunter2" not in repr(event)


async def test_refused_access_is_on_record_with_what_decided(world: World) -> None:
    request = world.request(BOB, path="/v2/{repository}/manifests/{reference}")
    request.parameters = {"repository": "team-a/app", "reference": "v1"}
    await outcome(world, request, Permission.PULL)
    (event,) = world.audit.events
    assert (event.action, event.outcome, event.actor.name) == (Action.ACCESS, Outcome.DENIED, "bob")
    assert (event.repository, event.reference) == ("team-a/app", "v1")
    assert event.detail == "GET /v2/{repository}/manifests/{reference}"
    assert event.reason == "may not pull team-a/app: no rule of access.rules allows it"
    assert event.origin.request == request.number


async def test_first_request_of_a_client_without_credentials_is_no_refusal_to_record(world: World) -> None:
    await outcome(world, world.request(None), Permission.PULL)
    assert world.audit.events == []


async def test_repeated_refusals_are_counted(world: World) -> None:
    for _ in range(9):
        await outcome(world, world.request(BOB), Permission.PULL)
    assert len(world.audit.events) == 1
    world.transfers.sweep(everything=True)
    assert [event.count for event in world.audit.events] == [1, 8]
