"""Compiled policies in a live API server have the verdicts that the webhook has, and so have pulls.

Each policy is bound to a namespace of its own. What is tried is created with `dryRun`, which changes nothing but is
judged like the rest.
"""

from __future__ import annotations

import contextlib
import json
import random
import secrets
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import pytest
import urllib3

from support.admission import Gatekeeper, envelope
from support.cluster import Cluster
from support.spellings import OF_NAMESPACES, OTHER, SHA256, compared, names, pattern
from support.waiting import settles, until
from trow.access.identity import Identity, Method
from trow.admission.image_extractor import ImageExtractor
from trow.admission.pull_policy import Pullers, PullPolicy
from trow.admission.review import Review, decode
from trow.oci.digest import Digest
from trow.oci.errors import Denied
from trow.oci.media import OCI_IMAGE
from trow.policy import images
from trow.policy.configured import policy_of as configured_policy
from trow.policy.images import InvalidImage
from trow.policy.patterns import ImagePattern
from trow.policy.pods import POD_SPECS, Stage, UnreadableObject
from trow.policy.resources import policy_of
from trow.policy.rules import Effect, Mode, Namespaces
from trow.policy.selectors import LabelRequirement, Operator, Selector
from trow.policy.vap.export import compile_policy, name_of
from trow.policy.verdict import PolicyException, Rules, judge, unreadable
from trow.registry.ports import ManifestRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from trow.policy.rules import Policy
    from trow.policy.vap.export import Manifest
    from trow.policy.verdict import Verdict

NOW: Final = time.time()  # as the API server takes it to be
NAMES: Final = 600
SEED: Final = 7
# No name of an image, so that every policy that judges refuses it.
CANARY: Final = "!"
CHECKED_SECONDS: Final = 120.0  # each expression is checked for each kind
PLURALS: Final = {
    "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
}
PULL_POLICIES: Final = ("Always", "IfNotPresent", "Never")

OURS: Final = {"registry": "registry.example.com"}
HUB: Final = {"registry": "docker.io", "repository": "library/*"}


def rule(name: str, action: str, *entries: Mapping[str, str]) -> dict[str, Any]:
    return {"name": name, "action": action, "images": list(entries)}


def excepting(name: str, *images: Mapping[str, str], **fields: object) -> dict[str, Any]:
    return {"name": name, "reason": "it comes from a vendor", "images": list(images), **fields}


def chosen(seed: int, count: int, action: str) -> list[dict[str, Any]]:
    """Rules with three patterns each, of all sorts."""
    chance = random.Random(seed)
    return [rule(f"{action.lower()}-{number}", action, *(pattern(chance) for _ in range(3))) for number in range(count)]


def numbered(count: int, action: str, prefix: str = "rule", **image: str) -> list[dict[str, Any]]:
    """As many rules, each with its number in the place of ``#``."""
    entries = ({key: text.replace("#", f"{number:04}") for key, text in image.items()} for number in range(count))
    return [rule(f"{prefix}-{number}", action, entry) for number, entry in enumerate(entries)]


