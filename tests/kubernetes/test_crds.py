"""The kinds of policy.trow.io as a real API server and kubectl understand them."""

from __future__ import annotations

import json
import random
import re
from typing import TYPE_CHECKING, Final

import pytest
import yaml

from support.kubernetes import bind
from support.policies import (
    CLUSTER_POLICY,
    CRDS,
    EXCEPTION,
    POLICY,
    POLICY_ROLES,
    document,
    exception,
    policy,
    rule,
)
from support.spellings import (
    DIGESTS,
    HOSTS,
    NO_DIGESTS,
    NO_HOSTS,
    NO_PATHS,
    NO_PORTS,
    NO_TAGS,
    OF_NAMESPACES,
    PATHS,
    PORTS,
    REGISTRIES,
    REPOSITORIES,
    TAG_GLOBS,
    TAGS,
    damaged,
)
from support.waiting import settles
from trow.policy.resources import exception_of, policy_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.cluster import Cluster
    from support.policies import Document
    from trow.policy.rules import Policy
    from trow.policy.verdict import PolicyException

SHA256: Final = "sha256:" + "0a" * 32
SHA512: Final = "sha512:" + "0a" * 64


# What people write


def without(fields: Document, name: str) -> Document:
    return {key: value for key, value in fields.items() if key != name}


def submit(cluster: Cluster, tried: Document, *args: str) -> str:
    """What kubectl says when the API server is asked, and nothing is kept."""
    return cluster.kubectl("create", "--dry-run=server", "--filename", "-", *args, input=json.dumps(tried), check=False)


def accepted(answer: str) -> bool:
    return "created (server dry run)" in answer


def selecting(**expression: object) -> Document:
    return policy(namespaceSelector={"matchExpressions": [expression]})


VENDOR: Final = {
    "name": "vendor",
    "reason": "the vendor has a registry of its own",
    "images": [{"registry": "registry.vendor.example"}],
}
GOOD: Final = [
    (CLUSTER_POLICY, policy()),
    (CLUSTER_POLICY, policy(default="Allow")),
    (CLUSTER_POLICY, policy(mode="warn", controllers="enforce")),
    (CLUSTER_POLICY, policy(mode="audit", controllers="ignore")),
    (CLUSTER_POLICY, policy(namespaces={"include": ["team-*", "*-prod", "shop"], "exclude": ["kube-system"]})),
    (CLUSTER_POLICY, policy(namespaceSelector={"matchLabels": {"tier": "prod", "example.com/x": ""}})),
    (CLUSTER_POLICY, selecting(key="example.com/tier", operator="NotIn", values=["a", "b"])),
    (CLUSTER_POLICY, selecting(key="tier", operator="Exists")),
    (CLUSTER_POLICY, policy(rules=[])),
    (CLUSTER_POLICY, policy(rules=[rule("ours"), rule("not.this-1", "Deny")])),
    (CLUSTER_POLICY, policy(rules=[rule("a" * 63)])),
    (CLUSTER_POLICY, policy(rules=[rule("own", "Allow", {"registry": "a.io", "repository": "$namespace/**"})])),
    (POLICY, policy(rules=[rule("own", "Allow", {"registry": "a.io", "repository": "x/$namespace"})])),
    (CLUSTER_POLICY, policy(rules=[rule() | {"usedBy": ["initContainers", "volumes"]}])),
    (CLUSTER_POLICY, policy(exceptions=[{**VENDOR, "namespaces": ["team-*"]}, {**VENDOR, "name": "other"}])),
    (POLICY, policy(exceptions=[VENDOR])),
    (CLUSTER_POLICY, policy(require={"digest": True, "exists": False, "forbidPullPolicyNever": True})),
    (CLUSTER_POLICY, policy(require={"imagePullPolicy": "Always"})),
    (CLUSTER_POLICY, policy(require={"maxAge": "90d", "platforms": ["linux/amd64", "linux/arm/v7"]})),
    (CLUSTER_POLICY, policy(require={}, mutate={"pinDigests": True, "pullThrough": True})),
    (POLICY, policy(mode="warn", controllers="ignore", rules=[rule()], require={"maxAge": "12w"}, mutate={})),
    (EXCEPTION, exception()),
    (EXCEPTION, exception(approver="")),
    (EXCEPTION, exception(approver="bob")),
    (EXCEPTION, exception(requester="system:serviceaccount:ci:deployer")),
    (EXCEPTION, exception(requester="https://issuer.example.com#00u1")),
    (EXCEPTION, exception(reason="ten chars.")),
    (EXCEPTION, exception(policies=["ImagePolicy/strict", "image_validation"])),
    (EXCEPTION, exception(namespaces=[f"team-{number}" for number in range(50)])),
    *((EXCEPTION, exception(duration=each)) for each in ("24h", "1h30m", "90s", "1440m", "86400s", "23h59m60s")),
]

