"""A real Kubernetes cluster with nodes: Pods run, kubelets pull, Services and NodePorts answer, names are found.

A test asks for the fixture `node_cluster`, one for the file, and works in a namespace of its own:

    def test_a_pod_runs(node_cluster: NodeCluster) -> None:
        namespace = node_cluster.new_namespace()
        node_cluster.run_pod(namespace, "web", BUSYBOX, "sleep", "1000")
        node_cluster.wait_ready(namespace, "pod/web")

What is there:
- everything that `Cluster` has: `kubectl`, `apply`, `kubeconfig` (which works in this process, too), `audit_lines`
- `address`, the first node's, reachable from this process: a NodePort is `f"{node_cluster.address}:{port}"`
- `nodes`, two of them, each with `import_image` (as `kind load` does), `path("/etc/containerd/...")` for its files,
  `run` for programs on it, `kubelet_flags` with `restart_kubelet`, `restart_containerd`, and `reboot`
- `BUSYBOX`, an image with a shell and the tools of busybox, which every node has; the fixture `own_image` is Trow's
- the default StorageClass `standard`: `add_volume` makes a volume that a claim of it is bound to
- `describe`, what a person looks at when something does not work; the waits of this module say it when they fail

Each machine of the cluster is a `Machine`: all of it ends with the test process, however that ends. Several clusters
can run at once. A test that breaks nodes or leaves things that are the whole cluster's starts one of its own, which
takes 5 s: `with NodeCluster.start(folder) as cluster:`.

It needs root and namespaces; where these are not to be had, the tests fail and say so in one line.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from deploy.image.layout import Layout

from support.cluster import SERVICES, TYPES_CONTROLLER, Cluster, Component
from support.machine import Machine, MachineError, Service, call
from support.server import tail
from support.waiting import until
from tools.find import tool

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

BUSYBOX: Final = "images.test/busybox:1"
STORAGE_CLASS: Final = "standard"
DNS_SERVICE: Final = "10.0.0.10"
READY_SECONDS: Final = 60
CGROUPS: Final = Path("/sys/fs/cgroup")
# Addresses that no network has (RFC 2544), the third number a cluster's own.
NETWORK: Final = "198.18"
CONTROL, FIRST_NODE, HERE = 1, 10, 254

# What ServiceAccounts ask for: one line when it has been answered, and one before when it is a watch.
AUDITED: Final[Mapping[str, object]] = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}],
}


class NodeCluster(Cluster):
    """`with NodeCluster.start(tmp_path) as cluster:` is a cluster until the block ends."""

    controllers = ("*", f"-{TYPES_CONTROLLER}")
    audited = AUDITED

    def __init__(self, folder: Path, nodes: int = 1) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._number = Number()
        self._control = Machine("control", folder / "control")
        self.host = self._number.address(CONTROL)
        super().__init__(folder)
        self._api.flags += api_flags(self.host)
        self.nodes = [Node(self, index) for index in range(nodes)]
        leader = ("--leader-elect=false", "--bind-address=127.0.0.1")
        self._scheduler = self.component("kube-scheduler", f"--kubeconfig={self.kubeconfig}", *leader)
        names = folder / "Corefile"
        names.write_text(corefile(self.host, self.kubeconfig), encoding="utf-8")
        self._names = self.component("coredns", f"-conf={names}")

    def component(self, name: str, *flags: str) -> Component:
        return Service(self._control, name, *flags, folder=self.folder)

    @classmethod
    def start(cls, folder: Path, *, controllers: bool = True, nodes: int = 1) -> NodeCluster:
        """Raises:
        MachineError: nothing of it can run here.
        """
        assert controllers, "nodes are nothing without controllers"
        able()
        cluster = cls(folder, nodes)
        try:
            cluster._bring_up()
        except BaseException:
            cluster.stop()
            raise
        return cluster

    def _bring_up(self) -> None:
        self._control.boot()
        self._number.connect(self._control)
        for machine in self.nodes:
            machine.boot()
        self.route()
        self._etcd.start()
        self.start_api()
        self._controllers.start()
        self._scheduler.start()
        self._names.start()
        for node in self.nodes:
            node.start_programs()
        self.wait_for("serviceaccount/default", "--namespace", "default")
        self.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": [storage_class(), *names(self.host)]}))
        for node in self.nodes:
            node.wait_until_ready()

    def stop(self) -> None:
        for node in self.nodes:
            node.shut_down()
        self._control.stop()
        for component in (self._scheduler, self._names):
            component.stop()
        super().stop()
        self._number.close()
        for node in self.nodes:
            shutil.rmtree(node.machine.folder / "var", ignore_errors=True)  # unpacked images; pytest keeps folders

    def repair(self) -> None:
        """Boot the nodes that a test left down, or without one of their programs."""
        for node in self.nodes:
            if not node.up:
                node.reboot()

    def route(self) -> None:
        """Tell every machine where the Pods of the others are; Services are answered by the node that is asked."""
        self._control.ip("route", "replace", SERVICES, "via", self.nodes[0].address)
        running = [node for node in self.nodes if node.machine.up]
        for node in running:
            self._control.ip("route", "replace", node.pods, "via", node.address)
            for other in running:
                if other is not node:
                    node.machine.ip("route", "replace", other.pods, "via", other.address)

    def plug_in(self, machine: Machine, place: int) -> str:
        """Connect a machine with the control plane, and with the others through it; its address."""
        return self._number.plug_in(self._control, machine, place)

    @property
    def control_group(self) -> str:
        return self._number.control_group.name

    @property
    def node(self) -> Node:
        return self.nodes[0]

    @property
    def address(self) -> str:
        """Of the first node."""
        return self.node.address

    # What tests do in it

    def new_namespace(self, *labels: str) -> str:
        """A namespace that no other test uses, with labels such as `pod-security.kubernetes.io/enforce=restricted`."""
        name = f"test-{secrets.token_hex(4)}"
        self.create_namespace(name)
        if labels:
            self.kubectl("label", "namespace", name, *labels)
        return name

    def import_image(self, image: Path, name: str) -> None:
        """Give every node an image: `Node.import_image`."""
        for node in self.nodes:
            node.import_image(image, name)

    def add_volume(self, size: str = "20Gi") -> str:
        """A volume on the first node, whose files are owned by the group of the Pod that has it; its name."""
        name = f"disk-{secrets.token_hex(4)}"
        place = f"/var/lib/volumes/{name}"
        self.node.path(place).mkdir(parents=True)
        self.apply(json.dumps(volume(name, size, place, self.node.name)))
        return name

    def run_pod(
        self, namespace: str, name: str, image: str, *command: str, check: bool = True, pull: str = "", **spec: object
    ) -> str:
        """Create a Pod of one container; what kubectl says.

        Args:
            pull: `Always`, `IfNotPresent` or `Never`; "" for what Kubernetes makes of the tag.
            spec: fields of the Pod's specification.
        """
        container: dict[str, object] = {"name": "main", "image": image}
        if pull:
            container["imagePullPolicy"] = pull
        if command:
            container["command"] = command
        document = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
            "spec": {"containers": [container], "terminationGracePeriodSeconds": 1, **spec},
        }
        return self.kubectl("create", "--filename=-", input=json.dumps(document), check=check)

    def wait_ready(self, namespace: str, name: str, seconds: int = READY_SECONDS) -> None:
        """Until a Pod is ready, or what makes Pods has as many as it should, all of its present version."""
        ask = ("rollout", "status", name) if not name.startswith("pod/") else ("wait", name, "--for=condition=Ready")
        try:
            self.kubectl(*ask, f"--namespace={namespace}", f"--timeout={seconds}s", seconds=seconds + 5)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.describe(namespace)}") from error

    def waiting_reason(self, namespace: str, pod: str) -> str:
        """Why a Pod's container does not run, and the kubelet's own message: `ErrImagePull: ...`; "" for no reason."""
        got = self.kubectl("get", "pod", pod, f"--namespace={namespace}", "--output=json", "--ignore-not-found")
        statuses = json.loads(got or "{}").get("status", {}).get("containerStatuses", [])
        reasons = (each["state"]["waiting"] for each in statuses if "waiting" in each["state"])
        return next((f"{each['reason']}: {each.get('message', '')}" for each in reasons), "")

    def wait_for_reason(self, namespace: str, pod: str, word: str, seconds: int = READY_SECONDS) -> str:
        """Until a word is in why a Pod does not run; all of it."""
        try:
            until(lambda: word in self.waiting_reason(namespace, pod), seconds)
        except AssertionError as error:
            raise AssertionError(f"{word} is in no reason\n{self.describe(namespace)}") from error
        return self.waiting_reason(namespace, pod)

    def describe(self, namespace: str) -> str:
        """Pods, events and logs of a namespace, and the last words of the programs on its nodes."""
        there = f"--namespace={namespace}"
        said = [self.kubectl("get", "all", there, "--output=wide", check=False)]
        said.append(self.kubectl("describe", "pods", there, check=False))
        asked = (there, "--all-containers", "--tail=50")
        for pod in self.kubectl("get", "pods", there, "--output=name", check=False).split():
            said += [f"logs of {pod}", self.kubectl("logs", pod, *asked, check=False)]
        said += [f"kubelet of {node.name}\n{tail(node.kubelet.log)}" for node in self.nodes]
        return "\n".join(said)


class Node:
    """One node: a machine with containerd, a kubelet and a kube-proxy, with files where kubeadm has them."""

    def __init__(self, cluster: NodeCluster, index: int) -> None:
        self.name = f"node{index + 1}"
        self._cluster = cluster
        self._place = FIRST_NODE + index
        self.pods = f"10.88.{index + 1}.0/24"
        self._gateway = f"10.88.{index + 1}.1"
        self.address = cluster.host.rpartition(".")[0] + f".{self._place}"
        self.machine = Machine(self.name, cluster.folder / self.name)
        self._control_group = ControlGroup(f"{cluster.control_group}/{self.name}")
        self._write_files(cluster)
        self.containerd = Service(self.machine, "containerd2", "--log-level=info")
        self.kubelet_flags: list[str] = []
        self.kubelet = Service(self.machine, "kubelet", *kubelet_flags(self.name, self.address))
        self._fixed = [*self.kubelet.flags]
        self.proxy = Service(self.machine, "kube-proxy", "--config=/etc/kubernetes/kube-proxy.yaml")

    def _write_files(self, cluster: NodeCluster) -> None:
        for folder in ("/etc/containerd/certs.d", "/etc/cni/net.d", "/etc/kubernetes/manifests", "/var/lib/kubelet"):
            self.path(folder).mkdir(parents=True)
        pair = self.path("/var/lib/kubelet/client.crt"), self.path("/var/lib/kubelet/client.key")
        cluster.credentials.issue_user(f"system:node:{self.name}", "system:nodes", *pair)
        programs = {"shim": tool("containerd-shim-runc-v2"), "plugins": tool("bridge").parent, "pause": BUSYBOX}
        files = {
            "/etc/containerd/config.toml": CONTAINERD.format(**programs),
            "/etc/cni/net.d/10-bridge.conflist": json.dumps(container_network(self.pods)),
            "/etc/kubernetes/kubelet.conf": cluster.credentials.kubeconfig(cluster.url, *pair),
            "/etc/kubernetes/kube-proxy.yaml": json.dumps(proxy(self.name, cluster.kubeconfig)),
            "/var/lib/kubelet/config.yaml": json.dumps(kubelet(self._control_group)),
        }
        for path, text in files.items():
            self.path(path).write_text(text, encoding="utf-8")

    def path(self, inside: str) -> Path:
        """Where the test finds a file that the node has below `/etc`, `/var` or `/opt`."""
        return self.machine.path(inside)

    def run(self, *argv: str, check: bool = True) -> str:
        """What a program on the node says."""
        return self.machine.run(*argv, check=check)

    def ctr(self, *arguments: str) -> str:
        """containerd's own client, with the images and containers of Kubernetes."""
        return self.run(str(tool("ctr2")), "--namespace=k8s.io", *arguments)

    @property
    def up(self) -> bool:
        """Whether the machine is, and everything that makes it a node."""
        return self.machine.up and all(program.alive for program in (self.containerd, self.kubelet, self.proxy))

    def boot(self) -> None:
        self._control_group.create()
        self.machine.boot()
        self._cluster.plug_in(self.machine, self._place)
        gateway = f"02:00:00:00:01:{self._place:02x}"  # as that of the bridge between machines
        self.machine.ip("link", "add", "pods0", "address", gateway, "type", "bridge")
        self.machine.ip("address", "add", f"{self._gateway}/24", "dev", "pods0")
        self.machine.ip("link", "set", "pods0", "up")
        # Rules lead addresses of Services elsewhere, but only those for which there is a route.
        self.machine.ip("route", "add", SERVICES, "dev", "eth0")
        for setting in ("ipv4.ip_forward", "ipv4.conf.all.route_localnet"):
            self.run("sh", "-c", f"echo 1 >/proc/sys/net/{setting.replace('.', '/')}")

    def start_programs(self) -> None:
        self._start_containerd()
        self.restart_kubelet()
        self.proxy.start()

    def _start_containerd(self) -> None:
        self.containerd.start()
        self.containerd.wait_until(lambda: "Server:" in self.run(str(tool("ctr2")), "version", check=False))
        if BUSYBOX not in self.ctr("images", "list", "--quiet").split():
            with tempfile.TemporaryDirectory(prefix="trow-busybox-") as place:
                self.import_image(busybox(Path(place)), BUSYBOX)

    def wait_until_ready(self) -> None:
        """Until the node says so since it was booted, and the cluster lets Pods onto it."""
        booted = self.run("cat", "/proc/sys/kernel/random/boot_id").strip()
        self.kubelet.wait_until(lambda: self._ready(booted))

    def _ready(self, booted: str) -> bool:
        got = self._cluster.kubectl("get", "node", self.name, "--ignore-not-found", "--output=json")
        if not got:
            return False
        node = json.loads(got)
        conditions = {each["type"]: each["status"] for each in node["status"].get("conditions", [])}
        since = node["status"]["nodeInfo"]["bootID"] == booted
        return since and conditions.get("Ready") == "True" and not node["spec"].get("taints")

    def restart_containerd(self) -> None:
        """As `systemctl restart containerd`: what runs goes on, and its configuration is read again."""
        self.containerd.stop()
        self._start_containerd()

    def restart_kubelet(self) -> None:
        """As `systemctl restart kubelet`, with `kubelet_flags` beside those of kubeadm."""
        self.kubelet.stop()
        self.kubelet.flags[:] = [*self._fixed, *self.kubelet_flags]
        self.kubelet.start()

    def shut_down(self) -> None:
        """Pull its plug: every container and program on it is killed at once."""
        self.machine.stop()
        for program in (self.kubelet, self.proxy, self.containerd):
            program.stop()
        self._control_group.remove()

    def reboot(self) -> None:
        """Shut it down and bring it up with its disk, until it is ready; its Pods may still be on their way."""
        self.shut_down()
        self.boot()
        self._cluster.route()
        self.start_programs()
        self.wait_until_ready()

    def import_image(self, image: Path, name: str) -> None:
        """Give the node an image, as `kind load image-archive` does: an OCI layout, as a folder or as an archive.

        Args:
            image: the layout; of an index, the image for this machine is taken.
            name: as Pods write it, with host and tag.
        """
        with contextlib.ExitStack() as stack:
            archive = image
            if image.is_dir():
                archive = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trow-import-"))) / "image.tar"
                pack(image, name, archive)
            self.ctr("images", "import", "--no-unpack", str(archive))
            assert name in self.ctr("images", "list", "--quiet").split(), f"{archive} has no image {name}"