SPECS: Final[Mapping[str, dict[str, Any]]] = {
    "exact": {
        "default": "Deny",
        "rules": [
            rule("ours", "Allow", OURS, {**OURS, "repository": "team/**"}),
            rule("hub", "Allow", HUB, {"registry": "docker.io", "repository": "team/app", "tag": "v*"}),
            rule("address", "Allow", {"registry": "[2001:db8::1:0:0:1]"}, {"registry": "[::1]:5000"}),
        ],
    },
    "lenient": {
        "default": "Allow",
        "rules": [
            rule(
                "evil", "Deny", {"registry": "*", "repository": "**/evil"}, {"registry": "*", "repository": "evil/**"}
            ),
            rule("latest", "Deny", {"registry": "*", "tag": "latest"}),
            rule("content", "Deny", {"registry": "*", "digest": SHA256}),
            rule("hub", "Deny", {"registry": "docker.io", "repository": "team/**"}),
        ],
    },
    "globs": {
        "default": "Deny",
        "rules": [
            rule("below", "Allow", {"registry": "*.example.com"}, {"registry": "*:*", "repository": "team*/**"}),
            rule("tags", "Allow", {"registry": "*", "repository": "**", "tag": "*.*.*"}),
            rule("not", "Deny", {"registry": "b.*.com"}, {"registry": "*", "repository": "*", "tag": "v1*"}),
        ],
    },
    "digests": {
        "default": "Allow",
        "require": {"digest": True, "forbidPullPolicyNever": True},
        "rules": [rule("evil", "Deny", {"registry": "*", "repository": "**/evil", "tag": "v*"})],
    },
    "versions": {
        "default": "Deny",
        "rules": [
            rule("stable", "Allow", {"registry": "*", "semver": ">=1.2 <2 || ^10.4"}),
            rule("broken", "Deny", {"registry": "*", "semver": "~1.4.2"}),
        ],
    },
    "always": {
        "default": "Deny",
        "require": {"imagePullPolicy": "Always"},
        "rules": [rule("ours", "Allow", {"registry": "*", "repository": "**/team/**"}, {"registry": "docker.io"})],
    },
    "own": {
        "default": "Deny",
        "rules": [
            rule("own", "Allow", *({"registry": "*", "repository": each} for each in OF_NAMESPACES)),
            rule("evil", "Deny", {"registry": "*", "repository": "**/evil"}),
            rule("hub", "Allow", HUB),
        ],
    },
    "uses": {
        "default": "Deny",
        "rules": [
            rule("ours", "Allow", {"registry": "registry.example.com"}, {"registry": "*", "repository": "a/**"}),
            {**rule("hub", "Allow", HUB, {"registry": "*", "tag": "v*"}), "usedBy": ["initContainers", "volumes"]},
            {**rule("team", "Allow", {"registry": "*", "repository": "team/**"}), "usedBy": ["containers"]},
            {**rule("evil", "Deny", {"registry": "*", "repository": "**/evil"}), "usedBy": ["containers"]},
            {**rule("latest", "Deny", {"registry": "*", "tag": "latest"}), "usedBy": ["initContainers"]},
        ],
    },
    "standing": {
        "default": "Deny",
        "require": {"forbidPullPolicyNever": True},
        "rules": [
            rule("ours", "Allow", {"registry": "*", "repository": "team/**"}),
            rule("evil", "Deny", {"registry": "*", "repository": "**/evil"}),
            rule("recalled", "Deny", *({"registry": "*", "digest": digest} for digest in (SHA256, OTHER))),
        ],
        "exceptions": [
            excepting("hub", HUB, {"registry": "*", "repository": "**/evil", "tag": "v*"}, namespaces=["gate-*"]),
            excepting("elsewhere", {"registry": "*"}, namespaces=["other-*", "x"]),
            excepting("named", {"registry": "*", "repository": "**", "digest": OTHER}),
        ],
    },
    "nothing": {"default": "Deny"},
    "anything": {"default": "Allow"},
    "allowing": {"default": "Deny", "rules": chosen(1, 16, "Allow")},
    "denying": {"default": "Allow", "rules": chosen(2, 3, "Deny")},
    "both": {"default": "Deny", "rules": [*chosen(3, 12, "Allow"), *chosen(4, 1, "Deny")]},
    "many": {
        "default": "Deny",
        "rules": [
            *numbered(150, "Allow", "below", registry="*.example.com", repository="**/#/*"),
            *numbered(150, "Allow", "official", registry="docker.io", repository="library/#"),
            *numbered(150, "Deny", "tag", registry="docker.io", repository="library/n*", tag="#*"),
            *numbered(150, "Deny", "team", registry="*", repository="#/**"),
            *chosen(5, 40, "Allow"),
            *chosen(6, 2, "Deny"),
        ],
    },
}


class Api:
    """The API server, spoken to over connections that are kept."""

    def __init__(self, cluster: Cluster) -> None:
        self._url = cluster.url
        folder = cluster.folder
        self._http = urllib3.PoolManager(
            ca_certs=str(cluster.ca),
            cert_file=str(folder / "admin.crt"),
            key_file=str(folder / "admin.key"),
            retries=False,
        )

    def call(self, method: str, path: str, body: object = None, kind: str = "json") -> urllib3.BaseHTTPResponse:
        content = None if body is None else json.dumps(body)
        return self._http.request(
            method, self._url + path, body=content, headers={"Content-Type": f"application/{kind}"}
        )

    def apply(self, *manifests: Manifest) -> None:
        for each in json.loads(json.dumps(manifests)):
            path = f"/apis/admissionregistration.k8s.io/v1/{PLURALS[each['kind']]}/{each['metadata']['name']}"
            answer = self.call("PATCH", f"{path}?fieldManager=trow&force=true", each, "apply-patch+yaml")
            assert answer.status in (200, 201), answer.data.decode()

    def create_namespace(self, name: str, labels: Mapping[str, str] | None = None) -> None:
        """With the account that Pods need; a controller would make it too."""
        for path, item in (("namespaces", name), (f"namespaces/{name}/serviceaccounts", "default")):
            metadata = {"name": item, "labels": dict(labels or {})}
            answer = self.call("POST", f"/api/v1/{path}", {"metadata": metadata})
            assert answer.status == 201 or answer.json()["reason"] == "AlreadyExists", answer.data.decode()

    def tried(self, method: str, path: str, body: object, kind: str = "json") -> Tried:
        """What would come of a request."""
        answer = self.call(method, f"{path}?dryRun=All", body, kind)
        message = answer.json().get("message", "") if answer.status >= 400 else ""
        return Tried(answer.status, message, answer.headers.get("Warning", ""))

    def close(self) -> None:
        self._http.clear()


@dataclass(frozen=True)
class Tried:
    status: int
    message: str
    warning: str

    def refused(self, policy: Policy) -> bool:
        """Whether the policy has stopped it; nothing but a policy may."""
        if self.status in (200, 201):
            return False
        assert name_of(policy) in self.message, self
        return True

    @property
    def malformed(self) -> bool:
        """The API server itself takes no image with spaces at its ends, nor an empty one."""
        return self.status == 422 and "ValidatingAdmissionPolicy" not in self.message


