from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from trow.lib.globs import matches
from trow.policy import images
from trow.policy.pods import UsedBy
from trow.policy.resources import policy_of
from trow.policy.rules import Effect, RunContext
from trow.policytools.documents import UnreadableFile
from trow.policytools.importing import SOURCES, RemarkKind, connaisseur, import_policies, kyverno, trow
from trow.policytools.importing.values import UnreadableSource

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from trow.policy.rules import Policy
    from trow.policytools.importing import Remark

DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def bring(tmp_path: Path) -> Callable[..., tuple[list[dict[str, Any]], list[str]]]:
    """Imports YAML texts, each a file; specifications by name, and remarks without their places."""

    def run(*contents: str, source: str | None = None) -> tuple[list[dict[str, Any]], list[str]]:
        files = [tmp_path / f"{number}.yaml" for number in range(len(contents))]
        for file, content in zip(files, contents, strict=True):
            file.write_text(content)
        manifests, remarks = import_policies([str(file) for file in files], source)
        return yaml.safe_load(yaml.safe_dump(list(manifests))), [told(remark, tmp_path) for remark in remarks]

    return run


def told(remark: Remark, folder: Path) -> str:
    return str(remark).replace(f"{folder}/", "")


def rules(manifest: dict[str, Any]) -> list[str]:
    """The rules on one line each: what is done, and with which images."""
    return [f"{rule['action']} {' '.join(map(shown, rule['images']))}" for rule in manifest["spec"].get("rules", [])]


def shown(image: dict[str, str]) -> str:
    version = "@" + image["digest"] if "digest" in image else ":" + image["tag"] if "tag" in image else ""
    return f"{image['registry']}/{image.get('repository', '**')}{version}"


# Trow up to 0.10


def test_configuration_of_trow(bring: Any) -> None:
    (manifest,), remarks = bring("""
        registry_proxies: {offline: true}
        image_validation:
          default: Deny
          allow: [my.example.com/, quay.io/org, nginx]
          deny: [my.example.com/secret, docker.io/]
    """)
    assert manifest["kind"] == "ClusterImagePolicy"
    assert manifest["metadata"] == {"name": "image-validation"}
    assert manifest["spec"]["default"] == "Deny"
    assert rules(manifest) == [
        "Allow my.example.com/**",
        "Allow quay.io/org quay.io/org/**",
        "Deny my.example.com/secret* my.example.com/secret*/**",
        "Deny docker.io/**",
    ]
    assert remarks == [
        (
            "changed: 0.yaml, document 1: allow 'quay.io/org': it ends where a component of the name ends, no longer"
            " within one; end it with * to match longer names"
        ),
        (
            "left out: 0.yaml, document 1: allow 'nginx': 'nginx' is not a registry; for Docker Hub's image write"
            " docker.io/library/nginx"
        ),
    ]


def test_values_of_trows_chart(bring: Any) -> None:
    (manifest,), remarks = bring("""
        trow: {validationWebhook: {enabled: true, config: {default: Nonsense, allow: ["127.0.0.1:31000/"], more: 1}}}
    """)
    assert manifest["spec"]["default"] == "Deny"
    assert rules(manifest) == ["Allow 127.0.0.1:31000/**"]
    assert [remark.partition(":")[0] for remark in remarks] == ["left out", "note"]


@pytest.mark.parametrize(
    ("default", "allow", "deny", "kept", "remark"),
    [
        # The longer entry wins there; here the deny entry would.
        ("Deny", ["a.io/b/"], ["a.io/"], ["Allow a.io/b/**"], "note: deny 'a.io/': is not needed"),
        (
            "Allow",
            ["a.io/b/"],
            ["a.io/"],
            ["Allow a.io/b/**", "Deny a.io/**"],
            "changed: allow 'a.io/b/': has no effect",
        ),
        (
            "Deny",
            ["a.io/", "a.io/b/c/"],
            ["a.io/b/"],
            ["Allow a.io/**", "Allow a.io/b/c/**", "Deny a.io/b/**"],
            "changed: allow 'a.io/b/c/': has no effect",
        ),
        ("Deny", ["a.io/"], ["a.io/b/"], ["Allow a.io/**", "Deny a.io/b/**"], ""),
        ("Deny", ["a.io/"], ["b.io/"], ["Allow a.io/**", "Deny b.io/**"], ""),
        ("Deny", ["registry-1.docker.io/b/"], ["docker.io/"], ["Allow docker.io/b/**"], "note: deny 'docker.io/'"),
    ],
)
def test_longest_prefix_becomes_deny_wins(
    bring: Any, default: str, allow: list[str], deny: list[str], kept: list[str], remark: str
) -> None:
    (manifest,), remarks = bring(
        yaml.safe_dump({"image_validation": {"default": default, "allow": allow, "deny": deny}})
    )
    assert rules(manifest) == kept
    told = [each.replace("0.yaml, document 1: ", "") for each in remarks]
    assert any(each.startswith(remark) for each in told) if remark else not told


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        ("[]", "image_validation is not a mapping"),
        ("{default: Deny, allow: quay.io/}", "image_validation.allow is not a list"),
        ("{default: Deny, deny: [1]}", "image_validation.deny is not a list of texts"),
    ],
)
def test_configuration_that_trow_would_not_read(bring: Any, validation: str, message: str) -> None:
    with pytest.raises(UnreadableSource, match=rf"0.yaml, document 1: {message}"):
        bring(f"image_validation: {validation}")


# Its verdicts before and after

