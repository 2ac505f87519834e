"""Each overlay comes up in a real cluster, serves by the name that it is for, and goes with all that Trow wrote.

What answers at a route is nginx on a node, set up by nothing but the objects of the overlay, as an Ingress controller
and a Gateway would. Certificates are those that cert-manager would write.
"""

from __future__ import annotations

import base64
import json
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import trustme

import trow
from support.cluster import write_pair
from support.installed import answers
from support.machine import Service
from support.nodes import busybox
from support.waiting import settles, until
from tools.find import tool

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from support.nodes import Node, NodeCluster

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
OVERLAYS: Final = DEPLOY / "kustomize" / "overlays"
WEBHOOKS: Final = ("get", "validatingwebhookconfigurations,mutatingwebhookconfigurations", "--output=json")
PASSWORD: Final = "correct-horse"
BASIC: Final = base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
HOST: Final = "registry.example.com"
HERE: Final = "--namespace=trow"
# What an annotation of the controller of nginx is called in nginx itself, where that differs.
DIRECTIVES: Final = {"proxy_body_size": "client_max_body_size"}


def webhooks(cluster: NodeCluster) -> list[str]:
    return [each["metadata"]["name"] for each in json.loads(cluster.kubectl(*WEBHOOKS))["items"]]


def found(cluster: NodeCluster, kind: str, name: str) -> Any:
    return json.loads(cluster.kubectl("get", kind, name, HERE, "--output=json"))


@pytest.fixture(scope="module")
def nodes(node_cluster: NodeCluster, own_image: Path) -> NodeCluster:
    """Whose nodes have the image under the name that overlays have it by."""
    node_cluster.import_image(own_image, f"docker.io/library/trow:{trow.__version__}")
    return node_cluster


@contextmanager
def applied(cluster: NodeCluster, folder: Path) -> Iterator[None]:
    """What a folder of Kustomize makes, with a ready Trow, whose webhooks are in force."""
    cluster.kubectl("apply", f"--filename={DEPLOY / 'kubernetes' / 'account.yaml'}")
    secret = ("create", "secret", "generic", "trow-admin", HERE, f"--from-literal=password={PASSWORD}")
    try:
        cluster.kubectl(*secret)
        cluster.kubectl("apply", "--server-side", "--force-conflicts", f"--kustomize={folder}")
        cluster.wait_ready("trow", "statefulset/trow")
        until(lambda: "trow" in webhooks(cluster))
        yield
    finally:
        cluster.kubectl("delete", "--ignore-not-found", "--wait=false", f"--kustomize={folder}", check=False)
        until(lambda: "trow" not in webhooks(cluster), 60)
        cluster.kubectl("wait", "namespace/trow", "--for=delete", "--timeout=50s")


def test_the_overlay_for_development_comes_up_and_goes(nodes: NodeCluster) -> None:
    with applied(nodes, OVERLAYS / "dev"):
        until(lambda: answers(f"http://{nodes.address}:30500/v2/"))


# Ways to a registry


@dataclass(frozen=True)
class Way:
    """By which clients on nodes reach the registry.

    Attributes:
        host: as images have it.
        address: that the name has for nodes.
        url: the same with its scheme.
        authority: that nodes trust; "" where there is no TLS.
    """

    host: str
    address: str
    url: str
    authority: str = ""

    @contextmanager
    def known_to(self, node: Node) -> Iterator[None]:
        """A node that finds the name, as if a DNS had it, trusts the authority and has the credentials."""
        names, folder = node.path("/etc/hosts"), node.path(f"/etc/containerd/certs.d/{self.host}")
        before = names.read_text("utf-8")
        names.write_text(f"{before}{self.address} {self.host}\n", "utf-8")
        folder.mkdir()
        client = node.path("/var/lib/client")
        (client / ".docker").mkdir(parents=True, exist_ok=True)
        (client / "ca.pem").write_text(self.authority, "utf-8")
        (client / ".docker" / "config.json").write_text(json.dumps({"auths": {self.host: {"auth": BASIC}}}), "utf-8")
        trusted = '  ca = "/var/lib/client/ca.pem"\n' if self.authority else ""
        header = f'  [host."{self.url}".header]\n    authorization = "Basic {BASIC}"\n'
        capable = '  capabilities = ["pull", "resolve"]\n'
        written = f'server = "{self.url}"\n[host."{self.url}"]\n{capable}{trusted}{header}'
        (folder / "hosts.toml").write_text(written, "utf-8")
        try:
            yield
        finally:
            names.write_text(before, "utf-8")
            (folder / "hosts.toml").unlink()
            folder.rmdir()