@dataclass(frozen=True)
class Gate:
    """A policy in force in a namespace of its own, in two programs."""

    api: Api
    namespace: str
    policy: Policy
    exceptions: Sequence[PolicyException] = field(default=())

    def verdict(self, item: Mapping[str, Any], old: Mapping[str, Any] | None = None) -> Verdict | None:
        """What the webhook would say."""
        group, _, version = str(item["apiVersion"]).rpartition("/")
        review = {
            "uid": "1",
            "kind": {"group": group, "version": version, "kind": item["kind"]},
            "operation": "CREATE" if old is None else "UPDATE",
            "namespace": self.namespace,
            "object": item,
            "oldObject": old,
        }
        rules = Rules((self.policy,), tuple(self.exceptions))
        try:
            request = ImageExtractor({}).of(received(review))
        except UnreadableObject as error:
            request = ImageExtractor({}).of(received({**review, "object": pod("a")}))
            assert request
            return unreadable(rules, request, str(error))
        compiled = replace(rules, policies=tuple(each.by_name_only for each in rules.policies))
        return judge(compiled, request, {}, NOW) if request else None

    def allows(self, item: Mapping[str, Any], old: Mapping[str, Any] | None = None) -> bool:
        verdict = self.verdict(item, old)
        return verdict is None or not verdict.denials(self.policy.mode)

    def create(self, item: Mapping[str, Any]) -> Tried:
        return self.api.tried("POST", path_of(item, self.namespace), item)

    def update(self, item: Mapping[str, Any], subresource: str = "") -> Tried:
        path = f"{path_of(item, self.namespace)}/{item['metadata']['name']}{subresource}"
        return self.api.tried("PATCH", path, {"spec": item["spec"]}, "strategic-merge-patch+json")

    def enforce(self) -> None:
        """Put it in force, and wait until it is."""
        self.apply()
        self.wait()

    def apply(self) -> None:
        self.api.apply(*compile_policy(self.policy, exceptions=self.exceptions, now=NOW).manifests)

    def wait(self) -> None:
        title = name_of(self.policy)

        makers = [] if self.policy.mode_of(Stage.CONTROLLER) is Mode.IGNORE else [maker("apps", "Deployment", CANARY)]

        def silent() -> list[Tried]:
            """What has no answer yet: what makes Pods may have a binding of its own, which comes later."""
            tried = [self.create(item) for item in (pod(CANARY), *makers)]
            return [each for each in tried if title not in each.message + each.warning]

        assert settles(lambda: not silent()), silent()


def received(review: Mapping[str, Any]) -> Review:
    return decode(envelope(review))


def path_of(item: Mapping[str, Any], namespace: str) -> str:
    prefix = "/api" if item["apiVersion"] == "v1" else "/apis"
    return f"{prefix}/{item['apiVersion']}/namespaces/{namespace}/{item['kind'].lower()}s"


def container(name: str, image: str, pull_policy: str = "Always") -> dict[str, str]:
    return {"name": name, "image": image, "imagePullPolicy": pull_policy}


def pod(*texts: str, pull_policy: str = "Always", **spec: object) -> dict[str, Any]:
    containers = [container(f"c{number}", text, pull_policy) for number, text in enumerate(texts)]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "tried"},
        "spec": {"containers": containers, **spec},
    }


def maker(group: str, kind: str, *texts: str, name: str = "tried") -> dict[str, Any]:
    """The smallest object of a kind that makes Pods with these images."""
    labels = {"app": "tried"}
    spec: dict[str, Any] = pod(*texts)["spec"]
    made: dict[str, Any] = {"metadata": {"labels": labels}, "spec": spec}
    if kind in ("Job", "CronJob"):
        spec["restartPolicy"] = "Never"
    made = made if kind == "PodTemplate" else {"spec": {"template": made}}
    if kind == "PodTemplate":
        made = {"template": made}
    if kind in ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"):
        made["spec"]["selector"] = {"matchLabels": labels}
    if kind in ("Deployment", "ReplicaSet", "StatefulSet", "ReplicationController"):
        made["spec"]["replicas"] = 0
    if kind == "StatefulSet":
        made["spec"]["serviceName"] = "tried"
    if kind == "CronJob":
        made = {"spec": {"schedule": "0 0 1 1 *", "suspend": True, "jobTemplate": made}}
    return {"apiVersion": f"{group}/v1" if group else "v1", "kind": kind, "metadata": {"name": name}, **made}


def parsed(text: str) -> images.ImageReference | None:
    try:
        return images.parse(text)
    except InvalidImage:
        return None


def policy_exception(namespace: str, policy: Policy, *patterns: ImagePattern) -> PolicyException:
    return PolicyException(
        name="incident-4711",
        reason="the registry of the supplier is down",
        requester="alice",
        approver="bob",
        begins=NOW - 60,
        duration=3600,
        namespaces=frozenset({namespace}),
        policies=frozenset({policy.title}),
        patterns=patterns,
    )


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Iterator[Api]:
    made = Api(cluster)
    yield made
    made.close()


def written(namespace: str, spec: Mapping[str, Any], name: str = "") -> Policy:
    """A policy of the cluster that is about one namespace."""
    item = {
        "apiVersion": "policy.trow.io/v1alpha1",
        "kind": "ClusterImagePolicy",
        "metadata": {"name": name or f"only-{namespace}"},
        "spec": {**spec, "namespaces": {"include": [namespace]}},
    }
    return policy_of(item)


