"""The webhooks that Trow writes into a real cluster: never too early, never more than it takes, and kept like that."""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import pytest

from support.home import KINDS, Home, asks
from support.policies import CLUSTER_POLICY, document, policy, rule
from support.waiting import until
from support.webhooks import ALIEN, OURS, CertManager

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.cluster import Cluster

DIGEST: Final = f"sha256:{'0' * 64}"
DOWN: Final = 'failed calling webhook "must-'
BY_RULES: Final = "ValidatingAdmissionPolicy"


@pytest.fixture
def home(cluster: Cluster, crds: None, namespace: str, tmp_path: Path) -> Iterator[Home]:
    found = Home(cluster, namespace, tmp_path)
    try:
        yield found
    finally:
        found.uninstall()
        cluster.kubectl("delete", CLUSTER_POLICY, "--all")
        with contextlib.suppress(AssertionError):
            chosen = ("--selector", "app.kubernetes.io/managed-by=trow")
            cluster.kubectl("delete", "validatingadmissionpolicybindings,validatingadmissionpolicies", *chosen)


def configuration(home: Home, kind: str = KINDS[0]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(home.cluster.kubectl("get", kind, "trow", "--output", "json"))
    return found


def names(home: Home, kind: str = KINDS[0]) -> list[str]:
    return [each["name"] for each in configuration(home, kind).get("webhooks", [])]


def decree(home: Home, name: str, **fields: object) -> None:
    """Have a policy, in force by Trow and as far as possible by the API server."""
    home.cluster.apply(json.dumps(document(CLUSTER_POLICY, policy(**fields), f"{home.place}-{name}")))
    for condition in ("Ready", "Compiled"):
        home.cluster.kubectl("wait", f"{CLUSTER_POLICY}/{home.place}-{name}", "--for", f"condition={condition}")


# ---- when they are written


def test_from_the_start_on_every_pod_is_created_that_may_be(home: Home) -> None:
    """Whatever moment it is: nobody has to wait for Trow, and nobody fails because it is not called yet."""
    done = threading.Event()
    with ThreadPoolExecutor(3) as pool:
        loads = [pool.submit(hammer, home, done) for _ in range(3)]
        try:
            with home.start() as trow:
                home.wait_until_asked()
                until(lambda: asks(trow))
                for kind in KINDS:  # as whoever keeps their cluster in Git does
                    home.cluster.apply(json.dumps(configuration(home, kind)))
                home.wait_until_asked()
                done.set()
                assert [each.result() for each in loads] == [set()] * 3
        finally:
            done.set()


def hammer(home: Home, done: threading.Event) -> set[tuple[int, str]]:
    """Have Pods created again and again that may be; what came of those that were not."""
    refused = set()
    while not done.is_set():
        if (answer := home.create(OURS)) != (201, ""):
            refused.add(answer)
    return refused


def test_an_address_that_the_api_server_cannot_reach_stops_nobody(home: Home) -> None:
    with home.start(url="https://127.0.0.1:1") as trow:
        until(lambda: b"connect: connection refused" in trow.stderr.read_bytes())
        assert names(home) == ["reach.trow.io"]
        assert home.create(ALIEN) == (201, "")
        assert not asks(trow)


def test_a_stranger_at_the_address_is_not_taken_for_trow(home: Home, tmp_path: Path) -> None:
    """The certificate is that of another one, for the name is the same."""
    with stranger(tmp_path / "stranger") as address, home.start(url=f"https://{address}") as trow:
        until(lambda: b"failed calling webhook" in trow.stderr.read_bytes())
        assert names(home) == ["reach.trow.io"]
        assert home.create(ALIEN) == (201, "")


@contextlib.contextmanager
def stranger(folder: Path) -> Iterator[str]:
    """A server with a certificate of somebody else, at HOST:PORT; it answers nothing."""
    issued = CertManager(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.settings["certificate"], issued.settings["key"])

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def serve() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
        place.put(server.sockets[0].getsockname()[1])
        await ended.wait()
        server.close()

    place: queue.Queue[int] = queue.Queue()
    loop, ended = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        yield f"127.0.0.1:{place.get(timeout=30)}"
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


def test_a_new_address_takes_over_when_it_is_reached(home: Home) -> None:
    with home.start() as trow:
        home.wait_until_asked()
        until(lambda: asks(trow))
        before = configuration(home)["webhooks"][0]["clientConfig"]["url"]
    with home.start(url="https://127.0.0.1:1") as trow:
        until(lambda: b"connect: connection refused" in trow.stderr.read_bytes())
        *asked, probe = configuration(home)["webhooks"]
        assert {each["clientConfig"]["url"] for each in asked} == {before}
        assert probe["clientConfig"]["url"].startswith("https://127.0.0.1:1/")
        assert "denied the request" in home.create(ALIEN)[1]


def test_a_restart_writes_nothing(home: Home) -> None:
    with home.start() as trow:
        until(lambda: asks(trow))
        before = [configuration(home, kind)["metadata"]["resourceVersion"] for kind in KINDS]
    with home.start() as trow:
        until(lambda: trow.stderr.read_bytes().count(b"the API server asks Trow") == 2)
        assert [configuration(home, kind)["metadata"]["resourceVersion"] for kind in KINDS] == before


def test_a_restart_with_compiled_policies_writes_nothing(home: Home) -> None:
    """Not even for a moment is an answer insisted on that nobody needs: it could be the last moment of this Trow."""
    with home.start(policies=True) as trow:
        decree(home, "ours", rules=[rule()], namespaces={"include": [home.place]})
        until(lambda: asks(trow))
        until(lambda: names(home) == ["validate.trow.io", "reach.trow.io"])
        before = configuration(home)["metadata"]["resourceVersion"]
    with home.start(policies=True) as trow:
        until(lambda: trow.stderr.read_bytes().count(b"the API server asks Trow") == 2)
        assert configuration(home)["metadata"]["resourceVersion"] == before


def test_without_the_right_the_log_says_which(home: Home) -> None:
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "trow-admission"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": "trow", "namespace": home.place}],
    }
    home.cluster.kubectl("delete", "clusterrolebinding", "trow-admission")
    home.cluster.apply(json.dumps(binding))
    try:
        with home.start() as trow:
            until(lambda: b"resources: [validatingwebhookconfigurations], verbs: [get]" in trow.stderr.read_bytes())
            assert home.create(ALIEN) == (201, "")
    finally:
        home.cluster.kubectl("delete", "clusterrolebinding", "trow-admission")


