"""What can be wrong before and during a quick install: one message with the fix, and nothing that is half done."""

from __future__ import annotations

import contextlib
import http.server
import json
import shlex
import signal
import socket
import subprocess
import threading
from typing import TYPE_CHECKING, Any, Final

import pytest
from deploy.quick_install import SCRIPT

from support.cluster import Cluster
from support.quick_install import (
    READY,
    QuickInstall,
    add_node,
    copy_of,
    everything,
    labelled,
    pods_are,
    set_pod,
    waiting,
)
from support.waiting import until
from tools.find import tool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IMAGE: Final = ("--image", "registry.example.net/trow:1")


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster.start(tmp_path_factory.mktemp("control")) as running:
        add_node(running, "node-1")
        yield running


@pytest.fixture
def quick(control: Cluster, tmp_path: Path) -> QuickInstall:
    return QuickInstall(tmp_path / "quick", control.kubeconfig)


@pytest.fixture
def unchanged(control: Cluster) -> Iterator[None]:
    before = everything(control)
    yield
    assert everything(control) == before


# The command line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--dryrun"], "unknown flag --dryrun"),
        (["trow"], "unexpected argument trow"),
        (["--image"], "--image needs a value"),
        (["--image="], "--image needs a value"),
        (["--namespace", "Trow"], "--namespace: Trow is not the name"),
        (["--namespace", "a\nb"], "is not the name of a namespace"),
        (["--namespace", "kube-system"], "--namespace: kube-system is not for Trow alone"),
        (["--namespace", "default"], "--namespace: default is not for Trow alone"),
        (["--timeout", "soon"], "--timeout: soon is not a number"),
        (["--node-port", "0"], "--node-port: 0 is not a port"),
        (["--host", "https://registry.example.com"], "--host: https://registry.example.com is not HOST"),
        (["--image", "a|b"], "--image: a|b is not the name"),
        (["--keep-data"], "--keep-data belongs to --uninstall"),
    ],
)
def test_a_mistake_in_the_command_line_is_named(quick: QuickInstall, arguments: list[str], says: str) -> None:
    calls = quick.add("kubectl")
    done = quick.ask(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "--help" in done.stderr
    assert calls.read_text("utf-8") == ""


def test_help_is_for_everybody(quick: QuickInstall) -> None:
    (quick.programs / "kubectl").unlink()
    assert "--uninstall" in quick.run("--help")


@pytest.mark.parametrize("part", [0.1, 0.25, 0.3, 0.9, 0.999])
def test_a_script_that_was_cut_off_does_nothing(quick: QuickInstall, part: float) -> None:
    calls = quick.add("kubectl")
    script = SCRIPT.read_bytes()
    begun = script[: int(len(script) * part)]
    subprocess.run([str(tool("dash"))], input=begun, env=quick.variables, capture_output=True, check=False)
    assert calls.read_text("utf-8") == ""


# The cluster


def test_without_kubectl_it_says_where_to_get_it(quick: QuickInstall) -> None:
    (quick.programs / "kubectl").unlink()
    said = quick.refused()
    assert "there is no kubectl on the PATH" in said
    assert "https://kubernetes.io/docs/tasks/tools/" in said


def test_a_cluster_that_does_not_answer_is_named(quick: QuickInstall, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{closed.getsockname()[1]}"
        quick.variables["KUBECONFIG"] = str(pointing_at(url, tmp_path))
        said = quick.refused()
    assert f"the cluster {url} (context test) does not answer" in said
    assert "kubectl config get-contexts" in said


def pointing_at(url: str, folder: Path) -> Path:
    path = folder / "elsewhere"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": url}}],
        "users": [{"name": "test", "user": {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }
    path.write_text(json.dumps(document), "utf-8")
    return path


def test_without_a_kubeconfig_it_says_so(quick: QuickInstall, tmp_path: Path) -> None:
    quick.variables["KUBECONFIG"] = str(tmp_path / "none")
    assert "kubectl has no cluster" in quick.refused()
    said = quick.refused("--kubeconfig", "none.yaml")
    assert "--kubeconfig: none.yaml cannot be read" in said


def test_a_terminal_obeys_nothing_that_a_server_says(quick: QuickInstall) -> None:
    quick.add("kubectl", 'case "$*" in *config*) exit 0 ;; esac; printf "x\\033]0;owned\\007y" >&2; exit 1')
    said = quick.refused()
    assert "x]0;ownedy" in said


def test_an_unknown_context_is_named(quick: QuickInstall) -> None:
    said = quick.refused("--context", "other")
    assert "other" in said
    assert "kubectl config get-contexts" in said


def test_who_is_not_known_is_told_to_log_in(control: Cluster, quick: QuickInstall, tmp_path: Path) -> None:
    quick.variables["KUBECONFIG"] = str(copy_of(control.kubeconfig, tmp_path, token="made-up"))
    assert "does not know you" in quick.refused()


class OldCluster(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"major": "1", "minor": "29+", "gitVersion": "v1.29.3"}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_a_cluster_that_is_too_old_is_told(quick: QuickInstall, tmp_path: Path) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), OldCluster) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        quick.variables["KUBECONFIG"] = str(pointing_at(f"http://127.0.0.1:{server.server_port}", tmp_path))
        said = quick.refused()
        server.shutdown()
        thread.join()
    assert "runs Kubernetes v1.29.3, and Trow needs 1.32 or newer" in said


@pytest.mark.usefixtures("unchanged")
def test_missing_rights_are_listed_before_anything_is_made(
    control: Cluster, quick: QuickInstall, tmp_path: Path
) -> None:
    rules = [{"apiGroups": ["", "apps"], "resources": ["*"], "verbs": ["*"]}]
    with user(control, rules) as token:
        quick.variables["KUBECONFIG"] = str(copy_of(control.kubeconfig, tmp_path, token=token))
        said = quick.refused(*IMAGE)
        assert "you may not do this" in said
        assert "create clusterroles.rbac.authorization.k8s.io" in said
        assert "create statefulsets.apps" not in said
        assert "cluster-admin" in said
        assert "delete customresourcedefinitions.apiextensions.k8s.io" in quick.refused("--uninstall")


@contextlib.contextmanager
def user(control: Cluster, rules: list[Any]) -> Iterator[str]:
    """The token of somebody with these rights."""
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "some"}}
    control.apply(json.dumps({**role, "rules": rules}))
    control.kubectl("create", "serviceaccount", "some", "--namespace=default")
    control.kubectl("create", "clusterrolebinding", "some", "--clusterrole=some", "--serviceaccount=default:some")
    try:
        yield control.token("default", "some", control.url)
    finally:
        control.kubectl("delete", "clusterrolebinding/some", "clusterrole/some")
        control.kubectl("delete", "serviceaccount/some", "--namespace=default")


