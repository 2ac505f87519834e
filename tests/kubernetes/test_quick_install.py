"""The quick install with a real API server: what it makes, that it can be repeated, and that it takes all away."""

from __future__ import annotations

import base64
import json
import subprocess
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml
from deploy.quick_install import SCRIPT, rendered, with_objects

from support.cluster import Cluster
from support.quick_install import READY, QuickInstall, add_node, everything, labelled, pods_are
from tools.find import tool
from trow.config import load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHELLS: Final = ("dash", "bash", "bash --posix", "busybox sh")
IMAGE: Final = ("--image", "registry.example.net/trow:1")


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster.start(tmp_path_factory.mktemp("control")) as running:
        add_node(running, "node-1")
        yield running


@pytest.fixture
def quick(control: Cluster, tmp_path: Path) -> Iterator[QuickInstall]:
    installer = QuickInstall(tmp_path, control.kubeconfig)
    yield installer
    for namespace in ("trow", "elsewhere"):
        installer.ask("--uninstall", "--namespace", namespace)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_understood_by_each_shell(shell: str) -> None:
    words = shell.split()
    subprocess.run([str(tool(words[0])), *words[1:], "-n", str(SCRIPT)], check=True)


def test_the_script_keeps_to_what_all_shells_know() -> None:
    done = subprocess.run(
        [str(tool("shellcheck")), "--shell=sh", str(SCRIPT)], capture_output=True, text=True, check=False
    )
    assert done.stdout == ""


def test_the_objects_in_the_script_are_those_of_the_overlay() -> None:
    written = SCRIPT.read_text("utf-8")
    current = with_objects(written, rendered(str(tool("kubectl"))))
    assert written == current, "run: make reference"


@pytest.mark.parametrize(("shell", "piped"), [("dash", True), ("bash", False), ("busybox sh", False)])
def test_what_a_dry_run_shows_is_made_can_be_repeated_and_leaves_nothing(
    control: Cluster,
    quick: QuickInstall,
    shell: str,
    piped: bool,  # noqa: FBT001
) -> None:
    empty = everything(control)
    shown = objects(quick.run("--dry-run", *IMAGE, shell=shell, piped=piped))
    assert everything(control) == empty

    with pods_are(control, READY):
        said = quick.run(*IMAGE, shell=shell, piped=piped)
    assert "Trow is ready in the namespace trow" in said
    assert "docker push localhost:30500/team/app:1" in said
    made = {short(each) for each in labelled(control) if not each.startswith("endpointslice")}
    assert made == {f"{kind.lower()}/{name}" for kind, _, name in shown}

    installed, password = everything(control), secret(control)
    with pods_are(control, READY):
        said += quick.run(*IMAGE, shell=shell, piped=piped)
    removal = quick.run("--uninstall", "--dry-run", shell=shell, piped=piped)
    assert everything(control) == installed
    assert secret(control) == password
    assert len(password) == 48
    assert password not in said
    assert all(f"#   {kind} {name}" in removal for kind, _, name in shown)

    assert "Nothing is left." in quick.run("--uninstall", shell=shell, piped=piped)
    assert set(everything(control)) == set(empty)
    assert labelled(control) == []
    assert "Nothing of this script is in the cluster." in quick.run("--uninstall", shell=shell, piped=piped)


def objects(text: str) -> dict[tuple[str, str, str], Any]:
    """The objects of a dry run by kind, namespace and name."""
    documents = [each for each in yaml.safe_load_all(text) if each]
    return {(each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]): each for each in documents}


def short(name: str) -> str:
    kind, _, name = name.partition("/")
    return f"{kind.partition('.')[0]}/{name}"