class Number:
    """A number that no other cluster of this machine has while it is held, and the addresses that go with it.

    It is held by the name of a socket, which the kernel frees when this process ends. What a process that was killed
    left behind has its number in the name, and is cleared away by the next cluster that gets the number.
    """

    def __init__(self) -> None:
        for self.number in range(250):
            self._held = socket.socket(socket.AF_UNIX)
            try:
                self._held.bind(f"\0trow-test-cluster-{self.number}")
            except OSError:
                self._held.close()
            else:
                break
        else:
            raise MachineError("250 clusters of tests run on this machine already")
        self._interface = f"trow{self.number}"
        self.control_group = ControlGroup(f"trow-tests-{self.number}")
        self._clear()

    def address(self, place: int) -> str:
        return f"{NETWORK}.{self.number}.{place}"

    def connect(self, control: Machine) -> None:
        """A network of the cluster, with a bridge in the control plane's machine and an end here."""
        # With an address of its own; else it has the lowest of its ports, which changes as nodes come and go, and what
        # others have learnt leads nowhere for up to a minute.
        control.ip("link", "add", "lan", "address", f"02:00:00:00:00:{CONTROL:02x}", "type", "bridge")
        control.ip("address", "add", f"{self.address(CONTROL)}/24", "dev", "lan")
        control.ip("link", "set", "lan", "up")
        peer = ("peer", "name", "outside", "netns", str(control.pid))
        call(str(tool("ip")), "link", "add", self._interface, "type", "veth", *peer)
        control.ip("link", "set", "outside", "master", "lan", "up")
        call(str(tool("ip")), "address", "add", f"{self.address(HERE)}/24", "dev", self._interface)
        call(str(tool("ip")), "link", "set", self._interface, "up")

    def plug_in(self, control: Machine, machine: Machine, place: int) -> str:
        end = f"to-{machine.name}"
        card = f"02:00:00:00:00:{place:02x}"  # the same after a reboot, so that others find it
        with contextlib.suppress(MachineError):  # of a machine that has just gone down there may be an end yet
            control.ip("link", "delete", end)
        peer = ("peer", "name", "eth0", "address", card, "netns", str(machine.pid))
        control.ip("link", "add", end, "type", "veth", *peer)
        control.ip("link", "set", end, "master", "lan", "up")
        machine.ip("address", "add", f"{self.address(place)}/24", "dev", "eth0")
        machine.ip("link", "set", "eth0", "up")
        return self.address(place)

    def close(self) -> None:
        self._clear()
        self._held.close()

    def _clear(self) -> None:
        argv = [str(tool("ip")), "link", "delete", self._interface]
        subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)  # mostly it is gone
        self.control_group.remove()


