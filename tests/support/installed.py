"""Trow as a Pod from its own image, installed by the chart: what tests of a whole installation share."""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import urllib3

from clients.box import Box
from support import own
from support.helm import Helm
from support.nodes import busybox
from support.waiting import until

if TYPE_CHECKING:
    from support.nodes import NodeCluster

PORT: Final = 30500
# The volume holds the images, and with the kinds go all policies.
KEPT: Final = {"PersistentVolumeClaim", "CustomResourceDefinition"}
IMAGE: Final = {"repository": own.NAME}


class Installation:
    """A release of the chart in a cluster with nodes, reached at a port of its first node, from here and from nodes.

    Attributes:
        host: by which clients and Pods call the registry.
    """

    def __init__(self, helm: Helm, cluster: NodeCluster, folder: Path) -> None:
        self.helm = helm
        self.cluster = cluster
        self.namespace = helm.namespace
        self.box = Box(folder)
        self.host = f"{cluster.address}:{PORT}"

    @classmethod
    def install(cls, name: str, cluster: NodeCluster, folder: Path) -> Installation:
        """With Helm 3 (`helm3`) or Helm 4 (`helm`); the nodes have the image already."""
        namespace = cluster.new_namespace("pod-security.kubernetes.io/enforce=restricted")
        cluster.add_volume()
        helm = Helm(name, folder, namespace, cluster)
        installed = cls(helm, cluster, folder)
        try:
            helm.install(installed.values())
            installed.wait_ready()
            installed.log_in()
        except BaseException:
            installed.uninstall()
            raise
        return installed

    def wait_ready(self) -> None:
        """Until Trow is, and answers at its port."""
        self.cluster.wait_ready(self.namespace, "statefulset/trow")
        until(lambda: answers(f"http://{self.host}/v2/"))

    def wait_in_force(self) -> None:
        """Until the API server asks Trow about Pods."""
        until(lambda: "validate.trow.io" in self.webhooks() or "mutate.trow.io" in self.webhooks())

    def webhooks(self) -> set[str]:
        """The names of the webhooks that the API server calls."""
        kinds = "validatingwebhookconfigurations,mutatingwebhookconfigurations"
        items = json.loads(self.cluster.kubectl("get", kinds, "--output=json"))["items"]
        mine = [each for each in items if each["metadata"]["name"] == self.cluster_name]
        return {webhook["name"] for each in mine for webhook in each.get("webhooks") or []}

    @property
    def cluster_name(self) -> str:
        """Of objects that are in no namespace."""
        return f"{self.namespace}-trow"

    @property
    def password(self) -> str:
        return self.helm.secret("trow-admin", "password")

    def log_in(self) -> None:
        """Clients here push to the NodePort, and nodes pull by the name of the registry from their own."""
        basic = base64.b64encode(f"admin:{self.password}".encode()).decode()
        config = {"auths": {self.host: {"auth": basic}}}
        (self.box.home / ".docker").mkdir(exist_ok=True)
        (self.box.home / ".docker" / "config.json").write_text(json.dumps(config), encoding="utf-8")
        for node in self.cluster.nodes:
            folder = node.path(f"/etc/containerd/certs.d/{self.host}")
            folder.mkdir(exist_ok=True)
            (folder / "hosts.toml").write_text(hosts(self.host, basic), encoding="utf-8")

    def push(self, repository: str, tag: str = "1") -> str:
        """An image whose Pods sleep; the name by which they have it."""
        with tempfile.TemporaryDirectory(prefix="trow-pushed-") as place:
            layout = busybox(Path(place), repository)
            self.box.run("crane", "push", "--insecure", "--index", layout, f"{self.host}/{repository}:{tag}")
        return f"{self.host}/{repository}:{tag}"

    def values(self, **more: Any) -> dict[str, Any]:
        """What it was installed with, and more."""
        return {
            "image": IMAGE,
            "host": self.host,
            "service": {"type": "NodePort", "nodePort": PORT},
            # What nodes pull is decided, too, since a static Pod passes no webhook; and what is seldom comes often.
            "config": {"admission": {"pull_users": ["admin"], "scan_interval": "5s", "certificate_lifetime": "60s"}},
            **more,
        }

    def restarts(self) -> tuple[str, int]:
        """The Pod's identity, and how often its container was started again."""
        pod = json.loads(self.helm.kubectl("get", "pod/trow-0", "--output=json"))
        return pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"]

    def uninstall(self) -> None:
        self.helm.ask("uninstall", "trow", "--ignore-not-found", "--wait")

    def left(self) -> set[tuple[str, str]]:
        """Of the chart, and of what Trow has written; but for the kinds and the volume, which are kept."""
        found = {each for each in self.helm.left() if each[0] not in KEPT}
        written = "validatingwebhookconfigurations,mutatingwebhookconfigurations,validatingadmissionpolicies"
        asked = ("get", f"{written},validatingadmissionpolicybindings,secrets", "--output=json")
        by_trow = json.loads(self.helm.kubectl(*asked, "--selector=app.kubernetes.io/managed-by=trow"))["items"]
        return found | {(each["kind"], each["metadata"]["name"]) for each in by_trow}


def answers(url: str) -> bool:
    try:
        return urllib3.request("GET", url, timeout=2, retries=False).status < 500
    except urllib3.exceptions.HTTPError:
        return False


def hosts(host: str, basic: str) -> str:
    return f"""\
server = "http://{host}"
[host."http://{host}"]
  capabilities = ["pull", "resolve"]
  [host."http://{host}".header]
    authorization = "Basic {basic}"
"""
