from __future__ import annotations

import json
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
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": {"template": {"spec": spec}}}


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
    assert heads.split() == ["VERDICT", "NAMESPACE", "WORKLOAD", "IMAGE", "POLICY", "RULE", "OBJECTS"]
    assert [" ".join(line.split()) for line in lines[:2]] == [
        "denied team-a Deployment web nginx:1 image_validation default 4",
        "denied team-a Pod one redis image_validation default 1",
    ]
    assert "Deployment web: container web: docker.io/library/nginx:1 is allowed by no rule" in lines[3]
    assert lines[-1] == "2 of 3 workloads would not start again"


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