def opened(api: Api, spec: Mapping[str, Any], namespace: str = "") -> Gate:
    """A gate that is not in force yet."""
    namespace = namespace or f"gate-{secrets.token_hex(4)}"
    api.create_namespace(namespace)
    return Gate(api, namespace, written(namespace, spec))


@pytest.fixture(scope="module")
def gates(api: Api) -> Mapping[str, Gate]:
    """All policies of `SPECS`, one of the configuration, one of a namespace, and one with an exception."""
    # Many names of images have this as a component, once or more.
    made = {name: opened(api, spec, "team" if name == "own" else "") for name, spec in SPECS.items()}
    allow, deny = ["registry.example.com/team/", "docker.io/nginx", "[::1]:5000"], ["registry.example.com/team/evil"]
    for name in ("configured", "namespaced", "excepted"):
        made[name] = opened(api, SPECS["exact"])
    configured, namespaced, excepted = made["configured"], made["namespaced"], made["excepted"]
    ours = configured_policy(Effect.DENY, allow, deny)
    made["configured"] = replace(
        configured, policy=replace(ours, namespaces=Namespaces((configured.namespace,)), name=configured.namespace)
    )
    made["namespaced"] = replace(
        namespaced,
        policy=replace(namespaced.policy, kind="ImagePolicy", namespace=namespaced.namespace, namespaces=Namespaces()),
    )
    patterns = ImagePattern.parse("*", "**", "v1*"), ImagePattern.parse("localhost:5000"), ImagePattern.parse("*.*.com")
    made["excepted"] = replace(
        excepted, exceptions=[policy_exception(excepted.namespace, excepted.policy, each) for each in patterns]
    )
    for gate in made.values():
        gate.apply()
    for gate in made.values():
        gate.wait()
    return made


GATES: Final = (*SPECS, "configured", "namespaced", "excepted")


@pytest.mark.parametrize("name", GATES)
def test_images_have_the_same_verdict(gates: Mapping[str, Gate], name: str) -> None:
    gate, chance = gates[name], random.Random(SEED)
    counted: Counter[bool] = Counter()
    wrong = []
    for text in names(SEED, NAMES):
        item = pod(text, pull_policy=chance.choice(PULL_POLICIES))
        tried, expected = gate.create(item), gate.allows(item)
        if tried.malformed:
            assert not expected
            continue
        counted[expected] += 1
        if tried.refused(gate.policy) is expected:
            wrong.append((text, tried))
    assert not wrong
    assert counted[False] > 100
    assert counted[True] > 15 or name == "nothing"


# Nobody knows what uses an image that is pulled.
@pytest.mark.parametrize("name", [name for name in GATES if name != "uses"])
async def test_all_three_gates_have_the_same_verdict(gates: Mapping[str, Gate], name: str, tmp_path: Path) -> None:
    """The API server by itself, the webhook, and the registry when a Pod of the namespace pulls.

    A pull is by a tag or by a digest, never by both, and says nothing of `imagePullPolicy`.
    """
    gate, counted, wrong = gates[name], Counter[bool](), []
    with contextlib.closing(Gatekeeper(tmp_path)) as keeper:
        keeper.clock.now = NOW
        keeper.policies.replace([gate.policy], gate.exceptions)
        for text in names(SEED + 1, 200):
            image = parsed(text)
            if image is None or (image.tag and image.digest):
                continue
            item = pod(text)
            verdicts = (
                not gate.create(item).refused(gate.policy),
                (await keeper.validate(item, namespace=gate.namespace)).allowed,
                await pulled(keeper, gate.namespace, image),
            )
            counted[verdicts[0]] += 1
            if len({*verdicts}) != 1:
                wrong.append((text, verdicts))
    assert not wrong
    assert counted.total() > 50


async def pulled(keeper: Gatekeeper, namespace: str, image: images.ImageReference) -> bool:
    """Whether the registry would give the image to a Pod of the namespace."""
    account = Identity(f"system:serviceaccount:{namespace}:default", Method.KUBERNETES, groups=("pods",))
    pullers = Pullers(frozenset(), frozenset({"pods"}))
    guard = PullPolicy(keeper.policies, keeper.judge, keeper.recorder, keeper.images, pullers, [image.registry])
    reference = image.digest or image.tag
    assert reference is not None
    record = ManifestRecord(Digest.of(b"{}"), OCI_IMAGE, b"{}")
    try:
        await guard.check(account, image.registry, image.repository, reference, record)
    except Denied:
        return False
    return True


@pytest.mark.parametrize("name", ["exact", "lenient", "digests", "both", "excepted", "uses", "standing"])
def test_objects_of_many_images_have_the_same_verdict(gates: Mapping[str, Gate], name: str) -> None:
    """Wherever an image is named: all kinds of containers and volumes count, and one is enough."""
    gate, chance = gates[name], random.Random(SEED)
    valid = [text for text in names(SEED, 3000) if parsed(text)]
    good = [text for text in valid if gate.allows(pod(text))]
    counted: Counter[bool] = Counter()
    for _ in range(100):
        item = crowded(chance, chance.choice((good, good, valid)))
        tried, expected = gate.create(item), gate.allows(item)
        assert tried.refused(gate.policy) is not expected, (item, tried)
        counted[expected] += 1
    assert min(counted[True], counted[False]) > 10, counted