# What a registry, repository, tag or digest may look like, whether a rule or an exception says it.
GOOD_IMAGES: Final = [
    {"registry": "*"},
    {"registry": "docker.io", "repository": "**"},
    {"registry": "registry.example.com:5000", "repository": "team-a/**", "tag": "v*"},
    {"registry": "registry.example.com:65535"},
    {"registry": "*.example.com"},
    {"registry": "eu-*.example.com:*"},
    {"registry": "localhost"},
    {"registry": "[::1]:5000"},
    {"registry": "10.0.0.1:443"},
    {"registry": "docker.io", "repository": "nginx"},
    {"registry": "docker.io", "repository": "*/app-*"},
    {"registry": "docker.io", "repository": "**/nginx"},
    {"registry": "docker.io", "repository": "a/**/b_c/d.e/*"},
    {"registry": "docker.io", "tag": "*"},
    {"registry": "docker.io", "tag": "_1.2.3-RC"},
    {"registry": "docker.io", "semver": ">=1.2.0 <2 || ^3.1, ~3.1.4"},
    {"registry": "docker.io", "digest": SHA256},
    {"registry": "docker.io", "repository": "library/nginx", "digest": SHA512},
]

OWN: Final = {"registry": "registry.example.com", "repository": "$namespace/**"}
BAD: Final = [
    # Policies
    (CLUSTER_POLICY, {}, "spec.default: Required value"),
    (CLUSTER_POLICY, None, "spec: Required value"),
    (CLUSTER_POLICY, policy(default="deny"), 'spec.default: Unsupported value: "deny": supported values: "Allow"'),
    (CLUSTER_POLICY, policy(mode="block"), 'spec.mode: Unsupported value: "block"'),
    (CLUSTER_POLICY, policy(controllers="audit"), 'supported values: "warn", "enforce", "ignore"'),
    (CLUSTER_POLICY, policy(namespaces={"include": []}), "should have at least 1 items"),
    (CLUSTER_POLICY, policy(namespaces={"include": ["Team"]}), "spec.namespaces.include[0]: Invalid value"),
    (CLUSTER_POLICY, policy(namespaces={"exclude": ["a", "a"]}), "spec.namespaces.exclude[1]: Duplicate value"),
    (POLICY, policy(namespaces={"include": ["*"]}), 'unknown field "spec.namespaces"'),
    (POLICY, policy(namespaceSelector={}), 'unknown field "spec.namespaceSelector"'),
    (CLUSTER_POLICY, selecting(key="a", operator="Is"), 'operator: Unsupported value: "Is"'),
    (CLUSTER_POLICY, selecting(key="a", operator="In"), "write values with In and NotIn, and none with Exists"),
    (CLUSTER_POLICY, selecting(key="a", operator="Exists", values=["b"]), "write values with In and NotIn, and none"),
    (CLUSTER_POLICY, selecting(operator="Exists"), "matchExpressions[0].key: Required value"),
    (CLUSTER_POLICY, policy(rules=[rule(), rule()]), 'spec.rules[1]: Duplicate value: {"name":"ours"}'),
    (CLUSTER_POLICY, policy(rules=[without(rule(), "name")]), "spec.rules[0].name: Required value"),
    (CLUSTER_POLICY, policy(rules=[without(rule(), "action")]), "spec.rules[0].action: Required value"),
    (CLUSTER_POLICY, policy(rules=[without(rule(), "images")]), "spec.rules[0].images: Required value"),
    (CLUSTER_POLICY, policy(rules=[rule("Ours")]), "spec.rules[0].name: Invalid value"),
    (CLUSTER_POLICY, policy(rules=[rule("ours\n")]), "spec.rules[0].name: Invalid value"),
    (CLUSTER_POLICY, policy(rules=[rule("a" * 64)]), "spec.rules[0].name: Too long: may not be more than 63"),
    (CLUSTER_POLICY, policy(rules=[rule("ours", "allow")]), 'spec.rules[0].action: Unsupported value: "allow"'),
    (CLUSTER_POLICY, policy(rules=[{**rule(), "images": []}]), "should have at least 1 items"),
    (CLUSTER_POLICY, policy(rules=[rule("ours", "Allow", *[{"registry": "*"}] * 41)]), "must have at most 40 items"),
    (CLUSTER_POLICY, policy(rules=[rule(f"r{n}") for n in range(1001)]), "must have at most 1000 items"),
    (CLUSTER_POLICY, policy(require={"imagePullPolicy": "Never"}), 'supported values: "Always"'),
    (CLUSTER_POLICY, policy(require={"maxAge": "90"}), "spec.require.maxAge: Invalid value"),
    (CLUSTER_POLICY, policy(require={"maxAge": "0d"}), "spec.require.maxAge: Invalid value"),
    (CLUSTER_POLICY, policy(require={"platforms": ["amd64"]}), "spec.require.platforms[0]: Invalid value"),
    (CLUSTER_POLICY, policy(require={"digest": "yes"}), "spec.require.digest: Invalid value"),
    (CLUSTER_POLICY, policy(rules=[rule("own", "Deny", OWN)]), "spec.rules[0]: Invalid value: $namespace is for rules"),
    (CLUSTER_POLICY, policy(rules=[rule("own", "Allow", {**OWN, "repository": "$ns/*"})]), "repository: Invalid value"),
    (CLUSTER_POLICY, policy(rules=[rule("own", "Allow", {**OWN, "repository": "a$namespace"})]), "Invalid value"),
    (EXCEPTION, exception(images=[OWN]), "spec.images: Invalid value: $namespace is for rules that allow"),
    (CLUSTER_POLICY, policy(rules=[rule() | {"usedBy": ["init"]}]), "usedBy[0]: Unsupported value"),
    (CLUSTER_POLICY, policy(rules=[rule() | {"usedBy": []}]), "should have at least 1 items"),
    (CLUSTER_POLICY, policy(exceptions=[without(VENDOR, "reason")]), "spec.exceptions[0].reason: Required value"),
    (CLUSTER_POLICY, policy(exceptions=[{**VENDOR, "reason": "because"}]), "should be at least 10 chars long"),
    (CLUSTER_POLICY, policy(exceptions=[VENDOR, VENDOR]), "spec.exceptions[1]: Duplicate value"),
    (CLUSTER_POLICY, policy(exceptions=[{**VENDOR, "images": [OWN]}]), "$namespace is for rules that allow"),
    (POLICY, policy(exceptions=[{**VENDOR, "namespaces": ["a"]}]), 'unknown field "spec.exceptions[0].namespaces"'),
    # Exceptions
    *(
        (EXCEPTION, without(exception(), field), f"spec.{field}: Required value")
        for field in ("reason", "requester", "duration", "namespaces", "policies", "images")
    ),
    (EXCEPTION, exception(reason="urgent"), "spec.reason in body should be at least 10 chars long"),
    (EXCEPTION, exception(reason=" \n" * 10), "say why, in at least 10 characters"),
    (EXCEPTION, exception(reason="x" * 1001), "spec.reason: Too long: may not be more than 1000"),
    (EXCEPTION, exception(requester=""), "spec.requester in body should be at least 1 chars long"),
    (
        EXCEPTION,
        exception(approver="alice"),
        "spec.approver: Invalid value: has to be somebody else than the requester",
    ),
    *(
        (EXCEPTION, exception(duration=each), "has to be such as 4h or 1h30m, more than 0s and at most 24h")
        for each in ("25h", "24h1s", "0s", "0h0m", "1441m", "99h", "1d", "-1h", "4", "1h 5m")
    ),
    (EXCEPTION, exception(duration="1.5h"), "spec.duration: Invalid value"),
    (EXCEPTION, exception(duration="30m1h"), "spec.duration: Invalid value"),
    (EXCEPTION, exception(duration="500ms"), "spec.duration: Invalid value"),
    (EXCEPTION, exception(duration=""), "spec.duration: Invalid value"),
    (EXCEPTION, exception(namespaces=[]), "should have at least 1 items"),
    (EXCEPTION, exception(namespaces=["*"]), 'spec.namespaces[0]: Invalid value: "*"'),
    (EXCEPTION, exception(namespaces=[f"n{n}" for n in range(51)]), "must have at most 50 items"),
    (EXCEPTION, exception(policies=[]), "should have at least 1 items"),
    (EXCEPTION, exception(policies=["only-ours"]), 'spec.policies[0]: Invalid value: "only-ours"'),
    (EXCEPTION, exception(policies=["ImagePolicy/*"]), "spec.policies[0]: Invalid value"),
    (EXCEPTION, exception(policies=["image_validation"] * 2), "spec.policies[1]: Duplicate value"),
    (EXCEPTION, exception(images=[]), "should have at least 1 items"),
]

