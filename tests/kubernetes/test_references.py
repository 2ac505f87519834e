"""Which names of images Kubernetes reads: the API server parses them as the kubelet does, to set `imagePullPolicy`."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from support.references import NEWER, REFUSED, SAME, STRICTER, STRICTER_NEWER, generated
from trow.policy.images import InvalidImage, parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from support.cluster import Cluster


def read_as_latest(cluster: Cluster, namespace: str, names: Sequence[str]) -> set[str]:
    """Those names that are valid and end in the tag `latest`, as written or by default: they are always pulled."""
    containers = [{"name": f"c{number}", "image": name} for number, name in enumerate(names)]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "names", "namespace": namespace},
        "spec": {"containers": containers, "automountServiceAccountToken": False},
    }
    asked = ("create", "--dry-run=server", "--filename=-", "--output=json")
    answered = json.loads(cluster.kubectl(*asked, input=json.dumps(pod)))["spec"]["containers"]
    assert [each["image"] for each in answered] == list(names)
    return {each["image"] for each in answered if each["imagePullPolicy"] == "Always"}


def tag_of(name: str) -> str | None:
    try:
        return parse(name).tag
    except InvalidImage:
        return None


def untagged(names: Iterable[str]) -> list[str]:
    """Those without a tag and a digest; the first slash ends a host and its port."""
    return [name for name in names if not re.search(r"[:@]", name.partition("/")[2] if "/" in name else name)]


def test_kubernetes_reads_every_name_that_is_read_here(cluster: Cluster, namespace: str) -> None:
    names = dict.fromkeys((*SAME, *NEWER, *generated(800, seed="kubernetes")))
    latest = [name for name in names if tag_of(name) == "latest"]
    others = [name for name in names if tag_of(name) not in ("latest", None)]
    assert len(latest) > 100
    assert len(others) > 50
    assert read_as_latest(cluster, namespace, latest) == set(latest)
    assert read_as_latest(cluster, namespace, others) == set()


def test_names_that_are_refused_here_alone(cluster: Cluster, namespace: str) -> None:
    names = untagged(name for table in (STRICTER, STRICTER_NEWER) for names in table.values() for name in names)
    assert len(names) > 20
    assert {tag_of(name) for name in names} == {None}
    assert read_as_latest(cluster, namespace, names) == set(names)


def test_names_that_are_refused_by_all(cluster: Cluster, namespace: str) -> None:
    # Kubernetes has no image without a name, and none with white space around it.
    names = [name for name in REFUSED if name and name == name.strip()]
    assert read_as_latest(cluster, namespace, names) == set()
