from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from support.policies import CLUSTER_POLICY, EXCEPTION, POLICY, document, exception, policy, rule
from support.verdicts import SHA256, SHA512, allow, deny, pattern, required
from trow.policy.pods import UsedBy
from trow.policy.requirements import age_of
from trow.policy.resources import ManifestError, duration_of, exception_of, is_ours, policy_of
from trow.policy.rules import (
    CLUSTER,
    NAMESPACED,
    Effect,
    Mode,
    Mutations,
    Namespaces,
    Policy,
    StandingException,
)
from trow.policy.selectors import LabelRequirement, Operator, Selector
from trow.policy.verdict import PolicyException

if TYPE_CHECKING:
    from support.policies import Document
    from trow.policy.requirements import Requirement

MADE: Final = "2026-11-24T12:00:00Z"
MADE_AT: Final = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()


def read(spec: Document, kind: str = CLUSTER_POLICY) -> Policy:
    return policy_of(document(kind, spec))


def excepted(spec: Document, created: object = MADE) -> PolicyException:
    item = document(EXCEPTION, spec)
    item["metadata"]["creationTimestamp"] = created
    return exception_of(item)


# Policies

EVERYTHING: Final = """
apiVersion: policy.trow.io/v1alpha1
kind: ClusterImagePolicy
metadata:
  name: everything
  uid: 3c9e
  generation: 2
  labels: {a: b}
spec:
  mode: warn
  controllers: ignore
  namespaces:
    include: [team-*, shop]
    exclude: [team-x]
  namespaceSelector:
    matchLabels: {tier: prod}
    matchExpressions:
    - {key: example.com/team, operator: NotIn, values: [x, y]}
    - {key: legacy, operator: DoesNotExist}
  default: Allow
  rules:
  - name: ours
    action: Allow
    images:
    - registry: registry.example.com
    - {registry: "*.example.com", repository: team-a/**, tag: "v*"}
  - name: not.this-1
    action: Deny
    images: [{registry: docker.io, repository: nginx, digest: "%s"}]
  require:
    digest: true
    exists: true
    maxAge: 90d
    forbidPullPolicyNever: true
    imagePullPolicy: Always
    platforms: [linux/amd64, linux/arm/v7]
  mutate: {pinDigests: true, pullThrough: true}
status: {observedGeneration: 1, conditions: []}
"""


def test_a_policy_with_all_it_can_have() -> None:
    assert policy_of(yaml.safe_load(EVERYTHING % SHA256)) == Policy(
        CLUSTER,
        "everything",
        Effect.ALLOW,
        (
            allow("ours", pattern("registry.example.com"), pattern("*.example.com", "team-a/**", "v*")),
            deny("not.this-1", pattern("docker.io", "library/nginx", digest=SHA256)),
        ),
        mode=Mode.WARN,
        controllers=Mode.IGNORE,
        namespaces=Namespaces(
            ("team-*", "shop"),
            ("team-x",),
            Selector(
                (
                    LabelRequirement("tier", Operator.IN, ("prod",)),
                    LabelRequirement("example.com/team", Operator.NOT_IN, ("x", "y")),
                    LabelRequirement("legacy", Operator.DOES_NOT_EXIST),
                )
            ),
        ),
        require=required(
            digest=True,
            exists=True,
            max_age=90 * 86400.0,
            never_forbidden=True,
            always_pulled=True,
            platforms=("linux/amd64", "linux/arm/v7"),
        ),
        mutate=Mutations(pin_digests=True, pull_through=True),
    )


def test_a_policy_with_what_it_has_to_have() -> None:
    assert read(policy()) == Policy(
        CLUSTER,
        "tried",
        Effect.DENY,
        (),
        mode=Mode.ENFORCE,
        controllers=Mode.WARN,
        namespaces=Namespaces(("*",), ()),
        require=required(),
        mutate=Mutations(),
    )


def test_a_namespaced_policy() -> None:
    read_ = read(policy(rules=[rule("ours")]), POLICY)
    assert read_ == Policy(
        NAMESPACED, "tried", Effect.DENY, (allow("ours", pattern("registry.example.com")),), namespace="default"
    )
    assert read_.applies("default")
    assert not read_.applies("kube-system")


def test_the_namespace_of_a_policy() -> None:
    item = document(POLICY, policy())
    assert policy_of(item, "team-a").namespace == "default"
    del item["metadata"]["namespace"]
    assert policy_of(item, "team-a").namespace == "team-a"
    with pytest.raises(ManifestError, match=r"ImagePolicy/tried: metadata\.namespace is missing; write"):
        policy_of(item)


def test_a_policy_of_the_cluster_is_in_no_namespace() -> None:
    item = document(CLUSTER_POLICY, policy())
    item["metadata"]["namespace"] = "team-a"
    assert policy_of(item, "team-b").namespace == ""


