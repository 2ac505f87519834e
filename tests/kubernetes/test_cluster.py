"""The control plane of the tests does what the other tests of this folder take for granted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest
import urllib3

from support.cluster import Cluster
from support.waiting import settles

if TYPE_CHECKING:
    from pathlib import Path

AUDIENCE: Final = "registry.example.com"


def pod(namespace: str, node: str) -> str:
    return f"""
apiVersion: v1
kind: Node
metadata: {{name: {node}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: web, namespace: {namespace}}}
spec:
  nodeName: {node}
  containers: [{{name: web, image: "{AUDIENCE}/web:1"}}]
"""


def content_role(namespace: str) -> str:
    return f"""
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: pull, namespace: {namespace}}}
rules:
- {{apiGroups: [registry.trow.io], resources: [repositories/content], resourceNames: [app], verbs: [get]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: pull, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: pull}}
subjects: [{{kind: ServiceAccount, name: default, namespace: {namespace}}}]
"""


def aggregated_role(name: str) -> str:
    return f"""
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {name}
  labels: {{rbac.authorization.k8s.io/aggregate-to-view: "true"}}
rules: [{{apiGroups: [registry.trow.io], resources: [{name}], verbs: [get]}}]
"""


def status(cluster: Cluster, group: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    """What the API server answers to a review."""
    review = {"apiVersion": f"{group}/v1", "kind": kind, "spec": spec}
    answered = cluster.kubectl("create", "--filename", "-", "--output", "json", input=json.dumps(review))
    found: dict[str, Any] = json.loads(answered)["status"]
    return found


def token_review(cluster: Cluster, token: str, audience: str = AUDIENCE) -> dict[str, Any]:
    return status(cluster, "authentication.k8s.io", "TokenReview", {"token": token, "audiences": [audience]})


def may_pull(cluster: Cluster, namespace: str, repository: str) -> bool:
    asked = {
        "namespace": namespace,
        "verb": "get",
        "group": "registry.trow.io",
        "resource": "repositories",
        "subresource": "content",
        "name": repository,
    }
    spec = {"user": f"system:serviceaccount:{namespace}:default", "resourceAttributes": asked}
    return bool(status(cluster, "authorization.k8s.io", "SubjectAccessReview", spec)["allowed"])


def test_the_token_of_a_pod_comes_back_with_pod_and_node(cluster: Cluster, namespace: str) -> None:
    cluster.apply(pod(namespace, node=f"node-{namespace}"))
    uid = cluster.kubectl("get", "pod", "web", "--namespace", namespace, "--output", "jsonpath={.metadata.uid}")
    answered = token_review(cluster, cluster.token(namespace, "default", AUDIENCE, pod="web"))
    assert answered["authenticated"]
    assert answered["audiences"] == [AUDIENCE]
    assert answered["user"]["username"] == f"system:serviceaccount:{namespace}:default"
    extra = {
        key.removeprefix("authentication.kubernetes.io/"): value for key, value in answered["user"]["extra"].items()
    }
    assert extra["pod-name"] == ["web"]
    assert extra["pod-uid"] == [uid]
    assert extra["node-name"] == [f"node-{namespace}"]
    assert extra["credential-id"][0].startswith("JTI=")


def test_a_token_for_another_audience_is_refused(cluster: Cluster, namespace: str) -> None:
    answered = token_review(cluster, cluster.token(namespace, "default", "other.example.com"))
    assert not answered.get("authenticated")
    assert "other.example.com" in answered["error"]


def test_a_token_of_a_deleted_pod_is_refused(cluster: Cluster, namespace: str) -> None:
    cluster.apply(pod(namespace, node=f"node-{namespace}"))
    token = cluster.token(namespace, "default", AUDIENCE, pod="web")
    cluster.kubectl("delete", "pod", "web", "--namespace", namespace, "--force", "--grace-period", "0")
    assert settles(lambda: not token_review(cluster, token).get("authenticated"))


def test_access_to_a_virtual_resource_follows_a_role(cluster: Cluster, namespace: str) -> None:
    assert not may_pull(cluster, namespace, "app")
    cluster.apply(content_role(namespace))
    assert settles(lambda: may_pull(cluster, namespace, "app"))
    assert not may_pull(cluster, namespace, "other")


def test_reviews_are_counted(cluster: Cluster, namespace: str) -> None:
    token = cluster.token(namespace, "default", AUDIENCE)
    before = cluster.reviews()
    token_review(cluster, token)
    token_review(cluster, token)
    may_pull(cluster, namespace, "app")
    assert cluster.reviews() - before == {"tokenreviews": 2, "subjectaccessreviews": 1}


def test_a_role_is_aggregated_to_view(cluster: Cluster, namespace: str) -> None:
    cluster.apply(aggregated_role(namespace))
    assert settles(lambda: f'"{namespace}"' in cluster.kubectl("get", "clusterrole", "view", "--output", "json"))


def test_a_deployment_gets_its_pod(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("create", "deployment", "web", "--image", "web:1", "--namespace", namespace)
    cluster.wait_for("pod", "--selector", "app=web", "--namespace", namespace)


def test_the_keys_of_tokens_are_published(cluster: Cluster) -> None:
    issuer = json.loads(cluster.kubectl("get", "--raw", "/.well-known/openid-configuration"))
    assert issuer["issuer"] == cluster.url
    assert issuer["jwks_uri"] == f"{cluster.url}/openid/v1/jwks"
    assert [key["alg"] for key in json.loads(cluster.kubectl("get", "--raw", "/openid/v1/jwks"))["keys"]] == ["ES256"]


def test_a_refused_command_says_why(cluster: Cluster) -> None:
    with pytest.raises(AssertionError, match="NotFound"):
        cluster.kubectl("get", "namespace", "no-such-namespace")
    assert "NotFound" in cluster.kubectl("get", "namespace", "no-such-namespace", check=False)


def test_a_stopped_api_server_comes_back_with_its_data(cluster: Cluster, namespace: str) -> None:
    cluster.stop_api()
    try:
        assert "refused" in cluster.kubectl("get", "namespace", namespace, check=False)
    finally:
        cluster.start_api()
    assert namespace in cluster.kubectl("get", "namespace", namespace)


def test_a_paused_api_server_keeps_its_callers_waiting(cluster: Cluster) -> None:
    with urllib3.PoolManager(ca_certs=str(cluster.ca), retries=False) as http:
        cluster.pause_api()
        try:
            with pytest.raises(urllib3.exceptions.TimeoutError):
                http.request("GET", f"{cluster.url}/readyz", timeout=0.5)
        finally:
            cluster.resume_api()
        assert http.request("GET", f"{cluster.url}/readyz", timeout=20).status == 200


def test_without_controllers_a_namespace_has_its_account_all_the_same(tmp_path: Path) -> None:
    with Cluster.start(tmp_path, controllers=False) as bare:
        bare.create_namespace("bare")
        bare.apply(pod("bare", node="node-1"))
        assert token_review(bare, bare.token("bare", "default", AUDIENCE, pod="web"))["authenticated"]