hosts = st.sampled_from(["a.io", "b.io", "docker.io"])
parts = st.lists(st.sampled_from(["z", "zz", "library"]), min_size=1, max_size=2).map("/".join)
entries = st.lists(
    st.builds(
        "{}{}".format, hosts, st.one_of(st.just(""), st.just("/"), parts.map("/{}".format), parts.map("/{}/".format))
    ),
    max_size=3,
)
pictures = st.builds(lambda host, name: images.parse(f"{host}/{name}:1"), hosts, parts)


def policy_from(drafts: Sequence[Any]) -> Policy | None:
    return policy_of(drafts[0].manifest()) if drafts else None


def allowed(policy: Policy | None, image: images.ImageReference) -> bool:
    return policy is None or policy.evaluate(image)[0] is Effect.ALLOW


@pytest.mark.slow
@settings(max_examples=300)
@given(default=st.sampled_from(["Allow", "Deny"]), allow=entries, deny=entries, image=pictures)
def test_trow_never_allows_more_than_before(
    default: str, allow: list[str], deny: list[str], image: images.ImageReference
) -> None:
    text = str(image)
    before = max(
        [(0, True, default == "Allow")]
        + [(len(entry), True, False) for entry in deny if text.startswith(entry)]
        + [(len(entry), False, True) for entry in allow if text.startswith(entry)]
    )[2]
    made = trow.convert({"image_validation": {"default": default, "allow": allow, "deny": deny}})
    after = allowed(policy_from(made.drafts), image)
    if made.drafts:
        assert before or not after
    if all(remark.kind is RemarkKind.NOTE for remark in made.remarks):
        assert before == after


# Connaisseur

VALIDATORS = """
    validators:
    - {name: allow, type: static, approve: true}
    - {name: deny, type: static, approve: false}
    - {name: default, type: cosign, trustRoots: []}
"""


def test_values_of_connaisseur(bring: Any) -> None:
    (manifest,), remarks = bring(f"""
application:{VALIDATORS}
    policy:
    - {{pattern: "*:*", validator: deny}}
    - {{pattern: "docker.io/acme/*:*", validator: allow}}
    - {{pattern: "docker.io/acme/secret:*", validator: deny}}
    - {{pattern: "docker.io/signed/*:*"}}
    - {{pattern: "docker.io/library/redis@{DIGEST}", validator: allow}}
    features: {{detectionMode: true, namespacedValidation: {{mode: ignore}}}}
""")
    assert manifest["metadata"] == {"name": "connaisseur"}
    assert (manifest["spec"]["default"], manifest["spec"]["mode"]) == ("Deny", "warn")
    assert rules(manifest) == [
        "Allow docker.io/acme/**",
        "Deny docker.io/acme/secret",
        f"Allow docker.io/library/redis@{DIGEST}",
    ]
    assert [remark.partition(":")[0] for remark in remarks] == ["changed", "left out", "changed"]
    assert (
        "signatures are not verified here, so images that default (cosign) would have admitted are denied" in remarks[1]
    )


def test_images_that_were_to_be_signed_are_denied_where_all_others_are_allowed(bring: Any) -> None:
    (manifest,), remarks = bring(f"""
{VALIDATORS.replace("    ", "")}
policy:
- {{pattern: "*:*", validator: allow}}
- {{pattern: "docker.io/library/*:*", validator: default}}
""")
    assert manifest["spec"]["default"] == "Allow"
    assert rules(manifest) == ["Deny docker.io/library/**"]
    assert len(remarks) == 1


def test_nothing_but_signatures_leaves_no_policy(bring: Any) -> None:
    manifests, remarks = bring(f"application:{VALIDATORS}    policy: [{{pattern: 'docker.io/a/*:*'}}]\n")
    assert manifests == []
    assert [remark.partition(":")[0] for remark in remarks] == ["left out", "left out"]


@pytest.mark.parametrize(
    ("pattern", "validator", "kept", "remark"),
    [
        ("example.com/app:v1", "allow", "Allow example.com/app:v1", "no longer registries whose names end with that"),
        ("docker.io/library/app:v1", "allow", "Allow docker.io/library/app:v1", "no longer names or tags"),
        ("docker.io/a/app", "allow", "Allow docker.io/a/app* docker.io/a/app*/**", "no longer names"),
        ("nginx:*", "allow", "Allow docker.io/library/nginx", "Docker Hub only"),
        ("*/app:1*", "allow", "Allow */**/app:1*", "a tag and a digest"),
    ],
)
def test_patterns_of_connaisseur(bring: Any, pattern: str, validator: str, kept: str, remark: str) -> None:
    values = {"application": {**yaml.safe_load(VALIDATORS), "policy": [{"pattern": pattern, "validator": validator}]}}
    (manifest,), remarks = bring(yaml.safe_dump(values))
    assert rules(manifest) == [kept]
    assert any(remark in each for each in remarks)


patterns = st.builds(
    "{}{}:{}".format,
    st.sampled_from(["docker.io/", "a.io/", "*.io/", "*/", ""]),
    st.lists(st.sampled_from(["z", "zz", "z*", "*", "library"]), min_size=1, max_size=2).map("/".join),
    st.sampled_from(["*", "1", "1*"]),
)


@pytest.mark.slow
@settings(max_examples=300)
@given(
    policy=st.lists(st.tuples(patterns, st.sampled_from(["allow", "deny", "default"])), max_size=4),
    every=st.sampled_from(["allow", "deny", None]),
    image=pictures,
)
def test_connaisseur_never_allows_more_than_before(
    policy: list[tuple[str, str]], every: str | None, image: images.ImageReference
) -> None:
    given_rules = [*policy, *([("*:*", every)] if every else [])]
    made = connaisseur.convert(
        {
            "application": {
                **yaml.safe_load(VALIDATORS),
                "policy": [{"pattern": pattern, "validator": validator} for pattern, validator in given_rules],
            }
        }
    )
    if made.drafts and allowed(policy_from(made.drafts), image):
        assert decided_by_connaisseur(given_rules, image) == "allow"


