from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from trow.policy import images
from trow.policy.pods import Kind
from trow.policy.rules import Effect, Mode
from trow.policytools.documents import UnreadableFile
from trow.policytools.loading import policies_from

if TYPE_CHECKING:
    from trow.policy.verdict import Rules

HEAD = "apiVersion: policy.trow.io/v1alpha1\n"
CLUSTER = f"{HEAD}kind: ClusterImagePolicy\nmetadata: {{name: one}}\nspec: {{default: Deny}}\n"
NAMESPACED = f"{HEAD}kind: ImagePolicy\nmetadata: {{name: two}}\nspec: {{default: Allow, mode: warn}}\n"
EXCEPTION = f"""{HEAD}kind: PolicyException
metadata: {{name: three}}
spec:
  reason: it burns brightly
  requester: alice
  approver: bob
  duration: 1h
  namespaces: [team-a]
  policies: [ClusterImagePolicy/one]
  images: [{{registry: quay.io}}]
"""


def rules_from(path: Path, namespace: str = "") -> Rules:
    return policies_from([path], namespace).rules


def test_policies_and_exceptions_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "policies.yaml"
    file.write_text(f"# all of it\n---\n{CLUSTER}---\n\n---\n{NAMESPACED}---\n{EXCEPTION}")
    rules = rules_from(file, "team-a")
    assert [(policy.title, policy.namespace, policy.mode) for policy in rules.policies] == [
        ("ClusterImagePolicy/one", "", Mode.ENFORCE),
        ("ImagePolicy/two", "team-a", Mode.WARN),
    ]
    (exception,) = rules.exceptions
    assert exception.active(exception.begins)  # what no cluster has yet begins now
    assert not exception.active(exception.ends)


def test_policies_as_kubectl_prints_them(tmp_path: Path) -> None:
    file = tmp_path / "policies.json"
    metadata = {"name": "one", "uid": "1", "generation": 2, "creationTimestamp": "2026-01-31T08:00:00Z"}
    policy = {
        "apiVersion": "policy.trow.io/v1alpha1",
        "kind": "ClusterImagePolicy",
        "metadata": metadata,
        "spec": {"default": "Allow"},
        "status": {"observedGeneration": 2},
    }
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [policy], "metadata": {}}))
    assert [policy.title for policy in rules_from(file).policies] == ["ClusterImagePolicy/one"]


def test_the_policy_of_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TROW_IMAGE_VALIDATION_DEFAULT", "Allow")  # what tests a policy is not what serves by it
    file = tmp_path / "trow.yaml"
    file.write_text("log: {level: debug}\nimage_validation: {default: Deny, allow: [quay.io/a/], mode: audit}\n")
    (policy,) = rules_from(file).policies
    assert (policy.title, policy.mode) == ("image_validation", Mode.AUDIT)
    assert policy.evaluate(images.parse("quay.io/a/b"))[0] is Effect.ALLOW
    assert policy.evaluate(images.parse("quay.io/b"))[0] is Effect.DENY


@pytest.mark.parametrize(
    "others",
    [
        "auth: {user: admin, password_file: /nowhere/password}",
        "auth: {user: admin, password_file: /}",  # not missing: a directory
        "listen: {tls: {certificate: /nowhere/tls.crt, key: /nowhere/tls.key}}",
        "admission: {bind: '0.0.0.0:8443', tls: {certificate: /nowhere/tls.crt, key: /nowhere/tls.key}}",
        "listen: {bind: ['0.0.0.0:8000']}",  # nobody would have to log in
        "log: {level: loud}",
        "registry: {colour: red}",
    ],
)
def test_what_a_configuration_says_of_other_things_does_not_matter_for_its_policy(tmp_path: Path, others: str) -> None:
    file = tmp_path / "trow.yaml"
    file.write_text(f"{others}\nimage_validation: {{default: Deny}}\n")
    assert [policy.title for policy in rules_from(file).policies] == ["image_validation"]


def test_what_a_configuration_says_beside(tmp_path: Path) -> None:
    (tmp_path / "trow.yaml").write_text("""
admission:
  extra_kinds: [{group: argoproj.io, kind: Rollout, paths: [spec.template.spec]}]
  pull_through: {quay.io: registry.example.com/f/quay.io}
  excluded_namespaces: [kube-system]
""")
    (tmp_path / "policies.yaml").write_text(
        CLUSTER.replace(
            "{default: Deny}",
            "{default: Deny, rules: [{name: a, action: Allow, images: [{registry: quay.io, repository: a/**}]}]}",
        )
    )
    found = policies_from([tmp_path])
    (policy,) = found.rules.policies
    assert policy.evaluate(images.parse("registry.example.com/f/quay.io/a/b"))[0] is Effect.ALLOW
    assert policy.evaluate(images.parse("registry.example.com/a/b"))[0] is Effect.DENY
    assert found.excluded == ("kube-system",)
    rollout = {"spec": {"template": {"spec": {"containers": [{"image": "a"}]}}}}
    assert [use.text for use in found.extractor.uses(Kind("argoproj.io", "Rollout"), rollout)] == ["a"]


