from __future__ import annotations

import ipaddress
import json
import random
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support.spellings import OTHER, SHA256, compared, names, pattern
from trow.lib.globs import matches
from trow.policy import images
from trow.policy.configured import policy_of as configured_policy
from trow.policy.images import InvalidImage
from trow.policy.patterns import ImagePattern
from trow.policy.resources import policy_of
from trow.policy.rules import Effect
from trow.policy.vap import expressions
from trow.policy.vap.export import BINDING, EXCEPTIONS, LARGEST, POLICY, STATIC, compile_policy, name_of
from trow.policy.vap.expressions import HEADS, any_of, expression_of, full_regex, glob
from trow.policy.verdict import PolicyException

if TYPE_CHECKING:
    from trow.policy.rules import Policy
    from trow.policy.vap.export import Compiled, Manifest
    from trow.policy.vap.expressions import Expression

SEEDS: Final = range(4)
LONGEST_EXPRESSION: Final = 100_000  # cel-go reads no longer ones
NAMESPACE: Final = "team"  # of what is judged; many of the names have such a component
ALPHABET: Final = "aA0./:@-_[]*%\n "


def readable(text: str) -> bool:
    """What the API server is told to do, step by step, with Python's engine in the place of RE2."""
    if len(text) > images.LONGEST or not like(expressions.NAME, text) or like(images.IDENTIFIER, text):
        return False
    if like(expressions.NUMERIC, text) and not like(expressions.IPV4, text):
        return False
    if text.startswith("[") and not is_address(text[1 : text.index("]")]):
        return False
    hosted = text if like(expressions.HOSTED, text) else f"docker.io/{text}"
    bounded = re.match(expressions.BEFORE_VERSION, hosted)
    assert bounded, text
    return len(bounded[0]) + 8 * like(expressions.OFFICIAL, hosted) <= images.LONGEST_NAME


def like(expression: str, text: str) -> bool:
    return re.fullmatch(expression.replace("$namespace", NAMESPACE), text) is not None


def is_address(text: str) -> bool:
    try:
        return not getattr(ipaddress.ip_address(text), "ipv4_mapped", None)
    except ValueError:
        return False


def parses(text: str) -> bool:
    try:
        images.parse(text)
    except InvalidImage:
        return False
    return True


def found(expression: Expression, name: str) -> bool:
    """By the beginnings of a name, as the API server looks it up."""
    heads = {"", *(match[0] for head in HEADS if (match := re.search(head, name)))}
    rest = name[len(expression.head) :]
    return expression.head in heads and like(any_of([expression]), rest)


@pytest.mark.parametrize("seed", SEEDS)
def test_names_are_read_that_are_read_here(seed: int) -> None:
    texts = names(seed, 5000)
    assert {text for text in texts if readable(text)} == {text for text in texts if parses(text)}
    assert 1000 < sum(map(parses, texts)) < 4000


@pytest.mark.slow
@settings(max_examples=2000, deadline=None)
@given(st.text(ALPHABET, max_size=20))
@example("a" * 64)
@example("foo.bar_baz/x")
@example("0XA/x")
@example("0xa/x")
def test_any_text_is_read_that_is_read_here(text: str) -> None:
    assert readable(text) == parses(text)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.from_regex(expressions.NAME, fullmatch=True))
def test_what_looks_like_a_name_is_read_that_is_read_here(text: str) -> None:
    assert readable(text) == parses(text)


@pytest.mark.parametrize(
    "number", [0, 1, 9, 80, 443, 9999, 10000, 59999, 64999, 65499, 65529, 65535, 65536, 65540, 70000]
)
def test_ports_are_read_that_are_read_here(number: int) -> None:
    for text in (f"localhost:{number}/x", f"localhost:0{number}/x", f"[::1]:{number}/x"):
        assert readable(text) == parses(text)


@settings(max_examples=500, deadline=None)
@given(st.ip_addresses(v=6), st.sampled_from(["exploded", "compressed"]))
def test_addresses_are_read_in_every_spelling(address: ipaddress.IPv6Address, spelling: str) -> None:
    text = f"[{getattr(address, spelling).upper()}]/app"
    assert readable(text) == parses(text)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("ignore_tag", [True, False])
