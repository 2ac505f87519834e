"""Nodes: what containerd and CRI-O are told, ports of nodes, and their clocks."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import time
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trow.controllers.nodes import readiness
from trow.doctor.cluster import api_server_time
from trow.doctor.endpoint import clock, endpoint, reason
from trow.doctor.findings import NotCheckedError, lacking, ok, problem, unchecked
from trow.doctor.place import CONNECT_SECONDS
from trow.kube.errors import Forbidden, KubeRefused
from trow.lib import times
from trow.lib.handshake import connect
from trow.lib.kube_objects import condition_of, listing, mapping, object_name, objects_in, text
from trow.lib.threads import aside
from trow.lib.urls import is_loopback
from trow.oci.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
    from pathlib import Path

    from trow.doctor.findings import Diagnosis
    from trow.doctor.place import Place
    from trow.kube.objects import Manifest

# Of containerd 2 and of containerd 1.
_PLUGINS: Final = ("io.containerd.cri.v1.images", "io.containerd.grpc.v1.cri")
_FOLDER: Final = "/etc/containerd/certs.d"
_SET: Final = (
    f"set config_path = \"{_FOLDER}\" below [plugins.'io.containerd.cri.v1.images'.registry] (containerd 1:"
    ' [plugins."io.containerd.grpc.v1.cri".registry]) of its config.toml, then: systemctl restart containerd'
)
_ELSEWHERE: Final = (
    "this is not a node with containerd; on a node write `containerd config dump > containerd.toml`, and give that as"
    " --containerd-config"
)
_MOST_NODES: Final = 20
# A kubelet writes its Lease every 10 s.
_LEASE_SECONDS: Final = 90
_LEASES: Final = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


# ---- containerd


@dataclass(frozen=True, slots=True)
class Containerd:
    """What `containerd config dump` says of registries.

    Attributes:
        source: where that was read.
        config_path: None where it is not set.
        legacy: tables of the time before `hosts.toml`.
        known: hosts with a `hosts.toml` of their own; None where nobody has looked.
    """

    source: str
    config_path: str | None
    legacy: tuple[str, ...] = ()
    known: frozenset[str] | None = None

    @classmethod
    def parse(cls, dump: str, source: str) -> Containerd:
        """Read a dump. Raises `NotCheckedError` where it is something else, or of a containerd without Kubernetes."""
        try:
            document = tomllib.loads(dump)
        except tomllib.TOMLDecodeError:
            raise NotCheckedError(f"{source} is not TOML; write it with: containerd config dump") from None
        plugins = mapping(document.get("plugins"))
        name = next((each for each in _PLUGINS if each in plugins), None)
        if name is None:
            raise NotCheckedError(f"containerd has no plugin for Kubernetes here ({source}); ask on a node")
        registry = mapping(mapping(plugins[name]).get("registry"))
        path = registry.get("config_path")
        legacy = tuple(each for each in ("mirrors", "configs") if mapping(registry.get(each)))
        return cls(source, path if isinstance(path, str) else None, legacy)

    @property
    def folders(self) -> list[str]:
        return [each for each in (self.config_path or "").split(":") if each]


async def containerd(place: Place) -> Containerd:
    """What is told of in a file, or by the containerd of this machine."""
    if (given := place.options.containerd_config) is not None:
        return Containerd.parse(await aside(lambda: given.read_text("utf-8")), str(given))
    return await aside(lambda: _dumped(place.options.environment, place.options.root))


def _dumped(environment: Mapping[str, str], root: Path) -> Containerd:
    if not (root / "var/lib/kubelet").exists():
        raise NotCheckedError(_ELSEWHERE)
    try:
        argv = ["containerd", "config", "dump"]
        done = subprocess.run(  # noqa: S603 - a fixed command
            argv, env=dict(environment), capture_output=True, encoding="utf-8", timeout=CONNECT_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError):
        raise NotCheckedError(_ELSEWHERE) from None
    if done.returncode:
        raise NotCheckedError(f"containerd cannot tell its configuration ({done.stderr.strip()[-200:]}); ask as root")
    found = Containerd.parse(done.stdout, "containerd config dump")
    files = [each for folder in found.folders for each in (root / folder.lstrip("/")).glob("*/hosts.toml")]
    return Containerd(found.source, found.config_path, found.legacy, frozenset(each.parent.name for each in files))


async def check_containerd(place: Place) -> AsyncIterator[Diagnosis]:
    """Is containerd told of the registry? Pulls need that where its certificate is not trusted, or there is none."""
    found = await containerd(place)
    try:
        at = await endpoint(place)
        needed = bool(at.distrusted or at.plain) and not is_loopback(at.host)
        hosts = await place.hosts()
    except NotCheckedError:
        hosts, needed = (), False
    for finding in judge_containerd(found, hosts, needed=needed):
        yield finding


def judge_containerd(found: Containerd, hosts: Sequence[str], *, needed: bool) -> Iterable[Diagnosis]:
    """Does containerd read `hosts.toml`, and has it one for the registry?

    Args:
        found: its configuration.
        hosts: names of the registry.
        needed: whether pulls fail without one, since the certificate is not trusted or there is none.
    """
    if found.legacy:
        tables = " and ".join(f"registry.{each}" for each in found.legacy)
        yield problem(
            f"has {tables}, which containerd 2 ignores, and which beside config_path keep the plugin from loading",
            found.source,
            f"take them out and write {_FOLDER}/HOST/hosts.toml instead; {_SET}",
        )
    elif found.config_path is None or not found.folders:
        state = "is not set" if found.config_path is None else "is empty"
        yield problem(f"config_path {state}, so containerd reads no hosts.toml", found.source, _SET)
    elif needed and found.known is not None and not found.known & set(hosts):
        yield problem(
            f"there is no hosts.toml for {hosts[0]}, and without one containerd wants a trusted certificate",
            found.folders[0],
            f"write {found.folders[0]}/{hosts[0]}/hosts.toml, or let the node agent do it (nodes.enabled of the chart)",
        )
    elif len(found.folders) > 1:
        yield ok(
            f"reads {found.config_path}; write a folder for each host, for _default does not always count", found.source
        )
    else:
        yield ok(f"reads {found.config_path}", found.source)


# ---- short names


async def check_short_names(place: Place) -> AsyncIterator[Diagnosis]:
    """Does `nginx` mean one image only, where CRI-O and podman complete names (containers-registries.conf(5))?"""
    path = place.options.root / "etc/containers/registries.conf"
    try:
        found = tomllib.loads(await aside(lambda: path.read_text("utf-8")))
    except FileNotFoundError:
        raise NotCheckedError(f"there is no {path}: neither CRI-O nor podman is here") from None
    except (OSError, ValueError) as error:
        raise NotCheckedError(f"{path} cannot be read ({type(error).__name__})") from None
    registries = [each for each in listing(found.get("unqualified-search-registries")) if isinstance(each, str)]
    mode, listed = text(found.get("short-name-mode")) or "permissive", ", ".join(registries)
    fix = f'write unqualified-search-registries = ["docker.io"] in {path}, and whole names in Pods'
    if len(registries) <= 1:
        yield ok(f"names without a host are completed with {listed or 'nothing'}", str(path))
    elif mode == "enforcing":
        what = f"a Pod with a name without a host does not start: it could be of {listed} (enforcing)"
        yield problem(what, str(path), fix)
    else:
        yield problem(f"a name without a host is whichever of {listed} has it first ({mode})", str(path), fix)


# ---- ports of nodes


async def check_node_ports(place: Place) -> AsyncIterator[Diagnosis]:
    """Is the registry at the port of each node, for the Services of Trow's namespace that have such a port?"""
    home = await place.namespace()
    services = await place.listed(f"/api/v1/namespaces/{home}/services")
    found = [(each, port) for each in services for port in _node_ports(each)]
    if not found:
        yield ok("no Service of Trow has a port of nodes")
        return
    nodes = (await place.listed("/api/v1/nodes"))[:_MOST_NODES]
    addresses = [address for node in nodes if (address := _address(node))]
    hosts, proxy = [place.options.host, *(await place.setup()).hosts], await _proxy_mode(place)
    for service, port in found:
        name = object_name(service)
        where = f"Service {home}/{name}, port {port}"
        tried = await asyncio.gather(*(_try(address, port) for address in addresses))
        silent = [f"{address}: {why}" for address, why in zip(addresses, tried, strict=True) if why]
        if proxy in ("ipvs", "nftables") and (by := _by_loopback(hosts, port)):
            yield problem(
                f"images are named {by}, and with kube-proxy in mode {proxy} loopback leads to no Service",
                where,
                "let the node agent write hosts.toml, or name images by a name in your DNS",
            )
        elif silent and mapping(service.get("spec")).get("externalTrafficPolicy") == "Local":
            yield problem(
                f"only nodes on which Trow runs answer (externalTrafficPolicy Local): {'; '.join(silent)}",
                where,
                f"kubectl patch service {name} --namespace {home}"
                ' --patch \'{"spec":{"externalTrafficPolicy":"Cluster"}}\'',
            )
        elif addresses and not silent:
            yield ok(f"answers on {len(addresses)} nodes", where)
        elif silent and (place.in_cluster or len(silent) < len(addresses)):
            fix = f"open TCP port {port} of nodes (firewall, security group), and see that kube-proxy runs"
            yield problem("; ".join(silent), where, fix)
        else:
            why = "; ".join(silent) or "none is known"
            yield unchecked(f"no node's address is reached from this machine: {why}", where)