# ---- kept


def test_what_somebody_else_changes_is_put_back(home: Home) -> None:
    with home.start() as trow:
        until(lambda: asks(trow))
        changed, deleted = KINDS
        wanted = {kind: configuration(home, kind)["webhooks"] for kind in KINDS}
        change = [
            {"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Fail"},
            {"op": "replace", "path": "/webhooks/0/namespaceSelector", "value": {"matchLabels": {"a": "b"}}},
        ]
        home.cluster.kubectl("patch", changed, "trow", "--type=json", "--patch", json.dumps(change))
        home.cluster.kubectl("delete", deleted, "trow")
        until(lambda: "NotFound" not in home.cluster.kubectl("get", deleted, "trow", check=False))
        until(lambda: {kind: configuration(home, kind).get("webhooks") for kind in KINDS} == wanted)
        home.wait_until_asked()


def test_what_somebody_else_makes_narrower_is_put_back(home: Home) -> None:
    with home.start() as trow:
        until(lambda: asks(trow))
        wanted = {kind: configuration(home, kind)["webhooks"] for kind in KINDS}
        for kind, member in zip(KINDS, ("namespaceSelector", "objectSelector"), strict=True):
            change = [{"op": "add", "path": f"/webhooks/0/{member}/matchLabels", "value": {"a": "b"}}]
            patch = ("patch", kind, "trow", "--type=json", "--patch", json.dumps(change), "--output", "json")
            assert json.loads(home.cluster.kubectl(*patch))["webhooks"] != wanted[kind]  # for a moment at least
        until(lambda: {kind: configuration(home, kind)["webhooks"] for kind in KINDS} == wanted)