class ControlGroup:
    """A group of processes, in each hierarchy of this machine (cgroups(7))."""

    def __init__(self, name: str) -> None:
        self.name = name

    def create(self) -> None:
        for top in self._tops():
            (top / self.name).mkdir(parents=True, exist_ok=True)

    def remove(self) -> None:
        """With the groups in it; those that still have processes stay."""
        for top in self._tops():
            for group in sorted((top / self.name).glob("**/"), reverse=True):
                with contextlib.suppress(OSError):
                    group.rmdir()

    def _tops(self) -> Sequence[Path]:
        if (CGROUPS / "cgroup.controllers").exists():
            return [CGROUPS]
        return [top for top in CGROUPS.iterdir() if top.is_dir() and not top.is_symlink()]


def able() -> None:
    """Whether nodes can run here.

    Raises:
        MachineError: why not.
    """
    if os.geteuid():
        raise MachineError("a cluster with nodes needs root: run the tests as root, or with sudo")
    if not any(os.access(top, os.W_OK) for top in (CGROUPS, CGROUPS / "memory")):
        raise MachineError(f"a cluster with nodes needs control groups: nothing is mounted at {CGROUPS}")


# What the programs are told


CONTAINERD: Final = """\
version = 3
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    runtime_path = "{shim}"
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["{plugins}"]
[plugins."io.containerd.cri.v1.images"]
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = "/etc/containerd/certs.d"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{pause}"
"""