@pytest.mark.parametrize("kind", [CLUSTER_POLICY, POLICY])
@pytest.mark.parametrize(
    ("fields", "mode", "controllers"),
    [
        ({}, Mode.ENFORCE, Mode.WARN),
        ({"mode": "enforce"}, Mode.ENFORCE, Mode.WARN),
        ({"mode": "warn"}, Mode.WARN, Mode.WARN),
        ({"mode": "audit"}, Mode.AUDIT, Mode.WARN),
        ({"controllers": "enforce"}, Mode.ENFORCE, Mode.ENFORCE),
        ({"controllers": "warn"}, Mode.ENFORCE, Mode.WARN),
        ({"controllers": "ignore"}, Mode.ENFORCE, Mode.IGNORE),
    ],
)
def test_the_modes_of_a_policy(kind: str, fields: Document, mode: Mode, controllers: Mode) -> None:
    found = read(policy(**fields), kind)
    assert (found.mode, found.controllers) == (mode, controllers)


@pytest.mark.parametrize(
    ("mutate", "expected"),
    [
        ({}, Mutations()),
        ({"pinDigests": True}, Mutations(pin_digests=True)),
        ({"pullThrough": True}, Mutations(pull_through=True)),
        ({"pinDigests": False, "pullThrough": False}, Mutations()),
    ],
)
def test_what_a_policy_changes(mutate: Document, expected: Mutations) -> None:
    assert read(policy(mutate=mutate)).mutate == expected


@pytest.mark.parametrize(
    ("require", "expected"),
    [
        ({}, required()),
        ({"digest": True}, required(digest=True)),
        ({"exists": True}, required(exists=True)),
        ({"maxAge": "1m"}, required(max_age=60.0)),
        ({"forbidPullPolicyNever": True}, required(never_forbidden=True)),
        ({"platforms": ["linux/arm/v7"]}, required(platforms=("linux/arm/v7",))),
        ({"digest": False, "exists": False, "forbidPullPolicyNever": False, "platforms": []}, required()),
    ],
)
def test_what_a_policy_requires(require: Document, expected: tuple[Requirement, ...]) -> None:
    assert read(policy(require=require)).require == expected


# Exceptions


def test_an_exception_with_all_it_can_have() -> None:
    spec = exception(
        approver="bob",
        policies=["ClusterImagePolicy/only-ours", "ImagePolicy/strict", "image_validation"],
        images=[
            {"registry": "docker.io", "repository": "nginx", "tag": "1.27"},
            {"registry": "q.io", "digest": SHA512},
        ],
    )
    assert excepted(spec) == PolicyException(
        "tried",
        "the registry of the supplier is down",
        "alice",
        "bob",
        MADE_AT,
        4 * 3600.0,
        frozenset({"team-a"}),
        frozenset({"ClusterImagePolicy/only-ours", "ImagePolicy/strict", "image_validation"}),
        (pattern("docker.io", "library/nginx", "1.27"), pattern("q.io", digest=SHA512)),
    )


@pytest.mark.parametrize("fields", [{}, {"approver": ""}])
def test_an_exception_that_waits_for_approval(fields: Document) -> None:
    found = excepted(exception(**fields))
    assert found.approver == ""
    assert not found.active(MADE_AT)


@pytest.mark.parametrize(
    ("created", "begins"),
    [
        (MADE, MADE_AT),
        ("2026-11-24T13:00:00+01:00", MADE_AT),
        ("2026-11-24T12:00:00.5Z", MADE_AT + 0.5),
        ("1970-01-01T00:00:00Z", 0.0),
        (datetime(2026, 11, 24, 12, tzinfo=UTC), MADE_AT),  # as YAML has it without quotes
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))), -62135647200.0),
    ],
)
def test_when_an_exception_was_made(created: object, begins: float) -> None:
    assert excepted(exception(), created).begins == begins


def test_an_exception_that_does_not_say_when_it_was_made() -> None:
    item = document(EXCEPTION, exception())
    assert exception_of(item, MADE_AT).begins == MADE_AT
    assert exception_of(item, 0.0).begins == 0.0
    with pytest.raises(
        ManifestError, match=r"PolicyException/tried: metadata\.creationTimestamp is missing, .*; write"
    ):
        exception_of(item)
    item["metadata"]["creationTimestamp"] = "2026-11-24T13:00:00Z"
    assert exception_of(item, MADE_AT).begins == MADE_AT + 3600


@pytest.mark.parametrize(
    "created",
    ["2026-11-24T12:00:00", "2026-11-24", "now", "", 1763985600, datetime(2026, 11, 24, 12)],  # noqa: DTZ001
)
def test_a_moment_that_depends_on_where_one_is_is_refused(created: object) -> None:
    with pytest.raises(ManifestError, match=r"PolicyException: metadata\.creationTimestamp: (is|has|Invalid)"):
        excepted(exception(), created)