@contextlib.contextmanager
def node_is(control: Cluster, **facts: Any) -> Iterator[None]:
    """The only node is another one."""
    control.kubectl("delete", "nodes", "--all")
    if facts:
        add_node(control, "node-1", **facts)
    try:
        yield
    finally:
        control.kubectl("delete", "nodes", "--all")
        add_node(control, "node-1")


def test_nodes_have_to_be_there_and_ready(control: Cluster, quick: QuickInstall) -> None:
    with node_is(control):
        assert "has no nodes" in quick.refused(*IMAGE)
    with node_is(control, ready=False):
        assert "no node of the cluster" in quick.refused(*IMAGE)


# What is in the way

SERVICE: Final = {"spec": {"ports": [{"port": 80}]}, "apiVersion": "v1", "kind": "Service"}


@contextlib.contextmanager
def existing(control: Cluster, *objects: dict[str, Any]) -> Iterator[None]:
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    control.apply(document)
    try:
        yield
    finally:
        control.kubectl("delete", "--filename=-", "--wait=true", input=document)


def namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


@pytest.mark.parametrize(
    ("labels", "says", "fix"),
    [
        ({}, "there is a Service/trow in the namespace trow", "kubectl delete service/trow --namespace trow"),
        ({"app.kubernetes.io/managed-by": "Helm"}, "installed with Helm: Service/trow", "install-in-a-cluster.md"),
    ],
)
def test_names_that_are_taken_stay_with_their_owner(
    control: Cluster, quick: QuickInstall, labels: dict[str, str], says: str, fix: str
) -> None:
    taken = {**SERVICE, "metadata": {"name": "trow", "namespace": "trow", "labels": labels}}
    with existing(control, namespace("trow"), taken):
        before = everything(control)
        said = quick.refused(*IMAGE)
        assert everything(control) == before
    assert says in said
    assert fix in said


def test_another_trow_of_the_cluster_is_named(control: Cluster, quick: QuickInstall) -> None:
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "trow-admission"}}
    with existing(control, role):
        said = quick.refused(*IMAGE)
    assert "there is a ClusterRole/trow-admission that this script has not made" in said
    assert "kubectl delete clusterrole/trow-admission" in said