def within(cluster: NodeCluster, folder: Path) -> Iterator[Way]:
    """By the name of the Service."""
    address = found(cluster, "service", "trow")["spec"]["clusterIP"]
    yield Way("trow.trow.svc", address, "http://trow.trow.svc")


def by_ingress(cluster: NodeCluster, folder: Path) -> Iterator[Way]:
    """By nginx, with the certificate that cert-manager would have got for the Ingress."""
    route = found(cluster, "ingress", "trow")
    (tls,), (rule,) = route["spec"]["tls"], route["spec"]["rules"]
    assert "cert-manager.io/cluster-issuer" in route["metadata"]["annotations"]
    assert tls["hosts"] == [rule["host"]]
    authority = trustme.CA()
    write_pair(authority.issue_cert(rule["host"]), folder / "tls.crt", folder / "tls.key")
    pair = (f"--cert={folder / 'tls.crt'}", f"--key={folder / 'tls.key'}")
    cluster.kubectl("create", "secret", "tls", tls["secretName"], HERE, *pair)
    (path,) = rule["http"]["paths"]
    backend = path["backend"]["service"]
    prefix = "nginx.ingress.kubernetes.io/"
    annotations = {
        name.removeprefix(prefix).replace("-", "_"): value
        for name, value in route["metadata"]["annotations"].items()
        if name.startswith(prefix)
    }
    settings = {DIRECTIVES.get(name, name): value for name, value in annotations.items()}
    target = address_of(cluster, backend["name"], backend["port"]["name"])
    certificate = found(cluster, "secret", tls["secretName"])["data"]
    pem = [base64.b64decode(certificate[key]).decode() for key in ("tls.crt", "tls.key")]
    yield from proxied(cluster, rule["host"], target, pem, settings, authority)


def by_gateway(cluster: NodeCluster, folder: Path) -> Iterator[Way]:
    """By nginx in place of a Gateway, which ends TLS with a certificate of its own and passes on what comes."""
    route = found(cluster, "httproutes.gateway.networking.k8s.io", "trow")
    (host,), (rule,) = route["spec"]["hostnames"], route["spec"]["rules"]
    (backend,) = rule["backendRefs"]
    authority = trustme.CA()
    write_pair(authority.issue_cert(host), folder / "tls.crt", folder / "tls.key")
    pem = [(folder / name).read_text("utf-8") for name in ("tls.crt", "tls.key")]
    settings = {
        "client_max_body_size": "0",
        "proxy_request_buffering": "off",
        "proxy_read_timeout": rule["timeouts"]["backendRequest"],
        "proxy_send_timeout": rule["timeouts"]["request"],
    }
    target = address_of(cluster, backend["name"], backend["port"])
    yield from proxied(cluster, host, target, pem, settings, authority)


def address_of(cluster: NodeCluster, service: str, port: str | int) -> str:
    spec = found(cluster, "service", service)["spec"]
    (number,) = (each["port"] for each in spec["ports"] if port in (each["name"], each["port"]))
    return f"{spec['clusterIP']}:{number}"


