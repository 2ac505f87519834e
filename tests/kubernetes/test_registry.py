"""A registry and a cluster: ServiceAccounts are users, and Roles and RoleBindings say what they may do."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest
import urllib3

from clients.box import Box
from clients.image import TAG, image
from clients.registry import ALICE, Login, Registry
from factories import OCI_IMAGE, Blob, Manifest, descriptor_of, digest_of, encode
from support.kubernetes import AUDIENCE, bind
from support.server import Trow
from support.waiting import SETTLE_SECONDS, settles

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from support.cluster import Cluster

ALLOWED_SECONDS: Final = 30  # so long an allowed access may outlive its RoleBinding
TOKEN_SECONDS: Final = 60  # so long a token may outlive its Pod
TIMEOUT_SECONDS: Final = 2  # kubernetes.timeout
ONE_OF_EACH: Final = Counter(tokenreviews=1, subjectaccessreviews=1)


@pytest.fixture(scope="module")
def settings(kubeconfig: Path) -> Mapping[str, object]:
    return {
        "kubeconfig": str(kubeconfig),
        "audiences": [AUDIENCE],
        "authorization": True,
        "anonymous": True,
        "timeout": TIMEOUT_SECONDS,
    }


@pytest.fixture(scope="module")
def owner(settings: Mapping[str, object], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that knows the cluster, as its administrator sees it."""
    user = (ALICE.name, ALICE.password)
    folder = tmp_path_factory.mktemp("clustered")
    with Trow.start(folder, user=user, config={"kubernetes": settings}) as trow:
        yield Registry(trow, ALICE)


class Tenant:
    """A namespace of the cluster, and its ServiceAccounts as users of the registry."""

    def __init__(self, cluster: Cluster, owner: Registry, namespace: str) -> None:
        self.cluster = cluster
        self.owner = owner
        self.name = namespace

    def token(self, account: str = "default", pod: str | None = None) -> str:
        if account != "default":
            self.cluster.kubectl("create", "serviceaccount", account, "--namespace", self.name)
        return self.cluster.token(self.name, account, AUDIENCE, pod=pod)

    def member(self, account: str = "default", role: str = "", pod: str | None = None) -> Registry:
        """The registry as a ServiceAccount sees it, which comes with its token as password in every request."""
        token = self.token(account, pod)
        if role:
            bind(self.cluster, role, self.name, f"serviceaccount={self.name}:{account}")
        return Registry(self.owner.trow, Login("any-name", token))

    def role(self, name: str, **rules: str) -> str:
        """A Role of its own: verbs by resource, `_` for the slash of a subresource."""
        listed = [
            {
                "apiGroups": ["registry.trow.io"],
                "resources": [resource.replace("_", "/")],
                "verbs": verbs.split(),
            }
            for resource, verbs in rules.items()
        ]
        metadata = {"name": name, "namespace": self.name}
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": listed}
        self.cluster.apply(json.dumps(role))
        return f"role/{name}"

    def pod(self) -> str:
        """A Pod, on a node of its own."""
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"node-{self.name}"}}
        spec = {"nodeName": f"node-{self.name}", "containers": [{"name": "web", "image": f"{AUDIENCE}/web:1"}]}
        metadata = {"name": "web", "namespace": self.name}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        self.cluster.apply(f"{json.dumps(node)}\n---\n{json.dumps(pod)}")
        return "web"

    def image(self, repository: str = "app", tag: str = TAG) -> str:
        """The path of an image that is there."""
        name = f"{self.name}/{repository}"
        self.owner.push(name, image(name), tag)
        return f"/v2/{name}/manifests/{tag}"


def status(registry: Registry, path: str, method: str = "GET") -> int:
    return registry.request(method, path).status


def pulls(registry: Registry, path: str) -> bool:
    return status(registry, path) == 200


def denied(answer: urllib3.BaseHTTPResponse) -> str:
    """The permission that was missing."""
    (error,) = answer.json()["errors"]
    assert (answer.status, error["code"]) == (403, "DENIED"), answer.data
    permission: str = error["detail"]["permission"]
    return permission


def put(registry: Registry, repository: str, reference: str, manifest: bytes) -> urllib3.BaseHTTPResponse:
    path = f"/v2/{repository}/manifests/{reference}"
    return registry.request("PUT", path, body=manifest, headers={"Content-Type": OCI_IMAGE})