def test_a_command_that_is_copied_runs_nothing_else(control: Cluster, quick: QuickInstall, tmp_path: Path) -> None:
    """A context has the name that whoever wrote the kubeconfig file gave it."""
    name = "it's; touch $(here)"
    kubeconfig = copy_of(control.kubeconfig, tmp_path)
    document = json.loads(kubeconfig.read_text())
    document["contexts"][0]["name"] = name
    kubeconfig.write_text(json.dumps(document))
    taken = {**SERVICE, "metadata": {"name": "trow", "namespace": "trow"}}
    with existing(control, namespace("trow"), taken):
        said = quick.refused(*IMAGE, "--kubeconfig", str(kubeconfig), "--context", name)
    command = said.partition("delete it: ")[2].splitlines()[0]
    assert shlex.split(command)[-4:] == ["--context", name, "--kubeconfig", str(kubeconfig)]


@pytest.mark.parametrize(
    ("kind", "group"),
    [("ClusterRole", "rbac.authorization.k8s.io/v1"), ("ClusterRoleBinding", "rbac.authorization.k8s.io/v1")],
)
def test_no_object_of_somebody_else_is_taken_over(control: Cluster, quick: QuickInstall, kind: str, group: str) -> None:
    """Its removal would take it away, too."""
    name = {"ClusterRole": "trow-image-admin", "ClusterRoleBinding": "trow-nodes"}[kind]
    theirs: dict[str, Any] = {"apiVersion": group, "kind": kind, "metadata": {"name": name}}
    if kind == "ClusterRoleBinding":
        theirs["roleRef"] = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
    with existing(control, theirs):
        before = everything(control)
        assert f"there is a {kind}/{name} that this script has not made" in quick.refused(*IMAGE)
        assert everything(control) == before


def test_compiled_policies_of_another_trow_stay(control: Cluster, quick: QuickInstall) -> None:
    owner = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "name": "prod-trow-admission"}
    with existing(
        control, {"apiVersion": owner["apiVersion"], "kind": "ClusterRole", "metadata": {"name": owner["name"]}}
    ):
        uid = control.kubectl("get", "clusterrole", owner["name"], "--output=jsonpath={.metadata.uid}")
        labels = {"app.kubernetes.io/managed-by": "trow"}
        theirs = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": "theirs", "labels": labels, "ownerReferences": [owner | {"uid": uid}]},
            "spec": {"policyName": "theirs", "validationActions": ["Deny"]},
        }
        with existing(control, theirs):
            with pods_are(control, READY):
                quick.run(*IMAGE)
            quick.run("--uninstall")
            assert (
                control.kubectl("get", "validatingadmissionpolicybinding", "--output=name").strip().endswith("/theirs")
            )


def test_a_namespace_that_is_going_is_waited_for_by_a_command(control: Cluster, quick: QuickInstall) -> None:
    control.apply(json.dumps(namespace("trow")))
    holding = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "held", "namespace": "trow"}}
    holding["metadata"]["finalizers"] = ["example.com/held"]  # type: ignore[index]
    control.apply(json.dumps(holding))
    control.kubectl("delete", "namespace", "trow", "--wait=false")
    said = quick.refused(*IMAGE)
    control.kubectl(
        "patch", "configmap", "held", "--namespace=trow", "--type=merge", '--patch={"metadata":{"finalizers":null}}'
    )
    control.kubectl("wait", "namespace/trow", "--for=delete", "--timeout=30s")
    assert "the namespace trow is being deleted" in said
    assert "kubectl wait namespace/trow --for=delete" in said


@pytest.mark.usefixtures("unchanged")
def test_a_port_that_is_taken_is_told_with_its_owner(control: Cluster, quick: QuickInstall) -> None:
    taken = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"}}
    spec = {"type": "NodePort", "ports": [{"name": "a", "port": 1}, {"name": "b", "port": 80, "nodePort": 30500}]}
    with existing(control, {**taken, "spec": spec}):
        said = quick.refused(*IMAGE)
        quick.run("--dry-run", *IMAGE, "--node-port", "30501")
    assert "port 30500 of the nodes is taken by the Service default/web" in said
    assert "--node-port PORT" in said


@pytest.mark.usefixtures("unchanged")
def test_a_port_outside_of_the_clusters_range_is_told(quick: QuickInstall) -> None:
    said = quick.refused(*IMAGE, "--node-port", "500")
    assert "500 is none of the ports" in said
    assert "30000-32767" in said


def webhooks(name: str, service: str, *, resource: str = "pods") -> dict[str, Any]:
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": [resource]}]
    called = {"service": {"namespace": "kube-public", "name": service}, "caBundle": ""}
    webhook = {"name": f"{name}.example.com", "clientConfig": called, "rules": rules, "sideEffects": "None"}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [{**webhook, "admissionReviewVersions": ["v1"], "failurePolicy": "Fail", "timeoutSeconds": 1}],
    }


