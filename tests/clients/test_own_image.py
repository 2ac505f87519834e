"""The image of Trow: built twice, pushed into a running Trow, pulled from it, and run with nothing allowed."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from deploy.image import debian
from deploy.image.__main__ import cache
from deploy.image.build import MACHINES, build

import trow
from clients.box import Box
from factories import digest_of
from support.client import WireClient
from support.machine import Machine
from support.pages import ROOT
from support.reader import Reader, steps
from support.tutorial import serving
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploy.image.build import Built

    from clients.registry import Registry


MB: Final = 1_000_000
CREATED: Final = "2026-01-01T00:00:00Z"
# The runtime of these tests may raise no limit by itself; the rest is what a strict cluster allows.
CONFINED: Final = (
    "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=host",
    "--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096", "--memory=256m", "--pids-limit=128",
)  # fmt: skip
SETTINGS: Final = '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n'


class Layout:
    """An OCI layout on the disk."""

    def __init__(self, folder: Path, built: Built) -> None:
        self.folder = folder
        self.built = built
        self.name = f"oci:{folder}:{trow.__version__}"

    def document(self, descriptor: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.blob(descriptor).read_bytes())
        return found

    def blob(self, descriptor: dict[str, Any]) -> Path:
        path: Path = self.folder / "blobs" / descriptor["digest"].replace(":", "/")
        return path

    @property
    def top(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads((self.folder / "index.json").read_bytes())["manifests"]
        return found

    def image(self, architecture: str) -> dict[str, Any]:
        images = self.document(self.top[0])["manifests"]
        return next(each for each in images if each["platform"]["architecture"] == architecture)

    def files(self, architecture: str) -> Iterator[tarfile.TarInfo]:
        for layer in self.document(self.image(architecture))["layers"]:
            with tarfile.open(self.blob(layer)) as archive:
                yield from archive


@pytest.fixture(scope="module")
def downloads() -> Path:
    """Where `make test` has put them."""
    return cache()


@pytest.fixture(scope="module", autouse=True)
def without_network() -> Iterator[None]:
    """What a build needs was downloaded before the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UV_OFFLINE", "1")
        yield


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory, downloads: Path) -> Layout:
    folder = tmp_path_factory.mktemp("own") / "image"
    return Layout(folder, build(folder, [*MACHINES], downloads, CREATED, lambda _text: None))


class Podman:
    """podman, whose state is in a folder with a short name."""

    def __init__(self, box: Box, folder: Path) -> None:
        (box.home / "auth.json").write_text("{}", encoding="utf-8")
        (box.home / "containers.conf").write_text(SETTINGS, encoding="utf-8")
        self.box = box
        self.env = {"CONTAINERS_CONF": box.home / "containers.conf"}
        self.state = (
            f"--root={folder}/root",
            f"--runroot={folder}/run",
            f"--tmpdir={folder}/tmp",
            "--storage-driver=vfs",
        )

    def run(self, *arguments: object) -> str:
        return self.box.run("podman", *self.state, *arguments, env=self.env).strip()

    @contextmanager
    def serving(self, image: str, *flags: str) -> Iterator[WireClient]:
        """A container of Trow that answers."""
        container = self.run("run", "--detach", *CONFINED, *flags, image, "serve", "--host=127.0.0.1", "--port=0")
        try:
            address = until(lambda: self.address(container), 60)
            with WireClient(address.removeprefix("http://")) as client:
                yield client
            self.run("stop", "--time=20", container)
            assert self.run("inspect", "--format={{.State.ExitCode}}", container) == "0"
        finally:
            self.run("rm", "--force", "--volumes", container)

    def address(self, container: str) -> str:
        """Where it listens, "" before it does."""
        said = self.box.said("podman", *self.state, "logs", container, env=self.env)
        return next((line.split()[-1] for line in said.splitlines() if "listening" in line), "")


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Podman:
    return Podman(Box(tmp_path_factory.mktemp("podman")), tmp_path_factory.mktemp("p"))


