"""ServiceAccount tokens and RBAC as a registry sees them, asked of a real API server."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from trow.access.identity import ANONYMOUS, Identity, Method
from trow.access.permissions import Permission
from trow.identity.oidc import IssuerSettings, TrustedIssuer
from trow.identity.rbac import RbacAuthorizer, RepositoryMap
from trow.identity.service_accounts import ServiceAccountTokens
from trow.kube.access import ClusterAccess
from trow.kube.client import KubeClient
from trow.kube.kubeconfig import cluster_access_of
from trow.kube.reviews import Reviews
from trow.oci.errors import Unauthorized, Unavailable
from trow.oci.names import Repository

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from support.cluster import Cluster

AUDIENCE: Final = "registry.example.com"
ROLES: Final = Path(__file__).parents[2] / "deploy" / "kubernetes" / "rbac.yaml"
SETTLE_SECONDS: Final = 25  # the API server's own view of tokens and roles follows a change
EXISTING: Final = "existing"


class ClusterIdentities:
    """The parts of a registry that ask the cluster, with a clock that can run ahead of the caches."""

    def __init__(self, client: KubeClient) -> None:
        self.ahead = 0.0
        reviews = Reviews(client)
        self.tokens = ServiceAccountTokens(reviews, [AUDIENCE], lambda: time.time() + self.ahead)
        self.rbac = RbacAuthorizer(
            reviews, RepositoryMap(), self.exists, anonymous=True, clock=lambda: time.monotonic() + self.ahead
        )

    async def exists(self, repository: Repository) -> bool:
        return repository.endswith(EXISTING)

    async def may(self, identity: Identity, permission: Permission, repository: str) -> bool:
        """By the cluster's word of now."""
        self.ahead += 60
        return (await self.rbac.decide(identity, permission, Repository(repository))).allowed

    async def accepts(self, token: str) -> bool:
        self.ahead += 60
        try:
            await self.tokens.verify(token)
        except Unauthorized:
            return False
        return True


@pytest.fixture(scope="session")
def access(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> ClusterAccess:
    """Trow's own ServiceAccount with what deploy/kubernetes gives it, and nothing else."""
    cluster.create_namespace("trow")
    cluster.kubectl("create", "serviceaccount", "trow", "--namespace", "trow")
    cluster.kubectl("apply", "--filename", str(ROLES))
    token = tmp_path_factory.mktemp("trow") / "token"
    token.write_text(cluster.token("trow", "trow", "https://kubernetes.default.svc"), "utf-8")
    return ClusterAccess(cluster.url, ca=cluster.ca, token=token)


@asynccontextmanager
async def registry(access: ClusterAccess, seconds: float = 5.0) -> AsyncIterator[ClusterIdentities]:
    client = KubeClient(access, connect_seconds=seconds, total_seconds=seconds)
    try:
        yield ClusterIdentities(client)
    finally:
        await client.close()


async def settles(condition: Callable[[], Awaitable[bool]]) -> bool:
    end = time.monotonic() + SETTLE_SECONDS
    while not await condition():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.1)
    return True


def bind(cluster: Cluster, namespace: str, role: str, subject: str) -> None:
    """As an administrator does it: `subject` is an option of `kubectl create rolebinding`."""
    cluster.kubectl("create", "rolebinding", role, "--clusterrole", role, subject, "--namespace", namespace)


def bind_account(cluster: Cluster, namespace: str, role: str, owner: str) -> None:
    bind(cluster, namespace, role, f"--serviceaccount={owner}:default")


def run_pod(cluster: Cluster, namespace: str) -> None:
    cluster.apply(
        f"""
apiVersion: v1
kind: Node
metadata: {{name: node-{namespace}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: web, namespace: {namespace}}}
spec:
  nodeName: node-{namespace}
  containers: [{{name: web, image: "{AUDIENCE}/{namespace}/web:1"}}]
"""
    )


async def test_a_token_tells_pod_and_node(cluster: Cluster, access: ClusterAccess, namespace: str) -> None:
    run_pod(cluster, namespace)
    async with registry(access) as trow:
        identity = await trow.tokens.verify(cluster.token(namespace, "default", AUDIENCE, pod="web"))
    assert identity.name == f"system:serviceaccount:{namespace}:default"
    assert identity.method is Method.KUBERNETES
    assert f"system:serviceaccounts:{namespace}" in identity.groups
    assert identity.uid
    assert identity.credential.startswith("JTI=")
    workload = identity.workload
    assert workload is not None
    assert (workload.namespace, workload.service_account) == (namespace, "default")
    assert (workload.pod, workload.node) == ("web", f"node-{namespace}")
    assert workload.pod_uid == cluster.kubectl(
        "get", "pod", "web", "--namespace", namespace, "--output", "jsonpath={.metadata.uid}"
    )
    assert workload.node_uid