def test_webhooks_of_an_older_installation_are_found(control: Cluster, quick: QuickInstall) -> None:
    with existing(control, webhooks("trow-validator", "trow")):
        said = quick.refused(*IMAGE)
    assert "validatingwebhookconfiguration/trow-validator is left from an older installation" in said
    assert "kube-public/trow" in said
    assert "kubectl delete validatingwebhookconfiguration/trow-validator" in said


def test_another_trow_that_decides_is_named(control: Cluster, quick: QuickInstall) -> None:
    client = {"service": {"namespace": "prod", "name": "prod-trow-webhooks"}}
    webhook = {"name": "validate.trow.io", "admissionReviewVersions": ["v1"], "sideEffects": "None", "rules": []}
    configuration = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "prod-trow"},
        "webhooks": [webhook | {"clientConfig": client}],
    }
    theirs = {**SERVICE, "metadata": {"name": "prod-trow-webhooks", "namespace": "prod"}}
    with existing(control, namespace("prod"), theirs, configuration):
        before = everything(control)
        assert "the Trow in the namespace prod decides about the images of this cluster" in quick.refused(*IMAGE)
        assert everything(control) == before


def test_a_cluster_in_which_no_pod_can_be_created_is_told(control: Cluster, quick: QuickInstall) -> None:
    with existing(control, webhooks("guard", "guard")):
        until(lambda: "failed calling webhook" in control.kubectl(*A_POD, check=False), 20)
        said = quick.refused(*IMAGE)
    assert "no Pod can be created in this cluster" in said
    assert "The webhook guard.example.com does not answer" in said


A_POD: Final = ("run", "any", "--image=any", "--dry-run=server", "--namespace=default")


# The image


@pytest.mark.usefixtures("unchanged")
def test_an_image_that_nobody_has_is_not_looked_for_at_docker_hub(control: Cluster, quick: QuickInstall) -> None:
    said = quick.refused()
    assert "no registry has an image of Trow yet, and no node has trow:" in said
    assert "--image-archive dist/image" in said
    assert "--image-archive: none.tar cannot be read" in quick.refused("--image-archive", "none.tar")
    assert "is not an OCI layout" in quick.refused("--image-archive", str(quick.programs))


def test_an_archive_cannot_be_put_onto_nodes_elsewhere(quick: QuickInstall) -> None:
    said = quick.refused("--image-archive", str(SCRIPT))
    assert "nothing puts an image onto the nodes of this cluster" in said
    assert "ctr --namespace k8s.io images import" in said
    assert "--image REGISTRY/trow:VERSION" in said


def test_the_tool_that_loads_images_has_to_be_there(control: Cluster, quick: QuickInstall) -> None:
    with node_is(control, provider="kind://docker/dev/node-1"):
        assert "there is no kind on the PATH" in quick.refused("--image-archive", str(SCRIPT))
    with node_is(control, labels={"microk8s.io/cluster": "true"}):
        assert "there is no microk8s on this machine; the nodes are elsewhere" in quick.refused(
            "--image-archive", str(SCRIPT)
        )


def test_without_sudo_it_says_what_to_run_as_root(control: Cluster, quick: QuickInstall) -> None:
    quick.add("microk8s")
    quick.add("id", "echo 1000")
    with node_is(control, labels={"microk8s.io/cluster": "true"}):
        said = quick.refused("--image-archive", str(SCRIPT))
        assert "sudo is missing or asks for a password" in said
        assert "Run as root: microk8s images import < ARCHIVE" in said
        quick.add("sudo", "exit 1")
        assert "sudo is missing or asks for a password" in quick.refused("--image-archive", str(SCRIPT))


# While it is installed


@pytest.fixture
def cleaned(quick: QuickInstall, control: Cluster) -> Iterator[None]:
    yield
    assert "Nothing is left." in quick.run("--uninstall")
    assert labelled(control) == []


def denied(name: str) -> Iterator[dict[str, Any]]:
    """Pods of Trow are refused, in the words of Pod Security."""
    base = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}}
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]
    validation = {"expression": "false", "message": 'violates PodSecurity "privileged:v9"'}
    yield {
        **base,
        "kind": "ValidatingAdmissionPolicy",
        "spec": {
            "matchConstraints": {
                "resourceRules": rules,
                "objectSelector": {"matchLabels": {"app.kubernetes.io/name": "trow"}},
            },
            "validations": [validation],
        },
    }
    yield {
        **base,
        "kind": "ValidatingAdmissionPolicyBinding",
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    }