def crowded(chance: random.Random, texts: Sequence[str]) -> dict[str, Any]:
    def some(prefix: str, least: int) -> list[dict[str, str]]:
        chosen_texts = [chance.choice(texts) for _ in range(chance.randrange(least, 3))]
        return [
            container(f"{prefix}{number}", text, chance.choice(("Always", "IfNotPresent")))
            for number, text in enumerate(chosen_texts)
        ]

    volumes = [
        {"name": each["name"], "image": {"reference": each["image"], "pullPolicy": each["imagePullPolicy"]}}
        for each in some("v", 0)
    ]
    return pod(containers=some("c", 1), initContainers=some("i", 0), volumes=[*volumes, {"name": "e", "emptyDir": {}}])


@pytest.mark.parametrize("field_name", ["containers", "initContainers", "volumes"])
def test_an_image_is_seen_wherever_it_is(gates: Mapping[str, Gate], field_name: str) -> None:
    gate = gates["exact"]
    for text, expected in (("docker.io/team/app", True), ("registry.example.com/team/app", False)):
        item = pod("nginx")
        volume = {"name": "x", "image": {"reference": text}}
        item["spec"].setdefault(field_name, []).append(volume if field_name == "volumes" else container("x", text))
        assert gate.create(item).refused(gate.policy) is expected
        assert gate.allows(item) is not expected


def test_names_are_compared_in_the_same_form(api: Api) -> None:
    """The API server shows what it makes of thousands of names."""
    gate = opened(api, SPECS["anything"])
    compiled = compile_policy(gate.policy)
    (shown,) = json.loads(json.dumps(compiled.policies))
    form = "variables.images.map(u, u[2]).join(' ')"
    shown["spec"]["validations"] = [
        {"expression": "false", "message": "failed", "messageExpression": f"'<' + {form} + '>'"}
    ]
    api.apply(shown, *compiled.bindings)
    assert settles(lambda: "<>" in gate.create(pod(CANARY)).message)
    read = 0
    for batch in batches([text for text in names(SEED + 1, 4000) if text.strip() == text and text]):
        expected = [compared(image) for image in map(parsed, batch) if image]
        message = gate.create(pod(*batch)).message
        assert message[message.index("<") + 1 : message.rindex(">")].split() == expected, batch
        read += len(expected)
    assert read > 1500


def batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """As many as fit into a message, with what is written in front of them."""
    batch: list[str] = []
    for text in texts:
        if sum(len(each) + 30 for each in (*batch, text)) > 4000:
            yield batch
            batch = []
        batch.append(text)
    yield batch


# Updates


RUNNING: Final = ("docker.io/evil/first:1", "docker.io/evil/second:1", "registry.example.com/team/app:1")


@pytest.fixture(scope="module")
def running(api: Api) -> Gate:
    """A namespace with a Pod that was there before the policy that refuses most of its images."""
    gate = opened(api, {**SPECS["exact"], "controllers": "enforce"})
    item = pod(*RUNNING[1:], initContainers=[container("i0", RUNNING[0], "IfNotPresent")])
    assert api.call("POST", path_of(item, gate.namespace), item).status == 201
    deployment = maker("apps", "Deployment", RUNNING[0])
    assert api.call("POST", path_of(deployment, gate.namespace), deployment).status == 201
    gate.enforce()
    return gate


def stored(gate: Gate, item: Mapping[str, Any]) -> dict[str, Any]:
    answer = gate.api.call("GET", f"{path_of(item, gate.namespace)}/{item['metadata']['name']}")
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("seed", range(3))
def test_an_update_is_asked_about_what_is_new(running: Gate, seed: int) -> None:
    chance = random.Random(seed)
    old = stored(running, pod(""))
    pool = (*RUNNING, *RUNNING, "nginx", "docker.io/evil/third:1", "docker.io/evil/first", "[::1]:5000/x", "Nginx")
    counted: Counter[bool] = Counter()
    for _ in range(60):
        new = json.loads(json.dumps(old))
        for each in (*new["spec"]["containers"], *new["spec"]["initContainers"]):
            each["image"] = chance.choice((each["image"], chance.choice(pool)))
        expected = running.allows(new, old)
        changed = {key: new["spec"][key] for key in ("containers", "initContainers")}
        tried = running.update({**new, "spec": changed})
        assert tried.refused(running.policy) is not expected, (changed, tried)
        counted[expected] += 1
    assert min(counted[True], counted[False]) > 10, counted


@pytest.mark.parametrize(
    ("text", "pull_policy"),
    [
        ("nginx", "Always"),
        ("docker.io/evil/second:1", "Always"),
        ("docker.io/evil/second:1", "Never"),
        ("docker.io/evil/second:1", "IfNotPresent"),
        ("docker.io/evil/first:1", "IfNotPresent"),
        ("docker.io/evil/first:1", "Always"),
        ("docker.io/evil/third:1", "Always"),
        ("registry.example.com/team/app@", "Always"),
    ],
)
def test_an_ephemeral_container_is_asked_about(running: Gate, text: str, pull_policy: str) -> None:
    old = stored(running, pod(""))
    more = {"ephemeralContainers": [container("debug", text, pull_policy)]}
    expected = running.allows({**old, "spec": {**old["spec"], **more}}, old)
    tried = running.update({**old, "spec": more}, "/ephemeralcontainers")
    assert tried.refused(running.policy) is not expected, tried