def test_the_webhooks_of_a_file_that_was_applied_by_hand_are_taken_over(home: Home) -> None:
    """Those of an older Trow: with a Service, without an authority, so that nothing starts until Trow is reached."""
    by_hand = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "trow"},
        "webhooks": [
            {
                "name": "validate.trow.io",
                "admissionReviewVersions": ["v1"],
                "clientConfig": {"service": {"namespace": home.place, "name": "trow", "path": "/admission/validate"}},
                "rules": [{"apiGroups": [""], "apiVersions": ["*"], "resources": ["pods"], "operations": ["CREATE"]}],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": home.place}},
                "failurePolicy": "Fail",
                "sideEffects": "None",
            }
        ],
    }
    home.cluster.apply(json.dumps(by_hand))
    with home.start() as trow:
        until(lambda: asks(trow))
        assert names(home) == ["validate.trow.io", "must-validate.trow.io", "reach.trow.io"]
        home.wait_until_asked()
        assert home.create(OURS) == (201, "")


NARROWER: Final = {"matchLabels": {"a": "b"}}


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("validatingadmissionpolicies", "matchConditions", [{"name": "never", "expression": "false"}]),
        ("validatingadmissionpolicies", "matchConstraints/objectSelector", NARROWER),
        ("validatingadmissionpolicybindings", "matchResources", {"objectSelector": NARROWER}),
    ],
)
def test_what_somebody_else_changes_in_compiled_policies_is_put_back(
    home: Home, kind: str, path: str, value: object
) -> None:
    with home.start(policies=True):
        decree(home, "only-ours", rules=[rule()], namespaces={"include": [home.place]})
        before = compiled(home, kind)
        change = [{"op": "add", "path": f"/spec/{path}", "value": value}]
        name = next(name for name in before if not name.startswith("controllers."))
        said = home.cluster.kubectl("patch", kind, name, "--type=json", "--patch", json.dumps(change))
        assert said.rstrip().endswith(" patched")
        until(lambda: compiled(home, kind) == before)


def compiled(home: Home, kind: str) -> dict[str, Any]:
    """What is written, by name."""
    found = home.cluster.kubectl("get", kind, "--selector", "app.kubernetes.io/managed-by=trow", "--output", "json")
    return {item["metadata"]["name"]: item["spec"] for item in json.loads(found)["items"]}


# ---- while no Trow runs


def test_what_rules_alone_decide_is_decided_without_trow(home: Home) -> None:
    here = {"namespaces": {"include": [home.place]}}
    with home.start(policies=True) as trow:
        decree(home, "ours", rules=[rule()], **here)
        until(lambda: asks(trow))
        until(lambda: names(home) == ["validate.trow.io", "reach.trow.io"])
        until(lambda: names(home, KINDS[1]) == ["mutate.trow.io"])
        until(lambda: BY_RULES in home.create(ALIEN)[1])
    until(lambda: home.create(OURS) == (201, ""))
    assert BY_RULES in home.create(ALIEN)[1]


@pytest.mark.parametrize("fields", [{"require": {"exists": True}}, {"mutate": {"pinDigests": True}}])
def test_what_takes_more_than_rules_does_not_start_without_trow(home: Home, fields: dict[str, Any]) -> None:
    with home.start(policies=True) as trow:
        decree(home, "strict", rules=[rule()], namespaces={"include": [home.place]}, **fields)
        until(lambda: asks(trow))
        kind = KINDS["mutate" in fields]
        until(lambda: any(each.startswith("must-") for each in names(home, kind)))
    until(lambda: DOWN in home.create(OURS)[1])
    other = json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"{home.place}-other"}})
    home.cluster.apply(other)
    home.cluster.kubectl("create", "serviceaccount", "default", "--namespace", f"{home.place}-other", check=False)
    run = ("run", "web", "--image", ALIEN, "--namespace", f"{home.place}-other", "--dry-run=server")
    until(lambda: "created" in home.cluster.kubectl(*run, check=False))


