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

from support.home import KINDS, ROLES, Home, asks
from support.policies import CLUSTER_POLICY, document, policy, rule
from support.waiting import until
from support.webhooks import ALIEN, OURS, CertManager, Guard, ask
from trow.policy.vap.export import LABELS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.cluster import Cluster
    from support.server import Trow

# A renewal after 13 s at the latest, another authority after 27 s.
FAST: Final = {"certificate_lifetime": "20s", "authority_lifetime": "40s"}
# Nothing is renewed while a test lasts.
SLOW: Final = {"certificate_lifetime": "10m", "authority_lifetime": "1h"}
ROTATIONS: Final = 2
ROTATION_SECONDS: Final = 150
LOADERS: Final = 2


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
    return [each for each in said if each != "a TLS handshake failed"]


def ignore_tag(bundle: bytes) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=bundle.decode())


# Without cert-manager


def test_the_api_server_asks_and_pods_are_denied_and_allowed(home: Home) -> None:
    with home.start() as trow:
        home.wait_until_asked()
        status, said = home.create(ALIEN)
        assert status in {400, 403}, said
        assert said.startswith('admission webhook "must-validate.trow.io" denied the request: ')
        assert ALIEN in said
        assert home.create(OURS) == (201, "")
        assert home.secret()["type"] == "kubernetes.io/tls"
        until(lambda: home.bundle() == home.bundle(KINDS[1]) == home.part("ca.crt"))
        with Guard(trow, ignore_tag(home.bundle())).wire() as wire:
            assert ask(wire, OURS)
        assert troubles(trow) == []


def test_the_certificate_has_the_names_of_the_service(home: Home) -> None:
    with home.start() as trow:
        home.wait_until_asked()
        context = ignore_tag(home.bundle())
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
        home.wait_until_asked()
        kept = trow.folder / "data" / "keys" / "webhook.pem"
        assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)
        assert sorted(each.name for each in kept.parent.glob("*webhook*")) == ["webhook.pem"]


def test_rotations_under_load_fail_no_request(home: Home) -> None:
    """Two replicas, of which the API server calls one; neither may show what is not trusted."""
    with home.start("one", **FAST) as one, home.start("two", bind="127.0.0.1:0", **FAST) as two:
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


def load(home: Home, done: threading.Event, least: int = 0) -> int:
    """Have Pods created again and again, so many at least; how many were."""
    created = 0
    while not done.is_set() or created < least:
        assert home.create(OURS) == (201, "")
        created += 1
    return created


def probe(home: Home, trow: Trow, done: threading.Event) -> set[bytes | None]:
    """Connect again and again, ignore_tag what is published, and what was published before that; what was shown."""
    shown: set[bytes | None] = set()
    bundles = [home.bundle()]
    while not done.is_set():
        if (bundle := home.bundle()) != bundles[-1]:
            bundles.append(bundle)
        shown.add(Guard(trow, ignore_tag(bundles[-1])).certificate())
        threading.Event().wait(0.05)
    return shown


def test_a_deleted_or_spoilt_secret_is_made_anew(home: Home) -> None:
    with home.start() as trow:
        home.wait_until_asked()
        before = home.part("ca.crt")
        home.cluster.kubectl("delete", "secret", "trow-webhook", "--namespace", home.place)
        until(lambda: home.bundle() != before)
        until(lambda: home.create(OURS) == (201, ""))

        patch = json.dumps({"data": {"ca.crt": base64.b64encode(b"garbage").decode()}})
        home.cluster.kubectl("patch", "secret", "trow-webhook", "--namespace", home.place, "--patch", patch)
        guard = Guard(trow, ignore_tag(home.bundle()))
        until(lambda: guard.logged("ca.crt is not made of certificates in PEM; what is missing is issued again"))
        until(lambda: home.bundle() == home.part("ca.crt"))
        until(lambda: home.create(OURS) == (201, ""))


def test_a_secret_made_beforehand_needs_no_right_to_create(home: Home) -> None:
    home.cluster.kubectl("create", "secret", "generic", "trow-webhook", "--namespace", home.place)
    rules = json.dumps([{"op": "remove", "path": "/rules/1"}])
    target = ("role", "trow-webhook-certificate", "--namespace", home.place)
    home.cluster.kubectl("patch", *target, "--type=json", "--patch", rules)
    until(lambda: not allowed(home, "create", "secrets"))
    with home.start() as trow:
        home.wait_until_asked()
        assert home.secret()["type"] == "Opaque"
        assert troubles(trow) == []