BAD_IMAGES: Final = [
    ({"tag": "1"}, "registry: Required value"),
    ({"registry": ""}, "registry: Invalid value"),
    ({"registry": "**.example.com"}, "in a registry, * stands for anything within one label"),
    ({"registry": "Registry.example.com"}, "registry: Invalid value"),
    ({"registry": "registry.example.com."}, "registry: Invalid value"),
    ({"registry": "registry.example.com/team-a"}, "registry: Invalid value"),
    ({"registry": "https://registry.example.com"}, "registry: Invalid value"),
    ({"registry": "me@registry.example.com"}, "registry: Invalid value"),
    ({"registry": "registry..example.com"}, "registry: Invalid value"),
    ({"registry": "-registry.example.com"}, "registry: Invalid value"),
    ({"registry": "registry.example.com:65536"}, "registry: Invalid value"),
    ({"registry": "registry.example.com:0"}, "registry: Invalid value"),
    ({"registry": "dоcker.io"}, "registry: Invalid value"),  # noqa: RUF001 - a Cyrillic letter is the point
    ({"registry": "docker.io\n"}, "registry: Invalid value"),
    ({"registry": "docker.io", "repository": "Team-a/app"}, "repository: Invalid value"),
    ({"registry": "docker.io", "repository": "/nginx"}, "repository: Invalid value"),
    ({"registry": "docker.io", "repository": "team-a/"}, "repository: Invalid value"),
    ({"registry": "docker.io", "repository": "nginx:1.27"}, "repository: Invalid value"),
    ({"registry": "docker.io", "repository": "team-a**"}, "nothing but a slash may be before it"),
    ({"registry": "docker.io", "repository": "**app"}, "nothing but a slash may be after it"),
    ({"registry": "docker.io", "repository": "a/***"}, "** stands for whole components"),
    ({"registry": "docker.io", "repository": "a" * 256}, "repository: Too long: may not be more than 255"),
    ({"registry": "docker.io", "tag": ""}, "tag: Invalid value"),
    ({"registry": "docker.io", "tag": ".hidden"}, "tag: Invalid value"),
    ({"registry": "docker.io", "tag": "1 2"}, "tag: Invalid value"),
    ({"registry": "docker.io", "tag": "t" * 129}, "tag: Too long: may not be more than 128"),
    ({"registry": "docker.io", "digest": SHA256.upper()}, "digest: Invalid value"),
    ({"registry": "docker.io", "digest": SHA256[:-1]}, "digest: Invalid value"),
    ({"registry": "docker.io", "digest": "md5:" + "0a" * 16}, "digest: Invalid value"),
    ({"registry": "docker.io", "tag": "1", "digest": SHA256}, "write either tag or digest"),
    ({"registry": "docker.io", "tag": "1", "semver": "1.x"}, "write one of tag, semver and digest"),
    ({"registry": "docker.io", "semver": "new"}, "semver: Invalid value"),
]


