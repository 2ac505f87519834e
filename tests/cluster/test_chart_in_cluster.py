"""The chart in a real cluster: Trow is a Pod from its own image, nodes pull from it, and its policies hold."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import pytest
import trustme
import urllib3

from support import own
from support.helm import Helm
from support.installed import Installation
from support.nodes import BUSYBOX
from support.policies import CLUSTER_POLICY, EXCEPTION, document, exception
from support.reports import DEFINITION
from support.waiting import settles, until
from tools.find import tool
from trow.policy.webhooks import PROBE_ANSWER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from support.nodes import NodeCluster

# `Deny` by name is compiled into the API server; what has to exist only Trow knows, so that the API server asks it.
POLICY: Final[Mapping[str, Any]] = {
    "apiVersion": "policy.trow.io/v1alpha1",
    "kind": "ClusterImagePolicy",
    "metadata": {"name": "default"},
    "spec": {
        "default": "Allow",
        "rules": [
            {"name": "no-evil", "action": "Deny", "images": [{"registry": "*", "repository": "**/evil"}]},
        ],
        "require": {"forbidPullPolicyNever": True},
    },
}
OWN_POLICY: Final = {"apiVersion": "policy.trow.io/v1alpha1", "kind": "ImagePolicy", "metadata": {"name": "own"}}


@pytest.fixture(scope="module")
def nodes(node_cluster: NodeCluster, own_image: Path) -> Iterator[NodeCluster]:
    """Whose nodes have Trow's image, and where somebody looks at PolicyReports."""
    node_cluster.import_image(own_image, own.REFERENCE)
    node_cluster.apply(json.dumps(DEFINITION))
    yield node_cluster
    node_cluster.kubectl("delete", "crd", "policyreports.wgpolicyk8s.io")


