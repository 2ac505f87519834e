"""The one control plane of a worker, for whichever test asks for it, and the one cluster with nodes of a file.

Each starts in seconds, and its tests wait more than they work, so workers that have one each are done sooner than one
that has all of them. A control plane that nobody asks anything costs next to nothing; nodes take a quarter of a core
from the tests of other files, so they go with the file.

`tests/conftest.py` imports what is here.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from support.cluster import Cluster
from support.machine import MachineError
from support.nodes import NodeCluster, able

if TYPE_CHECKING:
    from collections.abc import Iterator

AUDIENCE: Final = "registry.example.com"
ROLES: Final = Path(__file__).parents[2] / "deploy" / "kubernetes" / "rbac.yaml"
HOME: Final = "registry"  # the namespace of the Trow that tests talk to


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster.start(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="module")
def node_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeCluster]:
    """A cluster with two nodes; `support/nodes.py` tells what can be done with it."""
    try:
        able()
    except MachineError as error:
        pytest.fail(str(error), pytrace=False)
    with NodeCluster.start(tmp_path_factory.mktemp("nodes"), nodes=2) as running:
        yield running


@pytest.fixture
def namespace(cluster: Cluster) -> str:
    """A namespace that no other test uses; it goes with the cluster."""
    name = f"test-{secrets.token_hex(4)}"
    cluster.create_namespace(name)
    return name


@pytest.fixture(scope="session")
def kubeconfig(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a Trow outside of the cluster needs: the credentials of a ServiceAccount that may ask, and nothing else."""
    install(cluster, HOME)
    token = cluster.token(HOME, "trow", cluster.url, duration="12h")
    access = {"server": cluster.url, "certificate-authority": str(cluster.ca)}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": access}],
        "users": [{"name": "trow", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "trow"}}],
        "current-context": "test",
    }
    path = tmp_path_factory.mktemp("kubeconfig") / "kubeconfig"
    path.write_text(json.dumps(document), encoding="utf-8")
    path.chmod(0o600)
    return path


def install(cluster: Cluster, home: str) -> None:
    """Roles and Trow's own ServiceAccount, as `deploy/kubernetes` has them, in a namespace of one's own choice."""
    cluster.create_namespace(home)
    cluster.kubectl("create", "serviceaccount", "trow", "--namespace", home)
    roles = ROLES.read_text(encoding="utf-8")
    cluster.apply(roles.replace("namespace: trow", f"namespace: {home}").replace("trow-auth", f"trow-{home}-auth"))


def bind(cluster: Cluster, role: str, namespace: str, subject: str, name: str = "") -> str:
    """Bind a ClusterRole, or a Role as `role/NAME`, in a namespace; a subject is KIND=NAME as kubectl has it."""
    name = name or f"bound-{secrets.token_hex(4)}"
    kind, _, bound = role.rpartition("/")
    cluster.kubectl(
        "create", "rolebinding", name, f"--namespace={namespace}", f"--{kind or 'clusterrole'}={bound}", f"--{subject}"
    )
    return name
