from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from support.loop import run
from trow.access.identity import ANONYMOUS, Delegation, Grant, Identity, Method
from trow.access.permissions import ACTIONS, READING, Permission, expand
from trow.access.rules import Decision, PermissionRule, Subjects
from trow.identity import remedies
from trow.identity.authorizer import AuthorizerChain
from trow.lib.globs import RepositoryGlob
from trow.oci.errors import Unavailable
from trow.oci.names import Repository

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

NONE = Repository("")
APP, OTHER = Repository.parse("team-a/app"), Repository.parse("team-b/app")
P = Permission
ALICE = Identity("alice", Method.PASSWORD, groups=("dev",))
BOB = Identity("bob", Method.PASSWORD)
GLOBAL = {P.OPEN, P.PING, P.LIST, P.AUDIT, P.ADMIN}


def glob(text: str) -> RepositoryGlob:
    return RepositoryGlob.parse(text)


def rule(name: str, subjects: Subjects, repositories: str, *permissions: Permission) -> PermissionRule:
    return PermissionRule(name, subjects, (glob(repositories),), expand(permissions))


DEV = rule("dev", Subjects(groups=frozenset({"dev"})), "team-a/**", P.PULL, P.PUSH, P.LIST)


def robot(*grants: tuple[str, Sequence[Permission]]) -> Identity:
    found = tuple(Grant(glob(each), expand(permissions)) for each, permissions in grants)
    return Identity("robot:ci", Method.ROBOT, "id", credential="id", grants=found)


def delegated(
    holder: Identity, *grants: tuple[Repository, Collection[Permission]], lists: Collection[str] = ()
) -> Identity:
    found = tuple((repository, frozenset(permissions)) for repository, permissions in grants)
    delegation = Delegation("jti", 0.0, found, frozenset(lists))
    return Identity(
        holder.name,
        holder.method,
        holder.uid,
        holder.groups,
        holder.extra,
        holder.credential,
        holder.grants,
        delegation,
    )