def test_where_a_tag_is_allowed_only_a_digest_beside_it_waits_for_trow(home: Home) -> None:
    image = {"registry": "registry.example.com", "tag": "v*"}
    with home.start(policies=True, registries=["registry.example.com"]) as trow:
        decree(home, "releases", rules=[rule("r", "Allow", image)], namespaces={"include": [home.place]})
        until(lambda: asks(trow) and "must-validate.trow.io" in names(home))
        until(lambda: "denied the request" in home.create(f"registry.example.com/app:v1@{DIGEST}")[1])
        until(lambda: BY_RULES in home.create("registry.example.com/app:other")[1])  # the rules, too, are in force
    until(lambda: DOWN in home.create(f"registry.example.com/app:v1@{DIGEST}")[1])
    assert home.create("registry.example.com/app:v1") == (201, "")
    assert BY_RULES in home.create("registry.example.com/app:other")[1]


def test_where_a_digest_is_denied_only_our_tags_wait_for_trow(home: Home) -> None:
    recalled = {"registry": "registry.example.com", "repository": "app", "digest": DIGEST}
    with home.start(policies=True, registries=["registry.example.com"]) as trow:
        decree(
            home, "recalled", default="Allow", rules=[rule("r", "Deny", recalled)], namespaces={"include": [home.place]}
        )
        until(lambda: asks(trow) and "must-validate.trow.io" in names(home))
        until(lambda: BY_RULES in home.create(f"registry.example.com/app@{DIGEST}")[1])
    until(lambda: DOWN in home.create("registry.example.com/app:v1")[1])
    assert DOWN in home.create("REGISTRY.example.com:443/app:v1")[1]
    assert home.create(ALIEN) == (201, "")
    assert home.create(f"registry.example.com/app@sha256:{'1' * 64}") == (201, "")
    assert BY_RULES in home.create(f"registry.example.com/app@{DIGEST}")[1]


CRON: Final = {
    "apiVersion": "batch/v1",
    "kind": "CronJob",
    "metadata": {"name": "web"},
    "spec": {
        "schedule": "0 0 1 1 *",
        "jobTemplate": {
            "spec": {
                "template": {
                    "spec": {"containers": [{"name": "web", "image": ALIEN}], "restartPolicy": "Never"},
                }
            }
        },
    },
}


def test_without_trow_too_jobs_of_a_cron_job_do_not_pile_up(home: Home) -> None:
    kubectl = home.cluster.kubectl
    with home.start(policies=True) as trow:
        decree(home, "ours", rules=[rule()], namespaces={"include": [home.place]})
        until(lambda: asks(trow) and BY_RULES in home.create(ALIEN)[1])
        until(lambda: names(home) == ["validate.trow.io", "reach.trow.io"])  # a Trow that ended changes them no more
    create = ("create", "--namespace", home.place, "--filename", "-")
    until(lambda: "cronjob.batch/web created" in kubectl(*create, input=json.dumps(CRON), check=False))
    due = ("patch", "cronjob/web", "--namespace", home.place, "--subresource", "status", "--type", "merge", "--patch")
    kubectl(*due, '{"status": {"lastScheduleTime": "2020-06-01T00:00:00Z"}}')
    events = ("get", "events", "--namespace", home.place, "--field-selector", "involvedObject.kind=CronJob")
    told = until(lambda: kubectl(*events, "--output", "jsonpath={.items[*].message}"))
    assert BY_RULES in told
    assert f"container web: {ALIEN} is not allowed by any rule" in told
    assert kubectl("get", "jobs", "--namespace", home.place, "--output", "name") == ""


def test_where_a_policy_is_about_labels_no_other_namespace_waits_for_trow(home: Home) -> None:
    """One that is made while no Trow runs may be meant, and waits."""
    named = [f"{home.place}-{which}" for which in ("meant", "other", "new")]

    def make(name: str, tier: str) -> None:
        labels = {home.place: tier}
        item = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        home.cluster.apply(json.dumps(item))
        home.cluster.kubectl("create", "serviceaccount", "default", "--namespace", name, check=False)

    def run(name: str) -> str:
        return home.cluster.kubectl("run", "web", "--image", OURS, "--namespace", name, "--dry-run=server", check=False)

    meant, other, new = named
    make(other, "prod")
    make(meant, "prod")
    with home.start(policies=True) as trow:
        decree(
            home,
            "strict",
            rules=[rule()],
            require={"exists": True},
            namespaceSelector={"matchLabels": {home.place: "prod"}},
        )
        until(lambda: asks(trow) and "must-validate.trow.io" in names(home))
        make(other, "test")
        until(lambda: f'"{other}"' in json.dumps(configuration(home)).replace("\\", ""))
    until(lambda: DOWN in run(meant))
    until(lambda: "created" in run(other))
    assert home.create(OURS) == (201, "")
    make(new, "test")
    until(lambda: DOWN in run(new))