@pytest.mark.parametrize("audience", ["other.example.com", "https://kubernetes.default.svc"])
async def test_a_token_for_somebody_else_is_refused(
    cluster: Cluster, access: ClusterAccess, namespace: str, audience: str
) -> None:
    async with registry(access) as trow:
        with pytest.raises(Unauthorized, match=f"another audience than {AUDIENCE}"):
            await trow.tokens.verify(cluster.token(namespace, "default", audience))


async def test_a_changed_token_is_refused(cluster: Cluster, access: ClusterAccess, namespace: str) -> None:
    header, payload, signature = cluster.token(namespace, "default", AUDIENCE).split(".")
    async with registry(access) as trow:
        for changed in (f"{header}.{payload}.AAAA{signature[4:]}", f"{header}.e30.{signature}", "a.b.c"):
            assert not await trow.accepts(changed)


async def test_a_token_ends_with_its_pod(cluster: Cluster, access: ClusterAccess, namespace: str) -> None:
    run_pod(cluster, namespace)
    token = cluster.token(namespace, "default", AUDIENCE, pod="web")
    async with registry(access) as trow:
        assert await trow.accepts(token)
        cluster.kubectl("delete", "pod", "web", "--namespace", namespace, "--force", "--grace-period", "0")

        async def refused() -> bool:
            return not await trow.accepts(token)

        assert await settles(refused)


async def test_a_role_binding_decides_where_an_account_pulls(
    cluster: Cluster, access: ClusterAccess, namespace: str
) -> None:
    other = f"{namespace}-next"
    cluster.create_namespace(other)
    bind_account(cluster, namespace, "trow-image-puller", namespace)
    async with registry(access) as trow:
        identity = await trow.tokens.verify(cluster.token(namespace, "default", AUDIENCE))

        async def own() -> bool:
            return await trow.may(identity, Permission.PULL, f"{namespace}/app/sub")

        async def next_door() -> bool:
            return await trow.may(identity, Permission.PULL, f"{other}/app")

        async def not_next_door() -> bool:
            return not await next_door()

        assert await settles(own)
        assert not await next_door()
        assert not await trow.may(identity, Permission.PUSH, f"{namespace}/{EXISTING}")
        bind_account(cluster, other, "trow-image-puller", namespace)
        assert await settles(next_door)
        cluster.kubectl("delete", "rolebinding", "trow-image-puller", "--namespace", other)
        assert await settles(not_next_door)
        assert await own()


async def test_a_decision_names_the_binding_and_a_denial_the_missing_right(
    cluster: Cluster, access: ClusterAccess, namespace: str
) -> None:
    bind_account(cluster, namespace, "trow-image-puller", namespace)
    async with registry(access) as trow:
        identity = await trow.tokens.verify(cluster.token(namespace, "default", AUDIENCE))
        repository = Repository(f"{namespace}/app")

        async def allowed() -> bool:
            return await trow.may(identity, Permission.PULL, repository)

        assert await settles(allowed)
        decision = await trow.rbac.decide(identity, Permission.PULL, repository)
        assert f'RBAC: allowed by RoleBinding "trow-image-puller/{namespace}"' in decision.reason
        denied = await trow.rbac.decide(identity, Permission.DELETE, repository)
        assert f'delete repositories/content "app" in namespace {namespace}' in denied.reason


async def test_a_namespace_that_does_not_exist_is_as_forbidden_as_any(
    cluster: Cluster, access: ClusterAccess, namespace: str
) -> None:
    async with registry(access) as trow:
        identity = await trow.tokens.verify(cluster.token(namespace, "default", AUDIENCE))
        real, made_up = [
            await trow.rbac.decide(identity, Permission.PULL, Repository(f"{name}/app")) for name in ("trow", "nobody")
        ]
    assert not real.allowed
    assert real.reason.replace("trow,", "nobody,") == made_up.reason


RIGHTS: Final = {
    "view": {Permission.PULL, Permission.LIST},
    "edit": {Permission.PULL, Permission.LIST, Permission.PUSH, Permission.ATTACH},
    "admin": {
        Permission.PULL,
        Permission.LIST,
        Permission.PUSH,
        Permission.ATTACH,
        Permission.DELETE,
        Permission.TAG_OVERWRITE,
    },
}
ABOUT_REPOSITORIES: Final = RIGHTS["admin"]