# What is refused: every field that is not understood, at every level (CVE-2025-29778)

IMAGE: Final = {"registry": "registry.example.com"}


@pytest.mark.parametrize(
    ("kind", "spec", "where", "unknown"),
    [
        (CLUSTER_POLICY, policy(matchLabels={}), "spec", "matchLabels"),
        (CLUSTER_POLICY, policy(rules=[rule() | {"priority": 1}]), "spec.rules[0]", "priority"),
        (
            CLUSTER_POLICY,
            policy(rules=[rule(), rule("b", "Deny", IMAGE | {"subjectRegExp": "a"})]),
            "spec.rules[1].images[0]",
            "subjectRegExp",
        ),
        (CLUSTER_POLICY, policy(require={"signature": True}), "spec.require", "signature"),
        (CLUSTER_POLICY, policy(require={"max_age": "1d"}), "spec.require", "max_age"),
        (CLUSTER_POLICY, policy(mutate={"pindigests": True}), "spec.mutate", "pindigests"),
        (CLUSTER_POLICY, policy(namespaces={"selector": {}}), "spec.namespaces", "selector"),
        (POLICY, policy(rule=[]), "spec", "rule"),
        (POLICY, policy(namespaces={"include": ["*"]}), "spec", "namespaces"),
        (POLICY, policy(rules=[rule() | {"images ": []}]), "spec.rules[0]", "images "),
        (POLICY, policy(rules=[rule("a", "Deny", IMAGE | {"tags": ["1"]})]), "spec.rules[0].images[0]", "tags"),
        (POLICY, policy(require={"": True}), "spec.require", ""),
        (POLICY, policy(mutate={"pinDigest": True}), "spec.mutate", "pinDigest"),
        (EXCEPTION, exception(expires="never"), "spec", "expires"),
        (EXCEPTION, exception(images=[IMAGE | {"name": "nginx"}]), "spec.images[0]", "name"),
    ],
)
def test_unknown_fields_are_refused(kind: str, spec: Document, where: str, unknown: str) -> None:
    complaint = f"{kind}/tried: {where}: has an unknown '{unknown}'"
    with pytest.raises(ManifestError, match=f"^{re.escape(complaint)}; (did you mean|remove it)"):
        (exception_of if kind == EXCEPTION else policy_of)(document(kind, spec))


@pytest.mark.parametrize(
    ("spec", "meant"),
    [
        ({"defualt": "Deny"}, "did you mean default?"),
        (policy(rules=[rule() | {"image": []}]), "did you mean images?"),
        (policy(mutate={"pinDigest": True}), "did you mean pinDigests?"),
        (policy(subjects=[]), "remove it; the reference of image policies lists all fields"),
    ],
)
def test_a_field_that_there_is_not_comes_with_what_may_be_meant(spec: Document, meant: str) -> None:
    with pytest.raises(ManifestError, match=f"{re.escape(meant)}$"):
        read(spec)


@pytest.mark.parametrize(
    ("registry", "fix"),
    [
        ("https://registry.example.com", "write registry: registry.example.com"),
        ("http://registry.example.com:5000/", "write registry: registry.example.com:5000"),
        ("registry.example.com/team-a", "write registry: registry.example.com, and repository: team-a"),
        ("https://*.example.com/team-a/**", "write registry: *.example.com, and repository: team-a/**"),
    ],
)
def test_more_than_a_host_comes_with_how_it_is_written(registry: str, fix: str) -> None:
    with pytest.raises(ManifestError, match=f"is more than the host of a registry; {re.escape(fix)}$"):
        read(policy(rules=[rule("a", "Allow", {"registry": registry})]))


def test_a_rule_may_say_what_uses_the_images() -> None:
    some = rule("tools") | {"usedBy": ["initContainers", "ephemeralContainers"]}
    (found,) = read(policy(rules=[some])).rules
    assert found.used_by == (UsedBy.INIT_CONTAINERS, UsedBy.EPHEMERAL_CONTAINERS)
    with pytest.raises(
        ManifestError, match=r"usedBy\[0\]: .*; write containers, initContainers, ephemeralContainers or"
    ):
        read(policy(rules=[rule() | {"usedBy": ["init"]}]))
    with pytest.raises(ManifestError, match=r"usedBy: .*length >= 1"):
        read(policy(rules=[rule() | {"usedBy": []}]))


VENDOR: Final = {"name": "vendor", "reason": "it comes from a vendor", "images": [{"registry": "v.io"}]}