def test_what_is_applied_with_policies_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "team.yaml"
    file.write_text(f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: team-a}}\n---\n{CLUSTER}")
    assert [policy.name for policy in rules_from(file).policies] == ["one"]


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(CLUSTER.encode())))
    assert [policy.name for policy in rules_from(Path("-")).policies] == ["one"]


def test_a_directory(tmp_path: Path) -> None:
    (tmp_path / "b.yml").write_text(CLUSTER)
    (tmp_path / "a.yaml").write_text(NAMESPACED)
    for ignored in ("README.md", "c.yaml~"):
        (tmp_path / ignored).write_text("not: [a policy")
    for empty in ("c.yaml", "d.yaml"):
        (tmp_path / empty).write_text("" if empty == "c.yaml" else "# nothing yet\n---\n")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "d.yaml").write_text("not: [a policy")
    assert [policy.name for policy in rules_from(tmp_path, "team-a").policies] == ["two", "one"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", ": is empty"),
        ("# nothing\n---\n", ": is empty"),
        ("log: {level: debug}\n", ": there is no policy; write ClusterImagePolicy or ImagePolicy, or image_validation"),
        (EXCEPTION, ": there is no policy"),
        ("image_validation: {default: Maybe}\n", "image_validation.default: "),
        ("image_validation: {default: Deny, allow: ['a b']}\n", "image_validation.allow: "),
        ("image_validation: {default: Deny}\nlgo: {}\n", "lgo: unknown setting"),
        ("count: 1\n", ": is neither a configuration of Trow nor an object of Kubernetes with apiVersion"),
        ("image_validation: {default: Deny}\nadmission: {registries: [a b]}\n", "admission.registries: "),
        ("image_validation: {default: Deny}\nadmission: {registrys: [a]}\n", "did you mean admission.registries?"),
        ("apiVersion: v1\nkind: Pod\n", ": there is no policy"),
        (
            CLUSTER.replace("policy.trow.io", "trow.io"),
            ", document 1: trow.io/v1alpha1 ClusterImagePolicy is not a policy",
        ),
        (f"{CLUSTER}---\nlog: {{}}\n", ", document 2: an object without kind is not a policy"),
        (f"{CLUSTER}---\n- 1\n", ", document 2: is not an object"),
        (
            CLUSTER.replace("ClusterImagePolicy", "OtherPolicy"),
            ", document 1: policy.trow.io/v1alpha1 OtherPolicy is not",
        ),
        (CLUSTER.replace("v1alpha1", "v9"), ", document 1: policy.trow.io/v9 ClusterImagePolicy is not"),
        (CLUSTER.replace("default: Deny", "defualt: Deny"), ", document 1: ClusterImagePolicy/one: "),
        (
            CLUSTER.replace("default: Deny", "default: Deny, rules: [{name: a}]"),
            "ClusterImagePolicy/one: spec.rules[0]: ",
        ),
        (CLUSTER.replace("{default: Deny}", "{default: Deny, default: Allow}"), "key 'default' is written twice"),
        (NAMESPACED, ", document 1: ImagePolicy/two: metadata.namespace is missing"),
        (f"{CLUSTER}---\n{CLUSTER}", "ClusterImagePolicy/one is there twice"),
        (f"{CLUSTER}---\n{EXCEPTION}---\n{EXCEPTION}", "PolicyException/three is there twice"),
        (f"{CLUSTER}---\n{EXCEPTION.replace('1h', '25h')}", "PolicyException/three: spec.duration"),
    ],
)
def test_what_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "policies.yaml").write_text(content)
    with pytest.raises(UnreadableFile) as refused:
        rules_from(tmp_path / "policies.yaml")
    assert str(tmp_path / "policies.yaml") in str(refused.value)
    assert message in str(refused.value)


def test_places_that_hold_no_policies(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="has no file that ends with"):
        rules_from(tmp_path)
    with pytest.raises(UnreadableFile, match="No such file"):
        rules_from(tmp_path / "missing")


def test_policies_of_several_places_are_one_set(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text("image_validation: {default: Deny}\n")
    (tmp_path / "c").write_text(CLUSTER)
    found = policies_from([tmp_path / "a", tmp_path / "c"]).rules.policies
    assert [policy.title for policy in found] == ["image_validation", "ClusterImagePolicy/one"]
    with pytest.raises(UnreadableFile, match="2 configurations; Trow has one, so give one"):
        policies_from([tmp_path / "a", tmp_path / "b"])
    with pytest.raises(UnreadableFile, match="ClusterImagePolicy/one is there twice"):
        policies_from([tmp_path / "c", tmp_path / "c"])