@pytest.fixture
def team(cluster: Cluster, owner: Registry, namespace: str) -> Tenant:
    return Tenant(cluster, owner, namespace)


@pytest.fixture
def other(cluster: Cluster, owner: Registry) -> Tenant:
    """Another namespace."""
    return new_team(cluster, owner)


def new_team(cluster: Cluster, owner: Registry) -> Tenant:
    name = f"other-{secrets.token_hex(4)}"
    cluster.create_namespace(name)
    return Tenant(cluster, owner, name)


@dataclass(frozen=True)
class Ending:
    """An access that was used, and then taken away at this time; caches let it live for a while."""

    registry: Registry
    path: str
    ended: float

    def ends(self, status_then: int, seconds: float) -> bool:
        left = self.ended + seconds + SETTLE_SECONDS - time.monotonic()
        return settles(lambda: status(self.registry, self.path) == status_then, left)


@pytest.fixture(scope="module", autouse=True)
def unbound(cluster: Cluster, owner: Registry) -> Ending:
    """The access of a ServiceAccount to another namespace, whose RoleBinding is deleted: it ends while others run."""
    team, other = new_team(cluster, owner), new_team(cluster, owner)
    path, member = other.image(), team.member()
    assert status(member, path) == 403
    binding = bind(cluster, "trow-image-puller", other.name, f"serviceaccount={team.name}:default")
    assert settles(lambda: pulls(member, path))
    cluster.kubectl("delete", "rolebinding", binding, "--namespace", other.name)
    return Ending(member, path, time.monotonic())


@pytest.fixture(scope="module", autouse=True)
def orphaned(cluster: Cluster, owner: Registry) -> Ending:
    """The access of a Pod that is deleted."""
    team = new_team(cluster, owner)
    member = team.member(role="trow-image-puller", pod=team.pod())
    path = team.image()
    assert settles(lambda: pulls(member, path))
    cluster.kubectl("delete", "pod", "web", "--namespace", team.name, "--force", "--grace-period", "0")
    return Ending(member, path, time.monotonic())


def test_a_pod_pulls_in_its_own_namespace_and_not_in_the_next(team: Tenant, other: Tenant) -> None:
    group = f"group=system:serviceaccounts:{team.name}"
    bind(team.cluster, "trow-image-puller", team.name, group)
    pod = team.member(pod=team.pod())
    mine, theirs = team.image(), other.image()
    assert settles(lambda: pulls(pod, mine))
    assert pod.complete(f"{team.name}/app", TAG).digest == image(f"{team.name}/app").digest
    assert denied(pod.request("GET", theirs)) == "pull"
    assert denied(pod.request("POST", f"/v2/{team.name}/app/blobs/uploads/")) == "attach"


def test_a_rolebinding_in_the_next_namespace_opens_that_one(team: Tenant, other: Tenant) -> None:
    member, theirs = team.member(), other.image()
    assert denied(member.request("GET", theirs)) == "pull"
    bind(team.cluster, "trow-image-puller", other.name, f"serviceaccount={team.name}:default")
    assert settles(lambda: pulls(member, theirs))


def test_a_namespace_that_does_not_exist_is_denied_like_one_that_does(team: Tenant, other: Tenant) -> None:
    member = team.member()
    there, nowhere = (member.request("GET", f"/v2/{name}/app/manifests/1") for name in (other.name, "no-such"))
    assert denied(there) == denied(nowhere) == "pull"
    assert there.data.replace(other.name.encode(), b"no-such") == nowhere.data


@pytest.mark.parametrize("way", ["password", "bearer", "token"])
def test_a_token_for_another_audience_is_refused(team: Tenant, way: str) -> None:
    token = team.cluster.token(team.name, "default", "other.example.com")
    basic = urllib3.make_headers(basic_auth=f"any-name:{token}")
    headers = {"Authorization": f"Bearer {token}"} if way == "bearer" else basic
    answer = Registry(team.owner.trow).request("GET", "/token" if way == "token" else "/v2/", headers=headers)
    assert answer.status == 401
    assert AUDIENCE in answer.json()["errors"][0]["message"]