def test_exceptions_of_a_policy() -> None:
    everywhere, somewhere = read(
        policy(exceptions=[VENDOR, VENDOR | {"name": "b", "namespaces": ["team-*"]}])
    ).exceptions
    assert everywhere == StandingException("vendor", "it comes from a vendor", (pattern("v.io"),))
    assert somewhere.namespaces == ("team-*",)
    assert read(policy(exceptions=[VENDOR]), POLICY).exceptions == (everywhere,)


@pytest.mark.parametrize(
    ("kind", "exceptions", "complaint"),
    [
        (CLUSTER_POLICY, [VENDOR, VENDOR], "two exceptions have the name 'vendor'; give each its own"),
        (CLUSTER_POLICY, [VENDOR | {"reason": "because"}], "exceptions[0].reason: "),
        (CLUSTER_POLICY, [VENDOR | {"namespaces": []}], "exceptions[0].namespaces: "),
        (CLUSTER_POLICY, [VENDOR | {"images": []}], "exceptions[0].images: "),
        (CLUSTER_POLICY, [VENDOR | {"expires": "never"}], "an unknown 'expires'"),
        (
            CLUSTER_POLICY,
            [VENDOR | {"images": [{"registry": "a.io", "repository": "$namespace/*"}]}],
            "$namespace is for",
        ),
        (POLICY, [VENDOR | {"namespaces": ["a"]}], "an unknown 'namespaces'"),
    ],
)
def test_exceptions_of_a_policy_that_are_refused(kind: str, exceptions: list[Document], complaint: str) -> None:
    with pytest.raises(ManifestError, match=re.escape(complaint)):
        read(policy(exceptions=exceptions), kind)


OWN: Final = {"registry": "registry.example.com", "repository": "$namespace/**"}


def test_a_rule_that_allows_may_be_about_the_namespace_of_the_pod() -> None:
    found = read(policy(rules=[rule("own", "Allow", OWN)]))
    assert found.rules == (allow("own", pattern("registry.example.com", "$namespace/**")),)


def test_a_rule_that_denies_and_an_exception_have_their_namespaces_written_out() -> None:
    """Where the namespace is not known, neither a denial of nothing nor one of everything would be right."""
    with pytest.raises(ManifestError, match=r"images of 'a': '\$namespace/\*\*': \$namespace is for rules that allow"):
        read(policy(rules=[rule("a", "Deny", OWN)]))
    with pytest.raises(
        ManifestError, match=r"spec\.images: .* is for rules that allow; an exception has its namespaces"
    ):
        excepted(exception(images=[OWN]))


@pytest.mark.parametrize("repository", ["team-$namespace/*", "$NAMESPACE/*", "$namespace*", "$ns/**", "${namespace}"])
def test_the_namespace_is_a_whole_component(repository: str) -> None:
    with pytest.raises(ManifestError, match=r"stands in \$namespace alone, a whole component: \$namespace/\*\*"):
        read(policy(rules=[rule("a", "Allow", OWN | {"repository": repository})]))


@pytest.mark.parametrize("kind", [CLUSTER_POLICY, POLICY, EXCEPTION])
def test_unknown_fields_of_the_object_are_refused(kind: str) -> None:
    item = document(kind, exception() if kind == EXCEPTION else policy()) | {"data": {}}
    with pytest.raises(ManifestError, match=rf"^{kind}: has an unknown 'data'$"):
        (exception_of if kind == EXCEPTION else policy_of)(item)


# What is refused: values


def selecting(**expression: object) -> Document:
    return policy(namespaceSelector={"matchExpressions": [{"key": "a", **expression}]})


