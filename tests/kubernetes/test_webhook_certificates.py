"""The certificate of the webhooks, with a real API server that calls them: made, renewed, replaced, never missed."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import pytest
import urllib3
import yaml

from support.policies import CLUSTER_POLICY, DEPLOY, document, policy, rule
from support.server import Trow
from support.waiting import until
from support.webhooks import ALIEN, OURS, VALIDATION, CertManager, Guard, ask
from trow.policy.export import LABELS
from trow.policy.pods import POD_SPECS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.cluster import Cluster

WEBHOOKS: Final = DEPLOY / "webhooks.yaml"
ROLES: Final = DEPLOY / "admission-rbac.yaml"
KINDS: Final = ("validatingwebhookconfiguration", "mutatingwebhookconfiguration")
# A renewal after 13 s at the latest, another authority after 27 s.
FAST: Final = {"certificate_lifetime": "20s", "authority_lifetime": "40s"}
# Looked after every few seconds.
SHORT: Final = {"certificate_lifetime": "60s", "authority_lifetime": "10m"}
ROTATIONS: Final = 2
ROTATION_SECONDS: Final = 150
LOADERS: Final = 2
TIMEOUT: Final = urllib3.Timeout(30)


def documents(file: Path) -> list[dict[str, Any]]:
    return [*yaml.safe_load_all(file.read_text("utf-8"))]


class Home:
    """A namespace with Trow's ServiceAccount, which may do what `deploy/kubernetes` says, and its Pods are asked about.

    Attributes:
        place: the namespace.
    """

    def __init__(self, cluster: Cluster, place: str, folder: Path) -> None:
        self.cluster = cluster
        self.place = place
        self.folder = folder
        cluster.kubectl("create", "serviceaccount", "trow", "--namespace", place)
        cluster.apply(ROLES.read_text("utf-8").replace("namespace: trow", f"namespace: {place}"))
        self.pool = urllib3.PoolManager(
            ca_certs=str(cluster.ca),
            cert_file=str(cluster.folder / "admin.crt"),
            key_file=str(cluster.folder / "admin.key"),
            maxsize=10,
            retries=False,
            timeout=TIMEOUT,
        )

    def kubeconfig(self, server: str = "") -> Path:
        """Of the ServiceAccount."""
        given = json.loads(self.cluster.kubeconfig.read_text("utf-8"))
        given["users"] = [
            {"name": "admin", "user": {"token": self.cluster.token(self.place, "trow", self.cluster.url)}}
        ]
        if server:
            given["clusters"][0]["cluster"]["server"] = server
        path = self.folder / f"kubeconfig{len(server)}"
        path.write_text(json.dumps(given), encoding="utf-8")
        path.chmod(0o600)
        return path

    def start(self, name: str = "trow", server: str = "", **admission: object) -> Trow:
        """A Trow that keeps its certificate in the cluster."""
        kept = SHORT | {"bind": "127.0.0.1:0", "service": f"{self.place}/trow", "names": ["127.0.0.1"]}
        return Trow.start(
            self.folder / name,
            config={
                "admission": kept | admission,
                "image_validation": {} if "policies" in admission else VALIDATION,
                "kubernetes": {"kubeconfig": str(self.kubeconfig(server))},
            },
        )

    # ---- the API server asks

    def install(self, trow: Trow, bundle: bytes = b"") -> None:
        """The webhooks as they are in `deploy`, but for where they are called and whose Pods they are about."""
        given = documents(WEBHOOKS)
        for webhook in (each for configuration in given for each in configuration["webhooks"]):
            url = trow.urls[-1] + webhook["clientConfig"]["service"]["path"]
            webhook["clientConfig"] = {"url": url} | ({"caBundle": base64.b64encode(bundle).decode()} if bundle else {})
            webhook["namespaceSelector"] = {"matchLabels": {"kubernetes.io/metadata.name": self.place}}
        self.cluster.apply("\n---\n".join(map(json.dumps, given)))

    def uninstall(self) -> None:
        for kind in KINDS:
            self.cluster.kubectl("delete", kind, "trow", "--ignore-not-found")
        self.pool.clear()

    def create(self, image: str) -> tuple[int, str]:
        """Status and message of a Pod that is not kept."""
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"generateName": "web-"},
            "spec": {"containers": [{"name": "web", "image": image}]},
        }
        url = f"{self.cluster.url}/api/v1/namespaces/{self.place}/pods?dryRun=All"
        answer = self.pool.request("POST", url, json=pod)
        return answer.status, answer.json().get("message", "")

    def wait_until_asked(self) -> None:
        until(lambda: "denied the request" in self.create(ALIEN)[1])

    def bundle(self, kind: str = KINDS[0]) -> bytes:
        """The `caBundle` of the webhooks of that kind."""
        url = f"{self.cluster.url}/apis/admissionregistration.k8s.io/v1/{kind}s/trow"
        (webhook,) = self.pool.request("GET", url).json()["webhooks"]
        return base64.b64decode(webhook["clientConfig"].get("caBundle", ""))

    def secret(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            self.cluster.kubectl("get", "secret", "trow-webhook", "--namespace", self.place, "--output", "json")
        )
        return found

    def part(self, name: str) -> bytes:
        return base64.b64decode(self.secret()["data"][name])


@pytest.fixture
def home(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[Home]:
    found = Home(cluster, namespace, tmp_path)
    try:
        yield found
    finally:
        found.uninstall()


def troubles(trow: Trow) -> list[str]:
    """What is wrong according to a log, but for callers that did not trust the certificate, which are at first all."""
    lines = [json.loads(line) for line in trow.stderr.read_text("utf-8").splitlines()]
    said = [line["event"] for line in lines if line["level"] in ("warning", "error")]
    return [each for each in said if each != "no TLS connection came about"]


def trusting(bundle: bytes) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=bundle.decode())


# Without cert-manager


def test_the_api_server_asks_and_pods_are_denied_and_allowed(home: Home) -> None:
    with home.start() as trow:
        home.install(trow)
        home.wait_until_asked()
        status, said = home.create(ALIEN)
        assert status in {400, 403}, said
        assert said.startswith('admission webhook "validate.trow.io" denied the request: ')
        assert ALIEN in said
        assert home.create(OURS) == (201, "")
        assert home.secret()["type"] == "kubernetes.io/tls"
        assert home.bundle() == home.bundle(KINDS[1]) == home.part("ca.crt")
        with Guard(trow, trusting(home.bundle())).wire() as wire:
            assert ask(wire, OURS)
        assert troubles(trow) == []


def test_the_certificate_has_the_names_of_the_service(home: Home) -> None:
    with home.start() as trow:
        home.install(trow)
        home.wait_until_asked()
        context = trusting(home.bundle())
        for name in (
            f"trow.{home.place}.svc",
            f"trow.{home.place}",
            f"trow.{home.place}.svc.cluster.local",
            "127.0.0.1",
        ):
            assert shakes_hands(trow, context, name)
        with pytest.raises(ssl.SSLCertVerificationError):
            shakes_hands(trow, context, "trow.other.svc")


def shakes_hands(trow: Trow, context: ssl.SSLContext, name: str) -> bool:
    host, _, port = trow.urls[-1].partition("://")[2].rpartition(":")
    with socket.create_connection((host, int(port)), 20) as plain, context.wrap_socket(plain, server_hostname=name):
        return True


def test_files_are_for_the_owner_alone(home: Home) -> None:
    with home.start() as trow:
        home.install(trow)
        home.wait_until_asked()
        kept = trow.folder / "data" / "keys" / "webhook.pem"
        assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)
        assert sorted(each.name for each in kept.parent.glob("*webhook*")) == ["webhook.pem"]


def test_rotations_under_load_fail_no_request(home: Home) -> None:
    """Two replicas, of which the API server calls one; neither may show what is not trusted."""
    with home.start("one", **FAST) as one, home.start("two", **FAST) as two:
        home.install(one)
        home.wait_until_asked()
        done = threading.Event()
        with ThreadPoolExecutor(LOADERS + 2) as pool:
            loads = [pool.submit(load, home, done) for _ in range(LOADERS)]
            probes = [pool.submit(probe, home, trow, done) for trow in (one, two)]
            try:
                watch_rotations(home, [*loads, *probes])
            finally:
                done.set()
            created = sum(each.result() for each in loads)
            shown = [each.result() for each in probes]
        assert created > 100
        assert all(len(each) > 2 * ROTATIONS for each in shown)
        assert shown[0] & shown[1]
        assert home.create(OURS) == (201, "")
        assert troubles(one) == []
        assert troubles(two) == []


def watch_rotations(home: Home, running: list[Any]) -> None:
    """Until so many authorities were trusted and are no more."""
    seen: set[bytes] = set()
    gone = 0
    end = time.monotonic() + ROTATION_SECONDS
    while gone < ROTATIONS:
        assert time.monotonic() < end, f"{gone} rotations within {ROTATION_SECONDS} s"
        assert not any(each.done() for each in running)  # it ends only when it fails
        trusted = {each.strip() for each in home.bundle().split(b"-----END CERTIFICATE-----")} - {b""}
        seen |= trusted
        gone = len(seen - trusted)
        threading.Event().wait(0.1)


def load(home: Home, done: threading.Event) -> int:
    """Have Pods created again and again; how many were."""
    created = 0
    while not done.is_set():
        assert home.create(OURS) == (201, "")
        created += 1
    return created


def probe(home: Home, trow: Trow, done: threading.Event) -> set[bytes | None]:
    """Connect again and again, trusting what is published, and what was published before that; what was shown."""
    shown: set[bytes | None] = set()
    bundles = [home.bundle()]
    while not done.is_set():
        if (bundle := home.bundle()) != bundles[-1]:
            bundles.append(bundle)
        shown.add(Guard(trow, trusting(bundles[-1])).certificate())
        threading.Event().wait(0.05)
    return shown


def test_a_deleted_or_spoilt_secret_is_made_anew(home: Home) -> None:
    with home.start() as trow:
        home.install(trow)
        home.wait_until_asked()
        before = home.part("ca.crt")
        home.cluster.kubectl("delete", "secret", "trow-webhook", "--namespace", home.place)
        until(lambda: home.bundle() != before)
        until(lambda: home.create(OURS) == (201, ""))

        patch = json.dumps({"data": {"ca.crt": base64.b64encode(b"garbage").decode()}})
        home.cluster.kubectl("patch", "secret", "trow-webhook", "--namespace", home.place, "--patch", patch)
        guard = Guard(trow, trusting(home.bundle()))
        until(lambda: guard.logged("ca.crt is not made of certificates in PEM; what is needed is made anew"))
        until(lambda: home.bundle() == home.part("ca.crt"))
        until(lambda: home.create(OURS) == (201, ""))


def test_a_secret_made_beforehand_needs_no_right_to_create(home: Home) -> None:
    home.cluster.kubectl("create", "secret", "generic", "trow-webhook", "--namespace", home.place)
    rules = json.dumps([{"op": "remove", "path": "/rules/1"}])
    target = ("role", "trow-webhook-certificate", "--namespace", home.place)
    home.cluster.kubectl("patch", *target, "--type=json", "--patch", rules)
    until(lambda: not allowed(home, "create", "secrets"))
    with home.start() as trow:
        home.install(trow)
        home.wait_until_asked()
        assert home.secret()["type"] == "Opaque"
        assert troubles(trow) == []


def test_without_rights_the_log_says_which_and_the_rest_is_served(home: Home) -> None:
    home.cluster.kubectl("delete", "rolebinding", "trow-webhook-certificate", "--namespace", home.place)
    until(lambda: not allowed(home, "get", "secrets/trow-webhook"))
    with home.start() as trow:
        wanted = (
            f'bind a Role in namespace {home.place} with {{apiGroups: [\\"\\"], resources: [secrets], verbs: [get]}}',
            "for which resourceNames: [trow-webhook] will do",
        )
        until(lambda: all(each.encode() in trow.stderr.read_bytes() for each in wanted))
        assert urllib3.request("GET", f"{trow.url}/v2/").status == 200
        readiness = urllib3.request("GET", f"{trow.url}/readiness")
        assert readiness.status == 503
        assert readiness.json()["checks"]["webhooks"].startswith("there is no certificate for the webhooks yet")
        with pytest.raises(ConnectionRefusedError):
            Guard(trow, ssl.create_default_context()).certificate()


def test_a_restart_does_not_wait_for_the_api_server(home: Home) -> None:
    with home.start() as trow:
        home.install(trow)
        home.wait_until_asked()
        trusted = trusting(home.bundle())
        before = Guard(trow, trusted).certificate()
    with home.start(server="https://127.0.0.1:1") as trow:
        assert Guard(trow, trusted).certificate() == before
        assert urllib3.request("GET", f"{trow.url}/readiness").status == 200
        until(lambda: Guard(trow, trusted).logged("the present one stays"))
    kept = home.folder / "trow" / "data" / "keys" / "webhook.pem"
    kept.write_bytes(b"garbage")
    with home.start() as trow:
        until(lambda: urllib3.request("GET", f"{trow.url}/readiness").status == 200)
        assert Guard(trow, trusted).certificate() == before


# With cert-manager


def test_files_of_cert_manager_are_shown_and_nothing_is_kept(home: Home) -> None:
    issuer = CertManager(home.folder / "issued")
    admission = {"bind": "127.0.0.1:0", "tls": issuer.settings}
    config = {"admission": admission, "image_validation": VALIDATION}
    with Trow.start(home.folder / "trow", config=config) as trow:
        home.install(trow, issuer.bundle)
        home.wait_until_asked()
        guard, done = Guard(trow, issuer.context), threading.Event()
        with ThreadPoolExecutor(LOADERS) as pool:
            loads = [pool.submit(load, home, done) for _ in range(LOADERS)]
            try:
                guard.wait_until_shown(issuer.issue())
            finally:
                done.set()
            assert sum(each.result() for each in loads) > 10
        assert home.bundle() == issuer.bundle
        assert not (trow.folder / "data" / "keys" / "webhook.pem").exists()
        assert troubles(trow) == []


# What is installed


def allowed(home: Home, verb: str, what: str, *, namespace: str = "") -> bool:
    account = f"system:serviceaccount:{home.place}:trow"
    asked = ("auth", "can-i", verb, what, "--as", account, "--namespace", namespace or home.place)
    return home.cluster.kubectl(*asked, check=False).strip().endswith("yes")


@pytest.mark.parametrize(
    ("verb", "what"),
    [
        ("list", "secrets"),
        ("get", "secrets/other"),
        ("delete", "secrets/trow-webhook"),
        ("update", "validatingwebhookconfigurations/trow"),
        ("patch", "validatingwebhookconfigurations/other"),
        ("create", "mutatingwebhookconfigurations"),
        ("delete", "mutatingwebhookconfigurations/trow"),
        ("update", "clusterimagepolicies.policy.trow.io"),
        ("create", "policyexceptions.policy.trow.io"),
        ("create", "pods"),
        ("get", "configmaps"),
        ("impersonate", "users"),
        ("bind", "clusterroles"),
    ],
)
def test_trow_may_not_do_more_than_it_has_to(home: Home, verb: str, what: str) -> None:
    until(lambda: allowed(home, "get", "secrets/trow-webhook"))
    assert not allowed(home, verb, what)
    assert not allowed(home, "get", "secrets/trow-webhook", namespace="kube-system")


def test_everything_at_once_finds_the_rights_that_it_needs(home: Home, crds: None) -> None:
    """Policies, what is compiled of them, and what runs, with these roles and no other."""
    only = policy(mode="warn", namespaces={"include": [home.place]}, rules=[rule()])
    try:
        home.cluster.apply(json.dumps(document(CLUSTER_POLICY, only, home.place)))
        with home.start(policies=True, scan_interval="1s") as trow:
            home.install(trow)
            until(lambda: home.create(OURS) == (201, ""))
            until(lambda: conditions(home) == {"Ready": "True", "Compiled": "True"})
            assert home.create(ALIEN)[0] == 201
            until(lambda: Guard(trow, trusting(home.bundle())).logged("PolicyReports are not written"))
            home.cluster.kubectl("delete", CLUSTER_POLICY, home.place)
            until(lambda: not compiled(home))
        said = [each for each in troubles(trow) if "PolicyReports" not in each]
        assert said == []
        assert all(allowed(home, verb, "events") for verb in ("create", "patch"))
    finally:
        home.cluster.kubectl("delete", CLUSTER_POLICY, home.place, "--ignore-not-found")
        for name in compiled(home):
            home.cluster.kubectl("delete", name)


def conditions(home: Home) -> dict[str, str]:
    found = json.loads(home.cluster.kubectl("get", CLUSTER_POLICY, home.place, "--output", "json"))
    return {each["type"]: each["status"] for each in found.get("status", {}).get("conditions", [])}


def compiled(home: Home) -> list[str]:
    """What Trow has put into the API server for the policy of this place."""
    kinds = "validatingadmissionpolicybindings,validatingadmissionpolicies"
    selector = ",".join(f"{key}={value}" for key, value in LABELS.items())
    found = home.cluster.kubectl("get", kinds, "--selector", selector, "--output", "name").split()
    return [name for name in found if home.place in name]  # policies of other tests may be there


def rules_of(kind: str) -> list[dict[str, Any]]:
    found = [each for each in documents(WEBHOOKS) if each["kind"] == kind]
    return [asked for each in found for webhook in each["webhooks"] for asked in webhook["rules"]]


def asked_about(rules: list[dict[str, Any]], group: str, resource: str) -> set[str]:
    about = [each for each in rules if group in each["apiGroups"] and resource in each["resources"]]
    return {operation for each in about for operation in each["operations"]}


@pytest.mark.parametrize(("group", "kind"), POD_SPECS)
def test_every_kind_that_makes_pods_is_asked_about(group: str, kind: str) -> None:
    resource = f"{kind.lower()}s"
    assert asked_about(rules_of("ValidatingWebhookConfiguration"), group, resource) == {"CREATE", "UPDATE"}
    mutated = asked_about(rules_of("MutatingWebhookConfiguration"), group, resource)
    assert mutated == ({"CREATE", "UPDATE"} if kind == "Pod" else set())


def test_webhooks_leave_out_nothing_else() -> None:
    for configuration in documents(WEBHOOKS):
        rules = rules_of(configuration["kind"])
        assert asked_about(rules, "", "pods/ephemeralcontainers") == {"UPDATE"}
        assert "DELETE" not in json.dumps(rules)
        (webhook,) = configuration["webhooks"]
        (spared,) = webhook["namespaceSelector"]["matchExpressions"]
        assert spared == {
            "key": "kubernetes.io/metadata.name",
            "operator": "NotIn",
            "values": ["kube-system", "trow"],
        }
        assert (webhook["failurePolicy"], webhook["matchPolicy"]) == ("Fail", "Equivalent")
        assert not {"objectSelector", "matchConditions"} & set(webhook)


@pytest.mark.parametrize("file", [WEBHOOKS, ROLES], ids=lambda file: file.name)
def test_the_api_server_takes_the_files_as_they_are(cluster: Cluster, file: Path) -> None:
    with contextlib.suppress(AssertionError):
        cluster.kubectl("create", "namespace", "trow")
    said = cluster.kubectl("apply", "--dry-run=server", "--filename", str(file), "--validate=strict")
    assert len(said.splitlines()) == len(documents(file))
