"""A live Kubernetes control plane without nodes: etcd, the API server and the controllers, each ended by its process.

Everything is on loopback and below one folder. A Pod stays what the API server made of it, since no kubelet runs it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import trustme
import urllib3

from support.server import tail
from tools.find import search_path, tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

START_SECONDS: Final = 60  # 3 s on an idle machine, but every core of it may be at work for other tests
STOP_SECONDS: Final = 2  # a polite API server waits for its watchers; there is nothing here that a kill can harm
COMMAND_SECONDS: Final = 60
SERVICES: Final = "10.0.0.0/24"
API_SERVICE: Final = "10.0.0.1"  # the first address of the range is that of the API server
POLL_SECONDS: Final = 0.05

# The programs behind what the tests create. Signers, volumes, quotas and nodes have no part in them.
CONTROLLERS: Final = (
    "clusterrole-aggregation-controller",
    "cronjob-controller",
    "daemonset-controller",
    "deployment-controller",
    "garbage-collector-controller",
    "job-controller",
    "namespace-controller",
    "replicaset-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "statefulset-controller",
)
# What checks the expressions of admission policies, which takes minutes where they are long: for those who ask for it.
TYPES_CONTROLLER: Final = "validatingadmissionpolicy-status-controller"

# The reviews a registry asks for, one line of the audit log each, and nothing else.
AUDIT_POLICY: Final = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [
        {
            "level": "Metadata",
            "resources": [
                {"group": "authentication.k8s.io", "resources": ["tokenreviews"]},
                {"group": "authorization.k8s.io", "resources": ["subjectaccessreviews"]},
            ],
        },
        {"level": "None"},
    ],
}


class Port:
    """A port of the kernel's choice that nobody else is given until `close`.

    It stays bound here while the program that is told of it binds it too, which both sides ask for (SO_REUSEPORT). So
    the port is free again for a program that was stopped; until then connections to it are refused.
    """

    def __init__(self) -> None:
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._held.bind(("127.0.0.1", 0))
        self.number: int = self._held.getsockname()[1]

    def close(self) -> None:
        self._held.close()


class Component:
    """One program of the control plane, which can be stopped and started again with the same arguments."""

    def __init__(self, name: str, folder: Path, *flags: str) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.flags = [*flags]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None

    @property
    def alive(self) -> bool:
        """Whether it was started, and has not ended by itself."""
        return self._process is not None and self._process.poll() is None

    def command(self) -> Sequence[str]:
        return [str(tool(self.name)), *self.flags]

    def start(self) -> None:
        assert self._process is None, f"{self.name} runs already"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(self._folder)
            )

    def stop(self) -> None:
        """Ask it to end and, after a short while, end it."""
        if self._process is None:
            return
        self.send(signal.SIGTERM)
        self.send(signal.SIGCONT)  # a paused program could not hear it
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            self._process.wait()
        self._process = None

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None, f"{self.name} does not run"
        self._process.send_signal(number)

    def pause(self) -> None:
        """Until none of its threads runs: they go on for a moment after the signal."""
        assert self._process is not None, f"{self.name} does not run"
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def wait_until(self, ready: Callable[[], bool]) -> None:
        end = time.monotonic() + START_SECONDS
        while not ready():
            assert self._process is not None, f"{self.name} does not run"
            code = self._process.poll()
            assert code is None, f"{self.name} ended with {code}\n{tail(self.log)}"
            assert time.monotonic() < end, f"{self.name} is not ready within {START_SECONDS} s\n{tail(self.log)}"
            time.sleep(POLL_SECONDS)


@dataclass(frozen=True)
class Credentials:
    """The cluster's authority and what it signed: the API server's certificate, and that of an administrator."""

    authority: trustme.CA
    ca: Path
    server: Path
    server_key: Path
    admin: Path
    admin_key: Path
    tokens_key: Path

    @classmethod
    def issue(cls, folder: Path, *hosts: str) -> Credentials:
        """With the names and addresses of the API server, beside those that it has everywhere."""
        authority = trustme.CA()
        server = authority.issue_cert(*hosts, "localhost", "kubernetes.default.svc")
        names = ("ca.crt", "server.crt", "server.key", "admin.crt", "admin.key", "tokens.key")
        issued = cls(authority, *(folder / name for name in names))
        authority.cert_pem.write_to_path(str(issued.ca))
        write_pair(server, issued.server, issued.server_key)
        issued.issue_user("admin", "system:masters", issued.admin, issued.admin_key)
        tokens = trustme.CA(key_type=trustme.KeyType.ECDSA)  # any key on P-256 will do: it signs with ES256
        tokens.private_key_pem.write_to_path(str(issued.tokens_key))
        return issued

    def issue_user(self, name: str, group: str, certificate: Path, key: Path) -> None:
        """A certificate by which the API server knows a user."""
        # The host is of no use, but Go accepts no certificate whose list of names is empty.
        issued = self.authority.issue_cert("user.test", common_name=name, organization_name=group)
        write_pair(issued, certificate, key)

    def kubeconfig(self, url: str, certificate: Path | None = None, key: Path | None = None) -> str:
        """A configuration of the administrator, or of the user of a certificate; JSON is YAML."""
        cluster = {"server": url, "certificate-authority": str(self.ca)}
        user = {"client-certificate": str(certificate or self.admin), "client-key": str(key or self.admin_key)}
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "test", "cluster": cluster}],
                "users": [{"name": "admin", "user": user}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
                "current-context": "test",
            },
            indent=2,
        )


class Cluster:
    """`with Cluster.start(tmp_path) as cluster:` is a control plane at `cluster.url` until the block ends."""

    host = "127.0.0.1"
    controllers: Sequence[str] = CONTROLLERS
    audited: Mapping[str, object] = AUDIT_POLICY

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._ports = [Port(), Port(), Port()]
        api, etcd, peer = (port.number for port in self._ports)
        self.url = f"https://{self.host}:{api}"
        self.credentials = credentials = Credentials.issue(folder, self.host, API_SERVICE)
        self.ca = credentials.ca
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(credentials.kubeconfig(self.url), encoding="utf-8")
        self.audit = folder / "audit.log"
        self._etcd = self.component("etcd", *etcd_flags(folder, etcd, peer))
        policy = folder / "audit-policy.json"
        policy.write_text(json.dumps(self.audited), encoding="utf-8")
        audit = ("--audit-policy-file", str(policy), "--audit-log-path", str(self.audit))
        self._api = self.component("kube-apiserver", *api_flags(credentials, self.host, api, etcd), *audit)
        flags = controllers_flags(self.kubeconfig, credentials, self.controllers)
        self._controllers = self.component("kube-controller-manager", *flags)

    def component(self, name: str, *flags: str) -> Component:
        """A program of the control plane, where that runs."""
        return Component(name, self.folder, *flags)

    @classmethod
    def start(cls, folder: Path, *, controllers: bool = True) -> Self:
        """Without controllers nothing is made of what is created: no Pods, and no ServiceAccount in a namespace."""
        cluster = cls(folder)
        try:
            cluster._etcd.start()
            cluster.start_api()
            if controllers:
                cluster._controllers.start()
                cluster.wait_for("serviceaccount/default", "--namespace", "default")
        except BaseException:
            cluster.stop()
            raise
        return cluster

    def stop(self) -> None:
        for component in (self._controllers, self._api, self._etcd):
            component.stop()
        for port in self._ports:
            port.close()
        shutil.rmtree(self.folder / "etcd", ignore_errors=True)  # 64 MiB or more, and pytest keeps folders

    @contextlib.contextmanager
    def checking_types(self) -> Iterator[None]:
        """While this lasts, a controller writes into the status of each admission policy what is wrong with it."""
        flags = controllers_flags(self.kubeconfig, self.credentials, [TYPES_CONTROLLER])
        checking = self.component("kube-controller-manager", *flags)
        checking.start()
        try:
            yield
        finally:
            checking.stop()

    # The API server

    def start_api(self) -> None:
        """Start it on the port and with the data that it had; controllers notice within seconds."""
        self._api.start()
        self._api.wait_until(self._ready)

    def stop_api(self) -> None:
        """Connections to it are refused from here on."""
        self._api.stop()

    def pause_api(self) -> None:
        """Connections to it are accepted, by the kernel, and answered no more."""
        self._api.pause()

    def resume_api(self) -> None:
        self._api.send(signal.SIGCONT)

    def _ready(self) -> bool:
        with urllib3.PoolManager(ca_certs=str(self.ca), retries=False, timeout=5) as http:
            try:
                return http.request("GET", f"{self.url}/readyz").status == 200
            except urllib3.exceptions.HTTPError:
                return False

    def reviews(self) -> Counter[str]:
        """How many TokenReviews and SubjectAccessReviews were asked for since the start, by resource."""
        return Counter(line["objectRef"]["resource"] for line in self.audit_lines())

    def audit_lines(self) -> Iterator[dict[str, Any]]:
        """What the API server has recorded; `audited` says of what."""
        if not self.audit.exists():  # it is made with its first line
            return
        with self.audit.open(encoding="utf-8") as lines:
            yield from (json.loads(line) for line in lines if line.endswith("\n"))

    # kubectl

    def kubectl(
        self,
        *args: str,
        input: str | None = None,  # noqa: A002  # as in subprocess
        check: bool = True,
        seconds: float = COMMAND_SECONDS,
    ) -> str:
        """Standard output of a kubectl that succeeds; with `check=False` everything it says, however it ends."""
        argv = [str(tool("kubectl")), "--kubeconfig", str(self.kubeconfig), *args]
        done = subprocess.run(
            argv,
            input=input or "",
            env=environment(self.folder),
            capture_output=True,
            encoding="utf-8",
            timeout=seconds,
            check=False,
        )
        if not check:
            return done.stdout + done.stderr
        assert done.returncode == 0, (
            f"kubectl {' '.join(args)} ended with {done.returncode}:\n{done.stderr}{done.stdout}"
        )
        return done.stdout

    def apply(self, yaml: str) -> None:
        self.kubectl("apply", "--filename", "-", input=yaml)

    def wait_for(self, name: str, *args: str) -> None:
        """Until something exists that a controller makes."""
        self.kubectl("wait", name, *args, "--for", "create", "--timeout", f"{COMMAND_SECONDS // 2}s")

    def create_namespace(self, name: str) -> None:
        """A namespace with its ServiceAccount `default`, without which no Pod can be created in it."""
        self.kubectl("create", "namespace", name)
        if self._controllers.running:
            self.wait_for("serviceaccount/default", "--namespace", name)
        else:
            self.kubectl("create", "serviceaccount", "default", "--namespace", name)

    def token(
        self, namespace: str, serviceaccount: str, audience: str, *, pod: str | None = None, duration: str = "1h"
    ) -> str:
        """A token as a kubelet asks for it; with `pod`, valid as long as that Pod exists."""
        bound = ("--bound-object-kind", "Pod", "--bound-object-name", pod) if pod else ()
        asked = ("--namespace", namespace, "--audience", audience, "--duration", duration)
        return self.kubectl("create", "token", serviceaccount, *asked, *bound).strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def write_pair(issued: trustme.LeafCert, certificate: Path, key: Path) -> None:
    certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(key))


def environment(home: Path) -> dict[str, str]:
    """No settings of this machine, and no cluster it may itself be part of."""
    return {"HOME": str(home), "PATH": search_path(), "TMPDIR": str(home)}


def etcd_flags(folder: Path, client: int, peer: int) -> Iterator[str]:
    yield from ("--data-dir", str(folder / "etcd"), "--unsafe-no-fsync", "--socket-reuse-port", "--log-level", "warn")
    clients = f"http://127.0.0.1:{client}"
    yield from ("--listen-client-urls", clients, "--advertise-client-urls", clients)
    peers = f"http://127.0.0.1:{peer}"
    yield from ("--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers)
    yield from ("--initial-cluster", f"default={peers}")


def api_flags(credentials: Credentials, host: str, port: int, etcd: int) -> Iterator[str]:
    url = f"https://{host}:{port}"
    yield from ("--etcd-servers", f"http://127.0.0.1:{etcd}")
    yield from ("--bind-address", host, "--secure-port", str(port), "--permit-port-sharing")
    yield from ("--tls-cert-file", str(credentials.server), "--tls-private-key-file", str(credentials.server_key))
    yield from ("--client-ca-file", str(credentials.ca), "--authorization-mode", "RBAC")
    yield from ("--service-account-issuer", url, "--service-account-jwks-uri", f"{url}/openid/v1/jwks")
    yield from ("--api-audiences", f"{url},https://kubernetes.default.svc")
    yield from ("--service-account-key-file", str(credentials.tokens_key))
    yield from ("--service-account-signing-key-file", str(credentials.tokens_key))
    yield from ("--service-cluster-ip-range", SERVICES)
    yield from ("--endpoint-reconciler-type", "none")  # no Service may lead to loopback
    # A line is written before its request is answered, and the lines stay in one file.
    yield from ("--audit-log-mode", "blocking", "--audit-log-maxsize", "10000")


def controllers_flags(kubeconfig: Path, credentials: Credentials, controllers: Sequence[str]) -> Iterator[str]:
    yield from ("--kubeconfig", str(kubeconfig), "--controllers", ",".join(controllers))
    yield from ("--leader-elect=false", "--secure-port", "0")  # the only one of its kind, and nobody asks it anything
    yield from ("--root-ca-file", str(credentials.ca))
    yield from ("--service-account-private-key-file", str(credentials.tokens_key))