def decided_by_connaisseur(policy: list[tuple[str, str]], image: images.ImageReference) -> str:
    """The validator of the most specific rule, as its documentation has it."""
    text = f"{'index.' if image.registry == 'docker.io' else ''}{image}"

    def rank(pattern: str) -> tuple[int, list[int], list[int]]:
        components = pattern.split("/")
        given = [*text.split("/"), *[""] * len(components)]
        return (
            len(components),
            [common(*pair) for pair in zip(components, given, strict=False)],
            [*map(len, components)],
        )

    found = [
        (rank(pattern), validator == "deny", validator)
        for pattern, validator in policy
        if matches(f"{'' if pattern.startswith('*') else '*'}{pattern}{'' if pattern.endswith('*') else '*'}", text)
    ]
    return max(found)[2] if found else "none"


def common(one: str, other: str) -> int:
    return next(
        (at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), min(len(one), len(other))
    )


# Gatekeeper


def constraint(kind: str, spec: str, name: str = "c") -> str:
    return f"apiVersion: constraints.gatekeeper.sh/v1beta1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n"


@pytest.mark.parametrize(
    ("kind", "spec", "default", "kept", "remarks"),
    [
        ("K8sAllowedRepos", "{parameters: {repos: [openpolicyagent/, gcr.io/x/]}}", "Deny",
         ["Allow docker.io/openpolicyagent/**", "Allow gcr.io/x/**"], []),
        ("K8sAllowedRepos", "{parameters: {repos: [gcr.io/x]}}", "Deny", ["Allow gcr.io/x gcr.io/x/**"], ["changed"]),
        ("K8sAllowedRepos", "{parameters: {repos: []}}", "Deny", [], []),
        ("K8sAllowedReposv2", "{parameters: {allowedImages: ['gcr.io/x/*', 'ubuntu:20.14', gcr.io/y]}}", "Deny",
         ["Allow gcr.io/x/**", "Allow docker.io/library/ubuntu:20.14", "Allow gcr.io/y:latest"], []),
        ("K8sAllowedReposv2", "{parameters: {allowedImages: [gcr.io/x/*, 'gcr.io/*/y']}}", "Deny",
         ["Allow gcr.io/x/**"], ["left out"]),
        ("K8sDisallowedRepos", "{parameters: {repos: [k8s.gcr.io/, quay.io/org]}}", "Allow",
         ["Deny k8s.gcr.io/**", "Deny quay.io/org* quay.io/org*/**"], []),
        ("K8sDisallowedRepos", "{parameters: {repos: [k8s.gcr.io/], exemptImages: [a]}}", "Allow",
         ["Deny k8s.gcr.io/**"], ["left out"]),
    ],
)  # fmt: skip
def test_constraints(bring: Any, kind: str, spec: str, default: str, kept: list[str], remarks: list[str]) -> None:
    (manifest,), told = bring(constraint(kind, spec))
    assert manifest["metadata"] == {"name": "c"}
    assert manifest["spec"]["default"] == default
    assert rules(manifest) == kept
    assert [remark.partition(":")[0] for remark in told] == remarks


def scoped(action: str, *points: str) -> str:
    named = ", ".join(f"{{name: {point}.gatekeeper.sh}}" for point in points)
    return f"scopedEnforcementActions: [{{action: {action}, enforcementPoints: [{named}]}}]"


@pytest.mark.parametrize(
    ("spec", "expected", "remarks"),
    [
        ("enforcementAction: dryrun", {"mode": "audit"}, []),
        ("enforcementAction: warn", {"mode": "warn"}, []),
        ("enforcementAction: deny", {}, []),
        ("enforcementAction: other", {}, ["changed"]),
        ("enforcementAction: scoped, scopedEnforcementActions: [{action: warn}]", {"mode": "warn"}, []),
        (f"enforcementAction: scoped, {scoped('deny', 'audit')}", {"mode": "audit"}, []),
        (f"enforcementAction: scoped, {scoped('deny', 'audit', 'gator')}", {"mode": "audit"}, []),
        (f"enforcementAction: scoped, {scoped('deny', 'audit', 'validation')}", {}, []),
        (f"enforcementAction: scoped, {scoped('warn', 'validation')}", {"mode": "warn"}, []),
        ("enforcementAction: scoped, scopedEnforcementActions: [{action: warn}, {action: deny}]", {}, ["changed"]),
        (
            "match: {namespaces: [default, 'team-*'], excludedNamespaces: [team-a]}",
            {"namespaces": {"include": ["default", "team-*"], "exclude": ["team-a"]}},
            [],
        ),
        ("match: {kinds: [{apiGroups: [''], kinds: [Pod]}]}", {}, []),
        ("match: {kinds: [{apiGroups: [apps], kinds: [Deployment]}]}", {}, ["changed"]),
    ],
)
def test_where_and_how_constraints_apply(bring: Any, spec: str, expected: dict[str, Any], remarks: list[str]) -> None:
    (manifest,), told = bring(constraint("K8sAllowedRepos", f"{{parameters: {{repos: [a.io/]}}, {spec}}}"))
    assert {key: value for key, value in manifest["spec"].items() if key not in ("default", "rules")} == expected
    assert [remark.partition(":")[0] for remark in told] == remarks