class OtherAuthorizer:
    """Another authorizer that allows some identities to do everything."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.asked: list[tuple[Identity, object, object]] = []

    async def decide(self, identity: Identity, permission: Permission, repository: Repository) -> Decision:
        self.asked.append((identity, permission, repository))
        if "down" in self.names:
            raise Unavailable("no answer")
        return Decision(identity.name in self.names, "the cluster says so")

    async def visible(self, identity: Identity, repositories: Sequence[Repository]) -> Sequence[bool]:
        self.asked.append((identity, None, tuple(repositories)))
        return [identity.name in self.names for _ in repositories]

    def prefixes(self, identity: Identity) -> Sequence[str]:
        return ("theirs/",) if identity.name in self.names else ()


def decide(
    guard: AuthorizerChain, identity: Identity, permission: Permission, repository: Repository = APP
) -> Decision:
    return run(guard.decide(identity, permission, NONE if permission in GLOBAL else repository))


def allowed(guard: AuthorizerChain, identity: Identity, repository: Repository = APP) -> set[Permission]:
    return {each for each in Permission if decide(guard, identity, each, repository).allowed}


def visible(guard: AuthorizerChain, identity: Identity, *repositories: Repository) -> list[bool]:
    return list(run(guard.visible(identity, repositories)))


# without a token


@pytest.mark.parametrize(
    ("identity", "repository", "expected"),
    [
        (ALICE, APP, {P.OPEN, P.PING, P.PULL, P.PUSH, P.ATTACH, P.LIST}),
        (ALICE, OTHER, {P.OPEN, P.PING, P.LIST}),
        (BOB, APP, {P.OPEN, P.PING}),
        (ANONYMOUS, APP, {P.OPEN}),
        (robot(("team-a/*", [P.PULL])), APP, {P.OPEN, P.PING, P.PULL}),
        (robot(("team-a/*", [P.PULL])), OTHER, {P.OPEN, P.PING}),
        (
            robot(("team-a/*", [P.PULL]), ("team-b/**", [P.PUSH, P.LIST])),
            OTHER,
            {P.OPEN, P.PING, P.PUSH, P.ATTACH, P.LIST},
        ),
        (robot(("team-a/*", [P.TAG_OVERWRITE])), APP, {P.OPEN, P.PING, P.TAG_OVERWRITE}),
        (robot(("**", [P.ADMIN])), APP, set(Permission)),
        (robot(("team-a/**", [P.ADMIN])), APP, set(Permission) - {P.AUDIT, P.ADMIN}),
        (robot(), APP, {P.OPEN, P.PING}),
    ],
)
def test_what_rules_and_grants_allow(identity: Identity, repository: Repository, expected: set[Permission]) -> None:
    assert allowed(AuthorizerChain([DEV]), identity, repository) == expected


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        (ANONYMOUS, {P.OPEN, P.PULL, P.LIST}),  # a client learns on the ping that it can log in
        (BOB, {P.OPEN, P.PING, P.PULL, P.LIST}),
        (robot(("team-b/*", [P.PUSH])), {P.OPEN, P.PING, P.PULL, P.LIST}),
    ],
)
def test_who_may_pull_anonymously_may_pull_logged_in(identity: Identity, expected: set[Permission]) -> None:
    assert allowed(AuthorizerChain([], anonymous="pull"), identity) == expected


def test_open_to_all_without_authentication() -> None:
    guard = AuthorizerChain([], open_to_all=True)
    assert allowed(guard, ANONYMOUS) == set(Permission)
    assert decide(guard, ANONYMOUS, P.PUSH).reason == "open to all: no authentication is configured"
    assert visible(guard, ANONYMOUS, APP, OTHER) == [True, True]


def test_without_anything_everything_is_denied() -> None:
    for identity in (ANONYMOUS, BOB, delegated(BOB), robot()):
        assert allowed(AuthorizerChain([]), identity) <= {P.OPEN, P.PING}


def test_anonymous_may_be_in_a_rule() -> None:
    public = rule("public", Subjects(anonymous=True), "public/*", P.PULL)
    guard = AuthorizerChain([public])
    assert allowed(guard, ANONYMOUS, Repository.parse("public/x")) == {P.OPEN, P.PULL}
    assert allowed(guard, ANONYMOUS, APP) == {P.OPEN}


def test_zot_31801_no_permission_follows_from_another() -> None:
    guard = AuthorizerChain([DEV])
    for permission in (P.DELETE, P.TAG_OVERWRITE, P.AUDIT, P.ADMIN):
        assert not decide(guard, ALICE, permission).allowed


def test_harbor_23675_a_name_is_no_right() -> None:
    guard = AuthorizerChain([rule("robots", Subjects(users=frozenset({"robot:ci"})), "**", P.ADMIN)])
    assert allowed(guard, robot(("team-b/*", [P.PULL])), APP) == {P.OPEN, P.PING}  # its grants decide alone


def test_reasons_name_what_allowed_and_what_is_missing() -> None:
    guard = AuthorizerChain([DEV])
    assert decide(guard, ALICE, P.PULL).reason == "allowed by dev"
    assert decide(guard, BOB, P.PULL).reason == "no rule of access.rules allows it"
    assert decide(guard, ANONYMOUS, P.PING).reason == "nobody is logged in"
    assert "robot token id" in decide(guard, robot(("team-a/*", [P.PULL])), P.PULL).reason
    denied = decide(guard, robot(("team-a/*", [P.PULL]), ("b", [P.PUSH])), P.PUSH)
    assert denied.reason == "its token id grants pull on team-a/*; attach,push on b and nothing else"
    assert "does not carry 'push' on team-a/app" in decide(guard, delegated(ALICE, (APP, {P.PULL})), P.PUSH).reason
    assert "'push' on team-a/app" in decide(guard, delegated(ALICE), P.TAG_OVERWRITE).reason
    assert "list 'catalog'" in decide(guard, delegated(ALICE), P.LIST).reason
    assert "registry token jti" in decide(guard, delegated(ALICE, (APP, {P.PULL})), P.PULL).reason


@pytest.mark.parametrize(
    ("identity", "permission", "repository", "fix"),
    [
        (BOB, P.PULL, APP, "add {users: [bob], repositories: [team-a/app], actions: [pull]} to access.rules"),
        (BOB, P.ATTACH, APP, "add {users: [bob], repositories: [team-a/app], actions: [push]} to access.rules"),
        (BOB, P.AUDIT, NONE, 'add {users: [bob], repositories: ["**"], actions: [audit]} to access.rules'),
        (
            Identity("github:repo:acme/app", Method.OIDC),
            P.DELETE,
            APP,
            "add {users: [github:repo:acme/app], repositories: [team-a/app], actions: [delete]} to access.rules",
        ),
        (
            Identity('ci:"x", y]', Method.OIDC),
            P.PULL,
            APP,
            r'add {users: ["ci:\"x\", y]"], repositories: [team-a/app], actions: [pull]} to access.rules',
        ),
        (
            robot(("team-a/*", [P.PULL])),
            P.PUSH,
            APP,
            "make another token with `trow token create --name ci --repository team-a/app --action push`",
        ),
        (
            robot(("team-a/*", [P.PUSH])),
            P.TAG_OVERWRITE,
            APP,
            "make another token with `trow token create --name ci --repository team-a/app --action push,tag-overwrite`",
        ),
        (
            robot(("team-a/*", [P.PULL])),
            P.LIST,
            NONE,
            "make another token with `trow token create --name ci --repository '**' --action pull,list`",
        ),
    ],
)
def test_a_denial_says_what_would_allow_it(
    identity: Identity, permission: Permission, repository: Repository, fix: str
) -> None:
    denied = decide(AuthorizerChain([DEV]), identity, permission, repository)
    assert (denied.allowed, denied.fix) == (False, fix)


def test_the_rule_that_a_denial_proposes_allows_it() -> None:
    """For any name, and as YAML reads it."""
    for name in ("bob", "github:acme", 'a"b\\c', "x, y", "true", "null", "1", "- a", "a: b", "#", "é", "a'b", "*"):
        identity = Identity(name, Method.OIDC)
        words = yaml.safe_load(remedies.rule_text(identity, P.PULL, APP))
        proposed = rule("new", Subjects(users=frozenset(words["users"])), words["repositories"][0], P.PULL)
        assert decide(AuthorizerChain([proposed]), identity, P.PULL).allowed, name


# with a token


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        (delegated(ALICE), set()),
        (delegated(ALICE, (APP, {P.PULL})), {P.PULL}),
        (delegated(ALICE, (APP, {P.PUSH})), {P.PUSH, P.ATTACH}),
        (delegated(ALICE, (APP, {P.ATTACH})), {P.ATTACH}),
        (delegated(ALICE, (OTHER, {P.PULL, P.PUSH})), set()),
        (delegated(ALICE, (APP, {P.DELETE})), {P.DELETE}),
        (delegated(BOB, (APP, {P.PULL})), {P.PULL}),  # what it was given is not judged again
        (delegated(ALICE, (APP, {P.TAG_OVERWRITE})), set()),
        (delegated(ALICE, lists={"catalog", "audit", "admin"}), {P.LIST}),
        (delegated(BOB, lists={"catalog", "audit", "admin"}), set()),
        (delegated(ALICE, lists={"everything", "*"}), set()),
        (delegated(robot(("**", [P.ADMIN])), (APP, {P.PUSH})), {P.PUSH, P.ATTACH, P.TAG_OVERWRITE}),
        (delegated(robot(("**", [P.ADMIN])), (APP, {P.PULL})), {P.PULL}),
        (delegated(robot(("**", [P.ADMIN])), lists={"audit"}), {P.AUDIT}),
        (delegated(robot(("**", [P.PULL])), (APP, {P.PUSH})), {P.PUSH, P.ATTACH}),
    ],
)
def test_a_token_limits_what_may_be_done(identity: Identity, expected: set[Permission]) -> None:
    assert allowed(AuthorizerChain([DEV]), identity) == expected | {P.OPEN, P.PING}


def test_nobody_may_ping_with_a_token() -> None:
    token = delegated(ANONYMOUS, (APP, {P.PULL}))
    assert allowed(AuthorizerChain([]), token) == {P.OPEN, P.PING, P.PULL}
    assert allowed(AuthorizerChain([], anonymous="pull"), delegated(ANONYMOUS)) == {P.OPEN, P.PING}


def test_overwriting_a_tag_takes_the_holders_right_too() -> None:
    owner = rule("owner", Subjects(users=frozenset({"alice"})), "team-a/*", P.TAG_OVERWRITE)
    token = delegated(ALICE, (APP, {P.PUSH}))
    assert not decide(AuthorizerChain([DEV]), token, P.TAG_OVERWRITE).allowed
    assert decide(AuthorizerChain([owner]), token, P.TAG_OVERWRITE).reason == "allowed by owner"
    cluster = OtherAuthorizer("alice")
    assert decide(AuthorizerChain([], external=cluster), token, P.TAG_OVERWRITE).allowed
    assert cluster.asked == [(ALICE, P.TAG_OVERWRITE, APP)]


# another authorizer


def test_the_cluster_is_asked_for_what_no_rule_allows() -> None:
    cluster = OtherAuthorizer("bob")
    guard = AuthorizerChain([DEV], external=cluster)
    assert decide(guard, ALICE, P.PULL).reason == "allowed by dev"
    assert not cluster.asked
    assert decide(guard, BOB, P.PULL).reason == "the cluster says so"
    assert decide(guard, BOB, P.ADMIN).allowed
    denied = decide(guard, ALICE, P.DELETE)
    assert denied.reason == "no rule of access.rules allows it; the cluster says so"
    assert decide(AuthorizerChain([], external=cluster), ALICE, P.DELETE).reason == "the cluster says so"


def test_the_cluster_is_not_asked_for_robots_nor_for_what_a_token_says() -> None:
    cluster = OtherAuthorizer("robot:ci", "alice")
    guard = AuthorizerChain([], external=cluster)
    assert not decide(guard, robot(), P.PULL).allowed
    assert not decide(guard, delegated(ALICE), P.PULL).allowed
    assert decide(guard, delegated(ALICE, (APP, {P.PULL})), P.PULL).allowed
    assert decide(guard, ALICE, P.PING).allowed
    assert visible(guard, robot(), APP) == [False]
    assert not cluster.asked


def test_the_cluster_decides_for_each_repository_what_is_listed() -> None:
    cluster = OtherAuthorizer()
    guard = AuthorizerChain([], external=cluster)
    assert decide(guard, BOB, P.LIST).allowed
    assert not decide(guard, delegated(BOB), P.LIST).allowed
    assert not cluster.asked


def test_the_cluster_is_asked_whether_everybody_may_list() -> None:
    cluster = OtherAuthorizer()
    assert not decide(AuthorizerChain([], external=cluster), ANONYMOUS, P.LIST).allowed
    assert cluster.asked


def test_no_answer_is_no_denial() -> None:
    with pytest.raises(Unavailable):
        decide(AuthorizerChain([], external=OtherAuthorizer("down")), BOB, P.PULL)


# what is visible


LISTER = rule("lister", Subjects(users=frozenset({"bob"})), "**", P.LIST)
PULLER = rule("puller", Subjects(users=frozenset({"bob"})), "team-b/*", P.PULL)


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        (ALICE, [True, False]),
        (BOB, [False, True]),  # list by one rule, pull by another
        (ANONYMOUS, [False, False]),
        (robot(("team-a/*", [P.PULL])), [False, False]),
        (robot(("team-a/*", [P.PULL]), ("**", [P.LIST])), [True, False]),
        (delegated(ALICE, (OTHER, {P.PULL})), [True, False]),  # by the holder's own rights
        (delegated(ANONYMOUS, (OTHER, READING)), [False, False]),
    ],
)
def test_visible_is_what_may_be_listed_and_pulled(identity: Identity, expected: list[bool]) -> None:
    assert visible(AuthorizerChain([DEV, LISTER, PULLER]), identity, APP, OTHER) == expected


def test_visible_to_all_where_all_may_pull() -> None:
    for identity in (ANONYMOUS, BOB, robot(), delegated(BOB)):
        assert visible(AuthorizerChain([], anonymous="pull"), identity, APP, OTHER) == [True, True]


def test_the_cluster_is_asked_for_what_the_rules_leave_open() -> None:
    cluster = OtherAuthorizer("alice")
    assert visible(AuthorizerChain([DEV], external=cluster), delegated(ALICE), OTHER, APP, OTHER) == [True, True, True]
    assert cluster.asked == [(ALICE, None, (OTHER, OTHER))]
    assert visible(AuthorizerChain([DEV], external=OtherAuthorizer()), ALICE, OTHER, APP) == [False, True]
    assert visible(AuthorizerChain([DEV], external=cluster), ALICE, APP) == [True]
    assert visible(AuthorizerChain([DEV], external=cluster), ALICE) == []
    assert len(cluster.asked) == 1


# memory


def test_decisions_are_remembered_for_the_very_identity() -> None:
    guard = AuthorizerChain([DEV])
    assert decide(guard, ALICE, P.PULL).allowed
    without = Identity("alice", Method.PASSWORD)
    assert not decide(guard, without, P.PULL).allowed  # of the same name and credential, with other groups
    assert decide(guard, ALICE, P.PULL).allowed


def test_every_action_has_an_answer() -> None:
    guard = AuthorizerChain([DEV], external=OtherAuthorizer())
    for identity in (ALICE, ANONYMOUS, robot(), delegated(ALICE)):
        for permission in ACTIONS:
            assert decide(guard, identity, permission).reason


# Where a list has to be read


def test_names_that_somebody_may_see_begin_as_the_rules_do() -> None:
    dev, bob = Subjects(groups=frozenset({"dev"})), Subjects(users=frozenset({"bob"}))
    rules = [
        rule("a", dev, "team-a/**", P.PULL),
        rule("b", dev, "team-b/app-*", P.PULL),
        rule("c", dev, "team-*/**", P.LIST),
        rule("d", dev, "other/**", P.PULL),
        rule("e", bob, "hidden/**", P.LIST, P.PULL),
    ]
    assert [*AuthorizerChain(rules).prefixes(ALICE)] == ["team-a/", "team-b/app-"]
    assert [*AuthorizerChain(rules).prefixes(BOB)] == ["hidden/"]
    assert [*AuthorizerChain(rules).prefixes(ANONYMOUS)] == []
    assert [*AuthorizerChain(rules).prefixes(robot(("x/**", [P.LIST]), ("x/y/*", [P.PULL])))] == ["x/y/"]
    assert [*AuthorizerChain(rules, anonymous="pull").prefixes(ANONYMOUS)] == [""]
    assert [*AuthorizerChain([], open_to_all=True).prefixes(ANONYMOUS)] == [""]
    assert [*AuthorizerChain(rules, external=OtherAuthorizer("alice")).prefixes(ALICE)] == [
        "team-a/",
        "team-b/app-",
        "theirs/",
    ]
    assert [*AuthorizerChain(rules, external=OtherAuthorizer("alice")).prefixes(BOB)] == ["hidden/"]
