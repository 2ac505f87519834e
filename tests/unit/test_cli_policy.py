from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
import yaml

from trow.cli import main, policy
from trow.policy.pods import POD_SPECS

if TYPE_CHECKING:
    from collections.abc import Sequence

HEAD = "apiVersion: policy.trow.io/v1alpha1\n"
TITLE = "ClusterImagePolicy/ours"
DIGEST = "sha256:" + "a" * 64


def cluster_policy(spec: str, name: str = "ours") -> str:
    return f"{HEAD}kind: ClusterImagePolicy\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"


RULES = """default: Deny, namespaces: {exclude: [kube-system]}, rules: [
  {name: ours, action: Allow, images: [{registry: registry.example.com}]},
  {name: evil, action: Deny, images: [{registry: registry.example.com, repository: evil/**}]}]"""
OURS = cluster_policy(RULES)
VENDOR = cluster_policy(
    "default: Deny, exceptions: [{name: vendor, reason: it has its own registry, namespaces: [team-*],"
    " images: [{registry: quay.io}]}]"
)
TOOLS = cluster_policy(
    "default: Deny, rules: [{name: tools, action: Allow, usedBy: [initContainers], images: [{registry: quay.io}]}]"
)
OWN = cluster_policy(
    "default: Deny, rules: [{name: own, action: Allow, images: [{registry: quay.io, repository: $namespace/**}]}]"
)
EXCEPTION = f"""---
{HEAD}kind: PolicyException
metadata: {{name: incident}}
spec: {{reason: it burns brightly, requester: alice, approver: APPROVER, duration: 1h, namespaces: [team-a],
  policies: [ClusterImagePolicy/ours], images: [{{registry: docker.io, repository: nginx}}]}}
"""


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("TROW_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    Path("policy.yaml").write_text(OURS)


def pod(*images: str, **metadata: str) -> dict[str, Any]:
    containers = [{"name": f"c{number}", "image": image} for number, image in enumerate(images)]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", **metadata},
        "spec": {"containers": containers},
    }


def save(*items: object, file: str = "app.yaml") -> str:
    Path(file).write_text(yaml.safe_dump_all(items))
    return file


def judge(*argv: str) -> int:
    return main(["policy", "test", "-f", "policy.yaml", *argv])


