from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING

import pytest

from trow.cli import main

if TYPE_CHECKING:
    from pathlib import Path

POLICY = "image_validation: {default: Deny, allow: [docker.io/acme/]}\n"


def owner(kind: str, name: str, uid: str) -> list[dict[str, object]]:
    return [{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": True}]


def item(kind: str, name: str, image: str, *, uid: str, owned: list[dict[str, object]] | None = None) -> object:
    spec: dict[str, object] = {"containers": [{"name": "web", "image": image}]}
    metadata = {"name": name, "namespace": "team-a", "uid": uid, "ownerReferences": owned or []}
    if kind == "Pod":
        return {"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": spec}
    version = "batch/v1" if kind == "Job" else "apps/v1"
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": {"template": {"spec": spec}}}


def dump(path: Path, *items: object) -> str:
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    return str(path)


def simulate(tmp_path: Path, *words: str, policy: str = POLICY) -> int:
    (tmp_path / "policy.yaml").write_text(policy)
    return main(["policy", "simulate", "-f", str(tmp_path / "policy.yaml"), *words])


def deployment(name: str, image: str) -> list[object]:
    """As the controllers have made it: two Pods."""
    return [
        item("Deployment", name, image, uid=f"{name}-d"),
        item("ReplicaSet", f"{name}-1", image, uid=f"{name}-r", owned=owner("Deployment", name, f"{name}-d")),
        *(
            item("Pod", f"{name}-1-{n}", image, uid=f"{name}-{n}", owned=owner("ReplicaSet", f"{name}-1", f"{name}-r"))
            for n in range(2)
        ),
    ]


def test_nothing_would_break(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate(tmp_path, "--from", dump(tmp_path / "dump", *deployment("web", "acme/web"))) == 0
    assert capsys.readouterr().out == "0 of 1 workload would not start again\n"


def test_what_controllers_made_is_counted_with_what_somebody_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = [*deployment("web", "nginx:1"), *deployment("shop", "acme/shop"), item("Pod", "one", "redis", uid="1")]
    assert simulate(tmp_path, "--from", dump(tmp_path / "dump", *items)) == 1
    heads, *lines = capsys.readouterr().out.splitlines()
    assert heads.split() == ["VERDICT", "NAMESPACE", "WORKLOAD", "IMAGE", "POLICY", "RULE", "PODS"]
    assert [" ".join(line.split()) for line in lines[:2]] == [
        "denied team-a Deployment web nginx:1 image_validation default 2",
        "denied team-a Pod one redis image_validation default 1",
    ]
    assert "Deployment web: container web: docker.io/library/nginx:1 is not allowed by any rule" in lines[3]
    assert lines[-1] == "2 of 3 workloads would not start again"


def with_spec(it: object, **members: object) -> object:
    assert isinstance(it, dict)
    return {**it, "spec": {**it["spec"], **members}}


def with_status(it: object, **members: object) -> object:
    assert isinstance(it, dict)
    return {**it, "status": members}


DONE = [{"type": "Complete", "status": "True"}]


@pytest.mark.parametrize(
    "idle",
    [
        with_spec(item("ReplicaSet", "old", "nginx", uid="1"), replicas=0),
        with_spec(item("Deployment", "off", "nginx", uid="1"), replicas=0),
        with_spec(item("Job", "off", "nginx", uid="1"), suspend=True),
        with_status(item("Pod", "done", "nginx", uid="1"), phase="Succeeded"),
        with_status(item("Pod", "evicted", "nginx", uid="1"), phase="Failed"),
        with_status(item("Job", "done", "nginx", uid="1"), conditions=DONE, completionTime="2026-01-01T00:00:00Z"),
        with_status(item("Job", "failed", "nginx", uid="1"), conditions=[{"type": "Failed", "status": "True"}]),
        with_status(item("Workflow", "done", "nginx", uid="1"), phase="Succeeded"),
        with_status(item("TaskRun", "done", "nginx", uid="1"), completionTime="2026-01-01T00:00:00Z"),
    ],
    ids=lambda it: f"{it['kind']} {it['metadata']['name']}",
)
def test_what_runs_nothing_is_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str], idle: object) -> None:
    path = dump(tmp_path / "dump", *deployment("web", "acme/web"), idle)
    assert simulate(tmp_path, "--from", path) == 0
    assert capsys.readouterr().out == "0 of 1 workload would not start again; passed over, for they run nothing: 1\n"


def test_labels_are_those_of_the_namespaces_in_the_dump(tmp_path: Path) -> None:
    policy = """apiVersion: policy.trow.io/v1alpha1
kind: ClusterImagePolicy
metadata: {name: prod}
spec: {default: Deny, namespaceSelector: {matchLabels: {tier: prod}}}
"""
    for tier, code in (("prod", 1), ("test", 0)):
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-a", "labels": {"tier": tier}}}
        path = dump(tmp_path / tier, *deployment("web", "nginx"), namespace)
        assert simulate(tmp_path, "--from", path, policy=policy) == code


def test_what_still_runs_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    running = [
        with_status(item("Pod", "a", "nginx", uid="1"), phase="Running"),
        with_status(item("Job", "b", "nginx", uid="2"), conditions=[{"type": "Complete", "status": "False"}]),
        with_spec(item("StatefulSet", "c", "nginx", uid="3"), suspend=False),
    ]
    assert simulate(tmp_path, "--from", dump(tmp_path / "dump", *running)) == 1
    assert capsys.readouterr().out.endswith("3 of 3 workloads would not start again\n")


def test_without_pods_those_count_that_there_are_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = dump(tmp_path / "dump", with_spec(item("Deployment", "web", "nginx", uid="1"), replicas=7))
    assert simulate(tmp_path, "--from", path) == 1
    assert capsys.readouterr().out.splitlines()[1].endswith(" 7")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dump of 25 000 Pods, over 16 MiB."""
    path = tmp_path_factory.mktemp("dumps") / "large.json"
    filling = {"annotations": {"filling": "x" * 500}}
    pods = (item("Pod", f"p{number}", "acme/web", uid=str(number)) for number in range(25_000))
    filled = [{**pod, "metadata": {**pod["metadata"], **filling}} for pod in pods if isinstance(pod, dict)]
    dump(path, *filled, item("Pod", "last", "nginx", uid="last"))
    assert path.stat().st_size > 16 * 2**20
    return path


@pytest.mark.slow
def test_a_large_dump_is_read_object_by_object(
    tmp_path: Path, large: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert simulate(tmp_path, "--from", str(large)) == 1
    told = capsys.readouterr()
    assert "denied   team-a     Pod last" in told.out
    assert told.out.endswith("1 of 25001 workloads would not start again\n")
    assert told.err == "trow: 20000 objects read\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(large.read_bytes())))
    assert simulate(tmp_path, "--from", "-") == 1
    assert capsys.readouterr().out == told.out


def test_the_size_of_a_dump_is_bounded(tmp_path: Path, large: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate(tmp_path, "--from", str(large), "--max-size", "16MiB") == 2
    assert "is larger than 16777216 bytes; allow more with --max-size" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        simulate(tmp_path, "--from", str(large), "--max-size", "much")
    assert "'much' is not a size; write a whole number of bytes" in capsys.readouterr().err


def test_a_large_dump_that_is_no_json_is_told_how(
    tmp_path: Path, large: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "large.yaml").write_text(f"# yaml\n{large.read_text()}")
    assert simulate(tmp_path, "--from", str(tmp_path / "large.yaml")) == 2
    assert "write it with -o json" in capsys.readouterr().err


def test_a_policy_that_only_warns_breaks_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = dump(tmp_path / "dump", *deployment("web", "nginx"))
    assert simulate(tmp_path, "--from", path, policy=POLICY.replace("}", ", mode: warn}")) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[1].startswith("warned")
    assert "0 of 1 workload would not start again" in out


def test_several_dumps_and_one_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = dump(tmp_path / "good", *deployment("web", "acme/web"))
    broken = dump(tmp_path / "broken", {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": []})
    assert simulate(tmp_path, "--from", good, "--from", broken) == 2
    assert "cannot be read" in capsys.readouterr().out
    assert simulate(tmp_path, "--from", str(tmp_path / "missing")) == 2
    assert "missing" in capsys.readouterr().err


def test_owners_that_own_each_other_end(tmp_path: Path) -> None:
    items = [
        item("ReplicaSet", "a", "nginx", uid="a", owned=owner("ReplicaSet", "b", "b")),
        item("ReplicaSet", "b", "nginx", uid="b", owned=owner("ReplicaSet", "a", "a")),
    ]
    assert simulate(tmp_path, "--from", dump(tmp_path / "dump", *items)) == 1


@pytest.mark.parametrize("content", ["", "apiVersion: v1\nclusters: []\n"])
def test_a_cluster_that_cannot_be_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    (tmp_path / "kubeconfig").write_text(content)
    assert simulate(tmp_path, "--kubeconfig", str(tmp_path / "kubeconfig")) == 2
    assert "kubeconfig" in capsys.readouterr().err