def test_a_first_push_needs_create_and_later_ones_update(team: Tenant) -> None:
    name = f"{team.name}/made"
    first, second = image("first"), image("second")
    creator = team.member("creator", team.role("create", repositories="create", repositories_content="get"))
    updater = team.member("updater", team.role("update", repositories_content="get update"))
    uploads = f"/v2/{name}/blobs/uploads/"
    assert settles(lambda: status(updater, f"/v2/{name}/tags/list") == 404)
    assert denied(updater.request("POST", uploads)) == "attach"
    assert settles(lambda: status(creator, uploads, "POST") == 202)
    creator.push(name, first, "first")
    assert settles(lambda: status(updater, uploads, "POST") == 202)
    updater.push(name, second, "second")
    assert denied(creator.request("POST", uploads)) == "attach"
    assert denied(put(creator, name, "third", second.raw)) == "attach"
    assert team.owner.tags(name) == ["first", "second"]


def test_a_tag_that_is_there_is_moved_only_with_the_right_to_tags(team: Tenant) -> None:
    name = f"{team.name}/app"
    pusher, admin = team.member("pusher", "trow-image-pusher"), team.member("admin", "trow-image-admin")
    before, after = image("before"), image("after")
    assert settles(lambda: status(pusher, f"/v2/{name}/blobs/uploads/", "POST") == 202)
    pusher.push(name, before, TAG)
    pusher.push(name, before, TAG)  # the same again moves nothing
    pusher.push(name, after, "new")
    assert denied(put(pusher, name, TAG, after.raw)) == "tag-overwrite"
    assert team.owner.manifest(name, TAG).digest == before.digest
    assert settles(lambda: put(admin, name, TAG, after.raw).status == 201)
    assert team.owner.manifest(name, TAG).digest == after.digest


def test_tenants_list_and_delete_in_their_own_namespace(team: Tenant, other: Tenant) -> None:
    mine, theirs = team.image(), other.image()
    admin = team.member("admin", "trow-image-admin")
    assert settles(lambda: pulls(admin, mine))
    assert admin.tags(f"{team.name}/app") == [TAG]
    assert denied(admin.request("DELETE", theirs)) == "delete"
    assert denied(admin.request("GET", f"/v2/{other.name}/app/tags/list")) == "pull"
    assert admin.request("DELETE", mine).status == 202
    assert team.owner.tags(f"{team.name}/app") == []
    pusher = team.member("pusher", "trow-image-pusher")
    again = team.image(tag="again")
    assert settles(lambda: pulls(pusher, again))
    assert denied(pusher.request("DELETE", again)) == "delete"


def test_the_catalogue_shows_what_may_be_pulled(team: Tenant, other: Tenant) -> None:
    for repository in ("web/api", "app"):
        team.image(repository)
    single = f"{other.name}/single"
    for repository in ("single", "secret"):
        other.image(repository)
    role = {"apiGroups": ["registry.trow.io"], "resources": ["repositories"], "verbs": ["list"]}
    named = {**role, "resources": ["repositories/content"], "verbs": ["get"], "resourceNames": ["single"]}
    metadata = {"name": "one", "namespace": other.name}
    document = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata}
    team.cluster.apply(json.dumps(document | {"rules": [role, named]}))
    bind(team.cluster, "role/one", other.name, f"serviceaccount={team.name}:default")
    member = team.member(role="trow-image-puller")
    seen = [f"{team.name}/app", f"{team.name}/web/api", single]
    assert settles(lambda: catalogue(member) == sorted(seen))
    assert {f"{other.name}/secret", *seen} <= set(catalogue(team.owner))
    assert catalogue(other.member("stranger")) == []


def catalogue(registry: Registry) -> list[str]:
    answer = registry.request("GET", "/v2/_catalog")
    assert answer.status == 200, answer.data
    found: list[str] = answer.json()["repositories"]
    return found


def signature(of: Manifest, content: bytes) -> Manifest:
    """A manifest whose subject is the image."""
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_IMAGE,
        "artifactType": "application/vnd.example.signature",
        "config": descriptor_of(b"{}", "application/vnd.oci.empty.v1+json"),
        "layers": [descriptor_of(content, "application/vnd.example.signature")],
        "subject": of.descriptor,
    }
    return Manifest(encode(document), OCI_IMAGE, (Blob(b"{}"), Blob(content)))


