"""Every client in the same few words: log in, push, pull. What each of them has to be told stands here once."""

from __future__ import annotations

import base64
import json
import re
import shutil
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias

from clients.image import HELLO, TAG, hello, image, write_layout
from factories import digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from clients.authority import Certificate
    from clients.box import Box
    from clients.daemons import Containerd, Docker
    from clients.registry import Login, Registry

DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
CHART: Final = "apiVersion: v2\nname: garden\nversion: 0.1.0\ndescription: a chart of one ConfigMap\n"
TEMPLATE: Final = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: garden}\ndata: {tree: apple}\n"


class Driver(ABC):
    """One client that talks to one registry over TLS, with all that it knows in a box.

    Attributes:
        program: what it is called.
        auths: the file of credentials that it reads, below its home.
        env: what it is told by its environment.
        state: flags of every command, such as where it keeps what it has pulled.
    """

    program: ClassVar[str]
    auths: ClassVar[str] = ".docker/config.json"

    def __init__(self, box: Box, registry: Registry) -> None:
        self.box = box
        self.registry = registry
        self.host = registry.host
        self.ca = registry.trow.ca
        self.certs = self.ca.parent  # what podman and its kin have to know: a folder
        self.trust: tuple[str, ...] = (f"--ca-file={self.ca}",)  # what oras and helm have to know
        self.env: Mapping[str, object] = {}
        self.state: tuple[str, ...] = ()

    def run(self, *arguments: object, stdin: bytes = b"") -> str:
        return self.box.said(self.program, *self.state, *arguments, stdin=stdin, env=self.env).strip()

    def refused(self, *arguments: object, stdin: bytes = b"") -> str:
        return self.box.refused(self.program, *self.state, *arguments, stdin=stdin, env=self.env)

    # What tests ask for

    def login(self, login: Login) -> None:
        """Keep the credentials for all that follows."""
        self.run(*self.login_command(login), stdin=login.password.encode())

    def login_refused(self, login: Login) -> str:
        """What it says about credentials that are wrong; where it stores them unseen, what a pull says."""
        return self.refused(*self.login_command(login), stdin=login.password.encode())

    def know_token(self, kind: str, token: str) -> None:
        """Have it find a token, an `identitytoken` or a `registrytoken`, where it finds passwords."""
        nobody = base64.b64encode(b"any-name:").decode()  # podman and its kin look no further without a name
        write(self.box.home / self.auths, json.dumps({"auths": {self.host: {"auth": nobody, kind: token}}}))

    def know_certificate(self, certificate: Certificate) -> None:
        """Have it show a certificate in all that follows."""
        self.certs = self.box.home / "certs"
        self.certs.mkdir()
        for name, file in (("ca.crt", self.ca), ("client.cert", certificate.file), ("client.key", certificate.key)):
            shutil.copy(file, self.certs / name)
        self.trust += (f"--cert-file={certificate.file}", f"--key-file={certificate.key}")

    def push(self, repository: str) -> None:
        """Push something made for this repository."""
        self.make(repository)
        self.run(*self.push_command(repository))

    def push_refused(self, repository: str) -> str:
        """What it says of a push that fails."""
        self.make(repository)
        return self.refused(*self.push_command(repository))

    def pull(self, repository: str) -> str:
        """Pull what a push has left there, over the wire; its digest as the client has it."""
        self.forget(repository)
        said = self.run(*self.pull_command(repository))
        assert self.remains(repository)
        return self.digest(repository, said)

    def pull_refused(self, repository: str) -> str:
        """What it says of a pull that fails, after which it has nothing."""
        self.forget(repository)
        said = self.refused(*self.pull_command(repository))
        assert not self.remains(repository)
        return said

    def pushed(self, repository: str) -> tuple[str, str]:
        """Repository and tag of what `push` pushes."""
        return repository, TAG

    # What the clients differ in

    def login_command(self, login: Login) -> tuple[object, ...]:
        return ("login", f"--cert-dir={self.certs}", f"--username={login.name}", "--password-stdin", self.host)

    @abstractmethod
    def make(self, repository: str) -> None:
        """Have something to push."""

    @abstractmethod
    def push_command(self, repository: str) -> tuple[object, ...]: ...

    @abstractmethod
    def pull_command(self, repository: str) -> tuple[object, ...]: ...

    @property
    def out(self) -> Path:
        """Where it puts what it pulls, if it has no storage of its own."""
        return self.box.home / "out"

    def forget(self, repository: str) -> None:
        """Have nothing that need not be pulled."""
        shutil.rmtree(self.out, ignore_errors=True)

    @abstractmethod
    def remains(self, repository: str) -> object:
        """What it has of the repository; nothing is false."""

    @abstractmethod
    def digest(self, repository: str, said: str) -> str:
        """Of what was pulled."""

    def remote(self, repository: str) -> str:
        return f"{self.host}/{repository}:{TAG}"