def report(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


# trow policy test


@pytest.mark.parametrize(
    ("policies", "item", "code", "verdict"),
    [
        (OURS, pod("registry.example.com/app:1"), 0, "allowed"),
        (OURS, pod("registry.example.com/app:1", "nginx"), 1, "denied"),
        (OURS, pod("registry.example.com/evil/app:1"), 1, "denied"),
        (OURS, pod("nginx", namespace="kube-system"), 0, "allowed"),
        (OURS, pod("Not An Image"), 1, "denied"),
        (OURS, pod(""), 1, "denied"),
        (cluster_policy("default: Deny, mode: warn"), pod("nginx"), 0, "warned"),
        (cluster_policy("default: Deny, mode: audit"), pod("nginx"), 0, "audited"),
        (cluster_policy("default: Allow, require: {digest: true}"), pod("nginx"), 1, "denied"),
        (cluster_policy("default: Allow, require: {digest: true}"), pod(f"nginx@{DIGEST}"), 0, "allowed"),
        # A registry alone can say.
        (cluster_policy("default: Allow, require: {exists: true}"), pod("nginx"), 2, "undecided"),
        (cluster_policy("default: Allow, require: {maxAge: 90d}"), pod("nginx"), 2, "undecided"),
        (cluster_policy("default: Allow, require: {platforms: [linux/amd64]}"), pod("nginx"), 2, "undecided"),
        (cluster_policy("default: Allow, require: {exists: true}, mode: warn"), pod("nginx"), 0, "warned"),
        (cluster_policy("default: Allow, require: {exists: true}, mode: audit"), pod("nginx"), 0, "audited"),
        # It would be denied whatever the registry says.
        (cluster_policy("default: Deny, require: {exists: true}"), pod("nginx"), 1, "denied"),
        (cluster_policy("default: Allow, require: {exists: true, digest: true}"), pod("nginx"), 1, "denied"),
        # The worst counts.
        (OURS + "---\n" + cluster_policy("default: Allow, require: {exists: true}", "b"), pod("nginx"), 1, "denied"),
        (
            OURS + "---\n" + cluster_policy("default: Allow, require: {exists: true}", "b"),
            pod("registry.example.com/app"),
            2,
            "undecided",
        ),
        (
            cluster_policy("default: Deny, mode: warn") + "---\n" + cluster_policy("default: Allow", "b"),
            pod("a"),
            0,
            "warned",
        ),
        # Exceptions.
        (OURS + EXCEPTION.replace("APPROVER", "bob"), pod("nginx", namespace="team-a"), 0, "allowed"),
        (OURS + EXCEPTION.replace("APPROVER", "alice"), pod("nginx", namespace="team-a"), 1, "denied"),
        (OURS + EXCEPTION.replace("APPROVER", "bob"), pod("nginx", namespace="team-b"), 1, "denied"),
        (OURS + EXCEPTION.replace("APPROVER", "bob"), pod("redis", namespace="team-a"), 1, "denied"),
        # A rule may be called like a requirement.
        (
            cluster_policy(
                "default: Allow, require: {exists: true},"
                " rules: [{name: require.exists, action: Deny, images: [{registry: '*'}]}]"
            ),
            pod("nginx"),
            1,
            "denied",
        ),
    ],
)
def test_exit_codes(
    capsys: pytest.CaptureFixture[str], policies: str, item: dict[str, Any], code: int, verdict: str
) -> None:
    Path("policy.yaml").write_text(policies)
    assert judge("--output", "json", save(item)) == code
    assert report(capsys)["verdict"] == verdict


def in_template(path: Sequence[str], spec: dict[str, Any]) -> dict[str, Any]:
    item: dict[str, Any] = spec
    for key in reversed(path):
        item = {key: item}
    return item


@pytest.mark.parametrize("group_and_kind", POD_SPECS, ids=lambda pair: pair[1])
def test_every_kind_is_judged_as_the_pods_that_it_makes(
    capsys: pytest.CaptureFixture[str], group_and_kind: tuple[str, str]
) -> None:
    group, kind = group_and_kind
    path = POD_SPECS[group_and_kind]
    spec = {
        "initContainers": [{"name": "a", "image": "nginx:1"}],
        "containers": [{"name": "b", "image": "registry.example.com/app"}],
        "ephemeralContainers": [{"name": "c", "image": "nginx:2"}],
        "volumes": [{"name": "d", "image": {"reference": "nginx:3"}}],
    }
    item = {
        "apiVersion": f"{group}/v1" if group else "v1",
        "kind": kind,
        "metadata": {"name": "x"},
        **in_template(path, spec),
    }
    assert judge("--output", "json", save(item)) == 1
    (judged,) = report(capsys)["objects"]
    assert judged["kind"] == (f"{group}/{kind}" if group else kind)
    at = ".".join(path)
    assert [(image["field"], image["used_by"], image["verdict"]) for image in judged["images"]] == [
        (f"{at}.initContainers[0].image", "init container a", "denied"),
        (f"{at}.containers[0].image", "container b", "allowed"),
        (f"{at}.ephemeralContainers[0].image", "ephemeral container c", "denied"),
        (f"{at}.volumes[0].image.reference", "image volume d", "denied"),
    ]


def test_controllers_of_a_milder_policy_are_judged_as_pods(capsys: pytest.CaptureFixture[str]) -> None:
    Path("policy.yaml").write_text(cluster_policy("default: Deny, controllers: ignore"))
    spec = {"template": {"spec": {"containers": [{"name": "a", "image": "nginx"}]}}}
    assert judge(save({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": spec})) == 1


@pytest.mark.parametrize(
    "item",
    [
        {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "spec": {"template": {"spec": pod("nginx")["spec"]}}},
        {
            "apiVersion": "extensions/v1beta1",
            "kind": "Deployment",
            "spec": {"template": {"spec": pod("nginx")["spec"]}},
        },
        {"apiVersion": "tekton.dev/v1", "kind": "Task", "spec": {"steps": [{"image": "nginx"}]}},
        {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Workflow",
            "spec": {"templates": [{"steps": [[{"inline": {"script": {"image": "nginx"}}}]]}]},
        },
    ],
    ids=lambda item: str(item["kind"]),
)
def test_well_known_kinds_of_others_are_judged(capsys: pytest.CaptureFixture[str], item: dict[str, Any]) -> None:
    assert judge(save(item | {"metadata": {"name": "x"}})) == 1
    assert "docker.io/library/nginx:latest" in capsys.readouterr().out


def test_an_image_that_a_controller_fills_in_is_undecided(capsys: pytest.CaptureFixture[str]) -> None:
    spec = {"steps": [{"image": "$(params.image)"}]}
    item = {"apiVersion": "tekton.dev/v1", "kind": "Task", "metadata": {"name": "x"}, "spec": spec}
    assert judge(save(item)) == 2
    assert "has parameters that are replaced when Pods are made" in capsys.readouterr().out


def test_a_kind_that_nobody_told_of_is_warned_of_if_it_seems_to_name_images(capsys: pytest.CaptureFixture[str]) -> None:
    spec = {"pods": [{"containers": [{"image": "nginx"}]}]}
    item = {"apiVersion": "example.com/v1", "kind": "Fleet", "metadata": {"name": "x"}, "spec": spec}
    assert judge(save(item)) == 0
    told = capsys.readouterr()
    assert "objects without images: 1" in told.out
    assert "trow: warning: app.yaml, document 1: Fleet default/x: seems to name images" in told.err
    assert "admission.extra_kinds" in told.err
    assert judge("--output", "json", save(item)) == 0
    (warning,) = report(capsys)["warnings"]
    assert warning["message"].startswith("Fleet default/x: seems to name images")
    Path("trow.yaml").write_text(
        "admission: {extra_kinds: [{group: example.com, kind: Fleet, paths: ['spec.pods[*]']}]}\n"
    )
    assert judge("-f", "trow.yaml", save(item)) == 1


def test_what_a_build_tool_writes(capsys: pytest.CaptureFixture[str]) -> None:
    Path("app.yaml").write_text(
        "# Source: chart/templates/a.yaml\n---\n# empty\n---\napiVersion: v1\nkind: Service\nmetadata: {name: s}\n---\n"
        "apiVersion: v1\nkind: List\nitems:\n"
        "- {apiVersion: v1, kind: ConfigMap, metadata: {name: c}}\n"
        "- {apiVersion: v1, kind: Pod, metadata: {generateName: p-}, spec: {containers: [{name: a, image: nginx}]}}\n"
    )
    assert judge("--output", "json", "--namespace", "team-a", "app.yaml") == 1
    found = report(capsys)
    assert found["summary"]["objects_without_images"] == 2
    (judged,) = found["objects"]
    assert [judged[key] for key in ("file", "document", "item", "namespace", "name")] == [
        "app.yaml",
        3,
        1,
        "team-a",
        "p-",
    ]


@pytest.mark.parametrize(
    ("words", "metadata", "namespace"),
    [
        ([], {}, "default"),
        (["--namespace", "team-a"], {}, "team-a"),
        (["--namespace", "team-a"], {"namespace": "team-b"}, "team-b"),
    ],
)
def test_the_namespace_is_that_of_the_object_or_of_the_command(
    capsys: pytest.CaptureFixture[str], words: list[str], metadata: dict[str, str], namespace: str
) -> None:
    judge("--output", "json", *words, save(pod("nginx", **metadata)))
    assert report(capsys)["objects"][0]["namespace"] == namespace


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert judge("--output", "json", save(pod("nginx:1@" + DIGEST))) == 1
    assert report(capsys) == {
        "format": 1,
        "verdict": "denied",
        "summary": {
            "allowed": 0,
            "audited": 0,
            "warned": 0,
            "undecided": 0,
            "denied": 1,
            "objects": 1,
            "objects_without_images": 0,
            "errors": 0,
        },
        "objects": [
            {
                "file": "app.yaml",
                "document": 1,
                "item": None,
                "kind": "Pod",
                "namespace": "default",
                "name": "p",
                "verdict": "denied",
                "images": [
                    {
                        "field": "spec.containers[0].image",
                        "used_by": "container c0",
                        "image": f"nginx:1@{DIGEST}",
                        "reference": f"docker.io/library/nginx:1@{DIGEST}",
                        "verdict": "denied",
                        "policies": [
                            {
                                "policy": "ClusterImagePolicy/ours",
                                "rule": "default",
                                "mode": "enforce",
                                "verdict": "denied",
                                "reason": "is not allowed by any rule",
                                "remedy": "use one of registry.example.com/**",
                                "exception": "",
                            }
                        ],
                    }
                ],
            }
        ],
        "errors": [],
        "warnings": [],
    }


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        judge(save(pod("registry.example.com/app:1", "nginx", namespace="team-a"), {"apiVersion": "v1", "kind": "x"}))
        == 1
    )
    heads, first, second, empty, detail, summary = capsys.readouterr().out.splitlines()
    assert heads.split("  ")[0] == "VERDICT"
    assert " ".join(first.split()) == (
        "allowed app.yaml#1 Pod team-a/p container c0 registry.example.com/app:1 ClusterImagePolicy/ours ours"
    )
    assert " ".join(second.split()) == (
        "denied app.yaml#1 Pod team-a/p container c1 docker.io/library/nginx:latest ClusterImagePolicy/ours default"
    )
    assert empty == ""
    assert detail == (
        "denied: Pod team-a/p, container c1: docker.io/library/nginx:latest is not allowed by any rule"
        " (ClusterImagePolicy/ours, default); use one of registry.example.com/**"
    )
    assert summary == "2 images: 1 allowed, 1 denied; objects without images: 1"


def test_tables_say_what_an_exception_and_no_policy_let_through(capsys: pytest.CaptureFixture[str]) -> None:
    Path("policy.yaml").write_text(OURS + EXCEPTION.replace("APPROVER", "bob"))
    assert judge(save(pod("nginx", namespace="team-a"), pod("nginx", namespace="kube-system"))) == 0
    out = capsys.readouterr().out
    assert (
        "allowed: Pod team-a/p, container c0: docker.io/library/nginx:latest is not allowed by any rule, but incident"
        in out
    )
    assert "none applies" in out


def test_junit(capsys: pytest.CaptureFixture[str]) -> None:
    Path("policy.yaml").write_text(
        OURS
        + "---\n"
        + cluster_policy("default: Allow, require: {exists: true}, namespaces: {include: [team-a]}", "b")
        + "---\n"
        + cluster_policy("default: Deny, mode: warn, namespaces: {include: [team-b]}", "c")
    )
    items = [
        pod("registry.example.com/a", 'n"<>&\x85\u2028', name="one"),
        pod("registry.example.com/a", namespace="team-a", name="two"),
        pod("registry.example.com/a", namespace="team-b", name="three"),
    ]
    Path("app.json").write_text("\n".join(json.dumps(item) for item in [*items, pod("a\x01\ufffe"), {"kind": 7}]))
    assert judge("--output", "junit", "app.json") == 1
    out = capsys.readouterr().out
    assert out.startswith('<?xml version="1.0" encoding="UTF-8"?>\n')
    root = ET.fromstring(out)
    assert root.tag == "testsuites"
    assert dict(root.attrib) == {"name": "trow policy test", "tests": "6", "failures": "2", "errors": "2"}
    suites = list(root)
    assert [suite.get("name") for suite in suites] == [
        "app.json#1 Pod default/one",
        "app.json#2 Pod team-a/two",
        "app.json#3 Pod team-b/three",
        "app.json#4 Pod default/p",
        "unreadable",
    ]
    for suite in suites:
        cases = list(suite)
        assert suite.get("tests") == str(len(cases))
        assert suite.get("failures") == str(len(suite.findall("testcase/failure")))
        assert suite.get("errors") == str(len(suite.findall("testcase/error")))
        assert suite.get("skipped") == "0"
    passed, hostile = suites[0]
    assert list(passed) == []
    failure = hostile.find("failure")
    assert failure is not None
    assert failure.get("type") == "denied"
    assert "cannot be read" in str(failure.get("message"))
    assert hostile.get("name") == 'container c1: n"<>&\x85\u2028'
    assert [each.get("type") for each in root.iter("error")] == ["undecided", "unreadable"]
    assert "is not allowed by any rule" in str(suites[2].findtext("testcase/system-out"))
    assert suites[3].find("testcase/failure") is not None
    assert "\ufffd\ufffd" in str(suites[3][0].get("name"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("replicas: 1\n", "app.yaml, document 1: the object has no apiVersion and kind"),
        ("- 1\n", "app.yaml, document 1: is not an object of Kubernetes"),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n",
            "app.yaml, document 1: Pod default/p: spec is not an object",
        ),
        ("apiVersion: v1\nkind: Pod\nmetadata: {namespace: '*'}\nspec: {}\n", "'*' is not the name of a namespace"),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {namespace: 1}\nspec: {}\n",
            "metadata.namespace or metadata.name is not",
        ),
        ("apiVersion: v1\nkind: Pod\nmetadata: []\nspec: {containers: 1}\n", "spec.containers is not a list"),
        ("apiVersion: v1\nkind: Pod\nmetadata: 1\nspec: {}\n", "metadata is not an object"),
        ("apiVersion: v1\nkind: Pod\nspec: {containers: [{image: 1.10}]}\n", "spec.containers[0].image is not a text"),
    ],
)
def test_objects_that_cannot_be_judged(capsys: pytest.CaptureFixture[str], content: str, message: str) -> None:
    Path("app.yaml").write_text(content + "---\n" + yaml.safe_dump(pod("registry.example.com/app")))
    assert judge("--output", "json", "app.yaml") == 2
    output = capsys.readouterr()
    assert output.err.startswith("trow: error: app.yaml, document 1: ")
    assert message in output.err
    found = json.loads(output.out)
    assert (found["verdict"], found["summary"]["allowed"], len(found["errors"])) == ("undecided", 1, 1)
    assert (found["errors"][0]["file"], found["errors"][0]["document"]) == ("app.yaml", 1)


def test_a_denial_wins_over_what_cannot_be_judged(capsys: pytest.CaptureFixture[str]) -> None:
    assert judge(save({"replicas": 1}, pod("nginx"))) == 1


@pytest.mark.parametrize("content", ["", "# nothing\n---\n"])
def test_nothing_to_test_is_no_success(capsys: pytest.CaptureFixture[str], content: str) -> None:
    Path("app.yaml").write_text(content)
    assert judge("app.yaml") == 2
    assert capsys.readouterr().err == "trow: error: app.yaml: is empty; give manifests\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["missing.yaml"], "missing.yaml: cannot be read (No such file or directory)"),
        (["--namespace", "Team A", "app.yaml"], "'Team A' is not the name of a namespace"),
        (["-f", "missing", "app.yaml"], "missing: cannot be read (No such file or directory)"),
        (["-f", "nothing.yaml", "app.yaml"], "nothing.yaml: is empty"),
    ],
)
def test_what_cannot_be_read(capsys: pytest.CaptureFixture[str], argv: list[str], message: str) -> None:
    save(pod("registry.example.com/app"))
    Path("nothing.yaml").touch()
    assert judge(*argv) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert message in output.err


