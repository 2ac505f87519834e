"""A Trow that the API server of a cluster asks before it stores something, and which follows its policies."""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
from typing import TYPE_CHECKING, Any, Final, Self

import urllib3
import yaml

import factories
from support.kubernetes import install
from support.policies import CLUSTER_POLICY, DEPLOY, EXCEPTION, document, policy
from support.records import Records
from support.registry import SECONDS, Client, Repository
from support.server import Trow
from support.waiting import until
from trow.policy.rules import CLUSTER, Effect, Mode, Mutations, Policy
from trow.policy.webhooks import (
    MUTATING,
    REACH_WEBHOOK,
    REGISTRATION,
    VALIDATING,
    WebhookClient,
    WebhookScope,
    mutating,
    validating,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.cluster import Cluster
    from support.policies import Document

ROOT: Final = ("root", "correct horse")
# By which images name the registry; nothing answers there.
REGISTRY: Final = "registry.example.com"
RIGHTS: Final = DEPLOY / "admission-rbac.yaml"
OURS: Final = f"{REGISTRY}/team/web:1"
ALIEN: Final = "docker.io/library/nginx:1.27"


class _Trusting(Client):
    """A client that knows the authority of the server's certificate."""

    def __init__(self, trow: Trow) -> None:
        super().__init__(trow.url, ROOT)
        self._pool = urllib3.connection_from_url(
            trow.url, ca_certs=str(trow.ca), timeout=SECONDS, retries=False, maxsize=4
        )


class Warden:
    """`with Warden(cluster, folder) as warden:` serves until the block ends, always at `warden.host`.

    Attributes:
        label: of the namespaces whose objects it is asked about while it is `asked`.
    """

    def __init__(self, cluster: Cluster, folder: Path, **admission: object) -> None:
        """Start it.

        Args:
            cluster: knows the kinds of policy.trow.io.
            folder: of its own.
            admission: more of that section of its settings.
        """
        self.cluster = cluster
        self.folder = folder
        self.name = f"warden-{secrets.token_hex(4)}"
        self.label = f"test.trow.io/{self.name}"
        # Held for as long as the Trow may be started again. Both sides ask to share it.
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.bind(("127.0.0.1", 0))
        self._port: int = self._held.getsockname()[1]
        self.host = f"127.0.0.1:{self._port}"
        self._config = {
            "admission": {
                "policies": True,
                "on_registry_addresses": True,
                "compiled": False,  # what the API server would then answer by itself is not what these tests are about
                "registries": [self.host, REGISTRY],
                "scan_interval": 0,
                "deadline": "2s",
                **admission,
            },
            "kubernetes": {"kubeconfig": str(self._account())},
        }
        self.start()

    def _account(self) -> Path:
        """A kubeconfig of a ServiceAccount that may do what Trow may, and nothing else."""
        install(self.cluster, self.name)
        rights = RIGHTS.read_text("utf-8").replace("namespace: trow", f"namespace: {self.name}")
        self._rights = [*yaml.safe_load_all(rights)]
        for each in self._rights:
            if each["kind"] == "ClusterRoleBinding":
                each["metadata"]["name"] = self.name
        self.grant()
        given = json.loads(self.cluster.kubeconfig.read_text("utf-8"))
        given["users"] = [{"name": "admin", "user": {"token": self.cluster.token(self.name, "trow", self.cluster.url)}}]
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "kubeconfig"
        path.write_text(json.dumps(given), encoding="utf-8")
        path.chmod(0o600)
        return path

    def grant(self) -> None:
        """Give Trow its rights."""
        self.cluster.apply(yaml.safe_dump_all(self._rights))

    def revoke(self) -> None:
        """Take most of them away again."""
        self.cluster.kubectl("delete", "clusterrolebinding", self.name)

    # ---- the process

    def start(self) -> None:
        flags = ("--port", str(self._port))
        self.trow = Trow.start(self.folder, *flags, tls=True, user=ROOT, config=self._config)
        self.client: Client = _Trusting(self.trow)

    def stop(self) -> None:
        self.client.close()
        self.trow.stop()

    @property
    def ready(self) -> bool:
        return self.client.get("/readyz").status == 200

    def wait_until_ready(self) -> None:
        until(lambda: self.ready)

    @property
    def records(self) -> Records:
        """What is on record, for its auditor."""
        return Records(self.client)

    def push(self, repository: str, tag: str = "v1") -> str:
        """The digest of a new image."""
        image = factories.image(1)
        Repository(self.client, repository).push(image, tag)
        return image.digest

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ended: object) -> None:
        self.stop()
        self._held.close()
        self.cluster.kubectl("delete", f"{CLUSTER_POLICY},{EXCEPTION}", "--selector", f"{self.label}=made")
        assert b"Traceback" not in self.trow.stderr.read_bytes()

    # ---- the API server asks

    @contextlib.contextmanager
    def asked(self, *, everywhere: bool = False) -> Iterator[None]:
        """Have the API server ask, while the block lasts.

        Args:
            everywhere: about all namespaces but the two that `deploy/kubernetes` excludes; else only about `places`.
        """
        name = f"{self.name}-everywhere" if everywhere else self.name
        self.cluster.apply(yaml.safe_dump_all(self._webhooks(name, everywhere=everywhere)))
        try:
            self._wait_until_asked(self.place(asked=not everywhere))
            yield
        finally:
            kinds = "validatingwebhookconfiguration,mutatingwebhookconfiguration"
            self.cluster.kubectl("delete", kinds, name)

    def _webhooks(self, name: str, *, everywhere: bool) -> Iterator[Document]:
        """The configurations as Trow writes them where it has to answer in any case, but for the namespaces."""
        client = WebhookClient(f"https://{self.host}", self.name, bundle=self.trow.ca.read_bytes())
        strictest = Policy(
            CLUSTER,
            "all",
            Effect.ALLOW,
            controllers=Mode.ENFORCE,
            mutate=Mutations(pin_digests=True, pull_through=True),
        )
        scope = WebhookScope([strictest], lambda _: False, excluded=["kube-system", self.name])
        for kind, of_kind in ((VALIDATING, validating), (MUTATING, mutating)):
            webhooks = [dict(each) for each in of_kind(scope, client) if each["name"] != REACH_WEBHOOK]
            for webhook in webhooks:
                if not everywhere:
                    webhook["namespaceSelector"] = {"matchLabels": {self.label: "asked"}}
            yield {"apiVersion": REGISTRATION, "kind": kind, "metadata": {"name": name}, "webhooks": webhooks}

    def _wait_until_asked(self, place: Place) -> None:
        """The API server takes up to some seconds to know of each configuration."""
        self.push(f"{place.name}/probe")
        place.decree(default="Allow", mutate={"pinDigests": True}, require={"digest": True})
        image, dry = f"{self.host}/{place.name}/probe:v1", ("probe", "--dry-run=server", "--output=yaml")
        until(lambda: f"{image}@sha256:" in place.run(image, *dry))
        until(lambda: "require.digest" in place.run(ALIEN, *dry))

    def place(self, *, asked: bool = True) -> Place:
        """A namespace that no other test uses, and about which it is `asked`, or only where that is everywhere."""
        name = f"test-{secrets.token_hex(4)}"
        labelled = {"name": name, "labels": {self.label: "asked"} if asked else {}}
        self.cluster.apply(json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": labelled}))
        # Without it no Pod is taken; a controller makes it too, but not in every cluster, and later.
        self.cluster.kubectl("create", "serviceaccount", "default", "--namespace", name, check=False)
        return Place(self, name)


class Place:
    """A namespace, and what one test does there.

    Attributes:
        name: of the namespace, and of the policy that is about nothing else.
    """

    def __init__(self, warden: Warden, name: str) -> None:
        self.warden = warden
        self.name = name

    def kubectl(self, *args: str, given: object = None, user: str = "") -> str:
        """All that kubectl says, however it ends."""
        acting = ("--as", user) if user else ()
        text = given if isinstance(given, str) else json.dumps(given)
        return self.warden.cluster.kubectl("--namespace", self.name, *args, *acting, input=text, check=False)

    def create(self, given: Document, *args: str) -> str:
        return self.kubectl("create", "--filename", "-", *args, given=given)

    def run(self, image: str, name: str = "web", *args: str) -> str:
        """Have a Pod with one container of the same name."""
        return self.kubectl("run", name, "--image", image, *args)

    def get(self, what: str, *args: str) -> Any:
        """An object, or a list of them."""
        return json.loads(self.warden.cluster.kubectl("--namespace", self.name, "get", what, "--output", "json", *args))

    # ---- policies

    def decree(self, **fields: object) -> Document:
        """Have a policy about this namespace alone, and wait until it is decided by."""
        return self.put(CLUSTER_POLICY, self.name, policy(**{"namespaces": {"include": [self.name]}, **fields}))

    def put(self, kind: str, name: str, spec: Document) -> Document:
        """Have a policy, and wait until Trow says that it decides by it; the object."""
        given = document(kind, spec, name, self.name)
        given["metadata"]["labels"] = {self.warden.label: "made"}
        told = self.kubectl("apply", "--filename", "-", given=given)
        assert told.split()[-1] in {"created", "configured"}, told
        return until(lambda: self.told(kind, name, "Active" if kind == EXCEPTION else "Ready"))

    def told(self, kind: str, name: str, condition: str, *, holds: bool = True) -> Document:
        """The object, once what Trow says of it is about what it is now; else nothing."""
        found: Document = self.get(kind, name)
        conditions = {each["type"]: each for each in found.get("status", {}).get("conditions", [])}
        said = conditions.get(condition, {})
        generation = found["metadata"]["generation"]
        return found if (said.get("observedGeneration"), said.get("status")) == (generation, str(holds)) else {}
