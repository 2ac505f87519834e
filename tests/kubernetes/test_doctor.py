"""The doctor finds what is wrong in a real control plane, which is broken on purpose."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest
import trustme

from support.doctor import examined, fine, problem, serving, unchecked
from support.home import KINDS, Home
from support.policies import CLUSTER_POLICY, EXCEPTIONS, document, install_crds, policy
from support.waiting import settles, until
from trow.config import load
from trow.doctor.findings import DiagnosisStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from support.cluster import Cluster
    from trow.doctor.findings import Diagnosis

HOST: Final = "registry.example.com"
FINGERPRINTED: Final = "validatingadmissionpolicy/trow-policy-exceptions"


class Patient:
    """A cluster, and how the Trow in it is set up."""

    def __init__(self, cluster: Cluster, namespace: str, folder: Path) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.folder = folder
        self.settings: dict[str, Any] = {}

    def examined(self, *names: str, **options: Any) -> Sequence[Diagnosis]:
        if self.settings:
            (self.folder / "set.yaml").write_text(json.dumps(self.settings), "utf-8")
            options["config"] = load(self.folder / "set.yaml", {}, {})
        return examined(*names, kubeconfig=self.cluster.kubeconfig, namespace=self.namespace, **options)

    def create(self, kind: str, name: str, *, status: Any = None, api: str = "v1", **members: Any) -> None:
        """Make an object, and let its status be what whoever looks after it would write."""
        namespace = {} if kind in ("Node", "Namespace") else {"namespace": self.namespace}
        metadata = {"name": name, **namespace, **members.pop("metadata", {})}
        item = {"apiVersion": api, "kind": kind, "metadata": metadata, **members}
        self.cluster.apply(json.dumps(item))
        if status is not None:
            where = ("--namespace", metadata["namespace"]) if "namespace" in metadata else ()
            patch = ("--subresource=status", "--type=merge", "--patch", json.dumps({"status": status}))
            self.cluster.kubectl("patch", kind.lower(), name, *where, *patch)

    def pod(self, name: str, image: str, status: Any = None, labels: Any = None, **spec: Any) -> None:
        containers = [{"name": "trow" if labels else "app", "image": image}]
        self.create(
            "Pod", name, metadata={"labels": labels or {}}, spec={"containers": containers, **spec}, status=status
        )


@pytest.fixture
def patient(cluster: Cluster, namespace: str, tmp_path: Path) -> Patient:
    return Patient(cluster, namespace, tmp_path)


@pytest.fixture
def node(patient: Patient) -> Iterator[str]:
    """A node of which only its object exists, as its kubelet writes it."""
    patient.cluster.kubectl("delete", "nodes", "--all")  # other files leave objects of nodes
    conditions = [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ready"}]
    addresses = [{"type": "InternalIP", "address": "127.0.0.1"}]
    info = dict.fromkeys(NODE_INFO, "") | {"kubeletVersion": "v1.37.2"}
    status = {"conditions": conditions, "addresses": addresses, "nodeInfo": info}
    patient.create("Node", "node-1", status=status)
    yield "node-1"
    patient.cluster.kubectl("delete", "node", "node-1")


NODE_INFO: Final = (
    *("machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion", "kubeletVersion"),
    *("kubeProxyVersion", "operatingSystem", "architecture"),
)


# ---- what cannot be asked


def test_a_cluster_that_does_not_answer(patient: Patient) -> None:
    kubeconfig = json.loads(patient.cluster.kubeconfig.read_text("utf-8"))
    kubeconfig["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    (patient.folder / "kubeconfig").write_text(json.dumps(kubeconfig))
    said = unchecked(examined("trow", kubeconfig=patient.folder / "kubeconfig"), "trow")
    assert "https://127.0.0.1:1 cannot be reached" in said


def test_a_user_who_may_not_look(patient: Patient) -> None:
    given = json.loads(patient.cluster.kubeconfig.read_text("utf-8"))
    token = patient.cluster.token(patient.namespace, "default", patient.cluster.url)
    given["users"][0]["user"] = {"token": token}
    (patient.folder / "kubeconfig").write_text(json.dumps(given))
    found = examined("trow", "webhooks", "kinds", kubeconfig=patient.folder / "kubeconfig")
    for check in ("trow", "webhooks", "kinds"):
        said = unchecked(found, check)
        assert re.match(rf"system:serviceaccount:{patient.namespace}:default may not (get|list) \S+; ", said), said
    assert token not in str(found)


# ---- Trow's Pods


TROW: Final = {"app.kubernetes.io/name": "trow"}


def test_no_pod_of_trow(patient: Patient) -> None:
    found = problem(patient.examined("trow"), "trow")
    assert found.what == "no Pod of Trow is there"


def test_a_pod_that_is_ready(patient: Patient) -> None:
    patient.pod("trow-0", "trow:1", {"conditions": [{"type": "Ready", "status": "True"}]}, TROW)
    assert fine(patient.examined("trow"), "trow").where == f"Pod {patient.namespace}/trow-0"


@pytest.mark.parametrize(
    ("status", "said", "fix"),
    [
        (
            {
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "message": "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
                    }
                ]
            },
            "is not scheduled: 0/1 nodes are available",
            "without a default class set persistence.storageClass",
        ),
        (
            {"containerStatuses": [{"name": "trow", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]},
            "does not start: CrashLoopBackOff",
            "kubectl logs trow-0 --namespace",
        ),
        (
            {"containerStatuses": [{"name": "trow", "state": {"waiting": {"reason": "ErrImageNeverPull"}}}]},
            "does not start: ErrImageNeverPull",
            "image.repository",
        ),
    ],
)
def test_a_pod_that_does_not_come(patient: Patient, status: Any, said: str, fix: str) -> None:
    for each in status.get("containerStatuses", ()):
        each.update(image="trow:1", imageID="", ready=False, restartCount=0)
    patient.pod("trow-0", "trow:1", status, TROW)
    found = problem(patient.examined("trow"), "trow")
    assert said in found.what
    assert fix in found.fix


# ---- kinds, exceptions, policies


@pytest.fixture
def followed(patient: Patient, crds: None) -> Iterator[Patient]:
    patient.settings = {"admission": {"policies": True}}
    # Others may have left some: the cluster is one for all tests.
    patient.cluster.kubectl("delete", "clusterimagepolicies,imagepolicies", "--all", "--all-namespaces")
    yield patient
    install_crds(patient.cluster)
    patient.cluster.kubectl("delete", CLUSTER_POLICY, "--all")
    patient.cluster.kubectl("delete", "--filename", str(EXCEPTIONS), "--ignore-not-found")


def test_kinds_that_are_as_they_should_be(followed: Patient) -> None:
    assert fine(followed.examined("kinds"), "kinds").what == "is there"


def test_kinds_that_are_missing(followed: Patient) -> None:
    followed.cluster.kubectl("delete", "crd", "policyexceptions.policy.trow.io")
    found = problem(followed.examined("kinds"), "kinds")
    assert found.where == "customresourcedefinition/policyexceptions.policy.trow.io"
    assert "kubectl apply --server-side --filename deploy/kubernetes/crds.yaml" in found.fix


def test_kinds_of_an_older_trow(followed: Patient) -> None:
    name = "clusterimagepolicies.policy.trow.io"
    spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties"
    patch = [
        {"op": "remove", "path": f"{spec}/exceptions"},
        {"op": "remove", "path": f"{spec}/mutate/properties/pinDigests"},
    ]
    followed.cluster.kubectl("patch", "crd", name, "--type=json", "--patch", json.dumps(patch))
    found = problem(followed.examined("kinds"), "kinds")
    assert "drops spec.exceptions, spec.exceptions.images" in found.what
    assert found.what.endswith("spec.mutate.pinDigests")


def test_nothing_guards_exceptions(followed: Patient) -> None:
    found = problem(followed.examined("exceptions"), "exceptions")
    assert "there is no ValidatingAdmissionPolicy trow-policy-exceptions" in found.what
    assert found.fix == "kubectl apply --filename deploy/kubernetes/exceptions.yaml"
    followed.cluster.kubectl("apply", "--filename", str(EXCEPTIONS))
    fine(followed.examined("exceptions"), "exceptions")
    patch = '[{"op": "remove", "path": "/spec/validations/0"}]'
    followed.cluster.kubectl("patch", FINGERPRINTED, "--type=json", "--patch", patch)
    assert "differs from the one" in problem(followed.examined("exceptions"), "exceptions").what


def test_policies_that_nobody_has_taken_up(followed: Patient) -> None:
    assert fine(followed.examined("policies"), "policies").what == "there are none"
    followed.cluster.apply(json.dumps(document(CLUSTER_POLICY, policy(), "only-ours")))
    assert problem(followed.examined("policies"), "policies").what == "Trow has not taken it up"


@pytest.mark.parametrize(
    ("type_", "reason", "fix"),
    [
        ("Ready", "Invalid", "kubectl edit clusterimagepolicies only-ours"),
        ("Compiled", "NotCompiled", "if Trow runs always"),
    ],
)
def test_policies_that_are_not_in_force(followed: Patient, type_: str, reason: str, fix: str) -> None:
    followed.cluster.apply(json.dumps(document(CLUSTER_POLICY, policy(), "only-ours")))
    condition = {
        "type": type_,
        "status": "False",
        "reason": reason,
        "message": "why",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    patch = json.dumps({"status": {"conditions": [condition]}})
    chosen = ("--subresource=status", "--type=merge", "--patch", patch)
    followed.cluster.kubectl("patch", CLUSTER_POLICY, "only-ours", *chosen)
    found = problem(followed.examined("policies"), "policies")
    assert found.what == f"{type_} is False ({reason}): why"
    assert fix in found.fix


# ---- webhooks


@pytest.fixture
def home(cluster: Cluster, crds: None, namespace: str, tmp_path: Path) -> Iterator[Home]:
    found = Home(cluster, namespace, tmp_path)
    try:
        yield found
    finally:
        found.uninstall()
        cluster.kubectl("delete", KINDS[0], "old-trow", "--ignore-not-found")


def look(home: Home, *names: str) -> Sequence[Diagnosis]:
    """As the Trow of that home is set up."""
    config = load(home.folder / "trow" / "trow.yaml", {}, {})
    return examined(*names, kubeconfig=home.cluster.kubeconfig, namespace=home.place, config=config)


def test_webhooks_that_work(home: Home) -> None:
    with home.start(excluded_namespaces=["kube-system", home.place]):
        # Trow is asked about no Pods of its own namespace, so that this is how it is known that it is asked.
        until(lambda: home.cluster.kubectl("get", KINDS[1], "trow", check=False).startswith("NAME"))
        found = look(home, "webhooks", "reach")
        fine(found, "webhooks").what.startswith("calls https://127.0.0.1:")
        assert fine(found, "reach").what == "the API server reaches Trow, and trusts it"


def test_webhooks_while_nobody_answers(home: Home) -> None:
    with home.start(excluded_namespaces=["kube-system", home.place]):
        until(lambda: home.cluster.kubectl("get", KINDS[1], "trow", check=False).startswith("NAME"))
    found = problem(look(home, "reach"), "reach")
    assert found.what.startswith("nobody listens where the API server calls")
    assert "connection refused" in found.what


def test_a_stale_bundle(home: Home, tmp_path: Path) -> None:
    with home.start(excluded_namespaces=["kube-system", home.place]):
        until(lambda: home.cluster.kubectl("get", KINDS[1], "trow", check=False).startswith("NAME"))
        another = trustme.CA().cert_pem.bytes()
    # Trow is down, and its address is taken by a server with another certificate.
    authority = trustme.CA()
    with serving(authority.issue_cert("127.0.0.1")) as address:
        change(home, bundle=another, url=f"https://{address}/admission/reach")
        found = until(lambda: [each for each in look(home, "reach") if "caBundle is stale" in each.what])
    assert "kubectl delete validatingwebhookconfigurations,mutatingwebhookconfigurations trow" in found[0].fix


def change(home: Home, *, bundle: bytes, url: str) -> None:
    given = json.loads(home.cluster.kubectl("get", KINDS[0], "trow", "--output", "json"))
    number = [each["name"] for each in given["webhooks"]].index("reach.trow.io")
    client = {"url": url, "caBundle": base64.b64encode(bundle).decode()}
    patch = [{"op": "replace", "path": f"/webhooks/{number}/clientConfig", "value": client}]
    home.cluster.kubectl("patch", KINDS[0], "trow", "--type=json", "--patch", json.dumps(patch))


def test_webhooks_that_were_never_written(home: Home) -> None:
    with home.start():
        pass
    home.cluster.kubectl("delete", *KINDS[:1], "trow", "--ignore-not-found")
    home.cluster.kubectl("delete", *KINDS[1:], "trow", "--ignore-not-found")
    assert "there are no webhooks" in problem(look(home, "webhooks"), "webhooks").what
    found = until(lambda: [each for each in look(home, "reach") if each.status is DiagnosisStatus.PROBLEM])
    assert "does not ask Trow about its probe" in found[0].what


def configuration(name: str, service: Any, **members: Any) -> str:
    webhook = {
        "name": "validate.trow.io",
        "clientConfig": {"service": service},
        "rules": [{"apiGroups": [""], "apiVersions": ["*"], "operations": ["CREATE"], "resources": ["pods"]}],
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Ignore",
        "matchConditions": [{"name": "never", "expression": "false"}],
        **members,
    }
    kind = "ValidatingWebhookConfiguration"
    item = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name},
        "webhooks": [webhook],
    }
    return json.dumps(item)


def bundle(ends: timedelta) -> str:
    issued = trustme.CA().issue_cert(
        "trow", not_before=datetime.now(UTC) - timedelta(99), not_after=datetime.now(UTC) + ends
    )
    return base64.b64encode(issued.cert_chain_pems[0].bytes()).decode()


@pytest.mark.parametrize(
    ("members", "endpoints", "said"),
    [
        ({}, None, "which does not exist"),
        ({}, False, "which has no endpoints"),
        ({"failurePolicy": "Fail"}, True, "insists on an answer about Pods of kube-system"),
        ({"bundle": timedelta(-1)}, True, "its caBundle ended on"),
        ({"bundle": timedelta(2)}, True, "its caBundle ends on"),
        ({}, True, ""),
    ],
    ids=["no service", "no endpoints", "insists", "expired", "expiring", "well"],
)
def test_webhooks_that_lead_to_a_service(patient: Patient, members: Any, endpoints: Any, said: str) -> None:
    place = patient.namespace
    patient.settings = {"admission": {"bind": "127.0.0.1:0", "service": f"{place}/trow-webhooks", "policies": True}}
    service: dict[str, object] = {
        "namespace": place,
        "name": "trow-webhooks",
        "port": 8443,
        "path": "/admission/validate",
    }
    client: dict[str, object] = {"service": service}
    if ends := members.pop("bundle", None):
        client["caBundle"] = bundle(ends)
    outside = {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": [place]}]}
    try:
        patient.cluster.apply(configuration("trow", service, clientConfig=client, namespaceSelector=outside, **members))
        if endpoints is not None:
            patient.create("Service", "trow-webhooks", spec={"ports": [{"port": 8443}]})
        if endpoints:
            patient.create(
                "EndpointSlice", "trow-webhooks-1", api="discovery.k8s.io/v1", addressType="IPv4",
                metadata={"labels": {"kubernetes.io/service-name": "trow-webhooks"}},
                endpoints=[{"addresses": ["10.0.0.7"]}], ports=[{"port": 8443}],
            )  # fmt: skip
        found = patient.examined("webhooks")
        if said:
            assert said in problem(found, "webhooks").what
        else:
            assert fine(found, "webhooks").what == f"calls {place}/trow-webhooks"
    finally:
        patient.cluster.kubectl("delete", KINDS[0], "trow", "--ignore-not-found")


def test_webhooks_of_another_installation(patient: Patient) -> None:
    patient.settings = {"admission": {"bind": "127.0.0.1:0", "service": f"{patient.namespace}/trow-webhooks"}}
    service = {"namespace": "gone", "name": "trow", "port": 8443}
    try:
        patient.cluster.apply(configuration("old-trow", service, failurePolicy="Fail"))
        [found] = [each for each in patient.examined("webhooks") if "old-trow" in each.where]
    finally:
        patient.cluster.kubectl("delete", KINDS[0], "old-trow")
    assert found.what == "is of another installation: it calls gone/trow and insists on an answer"
    assert found.fix.endswith("kubectl delete validatingwebhookconfigurations old-trow")


# ---- pulls


X509: Final = (
    'Back-off pulling image "{image}": ErrImagePull: failed to pull and unpack image "{image}": failed to resolve'
    ' reference "{image}": failed to do request: Head "https://{host}/v2/app/manifests/1": tls: failed to verify'
    " certificate: x509: certificate signed by unknown authority"
)


def waiting(message: str, reason: str = "ImagePullBackOff") -> Any:
    state = {"waiting": {"reason": reason, "message": message}}
    status = {"name": "app", "state": state, "image": "", "imageID": "", "ready": False, "restartCount": 0}
    return {"phase": "Pending", "containerStatuses": [status]}


def test_pods_that_wait_and_what_the_kubelet_says(patient: Patient) -> None:
    host = f"{patient.namespace}.example.com"
    fine(patient.examined("pods", host=host), "pods")
    image = f"{host}/app:1"
    patient.pod("web", image, waiting(X509.format(image=image, host=host)))
    patient.pod("other", "elsewhere.example/app:1", waiting("not ours"))
    found = problem(patient.examined("pods", host=host), "pods")
    assert found.where == f"Pod {patient.namespace}/web"
    assert found.what.startswith(
        "the node does not trust the authority of the registry's certificate; the kubelet says:"
    )
    assert f"/etc/containerd/certs.d/{host}/hosts.toml" in found.fix


def test_a_message_that_stands_in_an_event_only(patient: Patient) -> None:
    host = f"{patient.namespace}.example.com"
    image = f"{host}/team-b/app:1"
    patient.pod("web", image, waiting(f'Back-off pulling image "{image}"'))
    patient.create(
        "Event", "web.1", reason="Failed", type="Warning",
        involvedObject={"kind": "Pod", "name": "web", "namespace": patient.namespace},
        message=f'Failed to pull image "{image}": unexpected status 403 Forbidden: denied: you may not do this',
    )  # fmt: skip
    found = problem(patient.examined("pods", host=host), "pods")
    assert found.what.startswith(f"ServiceAccount default of {patient.namespace} may not pull from team-b")
    account = f"--serviceaccount {patient.namespace}:default"
    assert found.fix.endswith(f"--namespace team-b --clusterrole trow-image-puller {account}")


def pull_secret(patient: Patient, name: str, host: str, password: str) -> None:
    auths = {"auths": {host: {"username": "ci", "password": password}}}
    content = base64.b64encode(json.dumps(auths).encode()).decode()
    patient.create("Secret", name, type="kubernetes.io/dockerconfigjson", data={".dockerconfigjson": content})


def jwt(ends: float) -> str:
    parts = [{"alg": "none"}, {"exp": int(ends)}]
    return ".".join(base64.urlsafe_b64encode(json.dumps(each).encode()).decode().rstrip("=") for each in parts) + ".x"


def test_pull_secrets(patient: Patient, node: str) -> None:
    patient.settings = {"kubernetes": {"audiences": [HOST]}}
    patient.pod("web", f"{HOST}/app:1", imagePullSecrets=[{"name": "regcred"}])
    assert "does not exist, though Pod web names it" in problem(look_at_secrets(patient), "pull-secrets").what

    pull_secret(patient, "regcred", "elsewhere.example", "other")
    fine(look_at_secrets(patient), "pull-secrets")

    pull_secret(patient, "regcred", HOST, expired := jwt(time.time() - 60))
    found = problem(look_at_secrets(patient), "pull-secrets")
    assert f"its token for {HOST} ended 20" in found.what
    assert expired not in str(found)

    pull_secret(patient, "regcred", f"https://{HOST}/v1/", "hunter2")
    fine(look_at_secrets(patient), "pull-secrets")
    with audience(patient, HOST):
        found = problem(look_at_secrets(patient), "pull-secrets")
    assert "Pod web pulls from registry.example.com as its user, not as the ServiceAccount" in found.what
    assert "hunter2" not in str(found)


def look_at_secrets(patient: Patient) -> Sequence[Diagnosis]:
    return patient.examined("pull-secrets")


@contextlib.contextmanager
def audience(patient: Patient, named: str, group: str = "system:nodes") -> Iterator[None]:
    """Let a group ask for tokens for an audience."""
    kubectl, name = patient.cluster.kubectl, "trow-audience"
    rules = [{"apiGroups": [""], "verbs": ["request-serviceaccounts-token-audience"], "resources": [named]}]
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": rules,
    }
    patient.cluster.apply(json.dumps(role))
    kubectl("create", "clusterrolebinding", name, "--clusterrole", name, "--group", group)
    try:
        yield
    finally:
        kubectl("delete", "clusterrolebinding,clusterrole", name)


def test_tokens_for_nodes(patient: Patient, node: str) -> None:
    patient.settings = {"kubernetes": {"audiences": [HOST]}}
    assert "no role lets nodes ask" in unchecked(patient.examined("audience"), "audience")
    with audience(patient, HOST):
        assert settles(lambda: patient.examined("audience")[0].status is DiagnosisStatus.OK)
        assert fine(patient.examined("audience"), "audience").what == f"nodes may ask for tokens for {HOST}"
        version = {"nodeInfo": dict.fromkeys(NODE_INFO, "") | {"kubeletVersion": "v1.33.1"}}
        patient.create("Node", node, status=version)
        assert "is 1.33, which has no tokens" in problem(patient.examined("audience"), "audience").what
    with audience(patient, "other.example.com"):
        found = until(lambda: [each for each in patient.examined("audience") if "other.example.com" in each.what])
        assert f"Trow takes those for {HOST} only" in found[0].what
        assert f"--resource {HOST}" in found[0].fix


# ---- nodes


def test_ports_of_nodes(patient: Patient, node: str) -> None:
    assert fine(patient.examined("node-port"), "node-port").what == "no Service of Trow has a port of nodes"
    with port_of_a_node() as port:
        spec = {"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]}
        patient.create("Service", "trow", spec=spec)
        assert fine(patient.examined("node-port"), "node-port").what == "answers on 1 nodes"
    said = unchecked(patient.examined("node-port"), "node-port")
    assert said == "no node's address is reached from this machine: 127.0.0.1: Connection refused"
    in_pod = {"environment": {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "PATH": ""}}
    found = problem(patient.examined("node-port", **in_pod), "node-port")
    assert found.where == f"Service {patient.namespace}/trow, port {port}"
    assert f"open TCP port {port}" in found.fix
    spec["externalTrafficPolicy"] = "Local"
    patient.create("Service", "trow", spec=spec)
    assert "externalTrafficPolicy Local" in problem(patient.examined("node-port"), "node-port").what


@contextlib.contextmanager
def port_of_a_node() -> Iterator[int]:
    """Somebody listens at one of the ports that Services may have."""
    for port in range(30000, 32768):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            yield port
            return


def test_a_name_of_loopback_and_a_proxy_that_does_not_serve_it(patient: Patient, node: str) -> None:
    patient.create("Service", "trow", spec={"type": "NodePort", "ports": [{"port": 80, "nodePort": 30998}]})
    config = {"config.conf": "kind: X\nmode: ipvs\n"}
    patient.create("ConfigMap", "kube-proxy", metadata={"namespace": "kube-system"}, data=config)
    try:
        found = problem(patient.examined("node-port", host="localhost:30998"), "node-port")
    finally:
        patient.cluster.kubectl("delete", "configmap", "kube-proxy", "--namespace", "kube-system")
    assert "kube-proxy in mode ipvs loopback leads to no Service" in found.what


@pytest.mark.parametrize(("ahead", "said"), [(0, ""), (600, "s ahead of the API server's"), (-600, "s behind the API")])
def test_clocks_of_nodes(patient: Patient, node: str, ahead: int, said: str) -> None:
    renewed = (datetime.now(UTC) + timedelta(seconds=ahead)).isoformat(timespec="microseconds").replace("+00:00", "Z")
    patient.cluster.kubectl("create", "namespace", "kube-node-lease", check=False)
    spec = {"holderIdentity": node, "renewTime": renewed, "leaseDurationSeconds": 40}
    patient.create("Lease", node, api="coordination.k8s.io/v1", metadata={"namespace": "kube-node-lease"}, spec=spec)
    found = patient.examined("cluster-clock")
    if said:
        assert said in problem(found, "cluster-clock").what
    else:
        assert [each.what for each in found] == [
            "the API server has the time of this machine",
            "the node has the time of the API server",
        ]
        fine(found, "cluster-clock")


def agent(patient: Patient, node: str, said: str, pull: Any) -> None:
    """The Pod of a node agent, as its kubelet writes its status."""
    common = {"image": "", "imageID": "", "ready": True, "restartCount": 1}
    ended = {"terminated": {"exitCode": 0, "message": said, "finishedAt": "2026-01-01T00:00:00Z"}}
    statuses = [{"name": "agent", "lastState": ended, **common}, {"name": "pull-check", "state": pull, **common}]
    labels = {"app.kubernetes.io/component": "node-agent"}
    root = [{"name": "host", "hostPath": {"path": "/"}}]
    patient.pod(
        "agent", f"{HOST}/trow-node-agent:1", {"containerStatuses": statuses}, labels, nodeName=node, volumes=root
    )


def test_what_agents_of_nodes_say(patient: Patient, node: str) -> None:
    assert "no node agent is installed" in unchecked(patient.examined("nodes"), "nodes")
    running = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
    agent(patient, node, "runtime: ready: containerd 2.4.2", running)
    assert fine(patient.examined("nodes"), "nodes").what == "can pull, as of 2026-01-01T00:00:00Z"
    agent(patient, node, "credentials: blocked: the kubelet runs with an older config; fix: restart it", running)
    found = problem(patient.examined("nodes"), "nodes")
    assert (found.where, found.fix) == (f"node {node}", "restart it")
    refused = {"waiting": {"reason": "ErrImagePull", "message": "dial tcp 10.0.0.7:80: connect: connection refused"}}
    agent(patient, node, "runtime: ready: containerd 2.4.2", refused)
    assert "cannot pull: dial tcp 10.0.0.7:80" in problem(patient.examined("nodes"), "nodes").what


# ---- how Trow is set up, read from the cluster


def test_the_configuration_is_found_in_the_cluster(patient: Patient) -> None:
    settings = {"kubernetes": {"audiences": ["registry.invalid"]}, "listen": {"public_url": "https://registry.invalid"}}
    patient.create("ConfigMap", "trow-config", data={"trow.yaml": json.dumps(settings)})
    assert problem(patient.examined("dns"), "dns").where == "registry.invalid"