def test_every_mistake_in_a_configuration_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    Path("policy.yaml").write_text("image_validation: {default: Maybe, mode: loud}\n")
    assert judge(save(pod("nginx"))) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("trow: error: policy.yaml: ") for line in lines)


def test_a_directory_is_what_kubectl_reads_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    Path("manifests/below").mkdir(parents=True)
    save(pod("registry.example.com/a", name="a"), file="manifests/a.yaml")
    save(pod("registry.example.com/b", name="b"), file="manifests/.b.yml")
    for ignored in ("manifests/README.md", "manifests/below/c.yaml"):
        save(pod("nginx"), file=ignored)
    Path("manifests/empty.yaml").write_text("")
    assert judge("--output", "json", "manifests") == 0
    assert [each["name"] for each in report(capsys)["objects"]] == ["b", "a"]


def test_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(pod("nginx")).encode())))
    assert judge("-") == 1
    assert "-#1" in capsys.readouterr().out


def test_nothing_in_a_file_reaches_a_terminal_as_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    Path("app.json").write_text(json.dumps([pod("a\x1b[31m", name="b\x1b[0m")])[1:-1])
    assert judge("app.json") == 1
    assert "\x1b" not in capsys.readouterr().out


def test_the_policy_of_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    Path("policy.yaml").write_text("image_validation: {default: Deny, allow: [docker.io/acme/]}\n")
    assert judge(save(pod("acme/app"))) == 0
    assert judge(save(pod("acme-evil/app"))) == 1
    assert "image_validation" in capsys.readouterr().out