def test_without_rights_the_log_says_which_and_the_rest_is_served(home: Home) -> None:
    home.cluster.kubectl("delete", "rolebinding", "trow-webhook-certificate", "--namespace", home.place)
    until(lambda: not allowed(home, "get", "secrets/trow-webhook"))
    with home.start() as trow:
        wanted = (
            f'bind a Role in namespace {home.place} with {{apiGroups: [\\"\\"], resources: [secrets], verbs: [get]}}',
            "get and patch on secrets (resourceNames: [trow-webhook])",
        )
        until(lambda: all(each.encode() in trow.stderr.read_bytes() for each in wanted))
        assert urllib3.request("GET", f"{trow.url}/v2/").status == 200
        readiness = urllib3.request("GET", f"{trow.url}/readyz")
        assert readiness.status == 503
        assert readiness.json()["checks"]["webhooks"].startswith("there is no certificate for the webhooks yet")
        with pytest.raises(ConnectionRefusedError):
            Guard(trow, ssl.create_default_context()).certificate()


def test_a_restart_does_not_wait_for_the_api_server(home: Home) -> None:
    with home.start(**SLOW) as trow:
        home.wait_until_asked()
        trusted = ignore_tag(home.bundle())
        before = Guard(trow, trusted).certificate()
    with home.start(server="https://127.0.0.1:1", **SLOW) as trow:
        assert Guard(trow, trusted).certificate() == before
        assert urllib3.request("GET", f"{trow.url}/readyz").status == 200
        until(lambda: Guard(trow, trusted).logged("the present one stays"))
    kept = home.folder / "trow" / "data" / "keys" / "webhook.pem"
    kept.write_bytes(b"garbage")
    with home.start(**SLOW) as trow:
        until(lambda: urllib3.request("GET", f"{trow.url}/readyz").status == 200)
        assert Guard(trow, trusted).certificate() == before


# With cert-manager


def test_files_of_cert_manager_are_shown_and_nothing_is_kept(home: Home) -> None:
    issuer = CertManager(home.folder / "issued")
    with home.start(tls=issuer.settings, ca_file=str(issuer.ca)) as trow:
        home.wait_until_asked()
        guard, done = Guard(trow, issuer.context), threading.Event()
        with ThreadPoolExecutor(LOADERS) as pool:
            loads = [pool.submit(load, home, done, least=10) for _ in range(LOADERS)]
            try:
                guard.wait_until_shown(issuer.issue())
            finally:
                done.set()
            assert [each.result() for each in loads]
        assert home.bundle() == issuer.bundle
        assert not (trow.folder / "data" / "keys" / "webhook.pem").exists()
        assert troubles(trow) == []


# What is installed


def allowed(home: Home, verb: str, what: str, *, namespace: str = "") -> bool:
    account = f"system:serviceaccount:{home.place}:trow"
    asked = ("auth", "can-i", verb, what, "--as", account, "--namespace", namespace or home.place)
    return "yes" in home.cluster.kubectl(*asked, check=False).splitlines()  # a warning may stand beside it


MORE: Final = (
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
)


def test_trow_may_not_do_more_than_it_has_to(home: Home) -> None:
    until(lambda: allowed(home, "get", "secrets/trow-webhook"))
    assert [each for each in MORE if allowed(home, *each)] == []
    assert not allowed(home, "get", "secrets/trow-webhook", namespace="kube-system")


def test_everything_at_once_finds_the_rights_that_it_needs(home: Home, crds: None) -> None:
    """Policies, what is compiled of them, and what runs, with these roles and no other."""
    only = policy(mode="warn", namespaces={"include": [home.place]}, rules=[rule()])
    try:
        home.cluster.apply(json.dumps(document(CLUSTER_POLICY, only, home.place)))
        with home.start(policies=True, scan_interval="1s") as trow:
            until(lambda: home.create(OURS) == (201, ""))
            until(lambda: conditions(home) == {"Ready": "True", "Compiled": "True"})
            assert home.create(ALIEN)[0] == 201
            until(lambda: b"PolicyReports are not written" in trow.stderr.read_bytes())
            until(lambda: asks(trow))
            home.cluster.kubectl("delete", CLUSTER_POLICY, home.place)
            until(lambda: not compiled(home))
        # What nobody has installed here.
        said = [each for each in troubles(trow) if "PolicyReports" not in each and "exceptions.yaml" not in each]
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


def test_the_api_server_takes_the_file_as_it_is(cluster: Cluster) -> None:
    with contextlib.suppress(AssertionError):
        cluster.kubectl("create", "namespace", "trow")
    said = cluster.kubectl("apply", "--dry-run=server", "--filename", str(ROLES), "--validate=strict")
    assert len(said.splitlines()) == len([*yaml.safe_load_all(ROLES.read_text("utf-8"))])