@pytest.mark.parametrize(
    "match",
    ["labelSelector: {matchLabels: {a: b}}", "name: a", "scope: Cluster", "source: Generated", "somethingNew: 1"],
)
def test_constraints_with_other_conditions_are_left_out(bring: Any, match: str) -> None:
    manifests, remarks = bring(constraint("K8sAllowedRepos", f"{{parameters: {{repos: [a.io/]}}, match: {{{match}}}}}"))
    assert manifests == []
    assert [remark.partition(":")[0] for remark in remarks] == ["left out"]


BY_NAME = "{matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [prod]}]}"


def test_namespaces_by_label_come_over(bring: Any) -> None:
    spec = f"{{parameters: {{repos: [a.io/]}}, match: {{namespaceSelector: {BY_NAME}}}}}"
    (manifest,), remarks = bring(constraint("K8sAllowedRepos", spec))
    assert manifest["spec"]["namespaceSelector"] == yaml.safe_load(BY_NAME)
    assert remarks == []
    match = f"match: {{any: [{{resources: {{kinds: [Pod], namespaceSelector: {BY_NAME}}}}}]}}"
    (manifest,), remarks = bring(cluster_policy(pattern("a.io/*", match)))
    assert manifest["spec"]["namespaceSelector"] == yaml.safe_load(BY_NAME)
    assert remarks == []


def test_disallowed_tags(bring: Any) -> None:
    (manifest,), remarks = bring(constraint("K8sDisallowedTags", "{parameters: {tags: [latest, dev]}}"))
    assert manifest["spec"]["default"] == "Allow"
    assert rules(manifest) == ["Deny */**:latest", "Deny */**:dev"]
    assert remarks == []
    (manifest,), remarks = bring(
        constraint("K8sDisallowedTags", "{parameters: {tags: [dev], exemptImages: ['a:dev']}}")
    )
    assert rules(manifest) == ["Deny */**:dev", "Deny */**:latest"]
    assert [shown(each) for each in manifest["spec"]["exceptions"][0]["images"]] == ["docker.io/library/a:dev"]
    assert [remark.partition(":")[0] for remark in remarks] == ["changed"]  # what has no tag


def test_image_digests(bring: Any) -> None:
    (manifest,), remarks = bring(constraint("K8sImageDigests", "{match: {namespaces: [prod]}}"))
    assert manifest["spec"] == {"default": "Allow", "namespaces": {"include": ["prod"]}, "require": {"digest": True}}
    assert remarks == []


@pytest.mark.parametrize(
    ("entries", "images", "remarks"),
    [
        (["quay.io/org/*", "nginx:1.27"], ["quay.io/org/**", "docker.io/library/nginx:1.27"], []),
        (["quay.io/a*b"], [], ["left out"]),
        (["qua*"], ["docker.io/library/qua*", "docker.io/qua*/**"], ["changed"]),
        ([f"quay.io/app-{number}:1" for number in range(25)], [f"quay.io/app-{n}:1" for n in range(25)], []),
    ],
)
def test_images_that_a_constraint_exempts(
    bring: Any, entries: list[str], images: list[str], remarks: list[str]
) -> None:
    parameters = json.dumps({"parameters": {"exemptImages": entries}})
    (manifest,), told = bring(constraint("K8sImageDigests", parameters))
    excepted = [shown(each) for one in manifest["spec"].get("exceptions", []) for each in one["images"]]
    assert sorted(excepted) == sorted(images)
    assert [remark.partition(":")[0] for remark in told] == remarks


def test_constraints_of_other_kinds_and_templates(bring: Any) -> None:
    template = "apiVersion: templates.gatekeeper.sh/v1\nkind: ConstraintTemplate\nmetadata: {name: t}\nspec: {}\n"
    manifests, remarks = bring(template, constraint("K8sRequiredLabels", "{}"))
    assert manifests == []
    assert [remark.partition(":")[0] for remark in remarks] == ["note", "left out"]


def test_policies_of_one_name_are_told_apart(bring: Any) -> None:
    spec = "{parameters: {repos: [a.io/]}}"
    manifests, _ = bring(constraint("K8sAllowedRepos", spec), constraint("K8sDisallowedRepos", spec))
    assert [manifest["metadata"]["name"] for manifest in manifests] == ["c", "c-2"]


# Kyverno


def cluster_policy(rule: str, spec: str = "validationFailureAction: Enforce", kind: str = "ClusterPolicy") -> str:
    return f"""
apiVersion: kyverno.io/v1
kind: {kind}
metadata: {{name: p, namespace: team-a}}
spec:
  {spec}
  rules:
  - name: r
    {rule}
"""


OPERATION = "key: \"{{ request.operation || 'BACKGROUND' }}\""
MATCH = "match: {any: [{resources: {kinds: [Pod]}}]}"


def pattern(image: str, match: str = MATCH, extra: str = "") -> str:
    return f"""{match}
    {extra}
    validate:
      pattern:
        spec:
          =(ephemeralContainers): [{{image: "{image}"}}]
          =(initContainers): [{{image: "{image}"}}]
          containers: [{{name: "*", image: "{image}"}}]
"""


def containers(each: str) -> str:
    return f"{MATCH}\n    validate: {{pattern: {{spec: {{containers: [{each}]}}}}}}"