def test_a_secret_that_is_on_the_server_alone_does_not_matter_for_its_policy() -> None:
    Path("policy.yaml").write_text(
        "auth: {user: admin, password_file: /nowhere/password}\nimage_validation: {default: Deny, allow: [quay.io]}\n"
    )
    assert judge(save(pod("quay.io/app"))) == 0
    assert judge(save(pod("nginx"))) == 1


def test_kinds_that_a_configuration_adds(capsys: pytest.CaptureFixture[str]) -> None:
    Path("policy.yaml").write_text(
        "image_validation: {default: Deny}\n"
        "admission: {extra_kinds: [{group: argoproj.io, kind: Rollout, paths: [spec.template.spec]}]}\n"
    )
    spec = {"template": {"spec": {"containers": [{"name": "a", "image": "nginx"}]}}}
    item = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": {"name": "x"}, "spec": spec}
    assert judge(save(item)) == 1


@pytest.mark.parametrize(
    ("image", "written", "code"),
    [
        # As the API server fills it in before any policy is asked.
        ("nginx", "", 0),
        ("nginx:latest", "", 0),
        ("nginx:1", "", 1),
        (f"nginx@{DIGEST}", "", 1),
        ("nginx:1", "Always", 0),
        ("nginx", "IfNotPresent", 1),
    ],
)
def test_pull_policies_that_nobody_wrote(image: str, written: str, code: int) -> None:
    Path("policy.yaml").write_text(cluster_policy("default: Allow, require: {imagePullPolicy: Always}"))
    item = pod(image)
    item["spec"]["containers"][0] |= {"imagePullPolicy": written} if written else {}
    assert judge(save(item)) == code