class LayoutDriver(Driver):
    """Clients that copy between a registry and a folder, an OCI layout."""

    @property
    def source(self) -> Path:
        return self.box.home / "in"

    def make(self, repository: str) -> None:
        if not self.source.exists():
            write_layout(image(repository), self.source)

    def remains(self, repository: str) -> object:
        return list(self.out.glob("blobs/sha256/*"))

    def digest(self, repository: str, said: str) -> str:
        blobs = {f"sha256:{blob.name}": blob.read_bytes() for blob in self.out.glob("blobs/sha256/*")}
        assert all(digest_of(content) == name for name, content in blobs.items())
        (manifest,) = json.loads((self.out / "index.json").read_bytes())["manifests"]
        assert blobs == image(repository).content
        return str(manifest["digest"])


class Skopeo(LayoutDriver):
    program = "skopeo"
    auths = "auth.json"

    def __init__(self, box: Box, registry: Registry) -> None:
        super().__init__(box, registry)
        self.token = ""

    def know_token(self, kind: str, token: str) -> None:
        if kind == "registrytoken":
            self.token = token  # a flag
        else:
            super().know_token(kind, token)

    def push_command(self, repository: str) -> tuple[object, ...]:
        remote = f"docker://{self.remote(repository)}"
        return ("copy", *self._flags("dest"), f"oci:{self.source}:{TAG}", remote)

    def pull_command(self, repository: str) -> tuple[object, ...]:
        remote = f"docker://{self.remote(repository)}"
        return ("copy", *self._flags("src"), remote, f"oci:{self.out}:{TAG}")

    def _flags(self, side: str) -> tuple[str, ...]:
        token = (f"--{side}-registry-token={self.token}",) if self.token else ()
        return (f"--{side}-cert-dir={self.certs}", *token)


class Crane(LayoutDriver):
    program = "crane"

    def __init__(self, box: Box, registry: Registry) -> None:
        super().__init__(box, registry)
        self.env = {"SSL_CERT_FILE": self.ca}

    def login_command(self, login: Login) -> tuple[object, ...]:
        return ("auth", "login", self.host, "--username", login.name, "--password-stdin")

    def login_refused(self, login: Login) -> str:
        self.login(login)
        return self.refused("manifest", self.remote("any"))

    def push_command(self, repository: str) -> tuple[object, ...]:
        return ("push", self.source, self.remote(repository))

    def pull_command(self, repository: str) -> tuple[object, ...]:
        return ("pull", "--format=oci", self.remote(repository), self.out)


class Regctl(LayoutDriver):
    program = "regctl"

    def __init__(self, box: Box, registry: Registry) -> None:
        super().__init__(box, registry)
        self.know(cacert=self.ca)

    def know(self, **files: Path) -> None:
        settings = [f"--{name.replace('_', '-')}={file.read_text(encoding='ascii')}" for name, file in files.items()]
        self.run("registry", "set", self.host, *settings, "--skip-check")

    def know_certificate(self, certificate: Certificate) -> None:
        self.know(client_cert=certificate.file, client_key=certificate.key)

    def login_command(self, login: Login) -> tuple[object, ...]:
        return ("registry", "login", self.host, f"--user={login.name}", "--pass-stdin")

    def push_command(self, repository: str) -> tuple[object, ...]:
        return ("image", "copy", f"ocidir://{self.source}:{TAG}", self.remote(repository))

    def pull_command(self, repository: str) -> tuple[object, ...]:
        return ("image", "copy", self.remote(repository), f"ocidir://{self.out}:{TAG}")


