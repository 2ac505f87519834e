from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trow.access.identity import ANONYMOUS, Identity, Method, Workload
from trow.access.permissions import ACTIONS, EVERYTHING, READING, Permission, expand
from trow.access.rules import Decision, PermissionRule, Subjects, decide
from trow.lib.globs import RepositoryGlob
from trow.oci.names import Repository

NONE = Repository("")
APP = Repository.parse("team-a/app")
ALICE = Identity("alice", Method.PASSWORD, groups=("dev", "ops"))
GITHUB = Identity(
    "github:repo:acme/app:ref:refs/heads/main",
    Method.OIDC,
    groups=("github:acme",),
    extra=(
        ("issuer", ("github",)),
        ("ref", ("refs/heads/main",)),
        ("repository", ("acme/app",)),
        ("roles", ("a", "b")),
    ),
)


def users(*names: str) -> Subjects:
    return Subjects(users=frozenset(names))


def claims(issuer: str = "github", **wanted: str) -> Subjects:
    return Subjects(issuer=issuer, claims=tuple(wanted.items()))


@pytest.mark.parametrize(
    ("subjects", "identity", "expected"),
    [
        (users("alice"), ALICE, True),
        (users("bob", "alice"), ALICE, True),
        (users("alic", "Alice", "alice2", ""), ALICE, False),
        (users("*"), ALICE, True),
        (users("*"), ANONYMOUS, False),
        (users("", "*"), ANONYMOUS, False),
        (Subjects(anonymous=True), ANONYMOUS, True),
        (Subjects(anonymous=True), ALICE, False),
        (Subjects(), ALICE, False),
        (Subjects(), ANONYMOUS, False),
        (Subjects(groups=frozenset({"ops"})), ALICE, True),
        (Subjects(groups=frozenset({"admin"})), ALICE, False),
        (Subjects(users=frozenset({"bob"}), groups=frozenset({"dev"})), ALICE, True),
        (claims(repository="acme/app"), GITHUB, True),
        (claims(repository="acme/*"), GITHUB, True),
        (claims(repository="acme/*", ref="refs/heads/main"), GITHUB, True),
        (claims(repository="acme/*", ref="refs/tags/*"), GITHUB, False),
        (claims(repository="acme"), GITHUB, False),
        (claims(repository="*/app2"), GITHUB, False),
        (claims(roles="b"), GITHUB, True),
        (claims(missing="*"), GITHUB, False),
        (claims("gitlab", repository="acme/app"), GITHUB, False),
        (claims(), GITHUB, True),
        (claims(), ALICE, False),
        (claims(), Identity("x", Method.PASSWORD, extra=GITHUB.extra), False),  # only a token has claims
        (Subjects(users=frozenset({"alice"}), issuer="github"), GITHUB, False),
        (Subjects(groups=frozenset({"github:acme"}), issuer="github", claims=(("ref", "*/main"),)), GITHUB, True),
    ],
)
def test_whom_a_rule_is_about(subjects: Subjects, identity: Identity, expected: bool) -> None:  # noqa: FBT001
    assert subjects.include(identity) is expected


def rule(
    name: str, *permissions: Permission, subjects: Subjects | None = None, glob: str = "team-a/**"
) -> PermissionRule:
    return PermissionRule(name, subjects or users("alice"), (RepositoryGlob.parse(glob),), expand(permissions))


def test_the_first_rule_that_allows_it_is_named() -> None:
    rules = [
        rule("one", Permission.PULL, glob="team-b/**"),
        rule("two", Permission.PULL),
        rule("three", Permission.PULL),
    ]
    assert decide(rules, ALICE, Permission.PULL, APP) == Decision(allowed=True, reason="allowed by two")
    assert decide(rules, ALICE, Permission.PUSH, APP) == Decision(allowed=False, reason="no rule allows it")
    assert not decide([], ALICE, Permission.PULL, APP).allowed


def test_what_concerns_no_repository_needs_no_glob() -> None:
    rules = [rule("one", Permission.LIST)]
    assert decide(rules, ALICE, Permission.LIST, NONE).allowed
    assert not decide(rules, ALICE, Permission.AUDIT, NONE).allowed


def test_what_actions_include() -> None:
    assert expand([]) == frozenset()
    assert expand([Permission.PULL]) == {Permission.PULL}
    assert expand([Permission.PUSH]) == {Permission.PUSH, Permission.ATTACH}
    assert expand([Permission.ADMIN]) == EVERYTHING == set(ACTIONS)
    assert Permission.TAG_OVERWRITE not in expand([Permission.PUSH, Permission.DELETE])
    assert {Permission.PULL, Permission.LIST} == READING


@given(
    st.lists(st.sampled_from(ACTIONS), max_size=3),
    st.sampled_from(["team-a/**", "team-b/*", "**"]),
    st.sampled_from([ALICE, GITHUB, ANONYMOUS]),
    st.sampled_from(list(Permission)),
)
def test_more_rules_never_take_anything_away(
    actions: list[Permission], glob: str, identity: Identity, permission: Permission
) -> None:
    rules = [rule("one", Permission.PULL)]
    more = [*rules, PermissionRule("more", users("*"), (RepositoryGlob.parse(glob),), expand(actions))]
    if decide(rules, identity, permission, APP).allowed:
        assert decide(more, identity, permission, APP).allowed
    if identity.anonymous:
        assert not decide(more, identity, permission, APP).allowed


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_claim_without_a_star_is_compared_to_the_letter(wanted: str, value: str) -> None:
    identity = Identity("x", Method.OIDC, extra=(("claim", (value,)), ("issuer", ("i",))))
    subjects = Subjects(issuer="i", claims=(("claim", wanted),))
    if "*" not in wanted:
        assert subjects.include(identity) == (wanted == value)


# identities


def test_a_workload_is_a_service_account_and_nobody_else() -> None:
    extra = (
        ("authentication.kubernetes.io/node-name", ("node-3",)),
        ("authentication.kubernetes.io/pod-name", ("web-7c",)),
    )
    pod = Identity("system:serviceaccount:team-a:default", Method.KUBERNETES, extra=extra)
    assert pod.workload == Workload("team-a", "default", "web-7c", "", "node-3", "")
    assert ALICE.workload is None
    assert ANONYMOUS.workload is None
    assert Identity("certificate:system:serviceaccount:a:b").workload is None


def test_only_nobody_is_anonymous() -> None:
    assert ANONYMOUS.anonymous
    assert not ALICE.anonymous
    assert ALICE.undelegated() is ALICE