def test_a_signer_attaches_and_pushes_nothing_else(team: Tenant, tmp_path: Path) -> None:
    name = f"{team.name}/app"
    subject, path = image(name), team.image()
    signer = team.member("signer", team.role("sign", repositories_referrers="create", repositories_content="get"))
    assert settles(lambda: pulls(signer, path))
    made = signature(subject, b"signed by hand")
    signer.push(name, made, made.digest)
    assert denied(put(signer, name, "signature", made.raw)) == "push"
    assert denied(put(signer, name, digest_of(subject.raw), subject.raw)) == "push"
    assert denied(put(signer, name, "other", subject.raw)) == "push"
    assert status(signer, path, "DELETE") == 403
    attach_with_oras(tmp_path, signer, name)
    listed = signer.request("GET", f"/v2/{name}/referrers/{subject.digest}").json()["manifests"]
    assert len(listed) == 2
    assert team.owner.tags(name) == [TAG]


def attach_with_oras(folder: Path, signer: Registry, name: str) -> None:
    """By way of the token service."""
    assert signer.login is not None
    box = Box(folder)
    (folder / "signature.txt").write_text("signed with oras", encoding="utf-8")
    login = ("login", "--plain-http", "--username=any-name", "--password-stdin", signer.host)
    box.run("oras", *login, stdin=signer.login.password.encode())
    kind = "--artifact-type=application/vnd.example.signature"
    box.run("oras", "attach", "--plain-http", kind, f"{signer.host}/{name}:{TAG}", "signature.txt:text/plain")
    push = ("push", "--plain-http", f"{signer.host}/{name}:other", "signature.txt:text/plain")
    assert "denied" in box.refused("oras", *push)


def test_everybody_pulls_what_a_binding_of_the_unauthenticated_opens(
    team: Tenant, other: Tenant, tmp_path: Path
) -> None:
    opened, closed = team.image(), other.image()
    anybody = Registry(team.owner.trow)
    assert status(anybody, opened) == 401
    bind(team.cluster, "trow-image-puller", team.name, "group=system:unauthenticated")
    assert settles(lambda: pulls(anybody, opened))
    assert anybody.complete(f"{team.name}/app", TAG).digest == image(f"{team.name}/app").digest
    assert status(anybody, closed) == 401
    assert status(anybody, f"/v2/{team.name}/app/blobs/uploads/", "POST") == 401
    Box(tmp_path).run("crane", "validate", f"--remote={anybody.host}/{team.name}/app:{TAG}")
    refused = Box(tmp_path).refused("crane", "manifest", f"{anybody.host}/{other.name}/app:{TAG}")
    assert "DENIED" in refused or "UNAUTHORIZED" in refused


def test_such_a_binding_opens_nothing_where_nobody_may_be_anonymous(
    team: Tenant, settings: Mapping[str, object], tmp_path: Path
) -> None:
    path = team.image()
    bind(team.cluster, "trow-image-puller", team.name, "group=system:unauthenticated")
    assert settles(lambda: pulls(Registry(team.owner.trow), path))
    with Trow.start(tmp_path, user=("admin", "pw"), config={"kubernetes": {**settings, "anonymous": False}}) as strict:
        assert status(Registry(strict), path) == 401
        assert status(Registry(strict), "/token") == 401


def pull_like_docker(team: Tenant, token: str) -> None:
    """Ping, token, manifest, blobs."""
    anybody = Registry(team.owner.trow)
    challenge = anybody.request("GET", "/v2/").headers["WWW-Authenticate"]
    assert challenge == f'Bearer realm="{anybody.url}/token",service="trow"'
    query = {"account": "any-name", "scope": f"repository:{team.name}/app:pull", "service": "trow"}
    basic = urllib3.make_headers(basic_auth=f"any-name:{token}")
    issued = anybody.request("GET", "/token", fields=query, headers=basic).json()["token"]
    pulling = Registry(team.owner.trow, headers={"Authorization": f"Bearer {issued}"})
    pulling.complete(f"{team.name}/app", TAG)


def pull_with_password(team: Tenant, token: str) -> None:
    """The token as password with every request."""
    registry = Registry(team.owner.trow, Login("any-name", token))
    assert status(registry, "/v2/") == 200
    registry.complete(f"{team.name}/app", TAG)