def _node_ports(service: Manifest) -> list[int]:
    found = (each.get("nodePort") for each in objects_in(mapping(service.get("spec")), "ports"))
    return [port for port in found if isinstance(port, int)]


def _address(node: Manifest) -> str:
    known = objects_in(mapping(node.get("status")), "addresses")
    return next((text(each.get("address")) for each in known if each.get("type") == "InternalIP"), "")


async def _try(address: str, port: int) -> str:
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await connect(address, port)
    except OSError as error:
        return reason(error)
    return ""


async def _proxy_mode(place: Place) -> str:
    """As kubeadm keeps it."""
    with contextlib.suppress(KubeRefused, Unavailable):
        found = await place.cluster.objects.get("/api/v1/namespaces/kube-system/configmaps/kube-proxy")
        said = re.search(r'^mode:\s*"?(\w+)', text(mapping((found or {}).get("data")).get("config.conf")), re.MULTILINE)
        return said[1] if said else ""
    return ""


def _by_loopback(hosts: Sequence[str], port: int) -> str:
    return next((host for host in hosts if host.endswith(f":{port}") and is_loopback(host.rpartition(":")[0])), "")


# ---- clocks


async def check_clocks(place: Place) -> AsyncIterator[Diagnosis]:
    """Have the API server and each node the same time? A node shows its own in the Lease that its kubelet renews."""
    now = await api_server_time(place)
    yield clock("the API server", place.cluster.url, now - time.time(), "this machine")
    try:
        leases = {object_name(each): each for each in await place.listed(_LEASES)}
        nodes = await place.listed("/api/v1/nodes")
    except Forbidden as error:
        yield unchecked(lacking(error), "nodes")
        return
    for node in nodes:
        name, ready = object_name(node), condition_of(mapping(node.get("status")), "Ready").get("status") == "True"
        renewed = text(mapping(leases.get(name, {}).get("spec")).get("renewTime"))
        try:
            ahead = times.parse(renewed) / times.MICROSECONDS - now
        except ValueError:
            yield unchecked("has no Lease yet, which tells its time", f"node {name}")
            continue
        if ready or ahead > 0:
            yield clock("the node", name, ahead, "the API server", _LEASE_SECONDS)
        else:
            yield unchecked("is not ready, so it does not renew the Lease that tells its time", f"node {name}")


# ---- what the node agents say, as `trow nodes` shows it


async def check_agents(place: Place) -> AsyncIterator[Diagnosis]:
    """Is every node ready to pull?"""
    found = readiness(await place.listed("/api/v1/nodes"), await place.pods())
    if not any(each.agent or each.can_pull != "unknown" for each in found):
        raise NotCheckedError("no node agent is installed (nodes.enabled of the chart)")
    for each in found:
        where = f"node {each.node}"
        blocked = [line.partition("; fix: ") for line in each.agent if ": blocked: " in line]
        if each.can_pull == "no":
            yield problem(
                f"cannot pull: {each.reason}", where, each.fix or "kubectl get pods --all-namespaces; trow nodes"
            )
        for what, _, fix in blocked if each.can_pull != "no" else ():
            yield problem(what, where, fix)
        if each.can_pull == "unknown" and not blocked:
            yield unchecked(f"it is not known whether it can pull: {each.reason}", where)
        if each.can_pull == "yes" and not blocked:
            yield ok(f"can pull, as of {each.checked}", where)