def test_patterns_cover_what_they_cover_here(seed: int, ignore_tag: bool) -> None:  # noqa: FBT001
    chance = random.Random(seed)
    patterns = [ImagePattern.parse(**pattern(chance, in_namespaces=True)) for _ in range(200)]
    parsed = {compared(image): image for text in names(seed, 1000) if parses(text) for image in [images.parse(text)]}
    counted: Counter[bool] = Counter()
    for each in patterns:
        expression = expression_of(each, ignore_tag=ignore_tag)
        expected = {
            name for name, image in parsed.items() if each.covers(image, ignore_tag=ignore_tag, namespace=NAMESPACE)
        }
        assert {name for name in parsed if found(expression, name)} == expected, each
        assert {name for name in parsed if like(full_regex([expression]), name)} == expected, each
        counted[bool(expected)] += 1
    assert counted[True] > 50, counted


@pytest.mark.parametrize("seed", SEEDS)
def test_several_patterns_cover_what_any_of_them_does(seed: int) -> None:
    chance = random.Random(seed)
    patterns = [ImagePattern.parse(**pattern(chance)) for _ in range(5)]
    expression = full_regex(expression_of(each, ignore_tag=True) for each in patterns)
    for text in filter(parses, names(seed, 500)):
        image = images.parse(text)
        assert like(expression, compared(image)) == any(each.covers(image, ignore_tag=True) for each in patterns), text


@given(st.text("a*-", max_size=6), st.text("a-", max_size=8))
def test_globs_are_the_same_as_expressions(text: str, name: str) -> None:
    assert like(glob(text), name) == matches(text, name)


@given(st.text("a[]().*+?^$|\\'\"\n/-", max_size=8))
def test_a_glob_has_no_special_characters_but_the_star(text: str) -> None:
    literal = text.replace("*", "")
    assert like(glob(literal), literal)
    assert not like(glob(literal), f"{literal}a")


# Manifests


def policy(kind: str = "ClusterImagePolicy", name: str = "only-ours", **spec: object) -> Policy:
    place = {"namespace": "team-a"} if kind == "ImagePolicy" else {}
    item = {
        "apiVersion": "policy.trow.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, **place},
        "spec": {"default": "Deny", **spec},
    }
    return policy_of(item)


def rules(count: int, action: str = "Allow", **image: str) -> list[dict[str, Any]]:
    """As many rules, each with its number in the place of ``#``."""
    return [
        {
            "name": f"rule-{number}",
            "action": action,
            "images": [{key: text.replace("#", f"{number:04}") for key, text in image.items()}],
        }
        for number in range(count)
    ]


def policy_exception(**changed: Any) -> PolicyException:
    fields: dict[str, Any] = {
        "name": "incident-4711",
        "reason": "the registry of the supplier is down",
        "requester": "alice",
        "approver": "bob",
        "begins": 1000.0,
        "duration": 3600.0,
        "namespaces": frozenset({"team-a"}),
        "policies": frozenset({"ClusterImagePolicy/only-ours"}),
        "patterns": (ImagePattern.parse("docker.io", "nginx", "1.27"),),
    }
    return PolicyException(**(fields | changed))


def spec(compiled: Compiled) -> dict[str, Any]:
    (written,) = compiled.policies
    found: dict[str, Any] = json.loads(json.dumps(written))["spec"]
    return found


def actions(compiled: Compiled) -> dict[str, list[str]]:
    """Kinds of resources, and what comes of a denial."""
    return {
        resource: binding["spec"]["validationActions"]
        for binding in json.loads(json.dumps(compiled.bindings))
        for rule in binding["spec"].get("matchResources", {"resourceRules": [{"resources": ["all"]}]})["resourceRules"]
        for resource in rule["resources"]
    }


def variables(compiled: Compiled) -> dict[str, str]:
    return {each["name"]: each["expression"] for each in spec(compiled)["variables"]}


def title(manifest: Manifest) -> str:
    metadata = manifest["metadata"]
    assert isinstance(metadata, dict)
    return str(metadata["name"])