def pull_with_skopeo(team: Tenant, token: str, folder: Path) -> None:
    remote = f"docker://{team.owner.host}/{team.name}/app:{TAG}"
    credentials = ("--src-tls-verify=false", f"--src-creds=any-name:{token}")
    Box(folder).run("skopeo", "copy", *credentials, remote, f"oci:{folder / 'out'}:{TAG}")


@pytest.mark.parametrize("way", ["docker", "password", "skopeo"])
def test_a_pull_asks_the_cluster_once_who_it_is_and_once_whether_it_may(team: Tenant, way: str, tmp_path: Path) -> None:
    path = team.image()
    first = team.member(role="trow-image-puller")
    assert settles(lambda: pulls(first, path))
    token = team.cluster.token(team.name, "default", AUDIENCE, pod=team.pod())  # unlike `first` in what RBAC is told
    before = team.cluster.reviews()
    if way == "skopeo":
        pull_with_skopeo(team, token, tmp_path)
    else:
        {"docker": pull_like_docker, "password": pull_with_password}[way](team, token)
    assert team.cluster.reviews() - before == ONE_OF_EACH


def test_without_an_api_server_what_is_known_goes_on_and_the_rest_is_unavailable(team: Tenant) -> None:
    known, unknown = team.image("known"), team.image("unknown")
    member = team.member(role="trow-image-puller")
    fresh = Registry(team.owner.trow, Login("any-name", team.token()))
    assert settles(lambda: pulls(member, known))
    team.cluster.stop_api()
    try:
        assert member.complete(f"{team.name}/known", TAG).digest == image(f"{team.name}/known").digest
        for asked in (member.request("GET", unknown), fresh.request("GET", known), fresh.request("GET", "/token")):
            assert unavailable(asked), asked.data
        assert pulls(team.owner, unknown)  # who needs no cluster
    finally:
        team.cluster.start_api()
    assert settles(lambda: pulls(member, unknown))
    assert settles(lambda: pulls(fresh, known))


def unavailable(answer: urllib3.BaseHTTPResponse) -> bool:
    (error,) = answer.json()["errors"]
    return answer.status == 503 and error["code"] == "UNAVAILABLE" and int(answer.headers["Retry-After"]) > 0


def test_an_api_server_that_does_not_answer_is_given_up_in_time(team: Tenant) -> None:
    path = team.image()
    member = team.member(role="trow-image-puller")
    assert settles(lambda: pulls(member, path))
    fresh = Registry(team.owner.trow, Login("any-name", team.token()))
    team.cluster.pause_api()
    try:
        began = time.monotonic()
        assert unavailable(fresh.request("GET", path))
        assert TIMEOUT_SECONDS * 0.9 < time.monotonic() - began < TIMEOUT_SECONDS * 5
        assert pulls(member, path)
    finally:
        team.cluster.resume_api()
    assert settles(lambda: pulls(fresh, path))


def can_i(team: Tenant, *question: str) -> tuple[int, str]:
    """What `trow access can-i` answers, with the configuration of the server."""
    done = subprocess.run(
        [sys.executable, "-m", "trow", "access", "can-i", "--config", str(team.owner.trow.folder / "trow.yaml"),
         "--data-dir", str(team.owner.trow.folder / "data"), *question],
        capture_output=True, encoding="utf-8", timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_can_i_names_the_rolebinding(team: Tenant, other: Tenant) -> None:
    bind(team.cluster, "trow-image-puller", other.name, f"serviceaccount={team.name}:default", "pull-from-team")
    asked = ("--as", f"system:serviceaccount:{team.name}:default")
    assert settles(lambda: can_i(team, *asked, "pull", f"{other.name}/app")[0] == 0)
    code, said = can_i(team, *asked, "pull", f"{other.name}/app")
    assert code == 0
    assert f'RoleBinding "pull-from-team/{other.name}"' in said
    assert 'ClusterRole "trow-image-puller"' in said
    code, said = can_i(team, *asked, "push", f"{other.name}/app")
    assert code == 1
    assert said.startswith("no: ")
    assert f'create repositories "app" in namespace {other.name}' in said


def test_an_access_ends_when_its_rolebinding_is_removed(unbound: Ending) -> None:
    assert unbound.ends(403, ALLOWED_SECONDS)


def test_a_token_ends_with_its_pod(orphaned: Ending) -> None:
    assert orphaned.ends(401, TOKEN_SECONDS)