@pytest.fixture(scope="module")
def installed(nodes: NodeCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """With Helm 4, and with policies in force."""
    found = guarded("helm", nodes, tmp_path_factory.mktemp("installed"))
    yield found
    found.uninstall()


def guarded(helm: str, cluster: NodeCluster, folder: Path) -> Installation:
    """An installation with a policy that is in force, in webhooks and in the API server."""
    found = Installation.install(helm, cluster, folder)
    cluster.apply(json.dumps(POLICY))
    found.wait_in_force()
    namespace = cluster.new_namespace()
    until(lambda: "ValidatingAdmissionPolicy" in refusal(found, namespace, f"{found.host}/team/evil:1"))
    return found


@pytest.fixture
def namespace(node_cluster: NodeCluster) -> str:
    return node_cluster.new_namespace()


def refusal(installed: Installation, namespace: str, image: str) -> str:
    """What kubectl says of a Pod with an image."""
    return installed.cluster.run_pod(namespace, "tried", image, check=False)


def tried_again(installed: Installation, namespace: str, image: str) -> str:
    """The same, also after it was let in: a new webhook takes the API server a moment."""
    installed.cluster.kubectl("delete", "pod/tried", f"--namespace={namespace}", "--ignore-not-found", "--now")
    return refusal(installed, namespace, image)


def own_policy(installed: Installation, namespace: str, **spec: object) -> None:
    """Let a namespace have a policy of its own."""
    policy = {**OWN_POLICY, "spec": {"default": "Allow", **spec}}
    installed.cluster.kubectl("create", "--filename=-", f"--namespace={namespace}", input=json.dumps(policy))


def refused_by_webhook(installed: Installation, namespace: str) -> None:
    """Try an image that is not there, which only Trow knows, until it is refused and a Deployment's Event says why."""
    own_policy(installed, namespace, require={"exists": True})
    there = f"--namespace={namespace}"
    until(lambda: "admission webhook" in tried_again(installed, namespace, f"{installed.host}/team/none:1"))
    installed.cluster.kubectl("create", "deployment", "none", f"--image={installed.host}/team/none:1", there)
    mine = "--output=jsonpath={.items[?(@.source.component=='trow')].message}"
    events = ("get", "events", there, mine)
    until(lambda: "team/none:1" in installed.cluster.kubectl(*events))
    installed.cluster.kubectl("delete", "imagepolicy/own", "deployment/none", there)


def image_of(installed: Installation, namespace: str, pod: str) -> str:
    path = "--output=jsonpath={.spec.containers[0].image}"
    return installed.cluster.kubectl("get", f"pod/{pod}", f"--namespace={namespace}", path)


def test_a_pod_pulls_what_was_pushed_through_the_node_port(installed: Installation, namespace: str) -> None:
    image = installed.push("team/app")
    for node in installed.cluster.nodes:
        installed.cluster.run_pod(namespace, node.name, image, nodeName=node.name, pull="Always")
        installed.cluster.wait_ready(namespace, f"pod/{node.name}")


def test_the_test_of_the_release_succeeds(installed: Installation) -> None:
    said = installed.helm.run("test", "trow", "--timeout=60s")
    assert "Succeeded" in said


def test_a_tag_is_pinned_by_webhook(installed: Installation, namespace: str) -> None:
    image = installed.push("team/pinned")
    own_policy(installed, namespace, mutate={"pinDigests": True})

    def pinned() -> bool:  # a new webhook takes the API server a moment
        installed.cluster.kubectl("delete", "pod/app", f"--namespace={namespace}", "--ignore-not-found", "--now")
        installed.cluster.run_pod(namespace, "app", image)
        return "@sha256:" in image_of(installed, namespace, "app")

    until(pinned)
    installed.cluster.wait_ready(namespace, "pod/app")
    installed.cluster.kubectl("delete", "imagepolicy/own", f"--namespace={namespace}")


def test_an_image_that_is_not_there_is_refused_by_webhook(installed: Installation, namespace: str) -> None:
    refused_by_webhook(installed, namespace)


def test_a_denied_image_is_refused_by_name_while_trow_does_not_run(installed: Installation, namespace: str) -> None:
    """By the policy that is compiled into the API server; what it allows starts, and nothing waits for Trow."""
    installed.helm.kubectl("scale", "statefulset/trow", "--replicas=0")
    installed.helm.kubectl("wait", "pod/trow-0", "--for=delete", "--timeout=50s")
    try:
        said = refusal(installed, namespace, f"{installed.host}/team/evil:1")
        assert "ValidatingAdmissionPolicy" in said
        assert "no-evil" in said
        installed.cluster.run_pod(namespace, "good", BUSYBOX)
        installed.cluster.wait_ready(namespace, "pod/good")
    finally:
        installed.helm.kubectl("scale", "statefulset/trow", "--replicas=1")
        installed.wait_ready()


def test_while_trow_does_not_run_what_it_needs_itself_starts_and_what_only_it_knows_does_not(
    installed: Installation, namespace: str
) -> None:
    """Where all images have to exist, which no compiled policy can tell."""
    cluster, homes = installed.cluster, ("kube-system", installed.namespace)
    content = document(CLUSTER_POLICY, {"default": "Allow", "require": {"exists": True}}, "content")
    cluster.apply(json.dumps(content))
    try:
        until(lambda: "admission webhook" in tried_again(installed, namespace, f"{installed.host}/team/none:1"))
        # In this order; else there is another Pod, which has a minute to end.
        installed.helm.kubectl("scale", "statefulset/trow", "--replicas=0")
        installed.helm.kubectl(
            "delete", "pod/trow-0", "--grace-period=0", "--force", "--wait=false", "--ignore-not-found"
        )
        until(lambda: "failed calling webhook" in tried_again(installed, namespace, BUSYBOX))
        for home in homes:
            said = cluster.run_pod(home, "vital", BUSYBOX, securityContext=RESTRICTED, containers=[CONTAINED])
            assert "created" in said
    finally:
        for home in homes:
            cluster.kubectl("delete", "pod/vital", f"--namespace={home}", "--ignore-not-found", "--now")
        cluster.kubectl("delete", "clusterimagepolicy/content")
        installed.helm.kubectl("scale", "statefulset/trow", "--replicas=1")
        installed.wait_ready()
    until(lambda: "created" in tried_again(installed, namespace, BUSYBOX))


# What the namespace of the release asks of Pods.
RESTRICTED: Final = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
CONTAINED: Final = {
    "name": "main",
    "image": BUSYBOX,
    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
}


def test_a_static_pod_is_refused_when_it_is_pulled(installed: Installation) -> None:
    image = installed.push("team/evil")
    node = installed.cluster.node
    manifest = node.path("/etc/kubernetes/manifests/static.json")
    spec = {"containers": [{"name": "main", "image": image}], "terminationGracePeriodSeconds": 1}
    static = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "static", "namespace": "kube-system"}}
    manifest.write_text(json.dumps({**static, "spec": spec}), encoding="utf-8")
    try:
        said = installed.cluster.wait_for_reason("kube-system", f"static-{node.name}", "ErrImagePull")
        assert "no-evil" in said
    finally:
        manifest.unlink()
        gone = f"pod/static-{node.name}"
        until(lambda: not installed.cluster.kubectl("get", gone, "--namespace=kube-system", "--ignore-not-found"))