@pytest.mark.parametrize("role", RIGHTS)
@pytest.mark.parametrize("name", ["new", EXISTING])
async def test_the_usual_roles_of_a_namespace_have_their_rights(
    cluster: Cluster, access: ClusterAccess, namespace: str, role: str, name: str
) -> None:
    bind(cluster, namespace, role, "--user=corp:ann")
    ann = Identity("corp:ann", Method.OIDC)
    repository = f"{namespace}/{name}"
    async with registry(access) as trow:

        async def granted() -> bool:
            found = {each for each in ABOUT_REPOSITORIES if await trow.may(ann, each, repository)}
            return found == RIGHTS[role]

        assert await settles(granted)
        for everywhere in (Permission.AUDIT, Permission.ADMIN):
            assert not await trow.may(ann, everywhere, "")


@pytest.mark.parametrize(
    ("role", "rights"),
    [
        ("trow-image-puller", RIGHTS["view"]),
        ("trow-image-pusher", RIGHTS["edit"]),
        ("trow-image-admin", RIGHTS["admin"]),
    ],
)
async def test_each_role_is_enough_by_itself(
    cluster: Cluster, access: ClusterAccess, namespace: str, role: str, rights: set[Permission]
) -> None:
    bind(cluster, namespace, role, "--group=corp:dev")
    ann = Identity("corp:ann", Method.OIDC, groups=("corp:dev",))
    async with registry(access) as trow:
        for name in ("new", EXISTING):
            repository = f"{namespace}/{name}"

            async def granted(repository: str = repository) -> bool:
                return {each for each in ABOUT_REPOSITORIES if await trow.may(ann, each, repository)} == rights

            assert await settles(granted)


async def test_an_auditor_reads_the_record_and_nothing_else(
    cluster: Cluster, access: ClusterAccess, namespace: str
) -> None:
    binding = ("create", "clusterrolebinding", f"auditor-{namespace}", "--clusterrole", "trow-image-auditor")
    cluster.kubectl(*binding, f"--user=corp:{namespace}")
    auditor = Identity(f"corp:{namespace}", Method.OIDC)
    async with registry(access) as trow:

        async def audits() -> bool:
            return await trow.may(auditor, Permission.AUDIT, "")

        assert await settles(audits)
        for permission in (Permission.PULL, Permission.LIST, Permission.DELETE):
            assert not await trow.may(auditor, permission, f"{namespace}/app")


async def test_the_anonymous_pull_what_is_bound_to_them(
    cluster: Cluster, access: ClusterAccess, namespace: str
) -> None:
    bind(cluster, namespace, "trow-image-puller", "--group=system:unauthenticated")
    async with registry(access) as trow:

        async def pulls() -> bool:
            return await trow.may(ANONYMOUS, Permission.PULL, f"{namespace}/app")

        assert await settles(pulls)
        assert not await trow.may(ANONYMOUS, Permission.PULL, "trow/app")


async def test_the_catalogue_shows_what_may_be_pulled(cluster: Cluster, access: ClusterAccess, namespace: str) -> None:
    bind_account(cluster, namespace, "trow-image-puller", namespace)
    cluster.apply(
        f"""
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: one-{namespace}}}
rules:
- {{apiGroups: [registry.trow.io], resources: [repositories], verbs: [list]}}
- {{apiGroups: [registry.trow.io], resources: [repositories/content], resourceNames: [one], verbs: [get]}}
"""
    )
    bind_account(cluster, "trow", f"one-{namespace}", namespace)
    names = (f"{namespace}/app", f"{namespace}/app/sub", "trow/one", "trow/two", "default/app", "f/docker.io/nginx")
    catalog = [Repository(name) for name in names]
    async with registry(access) as trow:
        identity = await trow.tokens.verify(cluster.token(namespace, "default", AUDIENCE))

        async def shown() -> bool:
            trow.ahead += 60
            return list(await trow.rbac.visible(identity, catalog)) == [True, True, True, False, False, False]

        assert await settles(shown)


async def test_a_pull_asks_the_cluster_once_each(cluster: Cluster, access: ClusterAccess, namespace: str) -> None:
    bind_account(cluster, namespace, "trow-image-puller", namespace)
    async with registry(access) as trow:
        one = await trow.tokens.verify(cluster.token(namespace, "default", AUDIENCE))

        async def bound() -> bool:
            return await trow.may(one, Permission.PULL, f"{namespace}/app")

        assert await settles(bound)
        token, before = cluster.token(namespace, "default", AUDIENCE), cluster.reviews()
        for _ in range(12):  # a manifest, a configuration and ten layers
            identity = await trow.tokens.verify(token)
            assert (await trow.rbac.decide(identity, Permission.PULL, Repository(f"{namespace}/app"))).allowed
        assert cluster.reviews() - before == {"tokenreviews": 1, "subjectaccessreviews": 1}