@pytest.mark.parametrize(
    ("mode", "controllers", "pods", "jobs", "deployments"),
    [
        ("enforce", "warn", ["Deny", "Audit"], ["Deny", "Audit"], ["Warn", "Audit"]),
        ("enforce", "ignore", ["Deny", "Audit"], None, None),
        ("warn", "ignore", ["Warn", "Audit"], None, None),
        ("audit", "warn", None, None, None),
        ("audit", "enforce", None, None, None),
    ],
)
def test_what_comes_of_a_denial(
    mode: str, controllers: str, pods: list[str] | None, jobs: list[str] | None, deployments: list[str] | None
) -> None:
    found = actions(compile_policy(policy(mode=mode, controllers=controllers)))
    assert found.get("pods") == found.get("pods/ephemeralcontainers") == pods
    assert found.get("jobs") == jobs
    for kind in ("deployments", "cronjobs", "podtemplates", "replicationcontrollers"):
        assert found.get(kind) == deployments


@pytest.mark.parametrize(
    ("mode", "controllers", "expected"),
    [
        ("enforce", "enforce", ["Deny", "Audit"]),
        ("warn", "enforce", ["Warn", "Audit"]),
        ("warn", "warn", ["Warn", "Audit"]),
        ("audit", "enforce", ["Audit"]),
    ],
)
def test_pods_and_their_makers_share_a_binding_where_the_same_comes_of_it(
    mode: str, controllers: str, expected: list[str]
) -> None:
    assert actions(compile_policy(policy(mode=mode, controllers=controllers))) == {"all": expected}


def test_where_makers_of_pods_are_left_alone_they_are_not_looked_at() -> None:
    constraints = spec(compile_policy(policy(controllers="ignore")))["matchConstraints"]["resourceRules"]
    assert [each["resources"] for each in constraints] == [["pods", "pods/ephemeralcontainers"]]


def test_where_pods_get_other_names_what_makes_them_is_left_to_the_webhook() -> None:
    somewhere = compile_policy(policy(controllers="enforce"), changed="request.namespace in ['team-a']")
    assert spec(somewhere)["matchConditions"] == [
        {
            "name": "as-written",
            "expression": "request.resource.resource == 'pods' || !(request.namespace in ['team-a'])",
        }
    ]
    everywhere = spec(compile_policy(policy(controllers="enforce"), changed="true"))
    assert everywhere["matchConditions"] == []
    rules = everywhere["matchConstraints"]["resourceRules"]
    assert [each["resources"] for each in rules] == [["pods", "pods/ephemeralcontainers"]]
    told = "workload controllers, where their Pods get other image names: the API server does not know these names"
    assert told in somewhere.left_out
    assert compile_policy(policy(controllers="ignore"), changed="true").left_out == ()


def test_it_fails_closed() -> None:
    assert spec(compile_policy(policy()))["failurePolicy"] == "Fail"


def selected(compiled: Compiled) -> list[tuple[str, list[str]]]:
    selector = spec(compiled)["matchConstraints"].get("namespaceSelector", {"matchExpressions": []})
    assert {each["key"] for each in selector["matchExpressions"]} <= {"kubernetes.io/metadata.name"}
    return [(each["operator"], each["values"]) for each in selector["matchExpressions"]]


def test_namespaces_by_name_are_selected_by_label() -> None:
    namespaces = {"include": ["b", "a"], "exclude": ["c"]}
    compiled = compile_policy(policy(namespaces=namespaces), excluded=["trow"])
    assert selected(compiled) == [("NotIn", ["c", "trow"]), ("In", ["a", "b"])]
    assert spec(compiled)["matchConditions"] == []


def test_globs_of_namespaces_are_conditions() -> None:
    namespaces = {"include": ["team-*", "web"], "exclude": ["*-test", "c"]}
    compiled = compile_policy(policy(namespaces=namespaces))
    assert selected(compiled) == [("NotIn", ["c"])]
    assert spec(compiled)["matchConditions"] == [
        {"name": "included", "expression": r"request.namespace.matches(r'^(?:team\-.*|web)$')"},
        {"name": "not-excluded", "expression": r"!request.namespace.matches(r'^(?:.*\-test)$')"},
    ]


def test_every_namespace_is_meant_where_none_is_named() -> None:
    compiled = compile_policy(policy())
    assert selected(compiled) == []
    assert spec(compiled)["matchConditions"] == []