def api_flags(host: str) -> Iterator[str]:
    yield from ("--advertise-address", host, "--endpoint-reconciler-type", "lease")
    yield from ("--authorization-mode", "Node", "--enable-admission-plugins", "NodeRestriction")
    yield from ("--kubelet-preferred-address-types", "InternalIP", "--allow-privileged")


def kubelet_flags(name: str, address: str) -> Iterator[str]:
    yield from ("--config=/var/lib/kubelet/config.yaml", "--kubeconfig=/etc/kubernetes/kubelet.conf")
    yield from (f"--hostname-override={name}", f"--node-ip={address}")


def kubelet(group: ControlGroup) -> Mapping[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{group.name}",
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "enforceNodeAllocatable": [],
        # This machine's disk is not the node's to judge.
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,
        "localStorageCapacityIsolation": False,
        "failCgroupV1": False,
        "failSwapOn": False,
        "healthzPort": 0,
        "oomScoreAdj": 0,
        "readOnlyPort": 0,
        "staticPodPath": "/etc/kubernetes/manifests",
        # What a test waits for comes soon.
        "fileCheckFrequency": "1s",
        "nodeStatusUpdateFrequency": "1s",
        "syncFrequency": "2s",
    }


def proxy(name: str, kubeconfig: Path) -> Mapping[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clusterCIDR": "10.88.0.0/16",
        "iptables": {"minSyncPeriod": "100ms"},
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "hostnameOverride": name,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def container_network(pods: str) -> Mapping[str, object]:
    address = {"type": "host-local", "ranges": [[{"subnet": pods}]], "routes": [{"dst": "0.0.0.0/0"}]}
    bridge = {"type": "bridge", "bridge": "pods0", "isGateway": True, "hairpinMode": True, "ipam": address}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge, ports]}