def test_ephemeral_containers_are_both_let_in_and_kept_out(running: Gate) -> None:
    """So that the test above has two answers to compare."""
    old = stored(running, pod(""))
    spec = {"ephemeralContainers": [container("debug", "docker.io/evil/third:1")]}
    assert running.update({**old, "spec": spec}, "/ephemeralcontainers").status == 403
    spec = {"ephemeralContainers": [container("debug", "nginx")]}
    assert running.update({**old, "spec": spec}, "/ephemeralcontainers").status == 200


def test_what_makes_pods_can_be_updated_while_its_images_stay(running: Gate) -> None:
    old = maker("apps", "Deployment", RUNNING[0])
    path = f"{path_of(old, running.namespace)}/tried"
    scaled = running.api.tried("PATCH", path, {"spec": {"minReadySeconds": 5}}, "strategic-merge-patch+json")
    assert scaled.status == 200
    assert running.update(maker("apps", "Deployment", RUNNING[1])).status == 403
    assert running.update(maker("apps", "Deployment", "nginx")).status == 200


def test_labels_of_a_pod_can_be_changed_that_would_not_be_let_in(running: Gate) -> None:
    path = f"/api/v1/namespaces/{running.namespace}/pods/tried"
    labelled = running.api.tried("PATCH", path, {"metadata": {"labels": {"a": "b"}}}, "merge-patch+json")
    assert labelled.status == 200


# What makes Pods, and what comes of denials

MAKERS: Final = [key for key in POD_SPECS if key[1] != "Pod"]


@pytest.mark.parametrize("controllers", ["warn", "enforce", "ignore"])
def test_what_makes_pods_is_answered_early(api: Api, controllers: str) -> None:
    gate = opened(api, {**SPECS["exact"], "controllers": controllers})
    gate.enforce()
    for group, kind in MAKERS:
        good, bad = (gate.create(maker(group, kind, text)) for text in ("nginx", "docker.io/evil/first:1"))
        assert (good.status, good.warning) == (201, ""), (kind, good)
        verdict = gate.verdict(maker(group, kind, "docker.io/evil/first:1"))
        assert verdict
        refused = controllers == "enforce" or (kind == "Job" and controllers == "warn")
        assert bool(verdict.denials(Mode.ENFORCE)) is (bad.status == 403) is refused, (kind, bad)
        warned = "docker.io/evil/first:1 is not allowed by any rule" in bad.warning
        assert bool(verdict.denials(Mode.WARN)) is warned is (controllers == "warn" and not refused), (kind, bad)
    assert gate.create(pod("docker.io/evil/first:1")).status == 403


def test_in_the_mode_warn_everything_is_let_in_with_a_warning(api: Api) -> None:
    gate = opened(api, {**SPECS["exact"], "mode": "warn", "controllers": "enforce"})
    gate.enforce()
    for item in (pod("docker.io/evil/first:1"), maker("apps", "Deployment", "docker.io/evil/first:1")):
        tried = gate.create(item)
        assert tried.status == 201
        assert "docker.io/evil/first:1 is not allowed by any rule" in tried.warning
    assert gate.create(pod("nginx")).warning == ""


def test_in_the_mode_audit_nobody_notices(api: Api) -> None:
    gate = opened(api, {**SPECS["exact"], "mode": "audit"})
    compiled = compile_policy(gate.policy)
    api.apply(*compiled.manifests)

    def noted() -> bool:
        tried = gate.create(pod("docker.io/evil/first:1"))
        assert (tried.status, tried.warning) == (201, "")
        lines = api.call("GET", "/metrics").data.decode().splitlines()
        mine = [line for line in lines if f'policy="{name_of(gate.policy)}"' in line]
        return any('enforcement_action="audit"' in line for line in mine)

    assert settles(noted)


def test_namespaces_by_globs(api: Api) -> None:
    prefix = f"glob{secrets.token_hex(4)}"
    namespaces = [f"{prefix}-{end}" for end in ("a", "b", "b-test", "c")]
    for each in namespaces:
        api.create_namespace(each)
    made = written("x", SPECS["exact"], name=prefix)
    policy = replace(made, namespaces=Namespaces((f"{prefix}-*",), ("*-test", f"{prefix}-c")))
    (judged, excluded, *others) = (Gate(api, each, policy) for each in namespaces)
    compiled = compile_policy(policy, excluded=[excluded.namespace])
    api.apply(*compiled.manifests)
    assert settles(lambda: judged.create(pod(CANARY)).status == 403)
    for gate in (excluded, *others):
        assert gate.create(pod("docker.io/evil/first:1")).status == 201
    assert [policy.applies(each) for each in namespaces] == [True, True, False, False]