NULL: Final = r"is nothing"


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ({}, r"spec: lacks 'default'"),
        (policy(default="deny"), r"spec\.default: cannot be 'deny'; write Allow or Deny$"),
        (policy(default=None), rf"spec\.default: .*{NULL}"),
        (policy(default=False), r"spec\.default: is true or false and has to be text"),
        (policy(mode="off"), r"spec\.mode: cannot be 'off'; write enforce, warn or audit$"),
        (policy(mode="ignore"), r"spec\.mode: cannot be 'ignore'"),
        (policy(mode=None), rf"spec\.mode: .*{NULL}"),
        (policy(controllers="audit"), r"spec\.controllers: cannot be 'audit'; write enforce, warn or ignore$"),
        (policy(controllers=None), rf"spec\.controllers: .*{NULL}"),
        # namespaces
        (policy(namespaces=None), rf"spec\.namespaces: .*{NULL}"),
        (policy(namespaces={"include": []}), r"spec\.namespaces\.include: .*length >= 1"),
        (policy(namespaces={"include": ["Team"]}), r"spec\.namespaces\.include\[0\]: is not valid; write "),
        (policy(namespaces={"include": ["a", "-a"]}), r"spec\.namespaces\.include\[1\]: is not valid; write "),
        (policy(namespaces={"include": ["a\n"]}), r"spec\.namespaces\.include\[0\]: is not valid; write "),
        (policy(namespaces={"exclude": ["team a"]}), r"spec\.namespaces\.exclude\[0\]: is not valid; write "),
        (policy(namespaces={"exclude": [""]}), r"spec\.namespaces\.exclude\[0\]: is not valid; write "),
        (policy(namespaces={"exclude": ["a" * 64]}), r"spec\.namespaces\.exclude\[0\]: .*length <= 63"),
        (policy(namespaces={"exclude": "kube-system"}), r"spec\.namespaces\.exclude: .*has to be a list"),
        (policy(namespaceSelector=None), rf"spec\.namespaceSelector: .*{NULL}"),
        (
            policy(namespaceSelector={"matchLabels": {"a b": "c"}}),
            r"spec\.namespaceSelector.*is not valid; write ",
        ),
        (
            policy(namespaceSelector={"matchLabels": {"a": "-"}}),
            r"spec\.namespaceSelector.*is not valid; write ",
        ),
        (
            policy(namespaceSelector={"matchLabels": {"a": True}}),
            r"spec\.namespaceSelector\.matchLabels.*is true or false",
        ),
        (selecting(operator="Is"), r"matchExpressions\[0\]\.operator: .*; write In, NotIn, Exists or DoesNotExist$"),
        (selecting(operator="In"), r"spec\.namespaceSelector\.matchExpressions: a In: write values with In and NotIn"),
        (selecting(operator="Exists", values=["b"]), r"a Exists: write values with In and NotIn, and none with"),
        (selecting(operator="In", values=["b"] * 101), r"matchExpressions\[0\]\.values: .*length <= 100"),
        # rules
        (policy(rules=None), rf"spec\.rules: .*{NULL}"),
        (policy(rules={}), r"spec\.rules: .*has to be a list"),
        (policy(rules=[rule(f"r{number}") for number in range(1001)]), r"spec\.rules: .*length <= 1000"),
        (policy(rules=[rule("ours"), rule("ours", "Deny")]), r"spec\.rules: two rules have the name 'ours'; give each"),
        (policy(rules=[{"action": "Allow", "images": [IMAGE]}]), r"spec\.rules\[0\]: .*lacks 'name'"),
        (policy(rules=[{"name": "a", "images": [IMAGE]}]), r"spec\.rules\[0\]: .*lacks 'action'"),
        (policy(rules=[{"name": "a", "action": "Deny"}]), r"spec\.rules\[0\]: .*lacks 'images'"),
        (policy(rules=[rule("Ours")]), r"spec\.rules\[0\]\.name: is not valid; write "),
        (policy(rules=[rule("")]), r"spec\.rules\[0\]\.name: is not valid; write "),
        (policy(rules=[rule("a-")]), r"spec\.rules\[0\]\.name: is not valid; write "),
        (policy(rules=[rule("a\n")]), r"spec\.rules\[0\]\.name: is not valid; write "),
        (policy(rules=[rule("a" * 64)]), r"spec\.rules\[0\]\.name: .*length <= 63"),
        (
            policy(rules=[rule("a", "allow")]),
            r"spec\.rules\[0\]\.action: cannot be 'allow'; write Allow or Deny$",
        ),
        (policy(rules=[rule() | {"images": []}]), r"spec\.rules\[0\]\.images: .*length >= 1"),
        (policy(rules=[rule("a", "Allow", *[IMAGE] * 41)]), r"spec\.rules\[0\]\.images: .*length <= 40"),
        # images: nothing that is written may come to nothing, or a template without its value would allow all
        (policy(rules=[rule("a", "Allow", {"tag": "1"})]), r"images\[0\]: .*lacks 'registry'"),
        (policy(rules=[rule("a", "Allow", {"registry": ""})]), r"images\[0\]\.registry: .*length >= 1"),
        (policy(rules=[rule("a", "Allow", {"registry": "r" * 262})]), r"images\[0\]\.registry: .*length <= 261"),
        (policy(rules=[rule("a", "Allow", {"registry": None})]), rf"images\[0\]\.registry: .*{NULL}"),
        (policy(rules=[rule("a", "Allow", IMAGE | {"repository": ""})]), r"images\[0\]\.repository: .*length >= 1"),
        (policy(rules=[rule("a", "Allow", IMAGE | {"tag": ""})]), r"images\[0\]\.tag: .*length >= 1"),
        (
            policy(rules=[rule("a", "Allow", IMAGE | {"tag": 1})]),
            r"images\[0\]\.tag: is a whole number and has to be text",
        ),
        (policy(rules=[rule("a", "Allow", IMAGE | {"tag": None})]), rf"images\[0\]\.tag: .*{NULL}"),
        (policy(rules=[rule("a", "Allow", IMAGE | {"digest": ""})]), r"images\[0\]\.digest: .*length >= 1"),
        (policy(rules=[rule("a", "Allow", IMAGE | {"digest": None})]), rf"images\[0\]\.digest: .*{NULL}"),
        # and patterns, with the rule that has them
        (
            policy(rules=[rule("a"), rule("b", "Deny", {"registry": "q.io."})]),
            r"spec\.rules, images of 'b': 'q\.io\.' is not",
        ),
        (
            policy(rules=[rule("b", "Deny", {"registry": "*:443"})]),
            r"spec\.rules, images of 'b': '\*:443' is not a glob",
        ),
        (
            policy(rules=[rule("b", "Deny", IMAGE | {"repository": "A"})]),
            r"spec\.rules, images of 'b': 'A' is not a glob",
        ),
        (policy(rules=[rule("b", "Deny", IMAGE | {"tag": "a b"})]), r"spec\.rules, images of 'b': 'a b' is not a glob"),
        (
            policy(rules=[rule("b", "Deny", IMAGE | {"digest": "1"})]),
            r"spec\.rules, images of 'b': '1' is not a digest",
        ),
        (
            policy(rules=[rule("b", "Deny", IMAGE | {"tag": "1", "digest": SHA256})]),
            r"spec\.rules, images of 'b': write either",
        ),
        (
            policy(rules=[rule("b", "Deny", IMAGE | {"semver": "new"})]),
            r"spec\.rules, images of 'b': 'new' in 'new' is not a comparison of versions; write comparisons such as",
        ),
        (policy(rules=[rule("b", "Deny", IMAGE | {"semver": ">2 <1"})]), r"'>2 <1' has no version in it"),
        (
            policy(rules=[rule("b", "Deny", IMAGE | {"semver": "1.x", "tag": "1"})]),
            r"write one of tag, semver and digest",
        ),
        # requirements
        (policy(require=None), rf"spec\.require: .*{NULL}"),
        (policy(require={"digest": "true"}), r"spec\.require\.digest: is text and has to be true or false"),
        (policy(require={"digest": None}), rf"spec\.require\.digest: .*{NULL}"),
        (policy(require={"exists": 1}), r"spec\.require\.exists: is a whole number and has to be true or false"),
        (
            policy(require={"forbidPullPolicyNever": "yes"}),
            r"spec\.require\.forbidPullPolicyNever: .*has to be true or false",
        ),
        (policy(require={"imagePullPolicy": "Never"}), r"spec\.require\.imagePullPolicy: .*; write Always$"),
        (policy(require={"maxAge": ""}), r"spec\.require\.maxAge: .*length >= 1"),
        (policy(require={"maxAge": 90}), r"spec\.require\.maxAge: is a whole number and has to be text"),
        (policy(require={"maxAge": None}), rf"spec\.require\.maxAge: .*{NULL}"),
        (
            policy(require={"maxAge": "90"}),
            r"spec\.require\.maxAge: '90' is not an age; write a number and s, m, h, d or w",
        ),
        (policy(require={"platforms": None}), rf"spec\.require\.platforms: .*{NULL}"),
        (policy(require={"platforms": "linux/amd64"}), r"spec\.require\.platforms: .*has to be a list"),
        (policy(require={"platforms": ["linux"]}), r"spec\.require\.platforms\[0\]: is not valid; write "),
        (policy(require={"platforms": ["Linux/amd64"]}), r"spec\.require\.platforms\[0\]: is not valid; write "),
        (policy(require={"platforms": ["linux/arm/v7/"]}), r"spec\.require\.platforms\[0\]: is not valid; write "),
        (policy(require={"platforms": ["linux/amd64\n"]}), r"spec\.require\.platforms\[0\]: is not valid; write "),
        (policy(require={"platforms": ["linux/*"]}), r"spec\.require\.platforms\[0\]: is not valid; write "),
        # mutations
        (policy(mutate=None), rf"spec\.mutate: .*{NULL}"),
        (policy(mutate={"pinDigests": "true"}), r"spec\.mutate\.pinDigests: is text and has to be true or false"),
        (policy(mutate={"pullThrough": None}), rf"spec\.mutate\.pullThrough: .*{NULL}"),
    ],
)
def test_policies_that_are_refused(spec: Document, complaint: str) -> None:
    with pytest.raises(ManifestError, match=f"^ClusterImagePolicy/tried: .*{complaint}"):
        read(spec)


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        *[
            (
                {key: value for key, value in exception().items() if key != missing},
                f"lacks '{missing}'",
            )
            for missing in ("reason", "requester", "duration", "namespaces", "policies", "images")
        ],
        *[
            (exception(**{name: None}), rf"spec\.{name}: .*{NULL}")
            for name in ("reason", "requester", "approver", "images")
        ],
        (exception(reason="too short"), r"spec\.reason: .*length >= 10"),
        (exception(reason="r" * 1001), r"spec\.reason: .*length <= 1000"),
        (exception(requester=""), r"spec\.requester: .*length >= 1"),
        (exception(approver=["bob"]), r"spec\.approver: is a list and has to be text"),
        (exception(duration=4), r"spec\.duration: is a whole number and has to be text"),
        (exception(duration="25h"), r"spec\.duration: '25h' is not between 1s and 24h; write hours"),
        (exception(namespaces=[]), r"spec\.namespaces: .*length >= 1"),
        (exception(namespaces=["a"] * 51), r"spec\.namespaces: .*length <= 50"),
        (exception(namespaces="team-a"), r"spec\.namespaces: is text and has to be a list"),
        (exception(namespaces=["*"]), r"spec\.namespaces\[0\]: is not valid; write "),
        (exception(namespaces=["team-*"]), r"spec\.namespaces\[0\]: is not valid; write "),
        (exception(namespaces=["a", ""]), r"spec\.namespaces\[1\]: is not valid; write "),
        (exception(namespaces=["a" * 64]), r"spec\.namespaces\[0\]: .*length <= 63"),
        (exception(policies=[]), r"spec\.policies: .*length >= 1"),
        (exception(policies=["image_validation"] * 51), r"spec\.policies: .*length <= 50"),
        (exception(policies=["only-ours"]), r"spec\.policies\[0\]: is not valid; write "),
        (exception(policies=["ClusterImagePolicy/*"]), r"spec\.policies\[0\]: is not valid; write "),
        (exception(policies=["clusterimagepolicy/a"]), r"spec\.policies\[0\]: is not valid; write "),
        (exception(policies=["ImagePolicy/team-a/strict"]), r"spec\.policies\[0\]: is not valid; write "),
        (exception(policies=["image_validation\n"]), r"spec\.policies\[0\]: is not valid; write "),
        (exception(images=[]), r"spec\.images: .*length >= 1"),
        (exception(images=[IMAGE] * 51), r"spec\.images: .*length <= 50"),
        (exception(images=[{"repository": "a"}]), r"spec\.images\[0\]: .*lacks 'registry'"),
        (exception(images=[IMAGE | {"digest": ""}]), r"spec\.images\[0\]\.digest: .*length >= 1"),
        (exception(images=[IMAGE, {"registry": "q.io."}]), r"spec\.images: 'q\.io\.' is not the host of a registry"),
    ],
)
def test_exceptions_that_are_refused(spec: Document, complaint: str) -> None:
    with pytest.raises(ManifestError, match=f"^PolicyException/tried: .*{complaint}"):
        excepted(spec)