SELECTING = cluster_policy("default: Deny, namespaceSelector: {matchLabels: {tier: prod}}")


def namespace(name: str, **labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def test_labels_of_namespaces_are_those_of_their_objects(capsys: pytest.CaptureFixture[str]) -> None:
    """Whether they are applied with the policies or with what is tested."""
    Path("policy.yaml").write_text(SELECTING)
    item = pod("nginx", namespace="team-a")
    assert judge(save(item, namespace("team-a", tier="prod"))) == 1
    assert judge(save(item, namespace("team-a", tier="test"))) == 0
    Path("policy.yaml").write_text(f"{SELECTING}---\n{yaml.safe_dump(namespace('team-a', tier='prod'))}")
    assert judge(save(item)) == 1


def test_without_its_labels_nobody_knows_whether_a_policy_is_about_a_namespace(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("policy.yaml").write_text(SELECTING)
    assert judge(save(pod("nginx", namespace="team-a"))) == 2
    assert "depends on that namespace's labels (ClusterImagePolicy/ours, namespaceSelector)" in capsys.readouterr().out
    Path("policy.yaml").write_text(SELECTING.replace("Deny", "Allow"))
    assert judge(save(pod("nginx", namespace="team-a"))) == 0


# trow policy explain


def explain(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, list[str]]:
    code = main(["policy", "explain", "-f", "policy.yaml", *argv])
    return code, capsys.readouterr().out.splitlines()


def test_explain_an_image_that_is_denied(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(capsys, "--namespace", "team-a", "Index.Docker.io/nginx") == (
        1,
        [
            "image       Index.Docker.io/nginx",
            "registry    docker.io",
            "repository  library/nginx",
            "tag         latest (neither a tag nor a digest is written)",
            "digest      none",
            "canonical   docker.io/library/nginx:latest",
            "namespace   team-a",
            "",
            "ClusterImagePolicy/ours (enforce): denied",
            "  no rule matches; the default denies it",
            "  default: is not allowed by any rule",
            "  to pass: use one of registry.example.com/**",
            "",
            "verdict: denied",
        ],
    )


def test_explain_an_image_that_is_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = explain(capsys, f"registry.example.com/app:1@{DIGEST}")
    assert code == 0
    assert "tag         1 (ignored beside a digest)" in lines
    assert f"digest      {DIGEST}" in lines
    assert lines[-4:] == [
        "ClusterImagePolicy/ours (enforce): allowed",
        "  rule ours allows it: registry.example.com/**",
        "",
        "verdict: allowed",
    ]


@pytest.mark.parametrize(
    ("policies", "namespace", "image", "code", "wanted"),
    [
        (OURS, "team-a", "registry.example.com/evil/a", 1, ["  rule evil denies it: registry.example.com/evil/**"]),
        (OURS, "team-a", "a b", 1, ["ClusterImagePolicy/ours (enforce): denied", "verdict: denied"]),
        (
            OURS,
            "kube-system",
            "nginx",
            0,
            [
                "ClusterImagePolicy/ours: does not apply: kube-system in namespaces.exclude",
                "verdict: allowed, as no policy applies in this namespace",
            ],
        ),
        (
            VENDOR,
            "team-a",
            "quay.io/agent:1",
            0,
            [
                "ClusterImagePolicy/ours (enforce): allowed",
                "  exceptions.vendor exempts it from everything except denials by digest: it has its own registry",
                "verdict: allowed",
            ],
        ),
        (VENDOR, "kube-system", "quay.io/agent:1", 1, ["  no rule matches; the default denies it"]),
        (
            TOOLS,
            "team-a",
            "--used-by=initContainers quay.io/tool:1",
            0,
            ["used by     initContainers", "  rule tools allows it: quay.io/**", "verdict: allowed"],
        ),
        (
            TOOLS,
            "team-a",
            "quay.io/tool:1",
            1,
            ["used by     containers", "  to pass: use one of quay.io/** in initContainers", "verdict: denied"],
        ),
        (
            OWN,
            "team-a",
            "quay.io/team-a/app:1",
            0,
            ["  rule own allows it: quay.io/$namespace/**", "verdict: allowed"],
        ),
        (
            OWN,
            "team-b",
            "quay.io/team-a/app:1",
            1,
            ["  no rule matches; the default denies it", "  to pass: use one of quay.io/team-b/**", "verdict: denied"],
        ),
        (
            cluster_policy("default: Deny, namespaces: {include: [prod-*, x]}"),
            "team-a",
            "nginx",
            0,
            ["ClusterImagePolicy/ours: does not apply: namespaces.include is prod-*, x"],
        ),
        (
            f"{HEAD}kind: ImagePolicy\nmetadata: {{name: a, namespace: team-b}}\nspec: {{default: Deny}}\n",
            "team-a",
            "nginx",
            0,
            ["ImagePolicy/a: does not apply: it applies only in the namespace team-b"],
        ),
        (
            cluster_policy(
                "default: Allow, require: {digest: true, exists: true, maxAge: 1d, platforms: [a/b],"
                " forbidPullPolicyNever: true}"
            ),
            "team-a",
            "nginx",
            1,
            [
                "  no rule matches; the default allows it",
                "  require.digest: not fulfilled",
                "  require.forbidPullPolicyNever: depends on the container's imagePullPolicy",
                "  require.exists: known to the registry alone",
                "  require.maxAge: known to the registry alone",
                "  require.platforms: known to the registry alone",
                "  require.digest: has no digest",
                "  to pass: write docker.io/library/nginx:latest@sha256:...",
            ],
        ),
        (
            cluster_policy("default: Allow, require: {digest: true, exists: true}"),
            "team-a",
            f"nginx@{DIGEST}",
            2,
            [
                "  require.digest: fulfilled",
                "  require.exists: cannot be decided without the registry",
                "verdict: undecided",
            ],
        ),
        (cluster_policy("default: Deny, mode: warn"), "team-a", "a", 0, ["ClusterImagePolicy/ours (warn): warned"]),
        (
            OURS + EXCEPTION.replace("APPROVER", "bob"),
            "team-a",
            "nginx",
            0,
            ["  default: is not allowed by any rule, but incident exempts it: it burns brightly", "verdict: allowed"],
        ),
        (
            OURS + EXCEPTION.replace("APPROVER", '""'),
            "team-a",
            "nginx",
            1,
            [
                f"PolicyException/incident is not in force for {TITLE}: nobody but its requester has approved it",
            ],
        ),
        (
            OURS
            + EXCEPTION.replace("APPROVER", "bob").replace(
                "name: incident", "name: incident, creationTimestamp: '2026-01-31T08:00:00Z'"
            ),
            "team-a",
            "nginx",
            1,
            [f"PolicyException/incident is not in force for {TITLE}: it has ended"],
        ),
    ],
)
def test_explain(
    capsys: pytest.CaptureFixture[str], policies: str, namespace: str, image: str, code: int, wanted: list[str]
) -> None:
    Path("policy.yaml").write_text(policies)
    words = image.split() if image.startswith("--") else [image]
    exit_code, lines = explain(capsys, "--namespace", namespace, *words)
    assert exit_code == code
    assert [line for line in lines if line in wanted] == wanted


def test_explain_and_test_agree(capsys: pytest.CaptureFixture[str]) -> None:
    for image in ("nginx", "registry.example.com/a", "registry.example.com/evil/a", "A b", "quay.io/x@sha256:1"):
        assert explain(capsys, image)[0] == judge(save(pod(image)))


def test_explain_without_a_policy(capsys: pytest.CaptureFixture[str]) -> None:
    Path("policy.yaml").write_text("log: {level: debug}\n")
    assert explain(capsys, "nginx")[0] == 2
    Path("policy.yaml").write_text(OURS)
    assert explain(capsys, "--namespace", "*", "nginx")[0] == 2


# trow policy import


def test_import_prints_policies_that_test_understands(capsys: pytest.CaptureFixture[str]) -> None:
    Path("old.yaml").write_text("image_validation: {default: Deny, allow: [my.example.com/, quay.io/org], deny: []}\n")
    assert main(["policy", "import", "old.yaml"]) == 3
    output = capsys.readouterr()
    assert output.err == (
        "changed: old.yaml, document 1: allow 'quay.io/org': it ends where a component of the name ends, no longer"
        " within one; end it with * to match longer names\n"
    )
    Path("policy.yaml").write_text(output.out)
    assert judge(save(pod("my.example.com/a", "quay.io/org/b"))) == 0
    assert judge(save(pod("quay.io/org-evil/b"))) == 1


def test_import_of_what_means_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    Path("old.yaml").write_text("image_validation: {default: Deny, allow: [a.io/b/], deny: [a.io/]}\n")
    assert main(["policy", "import", "--from", "trow", "old.yaml"]) == 0
    output = capsys.readouterr()
    assert output.err.startswith("note: old.yaml, document 1: deny 'a.io/': is not needed")
    assert yaml.safe_load(output.out)["spec"]["default"] == "Deny"


@pytest.mark.parametrize(
    ("content", "words", "message"),
    [
        ("a: [", [], "old.yaml, document 1: line "),
        ("replicas: 1\n", [], "old.yaml: has no policies of trow, connaisseur, kyverno, gatekeeper"),
        ("image_validation: {default: Deny}\n", ["--from", "kyverno"], "old.yaml: has no policies of kyverno"),
        ("image_validation: []\n", [], "old.yaml, document 1: image_validation is not a mapping"),
    ],
)
def test_import_of_what_cannot_be_read(
    capsys: pytest.CaptureFixture[str], content: str, words: list[str], message: str
) -> None:
    Path("old.yaml").write_text(content)
    assert main(["policy", "import", *words, "old.yaml"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert f"trow: error: {message}" in output.err


def test_import_from_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    head = b"apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {name: x}\n"
    content = head + b"spec: {rules: [{name: r, mutate: {a: 1}}]}\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert main(["policy", "import", "-"]) == 3
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("left out: standard input, document 1: ClusterPolicy/x, rule r: mutate")


def test_import_knows_the_programs_that_its_flag_names() -> None:
    from trow.policytools.importing import SOURCES  # noqa: PLC0415

    assert policy.SOURCES == SOURCES


# trow policy export


@pytest.mark.parametrize("words", [[], ["--static"]])
def test_export(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    Path("policy.yaml").write_text(OURS + "---\n" + cluster_policy("default: Allow, require: {exists: true}", "known"))
    assert main(["policy", "export", "-f", "policy.yaml", "--exclude-namespace", "mine", *words]) == 0
    output = capsys.readouterr()
    found = list(yaml.safe_load_all(output.out))
    assert {each["kind"] for each in found} == {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
    assert all(each["metadata"]["name"].endswith(".static.k8s.io") is bool(words) for each in found)
    assert "mine" in output.out
    assert "&id" not in output.out
    assert output.err.startswith("left out: ClusterImagePolicy/known: require.exists: ")


def test_export_spares_what_the_configuration_says(capsys: pytest.CaptureFixture[str]) -> None:
    Path("policy.yaml").write_text("image_validation: {default: Deny}\nadmission: {excluded_namespaces: [one, two]}\n")
    assert main(["policy", "export", "-f", "policy.yaml"]) == 0
    first = next(yaml.safe_load_all(capsys.readouterr().out))
    (expression,) = first["spec"]["matchConstraints"]["namespaceSelector"]["matchExpressions"]
    assert expression["values"] == ["one", "two"]


def test_export_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "export", "-f", "missing"]) == 2
    assert main(["policy", "export", "-f", "policy.yaml", "--exclude-namespace", "A B"]) == 2
    assert capsys.readouterr().out == ""
