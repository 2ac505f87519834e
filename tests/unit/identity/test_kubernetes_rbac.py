"""Role and RoleBinding as the registry's rights: what the cluster is asked, and what its answers mean."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from support.waiting import eventually
from trow.access.identity import ANONYMOUS, Identity, Method
from trow.access.permissions import Permission
from trow.access.reviews import SubjectAccessReviewStatus
from trow.identity.rbac import RbacAuthorizer, RbacResource, RepositoryMap
from trow.oci.errors import TooManyRequests, Unavailable
from trow.oci.names import Repository

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trow.access.identity import Extra

ACCOUNT = Identity(
    "system:serviceaccount:team-a:default",
    Method.KUBERNETES,
    uid="u-1",
    groups=("system:serviceaccounts",),
    extra=(("authentication.kubernetes.io/pod-name", ("web",)),),
)
APP = Repository("team-a/app")
YES = SubjectAccessReviewStatus(
    allowed=True, reason='RBAC: allowed by RoleBinding "pull/team-a" of ClusterRole "puller"'
)
NO = SubjectAccessReviewStatus(allowed=False)


def written(attributes: Mapping[str, str]) -> str:
    """A question on one line: verb resource/subresource namespace:name."""
    parts = {"subresource": "", "namespace": "", "name": ""} | dict(attributes)
    sub = f"/{parts['subresource']}" if parts["subresource"] else ""
    return f"{parts['verb']} {parts['resource']}{sub} {parts['namespace']}:{parts['name']}"


@dataclass
class FakeRbac:
    """Allows what is in `rights`, and answers otherwise as a test says."""

    rights: set[str] = field(default_factory=set)
    answers: dict[str, SubjectAccessReviewStatus] = field(default_factory=dict)
    repositories: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    askers: list[tuple[Any, ...]] = field(default_factory=list)
    attributes: list[Mapping[str, str]] = field(default_factory=list)
    down: bool = False
    gate: asyncio.Event | None = None
    busy: int = 0
    busiest: int = 0
    now: float = 1000.0

    async def access(
        self, user: str, uid: str, groups: Sequence[str], extra: Extra, attributes: Mapping[str, str]
    ) -> SubjectAccessReviewStatus:
        question = written(attributes)
        self.asked.append(question)
        self.askers.append((user, uid, tuple(groups), extra))
        self.attributes.append(attributes)
        self.busy += 1
        self.busiest = max(self.busy, self.busiest)
        await (self.gate.wait() if self.gate else asyncio.sleep(0))
        self.busy -= 1
        if self.down:
            raise Unavailable("down")
        return self.answers.get(question, YES if question in self.rights else NO)

    async def exists(self, repository: Repository) -> bool:
        return repository in self.repositories

    def clock(self) -> float:
        return self.now


@pytest.fixture
def cluster() -> FakeRbac:
    return FakeRbac()


def authorizer(cluster: FakeRbac, *, anonymous: bool = False, **repositories: Any) -> RbacAuthorizer:
    places = RepositoryMap(**repositories)
    return RbacAuthorizer(cluster, places, cluster.exists, anonymous=anonymous, clock=cluster.clock)


@pytest.fixture
def rbac(cluster: FakeRbac) -> RbacAuthorizer:
    return authorizer(cluster)


# Where repositories belong


@pytest.mark.parametrize(
    ("repository", "place"),
    [
        ("team-a/app", ("repositories", "team-a", "app")),
        ("team-a/app/sub/x", ("repositories", "team-a", "app/sub/x")),
        ("f/docker.io/library/nginx", ("proxiedrepositories", "", "docker.io/library/nginx")),
        ("shared/base/python", ("repositories", "", "shared/base/python")),
        ("shared", ("repositories", "", "shared")),
        ("fx/app", ("repositories", "fx", "app")),
        ("sharedx/app", ("repositories", "sharedx", "app")),
        ("old/team/app", ("repositories", "team-b", "old/team/app")),
        ("old/team", ("repositories", "team-b", "old/team")),
        ("old/team/special/app", ("repositories", "team-c", "old/team/special/app")),
        ("old/teamwork/app", ("repositories", "old", "teamwork/app")),
        ("old/app", ("repositories", "old", "app")),
        ("nginx", ("repositories", "team-d", "nginx")),
        ("f/internal/app", ("repositories", "team-e", "f/internal/app")),
    ],
)
def test_a_repository_has_its_place(repository: str, place: tuple[str, str, str]) -> None:
    namespaces = {"old/team": "team-b", "old/team/special": "team-c", "nginx": "team-d", "f/internal": "team-e"}
    assert RepositoryMap(namespaces).locate(Repository.parse(repository)) == RbacResource(*place)


@pytest.mark.parametrize("repository", ["app", "f"])
def test_a_repository_of_one_component_has_a_place_only_by_default(repository: str) -> None:
    assert RepositoryMap().locate(Repository(repository)) is None
    found = RepositoryMap(default_namespace="images").locate(Repository(repository))
    assert found == RbacResource("repositories", "images", repository)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"namespaces": {"f": "team-a"}}, "stands twice"),
        ({"namespaces": {"": "team-a"}}, "stands twice or is none"),
        ({"namespaces": {"old/": "team-a"}}, "stands twice or is none"),
        ({"proxied": ("f", "shared")}, "stands twice"),
        ({"namespaces": {"old": "Team_A"}}, "is not the name of a namespace"),
        ({"default_namespace": "a.b"}, "is not the name of a namespace"),
    ],
)
def test_a_map_that_contradicts_itself_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RepositoryMap(**wrong)


# What is asked


@pytest.mark.parametrize(
    ("permission", "repository", "exists", "questions"),
    [
        (Permission.PULL, "team-a/app", True, ["get repositories/content team-a:app"]),
        (Permission.PUSH, "team-a/app", True, ["update repositories/content team-a:app"]),
        (Permission.PUSH, "team-a/app", False, ["create repositories team-a:app"]),
        (
            Permission.ATTACH,
            "team-a/app",
            True,
            ["update repositories/content team-a:app", "create repositories/referrers team-a:app"],
        ),
        (
            Permission.ATTACH,
            "team-a/app",
            False,
            ["create repositories team-a:app", "create repositories/referrers team-a:app"],
        ),
        (Permission.TAG_OVERWRITE, "team-a/app", True, ["update repositories/tags team-a:app"]),
        (Permission.DELETE, "team-a/app", True, ["delete repositories/content team-a:app"]),
        (Permission.LIST, "team-a/app", True, ["list repositories team-a:"]),
        (Permission.LIST, "", True, ["list repositories :"]),
        (Permission.AUDIT, "", True, ["get registries/audit :"]),
        (Permission.ADMIN, "", True, ["update registries :"]),
        (Permission.PULL, "f/docker.io/nginx", True, ["get proxiedrepositories/content :docker.io/nginx"]),
        (Permission.PULL, "shared/base", True, ["get repositories/content :shared/base"]),
    ],
)  # fmt: skip
async def test_an_action_is_a_verb_on_a_resource(
    cluster: FakeRbac, permission: Permission, repository: str, exists: object, questions: list[str]
) -> None:
    if exists:
        cluster.repositories.add(repository)
    assert not (await authorizer(cluster).decide(ACCOUNT, permission, Repository(repository))).allowed
    assert cluster.asked == questions
    # The last question decides when it is allowed; the first one makes the others needless.
    for right in questions:
        again = FakeRbac(rights={right}, repositories=cluster.repositories)
        assert (await authorizer(again).decide(ACCOUNT, permission, Repository(repository))).allowed
        assert again.asked == questions[: questions.index(right) + 1]


async def test_the_question_is_about_the_whole_identity(cluster: FakeRbac, rbac: RbacAuthorizer) -> None:
    await rbac.decide(ACCOUNT, Permission.PULL, APP)
    assert cluster.askers == [(ACCOUNT.name, ACCOUNT.uid, ACCOUNT.groups, ACCOUNT.extra)]
    assert cluster.attributes == [
        {
            "group": "registry.trow.io",
            "version": "v1",
            "verb": "get",
            "resource": "repositories",
            "subresource": "content",
            "namespace": "team-a",
            "name": "app",
        }
    ]


async def test_a_decision_carries_the_object_that_allows_it(cluster: FakeRbac, rbac: RbacAuthorizer) -> None:
    cluster.rights = {"get repositories/content team-a:app"}
    decision = await rbac.decide(ACCOUNT, Permission.PULL, APP)
    assert decision.reason == 'RBAC: allowed by RoleBinding "pull/team-a" of ClusterRole "puller"'


async def test_a_denial_says_what_a_role_would_have_to_say(rbac: RbacAuthorizer) -> None:
    decision = await rbac.decide(ACCOUNT, Permission.PULL, APP)
    assert decision.reason == (
        'no RoleBinding lets them get repositories/content "app" in namespace team-a, API group registry.trow.io'
    )
    assert decision.fix == (
        "run `kubectl create rolebinding team-a-default-trow-image-puller --namespace team-a"
        " --clusterrole trow-image-puller --serviceaccount team-a:default`"
    )
    decision = await rbac.decide(Identity("it's; bob", Method.PASSWORD), Permission.DELETE, APP)
    assert decision.fix == (
        "run `kubectl create rolebinding it-s-bob-trow-image-admin --namespace team-a"
        " --clusterrole trow-image-admin --user 'it'\"'\"'s; bob'`"
    )
    decision = await rbac.decide(ACCOUNT, Permission.AUDIT, Repository(""))
    assert "get registries/audit in the whole cluster" in decision.reason
    assert decision.fix == (
        "run `kubectl create clusterrolebinding team-a-default-trow-image-auditor"
        " --clusterrole trow-image-auditor --serviceaccount team-a:default`"
    )
    decision = await rbac.decide(ACCOUNT, Permission.PULL, Repository("shared/base"))
    assert 'get repositories/content "shared/base" in the whole cluster' in decision.reason
    assert "ClusterRoleBinding" in decision.fix, "no command that would allow more than was asked for"


@pytest.mark.parametrize("permission", Permission)
async def test_a_denial_does_not_tell_whether_the_repository_is_there(
    cluster: FakeRbac, permission: Permission
) -> None:
    rbac = authorizer(cluster)
    new = await rbac.decide(ACCOUNT, permission, APP)
    cluster.repositories = {APP}
    assert await rbac.decide(ACCOUNT, permission, APP) == new


async def test_a_repository_without_a_namespace_is_denied_without_a_question(
    cluster: FakeRbac, rbac: RbacAuthorizer
) -> None:
    decision = await rbac.decide(ACCOUNT, Permission.PULL, Repository("app"))
    assert not decision.allowed
    assert "NAMESPACE/NAME" in decision.fix
    assert not (await rbac.decide(ACCOUNT, Permission.PULL, Repository(""))).allowed
    assert cluster.asked == []


async def test_the_open_is_open_and_who_has_logged_in_may_ping(cluster: FakeRbac, rbac: RbacAuthorizer) -> None:
    nowhere = Repository("")
    assert (await rbac.decide(ANONYMOUS, Permission.OPEN, nowhere)).allowed
    assert (await rbac.decide(ACCOUNT, Permission.PING, nowhere)).allowed
    assert not (await rbac.decide(ANONYMOUS, Permission.PING, nowhere)).allowed
    assert cluster.asked == []


# Who asks


async def test_the_anonymous_have_no_rights_unless_that_is_enabled(cluster: FakeRbac, rbac: RbacAuthorizer) -> None:
    cluster.rights = {"get repositories/content team-a:app"}
    assert not (await rbac.decide(ANONYMOUS, Permission.PULL, APP)).allowed
    assert await rbac.visible(ANONYMOUS, [APP]) == [False]
    assert cluster.asked == []


async def test_the_anonymous_are_asked_about_under_the_clusters_name_for_them(cluster: FakeRbac) -> None:
    cluster.rights = {"get repositories/content team-a:app"}
    rbac = authorizer(cluster, anonymous=True)
    assert (await rbac.decide(ANONYMOUS, Permission.PULL, APP)).allowed
    assert cluster.askers == [("system:anonymous", "", ("system:unauthenticated",), ())]


@pytest.mark.parametrize(
    "permission", [each for each in Permission if each not in (Permission.PULL, Permission.LIST, Permission.OPEN)]
)
async def test_the_anonymous_never_do_more_than_read(cluster: FakeRbac, permission: Permission) -> None:
    rbac = authorizer(cluster, anonymous=True)
    assert not (await rbac.decide(ANONYMOUS, permission, APP)).allowed
    assert cluster.asked == []


@pytest.mark.parametrize("method", [each for each in Method if each is not Method.KUBERNETES])
async def test_only_the_cluster_says_who_is_of_the_system(
    cluster: FakeRbac, rbac: RbacAuthorizer, method: Method
) -> None:
    assert not (await rbac.decide(Identity("system:admin", method), Permission.PULL, APP)).allowed
    assert await rbac.visible(Identity("system:admin", method), [APP]) == [False]
    assert cluster.asked == []
    await rbac.decide(Identity("ann", method, groups=("system:masters", "dev")), Permission.PULL, APP)
    assert cluster.askers == [("ann", "", ("dev",), ())]


# What answers mean


async def test_a_veto_is_a_denial_and_ends_the_questions(cluster: FakeRbac, rbac: RbacAuthorizer) -> None:
    cluster.answers = {
        "create repositories team-a:app": SubjectAccessReviewStatus(allowed=False, denied=True, reason="frozen")
    }
    cluster.rights = {"create repositories/referrers team-a:app"}
    decision = await rbac.decide(ACCOUNT, Permission.ATTACH, APP)
    assert not decision.allowed
    assert "(frozen)" in decision.reason
    assert len(cluster.asked) == 1


async def test_a_veto_beats_an_allowance(cluster: FakeRbac, rbac: RbacAuthorizer) -> None:
    cluster.answers = {"get repositories/content team-a:app": SubjectAccessReviewStatus(allowed=True, denied=True)}
    assert not (await rbac.decide(ACCOUNT, Permission.PULL, APP)).allowed


async def test_a_cluster_that_is_not_sure_is_asked_again_later(cluster: FakeRbac, rbac: RbacAuthorizer) -> None:
    question = "get repositories/content team-a:app"
    cluster.answers = {question: SubjectAccessReviewStatus(allowed=False, evaluation_error="webhook secret")}
    for _ in range(2):
        with pytest.raises(Unavailable, match="cannot tell whether") as caught:
            await rbac.decide(ACCOUNT, Permission.PULL, APP)
        assert "secret" not in caught.value.message
    assert cluster.asked == [question] * 2
    cluster.answers = {question: SubjectAccessReviewStatus(allowed=True, evaluation_error="another one failed")}
    assert (await rbac.decide(ACCOUNT, Permission.PULL, APP)).allowed


async def test_a_reason_has_a_limit(cluster: FakeRbac, rbac: RbacAuthorizer) -> None:
    cluster.answers = {
        "get repositories/content team-a:app": SubjectAccessReviewStatus(allowed=True, reason="x" * 100_000)
    }
    assert len((await rbac.decide(ACCOUNT, Permission.PULL, APP)).reason) == 1024


# For how long


async def test_what_is_allowed_is_asked_every_half_minute(cluster: FakeRbac, rbac: RbacAuthorizer) -> None:
    cluster.rights = {"get repositories/content team-a:app"}
    for seconds in (0, 29.9, 30):
        cluster.now = 1000 + seconds
        assert (await rbac.decide(ACCOUNT, Permission.PULL, APP)).allowed
    assert len(cluster.asked) == 2


async def test_what_is_denied_is_asked_every_five_seconds(cluster: FakeRbac, rbac: RbacAuthorizer) -> None:
    for seconds in (0, 4.9, 5):
        cluster.now = 1000 + seconds
        assert not (await rbac.decide(ACCOUNT, Permission.PULL, APP)).allowed
    assert len(cluster.asked) == 2


@pytest.mark.parametrize(
    "other",
    [
        Identity("system:serviceaccount:team-a:other", Method.KUBERNETES, "u-1", ACCOUNT.groups, ACCOUNT.extra),
        Identity(ACCOUNT.name, Method.KUBERNETES, "u-2", ACCOUNT.groups, ACCOUNT.extra),
        Identity(ACCOUNT.name, Method.KUBERNETES, "u-1", (), ACCOUNT.extra),
        Identity(ACCOUNT.name, Method.KUBERNETES, "u-1", ACCOUNT.groups, ()),
    ],
)
async def test_an_answer_is_for_nobody_else(cluster: FakeRbac, rbac: RbacAuthorizer, other: Identity) -> None:
    await rbac.decide(ACCOUNT, Permission.PULL, APP)
    await rbac.decide(other, Permission.PULL, APP)
    assert len(cluster.asked) == 2


async def test_the_order_of_groups_does_not_matter(cluster: FakeRbac, rbac: RbacAuthorizer) -> None:
    for groups in (("a", "b"), ("b", "a")):
        await rbac.decide(Identity("ann", Method.PASSWORD, groups=groups), Permission.PULL, APP)
    assert len(cluster.asked) == 1


async def test_while_the_api_server_is_down_what_is_known_counts(cluster: FakeRbac, rbac: RbacAuthorizer) -> None:
    cluster.rights = {"get repositories/content team-a:app"}
    await rbac.decide(ACCOUNT, Permission.PULL, APP)
    cluster.down = True
    cluster.now += 29
    assert (await rbac.decide(ACCOUNT, Permission.PULL, APP)).allowed
    cluster.now += 2
    with pytest.raises(Unavailable):
        await rbac.decide(ACCOUNT, Permission.PULL, APP)


async def test_requests_at_once_are_one_question(cluster: FakeRbac, rbac: RbacAuthorizer) -> None:
    cluster.rights = {"get repositories/content team-a:app"}
    cluster.gate = asyncio.Event()
    asking = [asyncio.create_task(rbac.decide(ACCOUNT, Permission.PULL, APP)) for _ in range(20)]
    await asyncio.sleep(0)
    cluster.gate.set()
    assert all(decision.allowed for decision in await asyncio.gather(*asking))
    assert len(cluster.asked) == 1


async def test_a_user_who_asks_about_many_repositories_keeps_nobody_waiting(
    cluster: FakeRbac, rbac: RbacAuthorizer
) -> None:
    cluster.gate = asyncio.Event()
    made_up = [Repository(f"team-a/{number}") for number in range(200)]
    flood = [asyncio.create_task(rbac.decide(ACCOUNT, Permission.PULL, each)) for each in made_up]
    await eventually(lambda: cluster.busy == 8)
    other = asyncio.create_task(rbac.decide(replace(ACCOUNT, name="other"), Permission.PULL, APP))
    await eventually(lambda: cluster.busy == 9)
    assert {asker[0] for asker in cluster.askers} == {ACCOUNT.name, "other"}
    cluster.gate.set()
    assert not any(decision.allowed for decision in await asyncio.gather(other, *flood))
    assert cluster.busiest == 9


async def test_beyond_a_share_of_the_queue_a_user_is_told_to_come_again(
    cluster: FakeRbac, rbac: RbacAuthorizer
) -> None:
    cluster.gate = asyncio.Event()
    made_up = [Repository(f"team-a/{number}") for number in range(300)]
    flood = [asyncio.create_task(rbac.decide(ACCOUNT, Permission.PULL, each)) for each in made_up]
    await eventually(lambda: any(each.done() for each in flood))
    cluster.gate.set()
    answers = await asyncio.gather(*flood, return_exceptions=True)
    assert sum(isinstance(answer, TooManyRequests) for answer in answers) == 300 - 8 - 256


async def test_denials_make_nobody_forget_what_is_allowed(cluster: FakeRbac, rbac: RbacAuthorizer) -> None:
    cluster.rights = {"get repositories/content team-a:app"}
    await rbac.decide(ACCOUNT, Permission.PULL, APP)
    for number in range(10_001):
        await rbac.decide(ACCOUNT, Permission.PULL, Repository(f"team-b/{number}"))
    asked = len(cluster.asked)
    assert (await rbac.decide(ACCOUNT, Permission.PULL, APP)).allowed
    assert len(cluster.asked) == asked


# What is shown

CATALOG = [Repository(name) for name in ("a/x", "a/y", "b/x", "c/x", "f/docker.io/nginx", "lost", "shared/base")]


async def shown(cluster: FakeRbac, *rights: str) -> list[str]:
    cluster.rights = set(rights)
    seen = await authorizer(cluster).visible(ACCOUNT, CATALOG)
    return [name for name, visible in zip(CATALOG, seen, strict=True) if visible]


async def test_nothing_is_shown_without_rights(cluster: FakeRbac) -> None:
    assert await shown(cluster) == []
    assert not any(question.startswith("get") for question in cluster.asked)


async def test_who_may_list_and_pull_in_the_whole_cluster_sees_all_with_two_questions(
    cluster: FakeRbac,
) -> None:
    seen = await shown(cluster, "list repositories :", "get repositories/content :")
    assert seen == ["a/x", "a/y", "b/x", "c/x", "shared/base"]
    assert sorted(cluster.asked) == [
        "get repositories/content :", "list proxiedrepositories :", "list repositories :",
    ]  # fmt: skip


async def test_what_may_be_listed_and_not_pulled_is_hidden(cluster: FakeRbac) -> None:
    assert await shown(cluster, "list repositories :", "list repositories a:") == []
    assert await shown(FakeRbac(), "get repositories/content :", "get repositories/content a:") == []


async def test_a_namespace_is_shown_with_its_own_rights(cluster: FakeRbac) -> None:
    assert await shown(cluster, "list repositories a:", "get repositories/content a:") == ["a/x", "a/y"]
    assert "get repositories/content a:x" not in cluster.asked


async def test_single_repositories_are_shown_by_name(cluster: FakeRbac) -> None:
    assert await shown(cluster, "list repositories a:", "get repositories/content a:y") == ["a/y"]
    assert "get repositories/content b:x" not in cluster.asked


async def test_copies_from_elsewhere_have_rights_of_their_own(cluster: FakeRbac) -> None:
    rights = ("list proxiedrepositories :", "get proxiedrepositories/content :docker.io/nginx")
    assert await shown(cluster, *rights) == ["f/docker.io/nginx"]


async def test_shared_repositories_may_be_shown_by_name(cluster: FakeRbac) -> None:
    assert await shown(cluster, "list repositories :", "get repositories/content :shared/base") == ["shared/base"]


async def test_many_questions_are_asked_few_at_once(cluster: FakeRbac, rbac: RbacAuthorizer) -> None:
    repositories = [Repository(f"team-{number}/app") for number in range(200)]
    assert await rbac.visible(ACCOUNT, repositories) == [False] * 200
    assert cluster.busiest == 8
    assert len(cluster.asked) == 201


async def test_a_list_is_not_shown_when_the_cluster_does_not_answer(cluster: FakeRbac, rbac: RbacAuthorizer) -> None:
    cluster.down = True
    with pytest.raises(Unavailable):
        await rbac.visible(ACCOUNT, CATALOG)
    assert await rbac.visible(ACCOUNT, []) == []


async def test_others_get_their_turn_while_a_long_list_is_looked_at() -> None:
    """Also where nothing is waited for, because all is remembered."""
    rbac = authorizer(FakeRbac())
    repositories = [Repository(f"team-{number % 50}/app-{number}") for number in range(5000)]
    await rbac.visible(ACCOUNT, repositories)
    turns, done = 0, False

    async def count() -> None:
        nonlocal turns
        while not done:
            turns += 1
            await asyncio.sleep(0)

    others = asyncio.create_task(count())
    assert await rbac.visible(ACCOUNT, repositories) == [False] * 5000
    done = True
    await others
    assert turns >= 50