def corefile(host: str, kubeconfig: Path) -> str:
    return f"""\
.:53 {{
    bind {host}
    kubernetes cluster.local {{
        kubeconfig {kubeconfig}
    }}
}}
"""


def names(host: str) -> Iterator[Mapping[str, object]]:
    """The Service of names, whose server is in the control plane."""
    ports = [{"name": f"dns-{protocol.lower()}", "port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]
    metadata = {"name": "kube-dns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}}
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"clusterIP": DNS_SERVICE, "ports": ports},
    }
    yield {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**metadata, "labels": {"kubernetes.io/service-name": "kube-dns"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [host]}],
        "ports": ports,
    }


def storage_class() -> Mapping[str, object]:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": STORAGE_CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def volume(name: str, size: str, place: str, node: str) -> Mapping[str, object]:
    where = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": size},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": STORAGE_CLASS,
            "persistentVolumeReclaimPolicy": "Retain",
            "local": {"path": place},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [where]}]}},
        },
    }


# Images


def busybox(folder: Path, mark: str = "") -> Path:
    """An OCI layout of an image with busybox, whose commands have their names; it sleeps.

    With a mark it is another image: of one that was pulled with credentials, a kubelet gives no Pod a copy under a name
    that was not pulled (KEP-2535).

    `wget -T` crashes; the time that a command may take is the test's to limit.
    """
    root, layout = folder / "root", folder / "layout"
    (root / "bin").mkdir(parents=True)
    (root / "tmp").mkdir(mode=0o1777)
    (root / "mark").write_text(mark, encoding="utf-8")
    shutil.copy2(tool("busybox"), root / "bin" / "busybox")
    listed = subprocess.run([root / "bin" / "busybox", "--list"], capture_output=True, text=True, check=True).stdout
    for command in set(listed.split()) - {"busybox"}:
        (root / "bin" / command).symlink_to("busybox")
    written = Layout(layout)
    layer = written.add_layer(root, [*root.rglob("*")])
    config = {"config": {"Env": ["PATH=/bin"], "Cmd": ["sleep", "2000000000"]}}
    written.finish([written.add_image([layer], config, architecture(), {})], [], "busybox", "1", {})
    return layout


def architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]


def pack(layout: Path, name: str, archive: Path) -> None:
    """Write a layout as an archive whose image has the name by which containerd is to know it."""
    top = json.loads((layout / "index.json").read_bytes())
    image = {**top["manifests"][0], "annotations": {"io.containerd.image.name": name}}
    named = archive.parent / "index.json"
    named.write_text(json.dumps({**top, "manifests": [image]}), encoding="utf-8")
    with tarfile.open(archive, "w") as written:
        written.add(layout / "oci-layout", "oci-layout")
        written.add(named, "index.json")
        written.add(layout / "blobs", "blobs")