class Oras(Driver):
    program = "oras"

    def login_command(self, login: Login) -> tuple[object, ...]:
        return ("login", *self.trust, f"--username={login.name}", "--password-stdin", self.host)

    def make(self, repository: str) -> None:
        write(self.box.home / "notes.txt", repository)

    def push_command(self, repository: str) -> tuple[object, ...]:
        return ("push", *self.trust, self.remote(repository), "notes.txt:text/plain")

    def pull_command(self, repository: str) -> tuple[object, ...]:
        return ("pull", *self.trust, "--output=out", self.remote(repository))

    def remains(self, repository: str) -> object:
        return list(self.out.glob("*"))

    def digest(self, repository: str, said: str) -> str:
        assert (self.out / "notes.txt").read_text(encoding="utf-8") == repository
        return digests(said)[-1]


class Helm(Driver):
    program = "helm"
    auths = ".config/helm/registry/config.json"

    def login_command(self, login: Login) -> tuple[object, ...]:
        return ("registry", "login", *self.trust, "--username", login.name, "--password-stdin", self.host)

    def pushed(self, repository: str) -> tuple[str, str]:
        return f"{repository}/garden", "0.1.0"

    def make(self, repository: str) -> None:
        write(self.box.home / "garden" / "Chart.yaml", CHART)
        write(self.box.home / "garden" / "templates" / "map.yaml", TEMPLATE)
        self.run("package", "garden")

    def push_command(self, repository: str) -> tuple[object, ...]:
        return ("push", *self.trust, "garden-0.1.0.tgz", f"oci://{self.host}/{repository}")

    def forget(self, repository: str) -> None:
        super().forget(repository)
        self.out.mkdir()

    def pull_command(self, repository: str) -> tuple[object, ...]:
        where = (f"--destination={self.out}", f"oci://{self.host}/{repository}/garden")
        return ("pull", *self.trust, "--version=0.1.0", *where)

    def remains(self, repository: str) -> object:
        return list(self.out.glob("*"))

    def digest(self, repository: str, said: str) -> str:
        packed = "garden-0.1.0.tgz"
        assert (self.out / packed).read_bytes() == (self.box.home / packed).read_bytes()
        return digests(said)[-1]


class StorageDriver(Driver):
    """Clients that keep images in a storage of their own."""

    auths = "auth.json"

    def __init__(self, box: Box, registry: Registry) -> None:
        super().__init__(box, registry)
        # Relative: podman refuses long paths.
        self.state = ("--root=root", "--runroot=runroot", "--storage-driver=vfs")

    def push_command(self, repository: str) -> tuple[object, ...]:
        return ("push", f"--cert-dir={self.certs}", self.remote(repository))

    def forget(self, repository: str) -> None:
        self.run("rmi", "--all", "--force")

    def pull_command(self, repository: str) -> tuple[object, ...]:
        return ("pull", f"--cert-dir={self.certs}", self.remote(repository))

    def remains(self, repository: str) -> object:
        return self.run("images", "--quiet")

    def digest(self, repository: str, said: str) -> str:
        return self.run("images", "--format={{.Digest}}", self.remote(repository))


class Podman(StorageDriver):
    program = "podman"

    def __init__(self, box: Box, registry: Registry) -> None:
        super().__init__(box, registry)
        self.state += ("--tmpdir=tmp",)

    def make(self, repository: str) -> None:
        layout = self.box.home / "in"
        if not layout.exists():
            write_layout(image(repository), layout)
        self.run("tag", self.box.run("podman", *self.state, "pull", "--quiet", f"oci:{layout}:{TAG}").strip(),
                 self.remote(repository))  # fmt: skip


class Buildah(StorageDriver):
    program = "buildah"

    def make(self, repository: str) -> None:
        """An image of one file, built from nothing."""
        (self.box.home / "hello").write_bytes(hello(repository))
        container = self.run("from", "scratch")
        self.run("copy", container, "hello", f"/{HELLO}")
        self.run("commit", "--rm", container, self.remote(repository))