def test_a_killed_pod_comes_back_with_everything(installed: Installation, namespace: str) -> None:
    image = installed.push("team/kept")
    before = installed.restarts()
    installed.helm.kubectl("delete", "pod/trow-0", "--force", "--grace-period=0")
    until(lambda: installed.helm.kubectl("get", "pod/trow-0", "--ignore-not-found") and installed.restarts() != before)
    installed.wait_ready()
    installed.cluster.run_pod(namespace, "app", image, pull="Always")
    installed.cluster.wait_ready(namespace, "pod/app")


def test_the_cluster_comes_back_by_itself_after_its_nodes_were_rebooted(
    installed: Installation, namespace: str
) -> None:
    """With no Trow to ask: its own Pod and those of others start, and pulls and policies work again."""
    image = installed.push("team/rebooted")
    installed.cluster.run_pod(namespace, "app", image, pull="Always")
    installed.cluster.wait_ready(namespace, "pod/app")
    before = installed.restarts()
    for node in installed.cluster.nodes:
        node.shut_down()
    for node in installed.cluster.nodes:
        node.reboot()
    until(lambda: installed.restarts()[1] > before[1], 60)
    installed.wait_ready()
    installed.cluster.wait_ready(namespace, "pod/app")
    installed.cluster.run_pod(namespace, "new", image, pull="Always")
    installed.cluster.wait_ready(namespace, "pod/new")
    until(lambda: "no-evil" in refusal(installed, namespace, f"{installed.host}/team/evil:1"))