@pytest.mark.usefixtures("crds")
@pytest.mark.parametrize(("kind", "spec"), GOOD)
def test_a_good_specification_is_accepted_and_read_by_trow(cluster: Cluster, kind: str, spec: Document) -> None:
    answer = submit(cluster, document(kind, spec), "--output", "json")
    assert answer.startswith("{"), answer
    read(json.loads(answer))


def read(accepted: Document) -> Policy | PolicyException:
    return exception_of(accepted) if accepted["kind"] == EXCEPTION else policy_of(accepted)


@pytest.mark.usefixtures("crds")
@pytest.mark.parametrize(("kind", "spec", "words"), BAD)
def test_a_bad_specification_is_refused_with_words(cluster: Cluster, kind: str, spec: Document, words: str) -> None:
    answer = submit(cluster, document(kind, spec))
    assert not accepted(answer)
    assert words in answer


@pytest.mark.usefixtures("crds")
def test_good_images_are_accepted_everywhere_and_read_by_trow(cluster: Cluster) -> None:
    spec = policy(rules=[rule("ours", "Allow", *GOOD_IMAGES)])
    excepted = exception(images=GOOD_IMAGES)
    for tried in (document(CLUSTER_POLICY, spec), document(POLICY, spec), document(EXCEPTION, excepted)):
        answer = submit(cluster, tried, "--output", "json")
        assert answer.startswith("{"), answer
        read(json.loads(answer))


@pytest.mark.usefixtures("crds")
@pytest.mark.parametrize(("bad", "words"), BAD_IMAGES)
def test_a_bad_image_is_refused_with_words(cluster: Cluster, bad: Document, words: str) -> None:
    answer = submit(cluster, document(CLUSTER_POLICY, policy(rules=[rule("ours", "Allow", bad)])))
    assert not accepted(answer)
    assert words in answer
    assert "spec.rules[0].images[0]" in answer