# What is refused: objects

GOOD: Final = document(CLUSTER_POLICY, policy())


@pytest.mark.parametrize(
    ("item", "complaint"),
    [
        ({}, "the object: lacks 'apiVersion'"),
        ({**GOOD, "kind": None}, r"the object: kind: .*is nothing"),
        ({**GOOD, "kind": 7}, r"7: kind: is a whole number and has to be text"),
        ({**GOOD, "metadata": {}}, r"ClusterImagePolicy: metadata: lacks 'name'"),
        ({**GOOD, "metadata": {"name": ""}}, r"ClusterImagePolicy: metadata\.name: .*length >= 1"),
        ({**GOOD, "metadata": {"name": "a" * 254}}, r"ClusterImagePolicy: metadata\.name: .*length <= 253"),
        ({**GOOD, "metadata": {"name": "a", "namespace": None}}, r"metadata\.namespace: .*is nothing"),
        ({**GOOD, "spec": None}, r"ClusterImagePolicy: spec: is nothing and has to be a mapping"),
        ({**GOOD, "spec": []}, r"ClusterImagePolicy: spec: is a list and has to be a mapping"),
        ({**GOOD, "spec": {1: 2}}, r"ClusterImagePolicy: spec: is a whole number and has to be text"),
        ({key: value for key, value in GOOD.items() if key != "spec"}, "lacks 'spec'"),
        (
            {**GOOD, "apiVersion": "v1"},
            r"v1 ClusterImagePolicy is not a ClusterImagePolicy or ImagePolicy of policy\.trow\.io",
        ),
        ({**GOOD, "apiVersion": "policy.trow.io/v1"}, r"is not a ClusterImagePolicy or ImagePolicy of .*/v1alpha1"),
        ({**GOOD, "apiVersion": "policy.trow.io/v1alpha1\n"}, r"is not a ClusterImagePolicy or ImagePolicy of"),
        ({**GOOD, "kind": "Pod"}, r"policy\.trow\.io/v1alpha1 Pod is not a ClusterImagePolicy or ImagePolicy"),
        ({**GOOD, "kind": "imagepolicy"}, r"is not a ClusterImagePolicy or ImagePolicy"),
        (document(EXCEPTION, exception()), r"PolicyException is not a ClusterImagePolicy or ImagePolicy"),
    ],
)
def test_objects_that_are_no_policies(item: Document, complaint: str) -> None:
    with pytest.raises(ManifestError, match=complaint):
        policy_of(item)