def proxied(
    cluster: NodeCluster,
    host: str,
    target: str,
    pem: Sequence[str],
    settings: Mapping[str, str],
    authority: trustme.CA,
) -> Iterator[Way]:
    """nginx at the HTTPS port of the last node."""
    node = cluster.nodes[-1]
    folder = node.path("/etc/nginx")
    folder.mkdir(exist_ok=True)
    for files in ("/var/lib/nginx", "/var/log/nginx"):
        node.path(files).mkdir(exist_ok=True)
    for name, text in zip(("tls.crt", "tls.key"), pem, strict=True):
        (folder / name).write_text(text, "utf-8")
    lines = "".join(f"      {name} {value};\n" for name, value in settings.items())
    text = NGINX.format(address=node.address, host=host, target=target, settings=lines)
    (folder / "nginx.conf").write_text(text, "utf-8")
    proxy = Service(node.machine, "nginx", "-c", "/etc/nginx/nginx.conf")
    proxy.start()
    try:
        yield Way(host, node.address, f"https://{host}", authority.cert_pem.bytes().decode())
    finally:
        proxy.stop()


NGINX: Final = """\
daemon off;
master_process off;
pid /run/nginx.pid;
error_log stderr;
events {{}}
http {{
  access_log off;
  server {{
    listen {address}:443 ssl;
    server_name {host};
    ssl_certificate /etc/nginx/tls.crt;
    ssl_certificate_key /etc/nginx/tls.key;
    location / {{
      proxy_pass http://{target};
      proxy_http_version 1.1;
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-Proto https;
{settings}
    }}
  }}
}}
"""
OVERLAY_WAYS: Final = {
    DEPLOY / "kustomize" / "base": within,
    OVERLAYS / "ingress": by_ingress,
    OVERLAYS / "gateway": by_gateway,
}


@pytest.fixture
def routes(nodes: NodeCluster) -> Iterator[None]:
    """The kind of the Gateway API, as its release has it."""
    nodes.kubectl("apply", "--server-side", f"--filename={tool('httproutes.yaml')}")
    nodes.kubectl("wait", "crd/httproutes.gateway.networking.k8s.io", "--for=condition=Established")
    yield
    nodes.kubectl("delete", "crd/httproutes.gateway.networking.k8s.io")


@pytest.mark.usefixtures("routes")
@pytest.mark.parametrize("overlay", OVERLAY_WAYS, ids=lambda folder: folder.name)
def test_what_is_pushed_through_an_overlay_is_on_its_volume_and_pulled_by_every_node(
    overlay: Path, nodes: NodeCluster, tmp_path: Path
) -> None:
    nodes.add_volume()
    with applied(nodes, overlay), ExitStack() as stack:
        way = stack.enter_context(contextmanager(OVERLAY_WAYS[overlay])(nodes, tmp_path))
        for node in nodes.nodes:
            stack.enter_context(way.known_to(node))
        push(nodes.node, way, "team/app:1", busybox(tmp_path / "busybox", overlay.name))
        assert found(nodes, "persistentvolumeclaim", "data-trow-0")["status"]["phase"] == "Bound"
        nodes.kubectl("delete", "pod/trow-0", HERE)
        nodes.wait_ready("trow", "statefulset/trow")
        team = nodes.new_namespace()
        for node in nodes.nodes:
            nodes.run_pod(team, node.name, f"{way.host}/team/app:1", nodeName=node.name, pull="Always")
            nodes.wait_ready(team, f"pod/{node.name}")


def push(node: Node, way: Way, name: str, layout: Path) -> None:
    """A larger image than a proxy takes by itself, from a node: with its names, and what it trusts."""
    own = ("env", "HOME=/var/lib/client", "SSL_CERT_FILE=/var/lib/client/ca.pem")
    plain = () if way.authority else ("--insecure",)
    pushing = (*own, str(tool("crane")), "push", "--index", str(layout), f"{way.host}/{name}", *plain)
    # What leads to a Service, and nginx, are there a moment after it is.
    settles(lambda: f"{name}@sha256" in node.run(*pushing, check=False), 20)
    node.run(*pushing)