def test_where_pods_are_changed_what_makes_them_waits_for_trow(home: Home) -> None:
    """The API server does not know the names that their images get, so the compiled rules leave it alone."""
    through = {"docker.io": "registry.example.com/f/docker.io"}

    def deploy(image: str) -> str:
        asked = ("create", "deployment", "web", "--image", image, "--namespace", home.place, "--dry-run=server")
        return home.cluster.kubectl(*asked, check=False)

    with home.start(policies=True, registries=["registry.example.com"], pull_through=through) as trow:
        fields = {"controllers": "enforce", "namespaces": {"include": [home.place]}}
        decree(home, "ours", rules=[rule()], mutate={"pullThrough": True}, **fields)
        until(lambda: asks(trow) and "must-validate.trow.io" in names(home))
        until(lambda: "created" in deploy("nginx"))
        until(lambda: "quay.io/a/b:1 is not allowed by any rule" in deploy("quay.io/a/b:1"))
        assert BY_RULES not in deploy("quay.io/a/b:1")
        until(lambda: BY_RULES in home.create("quay.io/a/b:1")[1])
    until(lambda: DOWN in deploy("nginx"))


def test_when_the_policy_goes_nothing_waits_any_more(home: Home) -> None:
    with home.start(policies=True) as trow:
        decree(home, "strict", require={"exists": True}, namespaces={"include": [home.place]})
        until(lambda: asks(trow) and "must-validate.trow.io" in names(home))
        home.cluster.kubectl("delete", CLUSTER_POLICY, f"{home.place}-strict")
        until(lambda: names(home) == ["validate.trow.io", "reach.trow.io"])
    until(lambda: home.create(ALIEN) == (201, ""))


# ---- kinds of others


ROLLOUT: Final = {"group": "argoproj.io", "kind": "Rollout", "plural": "rollouts"}
FLEET: Final = {"group": "fleets.example.com", "kind": "Fleet", "plural": "fleets"}


def define(cluster: Cluster, group: str, kind: str, plural: str) -> None:
    """Have a kind that somebody else has defined."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }
    cluster.apply(json.dumps(definition))
    cluster.kubectl("wait", "--for", "condition=Established", f"customresourcedefinition/{plural}.{group}")


def attempt(home: Home, group: str, kind: str, spec: object) -> str:
    item = {"apiVersion": f"{group}/v1", "kind": kind, "metadata": {"name": "web"}, "spec": spec}
    asked = ("create", "--namespace", home.place, "--dry-run=server", "--filename", "-")
    return home.cluster.kubectl(*asked, input=json.dumps(item), check=False)


def test_kinds_of_others_are_refused_where_what_makes_pods_is(home: Home) -> None:
    """Those that are well known, and those that somebody has told of, with and without the name of the resource."""
    define(home.cluster, **ROLLOUT)
    define(home.cluster, **FLEET)
    told = {"group": FLEET["group"], "kind": FLEET["kind"], "paths": ["spec.ships[*][*].image"]}
    pods = {"template": {"spec": {"containers": [{"name": "web", "image": ALIEN}]}}}
    ships = {"ships": [[{"image": OURS}], [{"image": OURS}, {"image": ALIEN}]]}
    for resource in ({}, {"resource": FLEET["plural"]}):
        with home.start(policies=True, extra_kinds=[told | resource]) as trow:
            decree(home, "ours", rules=[rule()], controllers="enforce", namespaces={"include": [home.place]})
            until(lambda: asks(trow) and "must-validate.trow.io" in names(home))
            until(
                lambda: f"{ALIEN} is not allowed by any rule" in attempt(home, ROLLOUT["group"], ROLLOUT["kind"], pods)
            )
            until(lambda: f"ships[1][1].image: {ALIEN} is" in attempt(home, FLEET["group"], FLEET["kind"], ships))
            assert "created" in attempt(home, FLEET["group"], FLEET["kind"], {"ships": [[{"image": OURS}]]})