def test_a_policy_is_no_exception() -> None:
    with pytest.raises(
        ManifestError, match=r"ClusterImagePolicy is not a PolicyException of policy\.trow\.io/v1alpha1"
    ):
        exception_of(GOOD)


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("policy.trow.io/v1alpha1", True),
        ("policy.trow.io/v2", True),
        ("policy.trow.io", False),
        ("policy.trow.io.evil/v1", False),
        ("apps/v1", False),
        (None, False),
        (1, False),
    ],
)
def test_whose_an_object_is(version: object, expected: bool) -> None:  # noqa: FBT001
    assert is_ours({"apiVersion": version, "kind": "Anything"}) is expected
    assert not is_ours({})


# Ages and durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1),
        ("90s", 90),
        ("5m", 300),
        ("36h", 129600),
        ("90d", 7776000),
        ("2w", 1209600),
        ("999999w", 604799395200),
    ],
)
def test_ages(text: str, seconds: float) -> None:
    assert age_of(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "90", "d", "0d", "09d", "-1d", "+1d", "1.5d", "1y", "1D", "1d ", " 1d", "1d1h", "1d\n", "\u0661d", "1000000d"],
)
def test_ages_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not an age; write a number and s, m, h, d or w, such as 90d"):
        age_of(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1),
        ("4h", 14400),
        ("90m", 5400),
        ("1h30m", 5400),
        ("1h0m1s", 3601),
        ("0h1s", 1),
        ("24h", 86400),
        ("24h0m0s", 86400),
        ("23h59m60s", 86400),
        ("1440m", 86400),
        ("86400s", 86400),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration_of(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "0",
            "0s",
            "0h0m0s",
            "h",
            "4",
            "-4h",
            "+4h",
            "1.5h",
            "1d",
            "4H",
            "4h ",
            " 4h",
            "4 h",
            "4h\n",
            "\u0664h",
            "1m1h",
        ),
        *("24h1s", "25h", "1441m", "86401s", "23h60m1s", "9999h", "99999999h"),
    ],
)
def test_durations_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not between 1s and 24h; write hours and minutes, such as 4h"):
        duration_of(text)