async def test_while_the_api_server_is_stopped_what_is_known_counts(
    cluster: Cluster, access: ClusterAccess, namespace: str
) -> None:
    bind_account(cluster, namespace, "trow-image-puller", namespace)
    repository = Repository(f"{namespace}/app")
    token, later = (cluster.token(namespace, "default", AUDIENCE) for _ in range(2))
    async with registry(access) as trow:
        identity = await trow.tokens.verify(token)

        async def allowed() -> bool:
            return await trow.may(identity, Permission.PULL, repository)

        assert await settles(allowed)
        await trow.tokens.verify(token)
        cluster.stop_api()
        try:
            known = await trow.tokens.verify(token)
            assert (await trow.rbac.decide(known, Permission.PULL, repository)).allowed
            with pytest.raises(Unavailable, match="cannot be reached"):
                await trow.tokens.verify(later)
            with pytest.raises(Unavailable, match="cannot be reached"):
                await trow.rbac.decide(known, Permission.PULL, Repository(f"{namespace}/other"))
            trow.ahead += 61
            with pytest.raises(Unavailable):
                await trow.tokens.verify(token)
            with pytest.raises(Unavailable):
                await trow.rbac.decide(known, Permission.PULL, repository)
        finally:
            cluster.start_api()

        async def back() -> bool:
            return await trow.accepts(token)

        assert await settles(back)


async def test_a_slow_api_server_is_given_up(cluster: Cluster, access: ClusterAccess, namespace: str) -> None:
    token = cluster.token(namespace, "default", AUDIENCE)
    async with registry(access, seconds=1) as trow:
        cluster.pause_api()
        try:
            began = time.monotonic()
            with pytest.raises(Unavailable, match=r"within 1 s"):
                await trow.tokens.verify(token)
            assert time.monotonic() - began < 5
        finally:
            cluster.resume_api()


async def test_an_account_without_the_role_is_told_what_to_bind(
    cluster: Cluster, access: ClusterAccess, namespace: str
) -> None:
    token = cluster.token(namespace, "default", "https://kubernetes.default.svc")
    async with registry(ClusterAccess(cluster.url, ca=cluster.ca, token=token)) as trow:
        with pytest.raises(
            Unavailable, match=r"tokenreviews \(403\); bind ClusterRole system:auth-delegator"
        ) as caught:
            await trow.tokens.verify(cluster.token(namespace, "default", AUDIENCE))
    assert token not in caught.value.message


async def test_credentials_that_the_cluster_does_not_know_are_told(cluster: Cluster, access: ClusterAccess) -> None:
    async with registry(ClusterAccess(cluster.url, ca=cluster.ca, token="no.such.token")) as trow:
        with pytest.raises(Unavailable, match=r"own credentials \(401\)"):
            await trow.tokens.verify("eyJ.b.c")


async def test_a_kubeconfig_file_leads_to_the_cluster(cluster: Cluster, access: ClusterAccess, namespace: str) -> None:
    async with registry(cluster_access_of([cluster.kubeconfig])) as trow:
        assert await trow.accepts(cluster.token(namespace, "default", AUDIENCE))


async def test_another_clusters_accounts_log_in_by_oidc(
    cluster: Cluster, access: ClusterAccess, namespace: str
) -> None:
    cluster.kubectl(
        "create", "clusterrolebinding", f"discovery-{namespace}", "--clusterrole",
        "system:service-account-issuer-discovery", "--group=system:unauthenticated",
    )  # fmt: skip
    run_pod(cluster, namespace)
    token = cluster.token(namespace, "default", AUDIENCE, pod="web")
    now = time.time()
    ahead = [0.0]
    settings = IssuerSettings("prod", cluster.url, (AUDIENCE,), ca_file=cluster.ca)
    issuer = TrustedIssuer(settings, lambda: now + ahead[0])

    async def accepted() -> bool:
        try:
            await issuer.verify(token)
        except Unavailable:
            ahead[0] += 5  # it asks again only after a pause
            return False
        return True

    assert await settles(accepted)
    identity = await issuer.verify(token)
    assert identity.name == f"prod:system:serviceaccount:{namespace}:default"
    assert identity.values("kubernetes.io.pod.name") == ("web",)
    assert identity.values("kubernetes.io.node.name") == (f"node-{namespace}",)