def test_flags_are_in_the_objects(quick: QuickInstall, tmp_path: Path) -> None:
    flags = ("--namespace=elsewhere", "--node-port", "30777", "--host", "10.1.2.3:30777", "--private")
    shown = objects(quick.run("--dry-run", "--image=registry.example.net/trow@sha256:" + 64 * "a", *flags))
    assert {namespace for _, namespace, _ in shown} == {"", "elsewhere", "kube-public"}
    [(settings, text)] = (
        (name, each["data"]["trow.yaml"])
        for (kind, _, name), each in shown.items()
        if kind == "ConfigMap" and "trow.yaml" in each["data"]
    )
    (tmp_path / "password").write_text("secret", "utf-8")
    text = text.replace("/etc/trow/admin/password", str(tmp_path / "password"))
    (tmp_path / "trow.yaml").write_text(text, "utf-8")
    config = load(tmp_path / "trow.yaml", {}, {})
    assert config.auth.anonymous == "none"
    assert config.listen.public_url == "http://10.1.2.3:30777"
    assert "elsewhere" in config.admission.excluded_namespaces
    assert config.admission.registries == ("10.1.2.3:30777", "trow.elsewhere.svc")
    pod = shown["StatefulSet", "elsewhere", "trow"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "registry.example.net/trow@sha256:" + 64 * "a"
    assert {"name": "config", "configMap": {"name": settings}} in pod["volumes"]
    assert shown["Service", "elsewhere", "trow"]["spec"]["ports"][0]["nodePort"] == 30777
    subjects = [
        each["subjects"] for (kind, _, _), each in shown.items() if kind.endswith("Binding") and "subjects" in each
    ]
    assert {subject["namespace"] for each in subjects for subject in each} == {"elsewhere"}
    assert (
        "elsewhere.svc"
        in shown["ConfigMap", "kube-public", "local-registry-hosting"]["data"]["localRegistryHosting.v1"]
    )


def test_other_settings_are_another_pod_and_the_old_ones_go(control: Cluster, quick: QuickInstall) -> None:
    with pods_are(control, READY):
        quick.run(*IMAGE)
        quick.run(*IMAGE, "--private")
    names = control.kubectl("get", "configmaps", "--namespace=trow", "--output=name").split()
    [settings] = (name for name in names if "trow-config-" in name)
    assert "anonymous: none" in control.kubectl("get", settings, "--namespace=trow", "--output=yaml").replace("'", "")


def secret(control: Cluster) -> str:
    value = control.kubectl("get", "secret", "trow-admin", "--namespace=trow", "--output=jsonpath={.data.password}")
    return base64.b64decode(value).decode()


def test_what_others_have_made_is_used_and_stays(control: Cluster, quick: QuickInstall) -> None:
    control.create_namespace("elsewhere")
    control.kubectl("create", "secret", "generic", "trow-admin", "--namespace=elsewhere", "--from-literal=password=own")
    control.kubectl("create", "configmap", "local-registry-hosting", "--namespace=kube-public", "--from-literal=a=b")
    before = everything(control)
    theirs = ("Secret elsewhere/trow-admin", "Namespace /elsewhere", "ConfigMap kube-public/local-registry-hosting")
    with pods_are(control, READY, "elsewhere"):
        said = quick.run(*IMAGE, "--namespace", "elsewhere")
    assert "local-registry-hosting: somebody else made it, and it stays" in said
    assert "Nothing is left." in quick.run("--uninstall", "--namespace", "elsewhere")
    after = everything(control)
    assert set(after) == set(before)
    assert {key: after[key] for key in theirs} == {key: before[key] for key in theirs}
    control.kubectl("delete", "configmap", "local-registry-hosting", "--namespace=kube-public")
    control.kubectl("delete", "namespace", "elsewhere")


def test_a_namespace_that_is_used_for_more_stays(control: Cluster, quick: QuickInstall) -> None:
    with pods_are(control, READY):
        quick.run(*IMAGE)
    control.kubectl("create", "configmap", "mine", "--namespace=trow")
    said = quick.run("--uninstall")
    assert "The namespace trow stays, for there is more in it: ConfigMap/mine" in said
    assert labelled(control) == []
    control.kubectl("delete", "namespace", "trow")


def test_images_are_in_a_volume_where_the_cluster_makes_volumes(control: Cluster, quick: QuickInstall) -> None:
    storage = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "example.com/none"}
    metadata = {"name": "fast", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
    assert volume_in(quick) == {"name": "data", "emptyDir": {}}
    control.apply(json.dumps({**storage, "metadata": metadata}))
    try:
        assert volume_in(quick) == {"name": "data", "persistentVolumeClaim": {"claimName": "trow-data"}}
        assert volume_in(quick, "--ephemeral") == {"name": "data", "emptyDir": {}}
    finally:
        control.kubectl("delete", "storageclass", "fast")


def volume_in(quick: QuickInstall, *flags: str) -> Any:
    shown = objects(quick.run("--dry-run", *IMAGE, *flags))
    volumes = shown["StatefulSet", "trow", "trow"]["spec"]["template"]["spec"]["volumes"]
    [volume] = (each for each in volumes if each["name"] == "data")
    assert (("PersistentVolumeClaim", "trow", "trow-data") in shown) == ("emptyDir" not in volume)
    return volume


def test_kubeconfigs_are_read_as_kubectl_reads_them(control: Cluster, quick: QuickInstall, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("{apiVersion: v1, kind: Config, current-context: test}", "utf-8")
    quick.variables["KUBECONFIG"] = f"{other}:{control.kubeconfig}"
    assert "(context test)" in quick.run("--dry-run", *IMAGE)
    quick.variables["KUBECONFIG"] = str(tmp_path / "none")
    flags = ("--kubeconfig", str(control.kubeconfig), "--context", "test")
    assert "(context test)" in quick.run("--dry-run", *IMAGE, *flags)
    said = quick.ask(*IMAGE, *flags, "--timeout", "1").stderr
    assert f"install.sh --uninstall --context test --kubeconfig {control.kubeconfig}\n" in said
    quick.run("--uninstall", *flags)