@pytest.fixture(scope="module")
def image(layout: Layout, podman: Podman) -> str:
    """The image in podman's store."""
    return podman.run("pull", "--quiet", layout.name)


def test_two_builds_are_the_same_bytes(layout: Layout, downloads: Path, tmp_path: Path) -> None:
    again = Layout(tmp_path / "again", build(tmp_path / "again", ["amd64"], downloads, CREATED, lambda _text: None))
    assert again.image("amd64") == layout.image("amd64")


@pytest.mark.parametrize("architecture", MACHINES)
def test_it_is_small(architecture: str, layout: Layout) -> None:
    assert layout.built.compressed[architecture] <= 30 * MB
    assert layout.built.unpacked[architecture] <= 90 * MB


@pytest.mark.parametrize("architecture", MACHINES)
def test_there_is_no_shell_and_nothing_to_gain_rights_by(architecture: str, layout: Layout) -> None:
    files = [*layout.files(architecture)]
    programs = {Path(each.name).name for each in files if each.name.startswith(("usr/bin/", "usr/sbin/"))}
    assert programs == {"python3.13"}
    assert not [each.name for each in files if each.mode & 0o6000 or each.isdev()]
    writable = {each.name for each in files if each.mode & 0o002 and not each.issym()}
    assert writable == {"tmp"}
    assert {each.name for each in files if each.uid or each.gid} == {"var/lib/trow"}


@pytest.mark.parametrize("architecture", MACHINES)
def test_it_says_what_it_is(architecture: str, layout: Layout) -> None:
    config = layout.document(layout.document(layout.image(architecture))["config"])
    assert (config["architecture"], config["os"], config["created"]) == (architecture, "linux", CREATED)
    assert config["config"]["User"] == "65532:65532"
    assert config["config"]["Labels"]["org.opencontainers.image.version"] == trow.__version__


@pytest.mark.parametrize("architecture", MACHINES)
def test_its_bill_of_materials_lists_every_package(architecture: str, layout: Layout) -> None:
    image = layout.image(architecture)
    referrers = [layout.document(each) for each in layout.top[1:]]
    bill = layout.document(
        next(each["layers"][0] for each in referrers if each["subject"]["digest"] == image["digest"])
    )
    listed = {each["purl"].partition("@")[0] for each in bill["components"]}
    names = [each.name for each in layout.files(architecture)]
    debs = {name.rpartition("/")[2] for name in names if name.startswith("var/lib/dpkg/status.d/")}
    wheels = {name.split("/")[-2].partition("-")[0] for name in names if name.endswith(".dist-info/METADATA")}
    assert debs == {each.name for each in debian.locked()[architecture]}
    assert listed == {f"pkg:deb/debian/{each}" for each in debs} | {
        f"pkg:pypi/{each.lower().replace('_', '-')}" for each in wheels
    }


def test_trow_hosts_its_own_image(layout: Layout, plain: Registry, podman: Podman, repository: str) -> None:
    """Pushed with every architecture, pulled by podman, run with nothing allowed: it takes a push and gives it back."""
    remote = f"{plain.host}/{repository}:{trow.__version__}"
    podman.box.run("skopeo", "copy", "--all", "--dest-tls-verify=false", layout.name, f"docker://{remote}")
    assert plain.manifest(repository, trow.__version__).digest == layout.built.digest
    pulled = podman.run("pull", "--quiet", "--tls-verify=false", remote)
    content = b"a layer" * 100_000
    with podman.serving(pulled) as client:
        assert client.push_whole("team/app", content).status == 201
        assert client.get_blob("team/app", digest_of(content)).body == content


def test_it_runs_as_a_user_that_nobody_has(image: str, podman: Podman) -> None:
    """As OpenShift does it: any number, in the group root."""
    with podman.serving(image, "--user=1234567") as client:
        assert client.push_whole("team/app", b"a layer").status == 201