def test_a_policy_of_a_namespace_is_about_that_alone() -> None:
    assert selected(compile_policy(policy("ImagePolicy"))) == [("In", ["team-a"])]


def test_names_differ_where_sources_do() -> None:
    long = "x" * 253
    sources = [
        policy(),
        policy("ImagePolicy"),
        policy(name="only-ours-pods"),
        policy(name=long),
        policy(name=f"{long[1:]}y"),
        configured_policy(Effect.DENY, [], []),
    ]
    compiled = [compile_policy(each) for each in sources]
    assert len({title(each) for one in compiled for each in one.policies}) == len(sources)
    bindings = [title(each) for one in compiled for each in one.bindings]
    assert len(set(bindings)) == len(bindings)
    for name in (*map(name_of, sources), *bindings):
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", name)
        assert len(name) <= 253


def test_everything_says_where_it_comes_from() -> None:
    compiled = compile_policy(policy("ImagePolicy"), generation=7)
    for each in json.loads(json.dumps([*compiled.policies, *compiled.bindings])):
        assert each["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "trow"}
        assert each["metadata"]["annotations"] == {
            "policy.trow.io/source": "ImagePolicy/team-a/only-ours",
            "policy.trow.io/generation": "7",
        }


def test_bindings_name_their_policy() -> None:
    compiled = compile_policy(policy())
    (written,) = compiled.policies
    assert written["kind"] == POLICY
    assert {each["kind"] for each in compiled.bindings} == {BINDING}
    assert {each["spec"]["policyName"] for each in json.loads(json.dumps(compiled.bindings))} == {title(written)}


def test_what_cannot_be_compiled_is_told() -> None:
    require = {"exists": True, "maxAge": "90d", "platforms": ["linux/amd64"], "digest": True}
    compiled = compile_policy(policy(require=require, mutate={"pinDigests": True, "pullThrough": True}))
    named = [each.partition(":")[0] for each in compiled.left_out]
    assert named == ["require.exists", "require.maxAge", "require.platforms", "mutate.pinDigests", "mutate.pullThrough"]


def test_nothing_is_left_out_where_rules_decide() -> None:
    require = {"digest": True, "forbidPullPolicyNever": True}
    assert compile_policy(policy(rules=rules(3, registry="registry.example.com"), require=require)).left_out == ()


def test_only_what_a_policy_asks_is_evaluated() -> None:
    lenient = compile_policy(policy(default="Allow"))
    assert not {"denied", "unlisted", "unmet_digest", "unmet_forbidPullPolicyNever"} & set(variables(lenient))
    assert len(spec(lenient)["validations"]) == 2
    strict = policy(rules=rules(1, "Deny", registry="*"), require={"digest": True, "forbidPullPolicyNever": True})
    assert {"denied", "unlisted", "unmet_digest", "unmet_forbidPullPolicyNever"} <= set(
        variables(compile_policy(strict))
    )


def test_the_namespace_of_a_rule_is_that_of_the_request() -> None:
    """It is filled in by the API server; where it keeps rules, and in what it tells people."""
    own = policy(
        rules=[*rules(1, registry="q.io", repository="$namespace/**"), *rules(2, "Deny", registry="r#.io")[1:]]
    )
    written = variables(compile_policy(own))["allow0"]
    assert written.count('.replace("$namespace", request.namespace)') == 1
    assert "use one of q.io/$namespace/**" in json.dumps(spec(compile_policy(own))["validations"])


def test_rules_that_change_nothing_are_not_written() -> None:
    allowing = policy(default="Allow", rules=rules(3, registry="registry.example.com"))
    assert "registry.example.com" not in json.dumps(compile_policy(allowing).policies)


# Exceptions


def test_an_exception_in_force_is_written_with_its_end() -> None:
    later = policy_exception(name="later", begins=2000.0)
    compiled = compile_policy(policy(), exceptions=[later, policy_exception()], now=2500.0)
    assert compiled.until == 4600.0
    assert re.search(r"docker\\.io.*nginx.*1\\.27", variables(compiled)["exempt0"])
    assert 'request.namespace in ["team-a"]' in variables(compiled)["exempt0"]
    assert "creationTimestamp) < timestamp('1970-01-01T01:16:40Z')" in variables(compiled)["exempt0"]
    assert variables(compiled)["judged"].count("exempt") == 2
    annotations = json.loads(json.dumps(compiled.policies))[0]["metadata"]["annotations"]
    ends = "incident-4711 until 1970-01-01T01:16:40Z, later until 1970-01-01T01:33:20Z"
    assert annotations[EXCEPTIONS] == ends
    assert {each.partition(":")[0] for each in compiled.left_out} == {"exception incident-4711", "exception later"}


@pytest.mark.parametrize(
    ("changed", "now"),
    [
        ({}, 4600.0),
        ({}, 999.0),
        ({"approver": ""}, 2000.0),
        ({"approver": "alice"}, 2000.0),
        ({"policies": frozenset({"ClusterImagePolicy/other"})}, 2000.0),
        ({"policies": frozenset({"ImagePolicy/only-ours"})}, 2000.0),
        ({"namespaces": frozenset({"team-z"})}, 2000.0),
    ],
)
def test_an_exception_that_does_not_count_is_not_written(changed: dict[str, Any], now: float) -> None:
    ours = policy(namespaces={"include": ["team-a"]})
    assert compile_policy(ours, exceptions=[policy_exception(**changed)], now=now) == compile_policy(ours)


def test_without_a_time_no_exception_counts() -> None:
    assert compile_policy(policy(), exceptions=[policy_exception()]) == compile_policy(policy())


def test_an_exception_ends_after_a_day_whatever_it_says() -> None:
    compiled = compile_policy(policy(), exceptions=[policy_exception(duration=1e9)], now=2000.0)
    assert compiled.until == 1000.0 + 24 * 3600


# Files on the API server's disk


def test_static_files_have_names_of_their_own_and_no_exceptions() -> None:
    compiled = compile_policy(policy(), exceptions=[policy_exception()], now=2000.0, static=True)
    written = [*compiled.policies, *compiled.bindings]
    assert all(title(each).endswith(STATIC) for each in written)
    assert {each["spec"]["policyName"] for each in json.loads(json.dumps(compiled.bindings))} == {title(written[0])}
    assert "exempt0" not in variables(compiled)
    assert compiled.until is None
    assert [each.partition(":")[0] for each in compiled.left_out] == ["exception incident-4711"]


# Size


@pytest.mark.parametrize("action", ["Allow", "Deny"])
@pytest.mark.parametrize(
    "image",
    [
        {"registry": "registry-#.example.com", "repository": "team-#/**"},
        {"registry": "registry.example.com", "repository": "team/applications/application-#"},
        {"registry": "*.example.com", "repository": "team-#/**/application"},
        {"registry": "registry.example.com", "repository": "team/app", "digest": f"{SHA256[:-4]}#"},
    ],
    ids=lambda image: image["registry"],
)
def test_a_thousand_rules_are_in_expressions_that_can_be_read(action: str, image: dict[str, str]) -> None:
    compiled = compile_policy(policy(rules=rules(1000, action, **image)))
    assert compiled.policies
    assert max(map(len, variables(compiled).values())) < LONGEST_EXPRESSION
    numbers = set(re.findall(r"[-a-f](\d{4})\b", json.dumps(compiled.policies)))
    assert len(numbers) >= 1000


def test_what_etcd_would_not_take_is_not_written() -> None:
    image = {"registry": "*.example.com", "repository": f"{'x' * 240}-#", "digest": OTHER}
    many = [{**each, "images": each["images"] * 2} for each in rules(1000, "Deny", **image)]
    for each in many:
        each["images"][1] = {**each["images"][1], "registry": "*.example.org"}
    compiled = compile_policy(policy(rules=many, require={"exists": True}))
    assert compiled.policies == compiled.bindings == ()
    assert re.match(rf"the whole policy: .*[0-9]+ bytes.*{LARGEST}", compiled.left_out[0])
    assert len(compiled.left_out) == 2


def test_the_same_policy_is_always_written_in_the_same_way() -> None:
    written = [compile_policy(policy(rules=rules(50, registry="*", repository="team-#/**"))) for _ in range(2)]
    assert json.dumps(written[0].policies) == json.dumps(written[1].policies)