SELECTORS: Final = (
    Selector((LabelRequirement("tier", Operator.IN, ("prod", "live")),)),
    Selector((LabelRequirement("tier", Operator.NOT_IN, ("prod",)),)),
    Selector(
        (LabelRequirement("tier", Operator.EXISTS), LabelRequirement("example.com/team", Operator.NOT_IN, ("x",)))
    ),
    Selector((LabelRequirement("tier", Operator.DOES_NOT_EXIST),)),
)
LABELLED: Final[Sequence[Mapping[str, str]]] = (
    {},
    {"tier": "prod"},
    {"tier": "live", "example.com/team": "x"},
    {"tier": ""},
    {"example.com/team": "y"},
)


@pytest.mark.parametrize("selector", SELECTORS, ids=str)
def test_namespaces_by_labels(api: Api, selector: Selector) -> None:
    prefix = f"label{secrets.token_hex(4)}"
    namespaces = {f"{prefix}-{number}": labels for number, labels in enumerate(LABELLED)}
    for name, labels in namespaces.items():
        api.create_namespace(name, labels)
    made = written("x", SPECS["exact"], name=prefix)
    policy = replace(made, namespaces=Namespaces((f"{prefix}-*",), selector=selector))
    api.apply(*compile_policy(policy).manifests)
    judged = {name: policy.applies(name, labels) for name, labels in namespaces.items()}
    assert set(judged.values()) == {True, False}
    gates = {name: Gate(api, name, policy) for name in namespaces}
    assert settles(lambda: all(gates[name].create(pod(CANARY)).status == 403 for name in judged if judged[name]))
    for name, about in judged.items():
        assert (gates[name].create(pod(CANARY)).status == 403) is about, namespaces[name]