# Anything at all

JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)
FIELDS: Final = st.sampled_from(
    [
        *policy(),
        *exception(),
        "rules",
        "require",
        "mutate",
        "mode",
        "controllers",
        "name",
        "action",
        "registry",
        "include",
    ]
)
SPECS: Final = st.dictionaries(FIELDS, JSON | st.dictionaries(FIELDS, JSON, max_size=3) | st.lists(JSON), max_size=6)


@given(st.sampled_from([CLUSTER_POLICY, POLICY, EXCEPTION]), st.one_of(JSON, SPECS))
def test_an_object_is_read_or_refused_by_name(kind: str, spec: Any) -> None:
    try:
        (exception_of if kind == EXCEPTION else policy_of)(document(kind, spec))
    except ManifestError as error:
        assert str(error).startswith(kind)  # noqa: PT017 - what is read may be anything


@given(JSON)
def test_any_object_is_read_or_refused(item: Any) -> None:
    with pytest.raises(ManifestError):
        policy_of(item if isinstance(item, dict) else {"spec": item})


def test_the_fields_are_those_of_the_definitions() -> None:
    """What the API server accepts and what is read here have the same names, at every level."""
    deploy = Path(__file__).parents[3] / "deploy" / "kubernetes" / "crds.yaml"
    for definition in yaml.safe_load_all(deploy.read_text(encoding="utf-8")):
        kind = definition["spec"]["names"]["kind"]
        schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        for path in paths(schema):
            assert "unknown" not in complaint_of(kind, with_object_at(kind, path)), (kind, path)


def paths(schema: Document) -> list[tuple[str, ...]]:
    """Every field that a schema knows."""
    inner = schema.get("items", schema)
    below = [(name, *path) for name, field in inner.get("properties", {}).items() for path in paths(field)]
    return [(), *below]


def with_object_at(kind: str, path: tuple[str, ...]) -> Document:
    """A manifest that has this field, and nothing in it that could be right."""
    value: Document = {}
    for name in reversed(path):
        value = {name: [value] if name in ("rules", "images") else value}
    return document(kind, value)


def complaint_of(kind: str, item: Document) -> str:
    with pytest.raises(ManifestError) as refused:
        (exception_of if kind == EXCEPTION else policy_of)(item)
    return str(refused.value)