class DockerDriver(Driver):
    """It trusts loopback without a certificate."""

    program = "docker"

    def __init__(self, docker: Docker, registry: Registry) -> None:
        super().__init__(docker.box, registry)
        self.docker = docker
        self.env = docker.env

    def login_command(self, login: Login) -> tuple[object, ...]:
        return ("login", f"--username={login.name}", "--password-stdin", self.host)

    def make(self, repository: str) -> None:
        self.docker.load(repository, self.remote(repository))

    def push_command(self, repository: str) -> tuple[object, ...]:
        return ("push", self.remote(repository))

    def forget(self, repository: str) -> None:
        if self.remains(repository):
            self.run("rmi", "--force", self.remote(repository))

    def pull_command(self, repository: str) -> tuple[object, ...]:
        return ("pull", self.remote(repository))

    def remains(self, repository: str) -> object:
        return self.run("images", "--quiet", f"{self.host}/{repository}")

    def digest(self, repository: str, said: str) -> str:
        assert self.docker.read(self.remote(repository)) == hello(repository)
        return digests(said)[0]


class ContainerdDriver(Driver):
    """It has no login: credentials come with each command."""

    program = "ctr"

    def __init__(self, containerd: Containerd, registry: Registry) -> None:
        super().__init__(containerd.box, registry)
        self.containerd = containerd
        self.state = (f"--address={containerd.box.home / 'c.sock'}",)
        self.credentials: tuple[str, ...] = ()
        self.know()
        containerd.forget()

    def know(self, **settings: object) -> None:
        abilities = ["pull", "resolve", "push"]
        self.containerd.know(self.host, self.registry.url, capabilities=abilities, ca=str(self.ca), **settings)

    def know_certificate(self, certificate: Certificate) -> None:
        self.know(client=[[str(certificate.file), str(certificate.key)]])

    def login(self, login: Login) -> None:
        self.credentials = (f"--user={login.name}:{login.password}",)

    def login_refused(self, login: Login) -> str:
        self.login(login)
        return self.pull_refused("any")

    def know_token(self, kind: str, token: str) -> None:
        assert kind == "identitytoken", "ctr takes no other token"
        self.credentials = (f"--refresh={token}",)

    def make(self, repository: str) -> None:
        self.containerd.load(image(repository), f"{self.host}/{repository}")

    def push_command(self, repository: str) -> tuple[object, ...]:
        return self._command("push", repository)

    def forget(self, repository: str) -> None:
        self.containerd.forget()

    def pull_command(self, repository: str) -> tuple[object, ...]:
        return self._command("pull", repository, "--all-platforms", "--snapshotter=native")

    def _command(self, verb: str, repository: str, *flags: str) -> tuple[object, ...]:
        hosts = f"--hosts-dir={self.containerd.hosts}"
        return ("images", verb, hosts, *flags, *self.credentials, self.remote(repository))

    def remains(self, repository: str) -> object:
        return self.run("content", "ls", "--quiet")

    def digest(self, repository: str, said: str) -> str:
        return digests(self.run("images", "ls", f"name=={self.remote(repository)}"))[0]


def digests(said: str) -> list[str]:
    found: list[str] = DIGEST.findall(said)
    return found


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


# Those that need no daemon.
ALONE: Final = {driver.program: driver for driver in (Buildah, Crane, Helm, Oras, Podman, Regctl, Skopeo)}
CLIENTS: Final = (*ALONE, "ctr", "docker")
# A client by its name, told of a registry.
Connect: TypeAlias = "Callable[[str, Registry], Driver]"

# Who takes an `identitytoken`, to send it to the token service as a refresh token, and who a `registrytoken`, to send
# it to the registry as it is. Where a client is asked for a password, crane alone does so.
TOKENS: Final = (
    *(("identitytoken", client) for client in CLIENTS),
    *(("registrytoken", client) for client in ("crane", "docker", "helm", "oras", "skopeo")),
)