# What people write wrongly, and what they are told; and nothing else, least of all an expression.
WORDS: Final = [
    ({"registry": "https://registry.example.com"}, "registry", "write the host alone, without https:// in front"),
    ({"registry": "http://registry.example.com:5000/"}, "registry", "write the host alone, without https:// in front"),
    ({"registry": "registry.example.com/team-a"}, "registry", "and what follows it as repository"),
    ({"registry": "Registry.example.com"}, "registry", "write the host in lower case"),
    ({"registry": "a.io", "repository": "nginx:1.27"}, "repository", "what is behind the colon as tag"),
    ({"registry": "a.io", "repository": f"nginx@{SHA256}"}, "repository", "what is behind the @ as digest"),
    ({"registry": "a.io", "repository": "Team/app"}, "repository", "write it in lower case"),
    ({"registry": "a.io", "repository": "/nginx"}, "repository", "components with one slash between them"),
    ({"registry": "a.io", "repository": "team-a//x"}, "repository", "components with one slash between them"),
    ({"registry": "a.io", "repository": "team-a/"}, "repository", "components with one slash between them"),
    ({"registry": "a.io", "tag": "app:v1"}, "tag", "write the tag alone"),
    ({"registry": "a.io", "tag": ">=1.2"}, "tag", "write a range of versions as semver"),
    ({"registry": "a.io", "semver": "latest"}, "semver", "write comparisons such as >=1.2 <2"),
    ({"registry": "a.io", "digest": "0a" * 32}, "digest", "write sha256: and all 64 digits"),
    ({"registry": "a.io", "digest": SHA256[:-1]}, "digest", "write sha256: and all 64 digits"),
    ({"registry": "a.io", "digest": "sha256:" + "0A" * 32}, "digest", "write it in lower case"),
    ({"registry": "a.io", "digest": "md5:" + "0a" * 16}, "digest", "write sha256: and all 64 digits"),
]


@pytest.mark.usefixtures("crds")
@pytest.mark.parametrize(("image", "field", "words"), WORDS)
def test_a_mistake_in_an_image_is_told_in_words(cluster: Cluster, image: Document, field: str, words: str) -> None:
    answer = submit(cluster, document(CLUSTER_POLICY, policy(rules=[rule("ours", "Allow", image)])))
    assert f"spec.rules[0].images[0].{field}: Invalid value" in answer
    assert words in answer
    assert "should match" not in answer


@pytest.mark.usefixtures("crds")
@pytest.mark.parametrize(
    ("kind", "spec", "words"),
    [
        (CLUSTER_POLICY, policy(namespaces={"include": ["Team"]}), "write the name of a namespace in lower case"),
        (CLUSTER_POLICY, policy(rules=[rule("Ours!")]), "write lower-case letters, digits, - and ."),
        (CLUSTER_POLICY, policy(require={"maxAge": "90 days"[:6]}), "write a number and s, m, h, d or w, such as 90d"),
        (CLUSTER_POLICY, policy(require={"platforms": ["amd64"]}), "write OS/ARCHITECTURE"),
        (EXCEPTION, exception(policies=["only-ours"]), "write ClusterImagePolicy/NAME, ImagePolicy/NAME or"),
        (EXCEPTION, exception(namespaces=["team-*"]), "write the exact name of a namespace"),
        (EXCEPTION, exception(duration="4 hours"), "has to be such as 4h or 1h30m"),
    ],
)
def test_a_mistake_in_any_text_is_told_in_words(cluster: Cluster, kind: str, spec: Document, words: str) -> None:
    answer = submit(cluster, document(kind, spec))
    assert words in answer
    assert "should match" not in answer


# What the API server takes of each part of an image, whichever of its rules sees to it.
TAKEN: Final = {
    "registry": (
        r"([a-z0-9*]([a-z0-9*-]*[a-z0-9*])?(\.[a-z0-9*]([a-z0-9*-]*[a-z0-9*])?)*|\[[0-9a-f]{0,4}(:[0-9a-f]{0,4}){2,7}\])"
        r"(:(\*|[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?"
    ),
    "repository": r"(?!.*[^/]\*\*)(?!.*\*\*[^/])([a-z0-9._*-]+|\$namespace)(/([a-z0-9._*-]+|\$namespace))*",
    "tag": r"[A-Za-z0-9_*][A-Za-z0-9._*-]*",
    "semver": r"[0-9vxX*.<>=^~|, ]+",
    "digest": r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}",
}
SAID: Final = {
    "registry": (*REGISTRIES, *HOSTS, *NO_HOSTS, *(f"a.io{port}" for port in (*PORTS, *NO_PORTS))),
    "repository": (*REPOSITORIES, *OF_NAMESPACES, *PATHS, *NO_PATHS),
    "tag": (*TAG_GLOBS, *(tag[1:] for tag in (*TAGS, *NO_TAGS))),
    "semver": (">=1.2 <2", "1.x || ^2", "latest", "v1.*", "~1.2, 3", "a", "1;2", "\n", "1\n"),
    "digest": tuple(digest[1:] for digest in (*DIGESTS, *NO_DIGESTS)),
}
LONGEST: Final = {"registry": 261, "repository": 255, "tag": 128, "semver": 100, "digest": 135}