def test_an_exception_is_over_in_the_api_server_while_no_trow_runs(api: Api) -> None:
    """What was compiled a minute ago knows that by now it is over, but for objects that are there already."""
    gate = opened(api, SPECS["exact"])
    first, second = (ImagePattern.parse("docker.io", f"evil/{name}", "1") for name in ("first", "second"))
    over = replace(policy_exception(gate.namespace, gate.policy, first), duration=50)
    active = policy_exception(gate.namespace, gate.policy, second)
    api.apply(*compile_policy(gate.policy, exceptions=[over, active], now=NOW - 50).manifests)
    gate.wait()
    assert gate.create(pod("docker.io/evil/second:1")).status == 201
    first_again = pod("docker.io/evil/first:1")
    assert gate.create(first_again).status == 403
    first_again["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"  # which nobody believes
    assert gate.create(first_again).status == 403
    running = pod("docker.io/evil/second:1")
    assert api.call("POST", path_of(running, gate.namespace), running).status == 201
    assert gate.update(pod("docker.io/evil/first:1")).status == 200


def test_an_exception_is_over_when_the_policy_is_compiled_without_it(api: Api) -> None:
    gate = opened(api, SPECS["exact"])
    patterns = ImagePattern.parse("docker.io", "evil/first", "1")
    excepted = replace(gate, exceptions=[policy_exception(gate.namespace, gate.policy, patterns)])
    excepted.enforce()
    item = pod("docker.io/evil/first:1")
    assert settles(lambda: excepted.create(item).status == 201)
    assert excepted.create(pod("docker.io/evil/first:2")).status == 403
    assert excepted.create(pod(f"docker.io/evil/first:1@{SHA256}")).status == 201  # the webhook asks the registry
    compiled = compile_policy(gate.policy, exceptions=excepted.exceptions, now=excepted.exceptions[0].ends)
    api.apply(*compiled.manifests)
    assert settles(lambda: gate.create(item).status == 403)


# Words


def test_a_refusal_says_what_where_and_what_would_pass(gates: Mapping[str, Gate]) -> None:
    gate = gates["exact"]
    said = gate.create(pod("nginx", "team/app", "evil/app")).message
    allowed = "use one of registry.example.com/**, registry.example.com/team/**, docker.io/library/* or 3 more"
    title = gate.policy.title
    assert (
        f"container c1: docker.io/team/app:latest is not allowed by any rule ({title}, default); {allowed}; and 1 more"
        in said
    )


def test_a_refusal_names_the_rules(gates: Mapping[str, Gate]) -> None:
    said = gates["lenient"].create(pod("TEAM/evil")).message
    assert "container c0: team:443/evil:latest is denied (" in said
    assert ", evil, latest); use an image that this rule does not match" in said


@pytest.mark.parametrize(
    ("gate", "text", "pull_policy", "said"),
    [
        (
            "digests",
            "nginx",
            "Always",
            "docker.io/library/nginx:latest has no digest (#, require.digest); write it with",
        ),
        ("digests", f"nginx@{SHA256}", "Never", f"@{SHA256} is never pulled, so its content is unknown (#, require."),
        (
            "always",
            "nginx",
            "IfNotPresent",
            "has an imagePullPolicy other than Always (#, require.imagePullPolicy); write",
        ),
        ("versions", "nginx:1.4.3", "Always", "docker.io/library/nginx:1.4.3 is denied (#, broken); use an image"),
        ("versions", "nginx:2.0.0", "Always", "any rule (#, default); use one of */**:semver(>=1.2 <2 || ^10.4)"),
        ("nothing", "nginx", "Always", "any rule (#, default); this policy allows nothing yet: it needs a rule"),
        ("anything", 'a"\n\\', "Always", r'container c0: "a\"\n\\" is not the name of an image (#, invalid-image)'),
        ("anything", "\u00e9" * 4000, "Always", f'"{"é" * 200}..." is not the name of an image'),
    ],
)
def test_what_is_said(gates: Mapping[str, Gate], gate: str, text: str, pull_policy: str, said: str) -> None:
    message = gates[gate].create(pod(text, pull_policy=pull_policy)).message
    assert said.replace("#", gates[gate].policy.title) in message


def test_a_policy_has_no_warnings_of_its_own(cluster: Cluster, gates: Mapping[str, Gate]) -> None:
    """Types are checked for every kind that a policy is about."""

    def checked(gate: Gate) -> bool:
        path = f"/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/{name_of(gate.policy)}"
        status = gate.api.call("GET", path).json().get("status", {})
        assert not status.get("typeChecking", {}).get("expressionWarnings")
        return "typeChecking" in status

    with cluster.checking_types():
        until(lambda: all(checked(gate) for gate in gates.values()), CHECKED_SECONDS)


# Size


@pytest.mark.parametrize("action", ["Allow", "Deny"])
@pytest.mark.parametrize(
    ("entry", "image"),
    [
        (
            {"registry": "registry-#.example.com", "repository": "team-#/**"},
            "registry-#.example.com/team-#/application:v1.2.3",
        ),
        (
            {"registry": "registry.example.com", "repository": "team/applications/application-#"},
            "registry.example.com/team/applications/application-#:v1.2.3",
        ),
        (
            {"registry": "*.example.com", "repository": "team-#/**/application"},
            "registry.example.com/team-#/of/the/first/floor/application:v1.2.3",
        ),
        (
            {"registry": "registry.example.com", "repository": "team/app", "tag": "*-#*"},
            "registry.example.com/team/app:v1.2.3-#1",
        ),
        (
            {"registry": "registry.example.com", "repository": "team/app", "digest": f"{SHA256[:-4]}#"},
            f"registry.example.com/team/app:v1.2.3@{SHA256[:-4]}#",
        ),
    ],
    ids=["registries", "applications", "globs", "tags", "digests"],
)
def test_a_thousand_rules_judge_a_pod_of_ten_images(api: Api, action: str, entry: dict[str, str], image: str) -> None:
    spec = {"default": "Deny" if action == "Allow" else "Allow", "rules": numbered(1000, action, **entry)}
    gate = opened(api, spec)
    gate.enforce()
    listed = [image.replace("#", f"{number:04}") for number in range(0, 1000, 100)]
    others = [
        text.replace("registry", "other").replace("-0", "-x").replace(SHA256[:40], SHA256[:39] + "f") for text in listed
    ]
    good, bad = (listed, others) if action == "Allow" else (others, listed)
    tried = gate.create(pod(*good))
    assert tried.status == 201, tried
    tried = gate.create(pod(*good[:-1], bad[-1]))
    assert tried.refused(gate.policy)
    assert f"container c9: {bad[-1]} is" in tried.message
    assert action == "Allow" or f"({gate.policy.title}, rule-900)" in tried.message
    assert gate.create(pod(*bad)).message.endswith("; and 9 more")


def test_more_images_than_anything_runs_are_refused(gates: Mapping[str, Gate]) -> None:
    gate = gates["anything"]
    item = pod(*("nginx",) * 1001)
    tried = gate.create(item)
    assert tried.refused(gate.policy)
    assert not gate.allows(item)
    assert "more than 1000 images" in tried.message


# Files on the API server's disk


class StaticCluster(Cluster):
    """A control plane that reads policies from a folder (KEP-5793)."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        policies = folder / "policies"
        policies.mkdir()
        plugin = {
            "name": "ValidatingAdmissionPolicy",
            "configuration": {
                "apiVersion": "apiserver.config.k8s.io/v1",
                "kind": "ValidatingAdmissionPolicyConfiguration",
                "staticManifestsDir": str(policies),
            },
        }
        configuration = folder / "admission.json"
        kind = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration"}
        configuration.write_text(json.dumps({**kind, "plugins": [plugin]}), encoding="utf-8")
        compiled = compile_policy(written("default", SPECS["exact"]), static=True)
        items = {"apiVersion": "v1", "kind": "List", "items": [*compiled.manifests]}
        (policies / "trow.json").write_text(json.dumps(items), encoding="utf-8")
        more = ("--feature-gates", "ManifestBasedAdmissionControlConfig=true")
        self._api.flags += [*more, "--admission-control-config-file", str(configuration)]


def test_static_files_are_in_force_from_the_start(tmp_path: Path) -> None:
    with StaticCluster.start(tmp_path, controllers=False) as bare:
        bare.kubectl("create", "serviceaccount", "default")
        api = Api(bare)
        gate = Gate(api, "default", written("default", SPECS["exact"]))
        assert "No resources found" in bare.kubectl("get", "validatingadmissionpolicies", check=False)
        assert gate.create(pod("docker.io/evil/first:1")).refused(gate.policy)
        assert gate.create(pod("nginx")).status == 201
        api.close()
