"""Image policies and exceptions as people write them, and a control plane that knows their kinds."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from support.waiting import SETTLE_SECONDS, settles

if TYPE_CHECKING:
    from support.cluster import Cluster

DEPLOY: Final = Path(__file__).parents[2] / "deploy" / "kubernetes"
CRDS: Final = DEPLOY / "crds.yaml"
EXCEPTIONS: Final = DEPLOY / "exceptions.yaml"
POLICY_ROLES: Final = DEPLOY / "policy-rbac.yaml"
GROUP: Final = "policy.trow.io"
CLUSTER_POLICY: Final = "ClusterImagePolicy"
POLICY: Final = "ImagePolicy"
EXCEPTION: Final = "PolicyException"

Document: TypeAlias = dict[str, Any]


def install_crds(cluster: Cluster) -> None:
    """Apply the CRDs and wait until they are served and kubectl finds them."""
    cluster.kubectl("apply", "--filename", str(CRDS))
    wait = ("--for", "condition=Established", "--timeout", f"{SETTLE_SECONDS}s")
    cluster.kubectl("wait", "--filename", str(CRDS), *wait)
    assert settles(lambda: {CLUSTER_POLICY, POLICY, EXCEPTION} <= listed(cluster)), listed(cluster)


def guard_exceptions(cluster: Cluster) -> None:
    """Have the API server make sure of two people; what is made from then on is younger, also in whole seconds."""
    cluster.kubectl("apply", "--filename", str(EXCEPTIONS))
    applied = time.time()
    assert settles(lambda: time.time() > applied + 1)


def listed(cluster: Cluster) -> set[str]:
    lines = cluster.kubectl("api-resources", "--api-group", GROUP, "--no-headers", check=False).splitlines()
    return {line.split()[-1] for line in lines if line}


def document(kind: str, spec: object, name: str = "tried", namespace: str = "default") -> Document:
    place = {"namespace": namespace} if kind == POLICY else {}
    return {"apiVersion": f"{GROUP}/v1alpha1", "kind": kind, "metadata": {"name": name, **place}, "spec": spec}


def policy(**fields: object) -> Document:
    """The specification of a policy that denies what its rules, if any are given, do not allow."""
    return {"default": "Deny", **fields}


def rule(name: str = "ours", action: str = "Allow", *images: Document) -> Document:
    return {"name": name, "action": action, "images": list(images or ({"registry": "registry.example.com"},))}


def exception(**fields: object) -> Document:
    """The specification of an exception that alice asks for."""
    return {
        "reason": "the registry of the supplier is down",
        "requester": "alice",
        "duration": "4h",
        "namespaces": ["team-a"],
        "policies": ["ClusterImagePolicy/only-ours"],
        "images": [{"registry": "docker.io", "repository": "library/nginx", "tag": "1.27"}],
        **fields,
    }
