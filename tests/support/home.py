"""A Trow that the API server of a cluster calls because Trow itself has seen to it."""

from __future__ import annotations

import base64
import json
import socket
from typing import TYPE_CHECKING, Any, Final

import urllib3

from support.policies import DEPLOY
from support.server import Trow
from support.waiting import until
from support.webhooks import ALIEN, VALIDATION

if TYPE_CHECKING:
    from pathlib import Path

    from support.cluster import Cluster

ROLES: Final = DEPLOY / "admission-rbac.yaml"
KINDS: Final = ("validatingwebhookconfiguration", "mutatingwebhookconfiguration")
# Looked after every few seconds.
SHORT: Final = {"certificate_lifetime": "60s", "authority_lifetime": "10m"}
TIMEOUT: Final = urllib3.Timeout(30)


class Home:
    """A namespace with Trow's ServiceAccount, which may do what `deploy/kubernetes` says.

    Attributes:
        place: the namespace.
        address: where the Trow listens that is called.
    """

    def __init__(self, cluster: Cluster, place: str, folder: Path) -> None:
        self.cluster = cluster
        self.place = place
        self.folder = folder
        # Held for as long as the Trow may be started again. Both sides ask to share it.
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._held.getsockname()[1]}"
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

    def start(self, name: str = "trow", server: str = "", *, validation: Any = None, **admission: object) -> Trow:
        """A Trow that keeps its certificate in the cluster, and has itself called."""
        kept = SHORT | {
            "bind": self.address,
            "service": f"{self.place}/trow",
            "url": f"https://{self.address}",
            "excluded_namespaces": ["kube-system"],
        }
        return Trow.start(
            self.folder / name,
            config={
                "admission": kept | admission,
                "image_validation": ({} if "policies" in admission else VALIDATION)
                if validation is None
                else validation,
                "kubernetes": {"kubeconfig": str(self.kubeconfig(server))},
            },
        )

    # ---- the API server asks

    def uninstall(self) -> None:
        for kind in KINDS:
            self.cluster.kubectl("delete", kind, "trow", "--ignore-not-found")
        self.pool.clear()
        self._held.close()

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
        """Until the API server asks about Pods, and Trow is content with that."""
        until(lambda: "denied the request" in self.create(ALIEN)[1])

    def bundle(self, kind: str = KINDS[0]) -> bytes:
        """The `caBundle` of the webhooks of that kind."""
        url = f"{self.cluster.url}/apis/admissionregistration.k8s.io/v1/{kind}s/trow"
        webhook = self.pool.request("GET", url).json()["webhooks"][0]
        return base64.b64decode(webhook["clientConfig"].get("caBundle", ""))

    def secret(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            self.cluster.kubectl("get", "secret", "trow-webhook", "--namespace", self.place, "--output", "json")
        )
        return found

    def part(self, name: str) -> bytes:
        return base64.b64decode(self.secret()["data"][name])


def asks(trow: Trow) -> bool:
    """Whether this Trow is content with what the API server asks."""
    return b"the API server asks Trow" in trow.stderr.read_bytes()