@pytest.mark.usefixtures("crds")
@pytest.mark.parametrize("field", TAKEN)
def test_messages_in_words_let_nothing_more_in(cluster: Cluster, field: str) -> None:
    chance = random.Random(field)
    texts = [text for text in SAID[field] if "**" not in text or field != "registry"]
    texts += [damaged(chance, chance.choice(texts)) for _ in range(300)]
    # What is empty or too long is refused before anything else is looked at.
    some = [text for text in dict.fromkeys(texts) if 0 < len(text) <= LONGEST[field]]
    images = [{"registry": "a.io", field: text} for text in some]
    rules = [rule(f"r{start}", "Allow", *images[start : start + 40]) for start in range(0, len(images), 40)]
    answer = submit(cluster, document(CLUSTER_POLICY, policy(rules=rules)))
    refused = {
        int(number) * 40 + int(place)
        for number, place in re.findall(rf"rules\[(\d+)\]\.images\[(\d+)\]\.{field}: Invalid", answer)
    }
    wanted = {place for place, text in enumerate(some) if not re.fullmatch(TAKEN[field], text)}
    assert {some[place] for place in refused} == {some[place] for place in wanted}


@pytest.mark.usefixtures("crds")
def test_a_name_is_short_enough_for_a_label(cluster: Cluster) -> None:
    for kind, spec in ((CLUSTER_POLICY, policy()), (POLICY, policy()), (EXCEPTION, exception())):
        assert accepted(submit(cluster, document(kind, spec, name="a" * 63)))
        assert "metadata.name: Too long: may not be more than 63" in submit(
            cluster, document(kind, spec, name="a" * 64)
        )


@pytest.mark.usefixtures("crds")
def test_the_largest_policy_is_accepted(cluster: Cluster) -> None:
    """Its rules are evaluated within the API server's budget, not only estimated to be."""
    images = [{"registry": f"r{number}", "repository": "a/**"} for number in range(40)]
    largest = policy(rules=[rule(f"r{number}", "Deny", *images) for number in range(1000)])
    answer = submit(cluster, document(CLUSTER_POLICY, largest))
    assert accepted(answer), answer


TYPOS: Final = [
    (CLUSTER_POLICY, policy(modes="warn"), "spec.modes"),
    (CLUSTER_POLICY, policy(rules=[{**rule(), "imges": []}]), "spec.rules[0].imges"),
    (
        CLUSTER_POLICY,
        policy(rules=[rule("ours", "Allow", {"registry": "*", "registery": "docker.io"})]),
        "spec.rules[0].images[0].registery",
    ),
    (CLUSTER_POLICY, policy(namespaces={"excludes": ["a"]}), "spec.namespaces.excludes"),
    (POLICY, policy(require={"maxage": "1d"}), "spec.require.maxage"),
    (POLICY, policy(mutate={"pinDigest": True}), "spec.mutate.pinDigest"),
    (EXCEPTION, exception(aprover="bob"), "spec.aprover"),
]


@pytest.mark.usefixtures("crds")
@pytest.mark.parametrize(("kind", "spec", "field"), TYPOS)
def test_kubectl_apply_names_a_field_that_does_not_exist(
    cluster: Cluster, kind: str, spec: Document, field: str
) -> None:
    given = json.dumps(document(kind, spec))
    answer = cluster.kubectl("apply", "--dry-run=server", "--filename", "-", input=given, check=False)
    assert f'unknown field "{field}"' in answer
    assert "created" not in answer
    kept = json.loads(submit(cluster, document(kind, spec), "--output", "json", "--validate=ignore"))
    assert field.rpartition(".")[2] not in json.dumps(kept["spec"])  # who asks for no check gets it pruned