@pytest.mark.usefixtures("cleaned")
def test_an_image_that_cannot_be_pulled_is_told_and_a_second_run_goes_on(control: Cluster, quick: QuickInstall) -> None:
    with pods_are(control, waiting("ErrImageNeverPull", "is not present")):
        said = quick.refused(*IMAGE)
    assert "Trow does not start: trow-0 is Pending, ErrImageNeverPull" in said
    assert "registry.example.net/trow:1 is on no node: give --image-archive FILE" in said
    assert "Until here this was made: the namespace trow, the password of the administrator" in said
    assert "--uninstall" in said
    with pods_are(control, waiting("ImagePullBackOff", "no such host")):
        said = quick.refused(*IMAGE)
    assert "The nodes cannot pull registry.example.net/trow:1" in said
    assert "no such host" in said
    with pods_are(control, waiting("CrashLoopBackOff", "back-off")):
        assert "Trow does not start: trow-0 is Pending, CrashLoopBackOff" in quick.refused(*IMAGE)
    with pods_are(control, READY):
        assert "Trow is ready" in quick.run(*IMAGE)


@pytest.mark.usefixtures("cleaned")
def test_a_pod_that_is_refused_is_told_with_the_reason(control: Cluster, quick: QuickInstall) -> None:
    with existing(control, *denied("refuse")):
        refused = ("create", "--dry-run=server", "--filename=-")
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "a", "labels": {"app.kubernetes.io/name": "trow"}},
        }
        pod["spec"] = {"containers": [{"name": "a", "image": "a"}]}
        until(lambda: "PodSecurity" in control.kubectl(*refused, input=json.dumps(pod), check=False), 20)
        said = quick.refused(*IMAGE)
    assert "its Pod is refused" in said
    assert "violates PodSecurity" in said
    assert "kubectl label namespace trow --overwrite pod-security.kubernetes.io/enforce" in said


@pytest.mark.usefixtures("cleaned")
def test_a_time_out_tells_what_is_made_and_pods_can_start_meanwhile(control: Cluster, quick: QuickInstall) -> None:
    said = quick.refused(*IMAGE, "--timeout", "2")
    assert "Trow is not ready after 2 s: trow-0 is Pending" in said
    assert "kubectl describe pod trow-0 --namespace trow" in said
    assert "After the fix, run the same command again" in said
    assert "pod/any created" in control.kubectl(*A_POD)


@pytest.mark.usefixtures("cleaned")
def test_an_upgrade_that_fails_goes_back_to_what_ran(control: Cluster, quick: QuickInstall) -> None:
    with pods_are(control, READY):
        quick.run(*IMAGE)
        image = image_of(control)
    ended = threading.Event()

    def kubelet() -> None:
        while not ended.wait(0.3):
            pod = control.kubectl("get", "pod", "trow-0", "--namespace=trow", "--output=json", check=False)
            with contextlib.suppress(json.JSONDecodeError):
                old = json.loads(pod)["spec"]["containers"][0]["image"] == image
                set_pod(control, READY if old else waiting("ErrImageNeverPull"))

    thread = threading.Thread(target=kubelet)
    thread.start()
    try:
        said = quick.refused("--image", "registry.example.net/trow:2")
    finally:
        ended.set()
        thread.join()
    assert "The one that ran before runs again." in said
    assert image_of(control) == image


def image_of(control: Cluster) -> str:
    path = "--output=jsonpath={.spec.template.spec.containers[0].image}"
    return control.kubectl("get", "statefulset", "trow", "--namespace=trow", path)


@pytest.mark.usefixtures("cleaned")
def test_an_interruption_tells_what_is_made(control: Cluster, quick: QuickInstall) -> None:
    with quick.start(*IMAGE) as process:
        until(lambda: "trow-0" in control.kubectl("get", "pods", "--namespace=trow", "--output=name"), 60)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Until here this was made: the namespace trow" in said


def test_there_is_no_data_to_keep_in_a_pod(control: Cluster, quick: QuickInstall) -> None:
    with pods_are(control, READY):
        quick.run(*IMAGE)
    before = everything(control)
    assert "there is no volume to keep" in quick.refused("--uninstall", "--keep-data")
    assert everything(control) == before
    assert "Give --namespace trow" in quick.refused("--uninstall", "--namespace", "elsewhere")
    quick.run("--uninstall")


def test_what_helm_has_installed_is_helms_to_remove(control: Cluster, quick: QuickInstall) -> None:
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole"}
    labels = {"app.kubernetes.io/managed-by": "Helm"}
    with existing(control, {**role, "metadata": {"name": "trow-admission", "labels": labels}}):
        assert "helm uninstall trow" in quick.refused("--uninstall")