def test_every_pull_during_an_upgrade_and_the_way_back_ends_well(installed: Installation) -> None:
    """A client that is cut off tries again, as containerd and docker do, and has the whole image in the end."""
    installed.push("team/upgraded")
    ended = threading.Event()
    pulls: list[bool] = []

    env = installed.box.environment()

    def pulled(archive: Path) -> bool:
        argv = (tool("crane"), "pull", "--insecure", f"{installed.host}/team/upgraded:1", archive)
        return subprocess.run(argv, env=env, capture_output=True, check=False).returncode == 0

    def pull(number: int) -> None:
        archive = installed.box.home / f"pulled-{number}.tar"
        while not ended.is_set():
            pulls.append(settles(lambda: pulled(archive), 60))

    threads = [threading.Thread(target=pull, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        installed.helm.upgrade(installed.values(podAnnotations={"changed": "yes"}))
        installed.wait_ready()
        installed.helm.run("rollback", "trow", "1")
        installed.wait_ready()
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert len(pulls) >= len(threads)
    assert all(pulls)


# What Trow is allowed, counted


def allowed(cluster: NodeCluster, namespace: str) -> set[tuple[str, str, str]]:
    """Group, resource and verb of all that is granted to Trow's own ServiceAccount, by whatever binding."""
    bindings = json.loads(
        cluster.kubectl("get", "clusterrolebindings,rolebindings", "--all-namespaces", "--output=json")
    )
    granted = set()
    for binding in bindings["items"]:
        subjects = [(each["kind"], each.get("namespace"), each["name"]) for each in binding.get("subjects", ())]
        if ("ServiceAccount", namespace, "trow") not in subjects:
            continue
        role = (f"{binding['roleRef']['kind']}/{binding['roleRef']['name']}", f"--namespace={namespace}")
        for rule in json.loads(cluster.kubectl("get", *role, "--output=json"))["rules"]:
            granted |= {
                (group, resource, verb)
                for group in rule["apiGroups"]
                for resource in rule["resources"]
                for verb in rule["verbs"]
            }
    return granted


def pulled_by_a_service_account(installed: Installation, namespace: str) -> None:
    """Whose token and rights Trow asks the API server about."""
    cluster, repository = installed.cluster, f"{namespace}/app"
    cluster.kubectl(
        "create", "rolebinding", "pull", f"--namespace={namespace}", "--clusterrole=view",
        f"--serviceaccount={namespace}:default",
    )  # fmt: skip
    installed.push(repository)
    token = cluster.kubectl(
        "create", "token", "default", f"--namespace={namespace}", f"--audience={installed.host}"
    ).strip()
    manifest = f"http://{installed.host}/v2/{repository}/manifests/1"
    headers = urllib3.make_headers(basic_auth=f"any:{token}")
    until(lambda: urllib3.request("GET", manifest, headers=headers, timeout=5).status == HTTPStatus.OK)


def reported(installed: Installation, namespace: str) -> None:
    """What runs is in a report until it does not run any more."""
    cluster, there = installed.cluster, f"--namespace={namespace}"
    report = ("get", "policyreport", "trow", there, "--ignore-not-found", "--output=name")
    cluster.run_pod(namespace, "reported", BUSYBOX)
    until(lambda: cluster.kubectl(*report))
    cluster.kubectl("delete", "pods", "--all", there, "--now")
    until(lambda: not cluster.kubectl(*report))


def asked_for_an_exception(installed: Installation, namespace: str) -> None:
    """Nobody approves it, which its status tells."""
    cluster = installed.cluster
    me = cluster.kubectl("auth", "whoami", "--output=jsonpath={.status.userInfo.username}")
    spec = exception(requester=me, namespaces=[namespace], policies=["ClusterImagePolicy/default"])
    cluster.apply(json.dumps(document(EXCEPTION, spec, namespace)))
    about = ("get", "policyexception", namespace, "--output=jsonpath={.status.conditions[*].type}")
    until(lambda: cluster.kubectl(*about))
    cluster.kubectl("delete", "policyexception", namespace)


def asked_for(installed: Installation) -> tuple[set[tuple[str, str, str]], list[str]]:
    """What Trow has asked the API server for, and what it was refused for want of a right."""
    asked: set[tuple[str, str, str]] = set()
    forbidden = []
    mine = f"system:serviceaccount:{installed.namespace}:trow"
    for line in installed.cluster.audit_lines():
        if line["user"]["username"] != mine or "objectRef" not in line:
            continue
        about, status = line["objectRef"], line["responseStatus"]
        resource = "/".join(filter(None, (about.get("resource", ""), about.get("subresource", ""))))
        asked.add((about.get("apiGroup", ""), resource, line["verb"]))
        if status["code"] == HTTPStatus.CREATED:  # a patch that creates needs both
            asked.add((about.get("apiGroup", ""), resource, "create"))
        if status["code"] == HTTPStatus.FORBIDDEN and PROBE_ANSWER not in status["message"]:
            forbidden.append(f"{line['verb']} {line['requestURI']}: {status['message']}")
    return asked, forbidden


def test_nothing_that_trow_needs_is_forbidden_and_nothing_that_it_has_is_unused(
    installed: Installation, namespace: str
) -> None:
    refused_by_webhook(installed, namespace)
    pulled_by_a_service_account(installed, namespace)
    reported(installed, namespace)
    asked_for_an_exception(installed, namespace)
    wanted = allowed(installed.cluster, installed.namespace)
    # A certificate is renewed within a minute.
    settles(lambda: wanted <= asked_for(installed)[0], 70)
    asked, forbidden = asked_for(installed)
    assert forbidden == []
    assert wanted - asked == set()


# Away again


def test_uninstall_alone_leaves_nothing_and_pods_start(installed: Installation, namespace: str) -> None:
    """What Trow wrote goes with the release, by the cluster's garbage collector."""
    installed.helm.run("uninstall", "trow")
    until(lambda: not installed.left(), 60)
    installed.cluster.run_pod(namespace, "free", BUSYBOX)
    installed.cluster.wait_ready(namespace, "pod/free")


def test_helm_3_installs_upgrades_rolls_back_and_uninstalls(
    nodes: NodeCluster, installed: Installation, namespace: str, tmp_path: Path
) -> None:
    """After the tests above have taken away what Helm 4 installed."""
    installed.uninstall()
    third = guarded("helm3", nodes, tmp_path)
    image = third.push("team/app")
    third.helm.upgrade(third.values(podAnnotations={"changed": "yes"}))
    third.wait_ready()
    third.helm.run("rollback", "trow", "1")
    third.wait_ready()
    nodes.run_pod(namespace, "app", image, pull="Always")
    nodes.wait_ready(namespace, "pod/app")
    third.helm.run("uninstall", "trow")
    until(lambda: not third.left(), 60)
    nodes.run_pod(namespace, "free", BUSYBOX)
    nodes.wait_ready(namespace, "pod/free")


def test_webhooks_that_the_last_installation_left_are_put_right_by_the_next(
    nodes: NodeCluster, installed: Installation, namespace: str, tmp_path: Path
) -> None:
    """Until then they refuse Pods everywhere but in its own namespace, where it starts; then they are Trow's again."""
    installed.uninstall()
    found = Installation(Helm("helm", tmp_path, nodes.new_namespace(), nodes), nodes, tmp_path)
    apply = ("apply", "--server-side", "--field-manager=trow", "--filename=-")
    nodes.kubectl(*apply, input=json.dumps(stale(found)))

    def refused() -> bool:  # a new webhook takes the API server a moment
        nodes.kubectl("delete", "pod/early", f"--namespace={namespace}", "--ignore-not-found", "--now")
        return "failed calling webhook" in nodes.run_pod(namespace, "early", BUSYBOX, check=False)

    until(refused)
    nodes.add_volume()
    try:
        found.helm.install(found.values())
        found.wait_ready()
        until(lambda: "created" in nodes.run_pod(namespace, "free", BUSYBOX, check=False), 60)
        nodes.wait_ready(namespace, "pod/free")
        found.helm.run("uninstall", "trow")
        until(lambda: not found.left(), 60)
    finally:
        found.uninstall()
        nodes.kubectl("delete", "validatingwebhookconfiguration", found.cluster_name, "--ignore-not-found")


def stale(installation: Installation) -> Mapping[str, Any]:
    """What Trow wrote once, with an authority that nobody has any more, and owned by nothing."""
    here = installation.namespace
    others = {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system", here]}
    service = {"namespace": here, "name": "trow-webhooks", "port": 8443, "path": "/admission/validate"}
    authority = base64.b64encode(trustme.CA().cert_pem.bytes()).decode()
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": installation.cluster_name, "labels": {"app.kubernetes.io/managed-by": "trow"}},
        "webhooks": [
            {
                "name": "must-validate.trow.io",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Fail",
                "clientConfig": {"service": service, "caBundle": authority},
                "namespaceSelector": {"matchExpressions": [others]},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
            }
        ],
    }