@pytest.mark.usefixtures("crds")
def test_what_is_left_out_gets_its_default(cluster: Cluster) -> None:
    spec = policy(rules=[rule()])
    defaulted = policy(
        mode="enforce",
        controllers="warn",
        rules=[rule("ours", "Allow", {"registry": "registry.example.com", "repository": "**"})],
    )
    everywhere = {"include": ["*"], "exclude": []}
    for kind, wanted in ((CLUSTER_POLICY, {**defaulted, "namespaces": everywhere}), (POLICY, defaulted)):
        assert json.loads(submit(cluster, document(kind, spec), "--output", "json"))["spec"] == wanted
    partly = json.loads(
        submit(cluster, document(CLUSTER_POLICY, policy(namespaces={"exclude": ["a"]})), "--output", "json")
    )
    assert partly["spec"]["namespaces"] == {"include": ["*"], "exclude": ["a"]}
    assert json.loads(submit(cluster, document(EXCEPTION, exception()), "--output", "json"))["spec"]["approver"] == ""


# What the schemas say of themselves


def schemas() -> Iterator[tuple[str, Document]]:
    for crd in yaml.safe_load_all(CRDS.read_text("utf-8")):
        (version,) = crd["spec"]["versions"]
        yield crd["spec"]["names"]["kind"], version["schema"]["openAPIV3Schema"]


def parts(schema: Document, path: str) -> Iterator[tuple[str, Document]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        if path or name in ("spec", "status"):
            yield from parts(child, f"{path}.{name}")
    if "items" in schema:
        yield from parts(schema["items"], f"{path}[]")


def test_every_field_is_described() -> None:
    bare = [(kind, path) for kind, schema in schemas() for path, part in parts(schema, "") if not part["description"]]
    assert not bare


def test_every_text_and_list_has_a_limit() -> None:
    for kind, schema in schemas():
        for path, part in parts(schema, ""):
            limits = {"string": {"maxLength", "enum", "format"}, "array": {"maxItems"}}.get(part["type"])
            assert limits is None or limits & set(part), (kind, path)


def test_policies_of_cluster_and_namespace_differ_in_namespaces_alone() -> None:
    by_kind = dict(schemas())
    wide, narrow = (by_kind[kind]["properties"] for kind in (CLUSTER_POLICY, POLICY))
    for own in ("namespaces", "namespaceSelector"):
        del wide["spec"]["properties"][own]
    del wide["spec"]["properties"]["exceptions"]["items"]["properties"]["namespaces"]
    assert wide["spec"] == narrow["spec"]
    assert wide["status"] == narrow["status"]


def test_images_are_written_alike_in_policies_and_exceptions() -> None:
    by_kind = {kind: schema["properties"]["spec"]["properties"] for kind, schema in schemas()}
    in_rules = by_kind[POLICY]["rules"]["items"]["properties"]["images"]["items"]
    assert by_kind[EXCEPTION]["images"]["items"] == in_rules
    for kind in (CLUSTER_POLICY, POLICY):
        assert by_kind[kind]["exceptions"]["items"]["properties"]["images"]["items"] == in_rules


# What people see


@pytest.mark.usefixtures("crds")
@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("cimgpol.spec.mode", "ENUM: enforce warn audit DESCRIPTION: What a refused image leads to."),
        ("clusterimagepolicies.spec.namespaces.exclude", "Those that are left out again"),
        ("imgpol.spec.rules.images.repository", "team-a/** is everything below team-a"),
        ("imgpol.status.conditions.reason", "Why, in one word"),
        ("imgex.spec.duration", "such as 4h, 1h30m or 90s; at most 24h"),
        ("policyexceptions.status.expiresAt", "When the exception ends"),
    ],
)
def test_kubectl_explains_a_field(cluster: Cluster, field: str, words: str) -> None:
    # A new kind is documented a little after it is served.
    assert settles(lambda: words in explained(cluster, field)), explained(cluster, field)


def explained(cluster: Cluster, field: str) -> str:
    return " ".join(cluster.kubectl("explain", field, check=False).split())


def condition(kind: str, status: str, reason: str) -> Document:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": "as the test says",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "observedGeneration": 1,
    }


def report(cluster: Cluster, resource: str, status: Document) -> None:
    """What Trow writes."""
    patch = ("--subresource=status", "--type=merge", "--patch", json.dumps({"status": status}))
    cluster.kubectl("patch", *resource.split(), *patch)


@pytest.fixture
def created(cluster: Cluster, crds: None, namespace: str) -> Iterator[str]:
    """One of each kind for a namespace, with its name. Those of the cluster go again, for other tests are in it too."""
    spec = policy(mode="audit", namespaces={"include": [namespace]})
    asked = exception(namespaces=[namespace], approver="bob")
    for made in (
        document(CLUSTER_POLICY, spec, namespace),
        document(POLICY, policy(default="Allow"), namespace, namespace),
        document(EXCEPTION, asked, namespace),
    ):
        cluster.apply(json.dumps(made))
    yield namespace
    cluster.kubectl("delete", "cimgpol,imgex", namespace)