@pytest.mark.parametrize(
    ("image", "default", "kept", "require", "remarks"),
    [
        ("eu.foo.io/* | bar.io/*", "Deny", ["Allow eu.foo.io/**", "Allow bar.io/**"], None, []),
        ("eu.foo.io/*|bar.io/a?", "Deny", ["Allow eu.foo.io/**"], None, ["left out"]),
        ("eu.foo.io/?* | bar.io/a/?*", "Deny", ["Allow eu.foo.io/**", "Allow bar.io/a/**"], None, []),
        ("!k8s.gcr.io/*", "Allow", ["Deny k8s.gcr.io/**"], None, []),
        ("eu.foo.io/* & !*:latest", "Deny", ["Deny */**:latest", "Allow eu.foo.io/**"], None, []),
        ("eu.foo.io/?* | !k8s.gcr.io/* | bar.io/a*", "Allow", ["Deny k8s.gcr.io/**"], None, []),
        ("!*:latest & !k8s.gcr.io/*", "Allow", ["Deny */**:latest", "Deny k8s.gcr.io/**"], None, []),
        ("*@*", "Allow", [], {"digest": True}, []),
        ("*@sha256:*", "Allow", [], {"digest": True}, []),
        ("ghcr.io/org/*@sha256:*", "Deny", ["Allow ghcr.io/org/**"], {"digest": True}, []),
        ("ghcr.io/org/app@*", "Deny", ["Allow ghcr.io/org/app"], {"digest": True}, ["changed"]),
    ],
)
def test_patterns_of_kyverno(
    bring: Any, image: str, default: str, kept: list[str], require: dict[str, bool] | None, remarks: list[str]
) -> None:
    (manifest,), told = bring(cluster_policy(pattern(image)))
    assert (manifest["kind"], manifest["metadata"]) == ("ClusterImagePolicy", {"name": "p-r"})
    assert manifest["spec"]["default"] == default
    assert "mode" not in manifest["spec"]
    assert manifest["spec"].get("require") == require
    assert rules(manifest) == kept
    assert [remark.partition(":")[0] for remark in told] == remarks


@pytest.mark.parametrize(
    ("image", "kept", "remark"),
    [
        ("eu.foo.io/{{request.namespace}}/*", ["Allow eu.foo.io/$namespace/**"], ""),
        ("eu.foo.io/{{ request.object.metadata.namespace }}/*", ["Allow eu.foo.io/$namespace/**"], ""),
        ("eu.foo.io/team-{{ request.namespace }}/* | b.io/*", ["Allow b.io/**"], "a whole component"),
        ("{{ request.namespace }}.foo.io/* | b.io/*", ["Allow b.io/**"], "is not the host"),
        ("{{ request.object.metadata.name }}/* | b.io/*", ["Allow b.io/**"], "which a pattern here cannot express"),
        ("eu.foo.io/$namespace/* | b.io/*", ["Allow b.io/**"], "has $"),
        ("!eu.foo.io/{{request.namespace}}/* & b.io/*", ["Allow b.io/**"], "denies by the namespace"),
    ],
)
def test_the_namespace_in_patterns_of_kyverno(bring: Any, image: str, kept: list[str], remark: str) -> None:
    (manifest,), told = bring(cluster_policy(pattern(image)))
    assert rules(manifest) == kept
    assert all(remark in each for each in told)
    assert bool(told) is bool(remark)


@pytest.mark.parametrize(
    "image", ["*:*", "*", "a.io/? | b.io/?", "!a.io/* | !b.io/*", "!a.io/* | a.io/b/*", "a.io/* & *:1"]
)
def test_patterns_of_kyverno_that_come_to_nothing(bring: Any, image: str) -> None:
    manifests, remarks = bring(cluster_policy(pattern(image)))
    assert manifests == []
    assert remarks
    assert all(remark.startswith("left out: 0.yaml, document 1: ") for remark in remarks)


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (f"{MATCH}\n    mutate: {{patchStrategicMerge: {{}}}}", "mutate: does not say"),
        (pattern("a.io/*", extra="context: [{name: x}]"), "context: policies here have no such conditions"),
        (pattern("a.io/*", extra="preconditions: {all: [{key: '{{x}}', operator: Equals}]}"), "preconditions"),
        (pattern("a.io/*", extra="preconditions: {all: [{key: '{{request.operation}}-{{x}}', operator: In}]}"), "pre"),
        (pattern("a.io/*", extra=f"preconditions: {{all: [{{{OPERATION}, operator: Equals, value: UPDATE}}]}}"), "pre"),
        (pattern("a.io/*", extra=f"preconditions: [{{{OPERATION}, operator: NotIn, value: [CREATE]}}]"), "pre"),
        (pattern("a.io/*", extra=f"preconditions: {{all: [{{{OPERATION}, operator: GreaterThan}}]}}"), "pre"),
        (
            pattern("a.io/*", "match: {any: [{resources: {kinds: [Pod], operations: [UPDATE]}}]}"),
            "does not apply to created",
        ),
        (pattern("a.io/*", "match: {any: [{resources: {kinds: [Pod], selector: {a: b}}}]}"), "match: conditions"),
        (pattern("a.io/*", "match: {any: [{resources: {kinds: [Pod]}, subjects: [{a: b}]}]}"), "match: conditions"),
        (pattern("a.io/*", "match: {all: [{resources: {kinds: [Pod]}}, {resources: {}}]}"), "match: conditions"),
        (f"{MATCH}\n    validate: {{deny: {{conditions: []}}}}", "is not a pattern on the images"),
        (f"{MATCH}\n    validate: {{pattern: {{spec: {{hostNetwork: false}}}}}}", "more than the images"),
        (
            containers("{image: a, name: b}"),
            "distinguishes containers",
        ),
        (containers("{image: a, imagePullPolicy: Always}"), "more than the images"),
        (
            containers("{(image): 'a.io/*'}"),
            "more than the images",
        ),
        (containers("{image: a}], =(containers): [{image: b}"), "has the same key twice"),
        (f"{containers('{image: a.io/*}')[:-1]}, deny: {{conditions: []}}}}", "validate.deny: is not a pattern"),
        (f"{containers('{image: a.io/*}')[:-1]}, anyPattern: []}}", "validate.anyPattern: is not a pattern"),
        (
            f"{MATCH}\n    validate: {{foreach: [{{list: 'request.object.spec.volumes', pattern: {{image: a}}}}]}}",
            "foreach",
        ),
    ],
)
def test_rules_of_kyverno_that_are_left_out(bring: Any, rule: str, reason: str) -> None:
    manifests, remarks = bring(cluster_policy(rule))
    assert manifests == []
    assert len(remarks) == 1
    assert remarks[0].startswith("left out: 0.yaml, document 1: ClusterPolicy/p, rule r: ")
    assert reason in remarks[0]