def test_it_runs_on_a_volume_of_its_user(image: str, podman: Podman, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir(0o700)
    os.chown(volume, 1234567, 1234567)
    with podman.serving(image, "--user=1234567:1234567", f"--volume={volume}:/var/lib/trow") as client:
        assert client.push_whole("team/app", b"a layer").status == 201
    assert (volume / "trow.db").stat().st_uid == 1234567


def test_its_python_takes_no_module_from_where_it_runs(image: str, podman: Podman, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('taken')", encoding="utf-8")
    tmp_path.chmod(0o755)
    flags = (*CONFINED, f"--volume={tmp_path}:/work:ro", "--workdir=/work", "--env=PYTHONPATH=/work")
    assert f"trow    {trow.__version__}" in podman.run("run", "--rm", *flags, image, "version")


# Of the packages for them much is left out.
EXTRAS: Final = """
import asyncio, ssl
import argon2, asyncpg, botocore.httpsession
from aiobotocore.session import get_session

async def make() -> None:
    session = get_session()
    session.set_credentials("key", "secret")
    for service in ("s3", "sts", "sso", "sso-oidc"):
        async with session.create_client(service, region_name="us-east-1"):
            pass

asyncio.run(make())
argon2.PasswordHasher().hash("password")
assert ssl.create_default_context(cafile=botocore.httpsession.get_cert_path(True)).get_ca_certs()
print("all there")
"""


def test_what_buckets_and_postgresql_need_is_in_it(image: str, podman: Podman) -> None:
    python = "--entrypoint=/usr/bin/python3.13"
    assert "all there" in podman.run("run", "--rm", *CONFINED, python, image, "-I", "-c", EXTRAS)


# The page about installing

INSTALL: Final = ROOT / "docs" / "how-to" / "install.md"
ELSEWHERE: Final = "registry.example.com"
# Both are the runtime's, and of a machine that is set up for podman.
CONTAINERS: Final = {
    "containers.conf": SETTINGS,
    "policy.json": '{"default": [{"type": "insecureAcceptAnything"}]}',
    "registries.conf": f'[[registry]]\nlocation = "{ELSEWHERE}"\ninsecure = true\n',
    "storage.conf": '[storage]\ndriver = "vfs"\nrunroot = "/run/containers"\ngraphroot = "/var/lib/containers"\n',
}


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Machine]:
    """A machine with podman, which knows a registry by a name that it has over plain HTTP."""
    with Machine.start("laptop", tmp_path / "laptop") as machine:
        machine.path("/var/tmp").mkdir()
        machine.path("/etc/containers").mkdir()
        for name, text in CONTAINERS.items():
            (machine.path("/etc/containers") / name).write_text(text, encoding="utf-8")
        with machine.path("/etc/hosts").open("a", encoding="utf-8") as hosts:
            hosts.write(f"127.0.0.1 {ELSEWHERE}\n")
        yield machine
    shutil.rmtree(tmp_path / "laptop" / "var", ignore_errors=True)  # unpacked images; pytest keeps folders


def test_the_page_about_containers_is_followed(layout: Layout, laptop: Machine, tmp_path: Path) -> None:
    """As it stands, where `make image` has made the layout."""
    clone = tmp_path / "clone"
    (clone / "dist").mkdir(parents=True)
    (clone / "dist" / "image").symlink_to(layout.folder)
    followed = [step for step in steps(INSTALL) if "image" in step[0].words]
    with (
        serving(laptop, tmp_path / "other", f"--public-url=http://{ELSEWHERE}", port=80),
        Reader(clone, "podman", "skopeo", place=laptop.command) as reader,
    ):
        try:
            for block, shown in followed:
                reader.follow(block, shown)
            pushed = f"docker://{ELSEWHERE}/trow:{trow.__version__}"
            assert laptop.run("skopeo", "inspect", "--format={{.Digest}}", pushed).strip() == layout.built.digest
        finally:
            laptop.run("podman", "rm", "--force", "--volumes", "trow")
    assert "podman run" in "".join(block.code for block, _shown in followed)