def rows(cluster: Cluster, *args: str) -> list[list[str]]:
    """The table as kubectl prints it, without the column of the age."""
    return [line.split()[:-1] for line in cluster.kubectl("get", *args).splitlines()]


def test_kubectl_shows_a_policy_in_columns(cluster: Cluster, created: str) -> None:
    conditions = [condition("Ready", "True", "Ready"), condition("Compiled", "False", "NotCompiled")]
    for resource in (f"cimgpol {created}", f"imgpol {created} --namespace {created}"):
        report(cluster, resource, {"observedGeneration": 1, "conditions": conditions})
    header = ["NAME", "MODE", "DEFAULT", "READY", "COMPILED"]
    assert rows(cluster, "cimgpol", created) == [header, [created, "audit", "Deny", "True", "False"]]
    assert rows(cluster, "imgpol", "--namespace", created) == [header, [created, "enforce", "Allow", "True", "False"]]


def test_kubectl_shows_an_exception_in_columns(cluster: Cluster, created: str) -> None:
    expires = "2999-01-01T00:00:00Z"
    active = condition("Active", "True", "Active")
    report(cluster, f"imgex {created}", {"expiresAt": expires, "conditions": [active]})
    header = ["NAME", "REQUESTER", "APPROVER", "ACTIVE", "EXPIRES"]
    assert rows(cluster, "imgex", created) == [header, [created, "alice", "bob", "True", expires]]
    assert ["alice", "bob", "True", "Active", expires] == rows(cluster, "imgex", created, "--output", "wide")[1][1:]


def test_kubectl_gets_everything_of_trow_by_its_category(cluster: Cluster, created: str) -> None:
    named = cluster.kubectl("get", "trow", "--namespace", created, "--output", "name").split()
    kinds = {name.partition(".")[0] for name in named if name.endswith(f"/{created}")}
    assert kinds == {"clusterimagepolicy", "imagepolicy", "policyexception"}


def test_the_status_is_written_apart_from_the_specification(cluster: Cluster, created: str) -> None:
    assert patched(cluster, created, "Allow", 7, "--subresource=status") == ("Deny", 7)
    assert patched(cluster, created, "Allow", 8) == ("Allow", 7)


def patched(cluster: Cluster, name: str, default: str, generation: int, *args: str) -> tuple[str, int]:
    patch = json.dumps({"spec": {"default": default}, "status": {"observedGeneration": generation}})
    told = cluster.kubectl("patch", "cimgpol", name, *args, "--type=merge", "--patch", patch, "--output", "json")
    kept = json.loads(told)
    return kept["spec"]["default"], kept["status"]["observedGeneration"]


def test_an_exception_stays_as_it_was_asked_for(cluster: Cluster, created: str) -> None:
    """By the rules of the CRD; nothing else guards it here."""
    for field, value in exception(
        reason="because I say so, that is why",
        requester="mallory",
        duration="24h",
        namespaces=["kube-system"],
        policies=["image_validation"],
        images=[{"registry": "*"}],
        approver="",
    ).items():
        patch = json.dumps({"spec": {field: value}})
        told = cluster.kubectl("patch", "imgex", created, "--type=merge", "--patch", patch, check=False)
        assert f"spec.{field}: Invalid value" in told
        assert ("an approval is not taken back" if field == "approver" else "cannot be changed") in told


# What roles of a namespace may do


READ: Final = {"get", "list", "watch"}
WRITE: Final = {"create", "update", "patch", "delete", "deletecollection"}


@pytest.mark.usefixtures("crds")
@pytest.mark.parametrize(("role", "verbs"), [("view", READ), ("edit", READ | WRITE), ("admin", READ | WRITE)])
def test_roles_of_a_namespace_contain_its_policies(
    cluster: Cluster, namespace: str, role: str, verbs: set[str]
) -> None:
    cluster.kubectl("apply", "--filename", str(POLICY_ROLES))
    bind(cluster, role, namespace, "user=alice")
    # A controller adds them up, and the API server learns of it a little later.
    assert settles(lambda: {verb for verb in READ | WRITE if may(cluster, namespace, verb, "imagepolicies")} == verbs)
    for kind in ("clusterimagepolicies", "policyexceptions", "imagepolicies/status"):
        assert not may(cluster, namespace, "patch", kind)


def may(cluster: Cluster, namespace: str, verb: str, resource: str) -> bool:
    kind, _, part = resource.partition("/")
    asked = (verb, f"{kind}.policy.trow.io", "--subresource", part, "--as", "alice", "--namespace", namespace)
    return "yes" in cluster.kubectl("auth", "can-i", *asked, check=False).splitlines()