def test_a_loop_over_containers_of_kyverno(bring: Any) -> None:
    (manifest,), remarks = bring(
        cluster_policy(
            f"{MATCH}\n    validate:\n      foreach:\n"
            "      - {list: 'request.object.spec.[initContainers, ephemeralContainers, containers][]',"
            " pattern: {image: '!*:latest'}}"
        )
    )
    assert rules(manifest) == ["Deny */**:latest"]
    assert remarks == []


@pytest.mark.parametrize(
    ("rule", "namespaces", "remarks"),
    [
        (
            pattern("a.io/*", "match: {any: [{resources: {kinds: [Pod], namespaces: [a, b]}}]}"),
            {"include": ["a", "b"]},
            [],
        ),
        (pattern("a.io/*", "match: {resources: {kinds: [v1/Pod], operations: [CREATE]}}"), None, []),
        (pattern("a.io/*", "match: {all: [{resources: {kinds: ['*']}}]}"), None, []),
        (pattern("a.io/*", "match: {any: [{resources: {kinds: [Deployment]}}]}"), None, ["changed"]),
        (
            pattern("a.io/*", extra="exclude: {any: [{resources: {namespaces: [kube-system]}}]}"),
            {"exclude": ["kube-system"]},
            [],
        ),
        (pattern("a.io/*", extra="exclude: {any: [{subjects: [{kind: User, name: x}]}]}"), None, ["changed"]),
        (pattern("a.io/*", extra="exclude: {all: [{resources: {}}, {resources: {}}]}"), None, ["changed"]),
        (
            pattern("a.io/*", extra="preconditions: {all: [{key: '{{request.operation}}', operator: NotEquals}]}"),
            None,
            [],
        ),
        (
            pattern(
                "a.io/*", extra=f"preconditions: {{all: [{{{OPERATION}, operator: AnyIn, value: [CREATE, UPDATE]}}]}}"
            ),
            None,
            [],
        ),
        (
            pattern("a.io/*", extra=f"preconditions: [{{{OPERATION}, operator: NotEquals, value: DELETE}}]"),
            None,
            [],
        ),
        (
            pattern("a.io/*", extra="exclude: {any: [{resources: {namespaces: [b], operations: [UPDATE]}}]}"),
            None,
            ["changed"],
        ),
    ],
)
def test_where_rules_of_kyverno_apply(
    bring: Any, rule: str, namespaces: dict[str, list[str]] | None, remarks: list[str]
) -> None:
    (manifest,), told = bring(cluster_policy(rule))
    assert manifest["spec"].get("namespaces") == namespaces
    assert [remark.partition(":")[0] for remark in told] == remarks


@pytest.mark.parametrize(
    ("spec", "extra", "mode", "remarks"),
    [
        ("validationFailureAction: Audit", "", "audit", []),
        ("background: true", "", "audit", []),
        ("validationFailureAction: enforce", "", None, []),
        ("{validationFailureAction: enforce, admission: false}", "", "audit", []),
        (
            "{validationFailureAction: Audit, validationFailureActionOverrides: [{action: Enforce, namespaces: [a]}]}",
            "",
            None,
            ["changed"],
        ),
    ],
)
def test_how_strict_rules_of_kyverno_are(
    bring: Any, spec: str, extra: str, mode: str | None, remarks: list[str]
) -> None:
    policy = yaml.safe_load(cluster_policy(pattern("a.io/*"), "background: true"))
    policy["spec"] = {
        **yaml.safe_load(spec if spec.startswith("{") else f"{{{spec}}}"),
        "rules": policy["spec"]["rules"],
    }
    (manifest,), told = bring(yaml.safe_dump(policy))
    assert manifest["spec"].get("mode") == mode
    assert [remark.partition(":")[0] for remark in told] == remarks


def test_a_namespaced_policy_of_kyverno(bring: Any) -> None:
    (manifest,), _ = bring(cluster_policy(pattern("a.io/*"), kind="Policy"))
    assert (manifest["kind"], manifest["metadata"]) == ("ImagePolicy", {"name": "p-r", "namespace": "team-a"})


def used_by(manifest: dict[str, Any]) -> list[str]:
    """The rules on one line each, with what uses their images."""
    return [
        f"{line} in {' '.join(rule.get('usedBy', ['all']))}"
        for line, rule in zip(rules(manifest), manifest["spec"]["rules"], strict=True)
    ]


def test_patterns_on_some_containers_are_for_those(bring: Any) -> None:
    (manifest,), remarks = bring(cluster_policy(containers("{image: 'a.io/*'}")))
    assert used_by(manifest) == [
        "Allow a.io/** in containers",
        "Allow */** in initContainers ephemeralContainers volumes",
    ]
    assert [remark.partition(":")[0] for remark in remarks] == ["note"]
    assert "does not apply to initContainers, ephemeralContainers, the same as there" in remarks[0]
    (manifest,), remarks = bring(cluster_policy(containers("{image: '!*:latest'}")))
    assert used_by(manifest) == ["Deny */**:latest in containers"]
    assert [remark.partition(":")[0] for remark in remarks] == ["note"]


def test_patterns_on_each_kind_of_container(bring: Any) -> None:
    each = "=(ephemeralContainers): [{image: '!*:latest'}], =(initContainers): [{image: 'a.io/* | b.io/*'}]"
    (manifest,), remarks = bring(cluster_policy(containers(f"{{image: 'a.io/*'}}], {each[:-1]}")))
    assert used_by(manifest) == [
        "Allow a.io/** in initContainers",
        "Allow b.io/** in initContainers",
        "Allow a.io/** in containers",
        "Deny */**:latest in ephemeralContainers",
        "Allow */** in ephemeralContainers volumes",
    ]
    assert remarks == []


PATTERNS = ("a.io/*", "b.io/*", "*:latest", "!*:latest", "!b.io/*", "a.io/* | b.io/*", "!*:latest & a.io/*", "*")


def kyverno_lets(image: str, wanted: str) -> bool:
    """https://kyverno.io/docs/policy-types/cluster-policy/validate/#operators, for texts."""
    if "|" in wanted:
        return any(kyverno_lets(image, each.strip()) for each in wanted.split("|"))
    parts = [each.strip() for each in wanted.split("&")]
    return all(not matches(each[1:], image) if each[0] == "!" else matches(each, image) for each in parts)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(list(UsedBy)[:3]), st.sampled_from(PATTERNS), min_size=1))
def test_each_kind_of_container_may_have_what_kyverno_let_it_have(wanted: dict[UsedBy, str]) -> None:
    spec = {f"=({kind.value})": [{"image": image}] for kind, image in wanted.items()}
    item = yaml.safe_load(cluster_policy(pattern("*")))
    item["spec"]["rules"][0]["validate"]["pattern"]["spec"] = spec
    result = kyverno.convert(item)
    assert not [each for each in result.remarks if each.kind is RemarkKind.CHANGED]
    assert result.drafts or set(wanted.values()) == {"*"}
    for kind in list(UsedBy)[:3]:
        for text in ("a.io/x:1", "a.io/y/z:latest", "b.io/x:1", "b.io/y/z:latest", "c.io/x:1"):
            where = RunContext("team-a", kind)
            found = [policy_of(draft.manifest()) for draft in result.drafts]
            lets = all(each.evaluate(images.parse(text), where)[0] is Effect.ALLOW for each in found)
            assert lets is kyverno_lets(text, wanted.get(kind, "*")), (kind, text)


def test_a_digest_is_asked_for_in_all_kinds_of_containers(bring: Any) -> None:
    (manifest,), remarks = bring(cluster_policy(containers("{image: '*@sha256:*'}")))
    assert manifest["spec"] == {"default": "Allow", "require": {"digest": True}}
    assert "also applies to images of initContainers, ephemeralContainers" in remarks[0]
    both = "{image: '*@sha256:*'}], =(initContainers): [{image: 'a.io/*'}"
    manifests, remarks = bring(cluster_policy(containers(both)))
    assert manifests == []
    assert "asks for digests in some kinds of containers only" in remarks[0]


def test_several_loops_over_the_same_containers_all_count(bring: Any) -> None:
    loop = "{list: 'request.object.spec.[initContainers, ephemeralContainers, containers][]', pattern: {image: '%s'}}"
    both = f"{MATCH}\n    validate: {{foreach: [{loop % '!*:latest'}, {loop % 'a.io/*'}]}}"
    (manifest,), remarks = bring(cluster_policy(both))
    assert rules(manifest) == ["Deny */**:latest", "Allow a.io/**"]
    assert remarks == []
    either = f"{MATCH}\n    validate: {{foreach: [{loop % '!*:latest'}, {loop % 'a.io/* | b.io/*'}]}}"
    manifests, remarks = bring(cluster_policy(either))
    assert manifests == []
    assert "several patterns for the same containers" in remarks[0]


def test_conditions_of_a_whole_policy_of_kyverno_are_told(bring: Any) -> None:
    spec = "webhookConfiguration: {matchConditions: [{name: a, expression: b}]}"
    manifests, remarks = bring(cluster_policy(pattern("a.io/*"), spec))
    assert manifests == []
    assert "matchConditions: policies here have no such conditions" in remarks[0]
    (_,), remarks = bring(cluster_policy(pattern("a.io/*"), "somethingNew: true"))
    assert [remark.partition(":")[0] for remark in remarks] == ["changed"]
    assert "somethingNew: is unknown" in remarks[0]


SIGNED = "verifyImages: [{imageReferences: ['%s'], skipImageReferences: ['b.io/skip/*'], attestors: []}]"


def test_references_whose_signatures_were_verified_become_one_policy(bring: Any) -> None:
    validating = """
apiVersion: policies.kyverno.io/v1
kind: ImageValidatingPolicy
metadata: {name: v}
spec:
  validationActions: [Audit]
  matchImageReferences: [{glob: 'ghcr.io/acme/*'}, {expression: 'image == x'}]
"""
    first = cluster_policy(f"{MATCH}\n    {SIGNED % 'a.io/org/*'}")
    second = cluster_policy(f"{MATCH}\n    {SIGNED % 'a.io/other/*'}", "validationFailureAction: Audit")
    (manifest,), remarks = bring(first, second, validating)
    assert manifest["metadata"] == {"name": "verified-images"}
    assert manifest["spec"]["default"] == "Deny"
    assert "mode" not in manifest["spec"]
    assert rules(manifest) == [
        "Allow a.io/org/**",
        "Allow b.io/skip/**",
        "Allow a.io/other/**",
        "Allow ghcr.io/acme/**",
    ]
    assert sum("signatures and attestations are not verified here" in remark for remark in remarks) == 3
    assert sum("an expression in CEL cannot be imported" in remark for remark in remarks) == 1


def test_signatures_of_all_images_leave_no_policy(bring: Any) -> None:
    manifests, remarks = bring(cluster_policy(f"{MATCH}\n    {SIGNED % '*'}"))
    assert manifests == []
    assert "does not say where they may come from" in remarks[0]


def test_other_policies_of_kyverno_are_left_out(bring: Any) -> None:
    manifests, remarks = bring(
        "apiVersion: policies.kyverno.io/v1\nkind: ValidatingPolicy\nmetadata: {name: v}\nspec: {}\n"
    )
    assert manifests == []
    assert "ValidatingPolicy/v: is not one of" in remarks[0]


# All of them


def test_what_is_of_no_program_is_told(bring: Any) -> None:
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n"
    manifests, remarks = bring(constraint("K8sAllowedRepos", "{parameters: {repos: [a.io/]}}") + "---\n" + service)
    assert len(manifests) == 1
    assert remarks == [
        "left out: 0.yaml, document 2: Service is not a policy of trow, connaisseur, kyverno, gatekeeper"
    ]
    with pytest.raises(UnreadableFile, match="has no policies of"):
        bring(service)
    with pytest.raises(UnreadableFile, match="is not a mapping"):
        bring("[]")


@pytest.mark.parametrize("source", [source for source in SOURCES if source != "gatekeeper"])
def test_nothing_is_read_as_something_else(bring: Any, source: str) -> None:
    with pytest.raises(UnreadableFile, match=f"has no policies of {source}"):
        bring(constraint("K8sAllowedRepos", "{}"), source=source)


# `containers` without a dash.
MAPPING = f"{MATCH}\n    validate: {{pattern: {{spec: {{containers: {{image: a.io/*}}}}}}}}"


def test_what_cannot_be_read_keeps_nothing_else_from_coming_over(bring: Any) -> None:
    good, unreadable = cluster_policy(pattern("a.io/*")), cluster_policy(MAPPING)
    manifests, remarks = bring(f"{good}---\n{unreadable}---\n- 1\n", "a: [", good)
    assert len(manifests) == 2
    assert [remark.partition(": containers")[0] for remark in remarks] == [
        "left out: 0.yaml, document 2",
        "left out: 0.yaml, document 3: is not a mapping",
        "left out: 1.yaml, document 1: line 2: did not find expected node content; correct the YAML",
    ]
    with pytest.raises(UnreadableSource, match="containers is not a list"):
        bring(unreadable)


def test_one_rule_that_cannot_be_read_keeps_no_other_from_coming_over(bring: Any) -> None:
    policy = yaml.safe_load(cluster_policy(pattern("a.io/*")))
    policy["spec"]["rules"].append({"name": "odd", "match": []})
    manifests, remarks = bring(yaml.safe_dump(policy))
    assert len(manifests) == 1
    assert remarks == [
        "left out: 0.yaml, document 1: ClusterPolicy/p, rule 2: ClusterPolicy/p, rule odd, match is not a mapping"
    ]


def test_a_policy_without_rules_is_told(bring: Any) -> None:
    manifests, remarks = bring("apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {name: p}\n")
    assert manifests == []
    assert remarks == ["left out: 0.yaml, document 1: ClusterPolicy/p: has no rules, so no policy is written"]


def test_rules_of_which_only_the_first_applies_are_told(bring: Any) -> None:
    policy = yaml.safe_load(cluster_policy(pattern("a.io/*"), "applyRules: One"))
    assert bring(yaml.safe_dump(policy))[1] == []
    policy["spec"]["rules"] *= 2
    assert (
        "applyRules: One: here all rules apply, not only the first that matches" in bring(yaml.safe_dump(policy))[1][0]
    )


def test_a_directory_is_read(tmp_path: Path) -> None:
    for name in ("b", "a"):
        content = constraint("K8sAllowedRepos", f"{{parameters: {{repos: [{name}.io/]}}}}", name)
        (tmp_path / f"{name}.yaml").write_text(content)
    (tmp_path / "broken.yaml").write_text("{")
    (tmp_path / "notes.md").write_text("{")
    manifests, remarks = import_policies([str(tmp_path)])
    assert [manifest["metadata"] for manifest in manifests] == [{"name": "a"}, {"name": "b"}]
    assert ["broken.yaml" in str(remark) for remark in remarks] == [True]


def test_a_list_of_objects_is_taken_apart(bring: Any) -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": [yaml.safe_load(constraint("K8sAllowedRepos", "{}"))] * 2}
    manifests, _ = bring(yaml.safe_dump(listed))
    assert [manifest["metadata"]["name"] for manifest in manifests] == ["c", "c-2"]


def test_names_become_those_of_kubernetes(bring: Any) -> None:
    repos = [f"a.io/{'x' * 80}/{number}/" for number in range(2)]
    (manifest,), _ = bring(constraint("K8sAllowedRepos", f"{{parameters: {{repos: {repos}}}}}", name='"No: Name"'))
    assert manifest["metadata"]["name"] == "no-name"
    names = [rule["name"] for rule in manifest["spec"]["rules"]]
    assert len(set(names)) == 2
    assert all(len(name) <= 63 for name in names)


def test_more_rules_than_a_policy_may_have(bring: Any) -> None:
    repos = [f"a.io/{number}/" for number in range(1001)]
    manifests, remarks = bring(constraint("K8sAllowedRepos", f"{{parameters: {{repos: {repos}}}}}"))
    assert manifests == []
    assert "1000" in remarks[-1]
