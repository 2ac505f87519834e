"""A release of this checkout: built twice in clones of it, checked, published in a running Trow, used from there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from deploy.image.__main__ import cache
from deploy.release import build as releases
from deploy.release.build import SUMS, ReleaseError, Source

import trow
from tools.find import tool

if TYPE_CHECKING:
    from clients.box import Box
    from clients.registry import Registry

pytestmark = pytest.mark.slow

ROOT: Final = Path(__file__).parents[2]
IMAGES: Final = ("trow", "trow-node-agent")
BUILD_SECONDS: Final = 300  # half a minute on an idle machine
COMMITTER: Final = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Test"), ("EMAIL", "test@example.com"), ("DATE", "2026-01-01T00:00:00Z"))
}


class Checkout:
    """A repository with the files that stand here, committed: what is tested is what is about to be committed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        listed = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        for name in subprocess.run(listed, check=True, capture_output=True, text=True).stdout.rstrip("\0").split("\0"):
            if (ROOT / name).exists():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        for arguments in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "All of it"]):
            subprocess.run(["git", *arguments], check=True, cwd=folder, env={**os.environ, **COMMITTER})

    @property
    def release(self) -> Path:
        return self.folder / "dist" / "release"

    def run(self, *arguments: str, path: str = os.environ["PATH"]) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "deploy.release", *arguments]
        environment = {**os.environ, "UV_OFFLINE": "1", "XDG_CACHE_HOME": str(cache().parent), "PATH": path}
        return subprocess.run(
            argv, check=False, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=BUILD_SECONDS
        )

    def build(self) -> None:
        done = self.run("build", "--arch=amd64", "--builder=https://ci.example.com/builds")
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    made = Checkout(tmp_path_factory.mktemp("checkout"))
    made.build()
    return made


@pytest.fixture(scope="module")
def statement(checkout: Checkout) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((checkout.release / f"trow-{trow.__version__}.provenance.json").read_bytes())
    return found


def test_two_builds_are_the_same_bytes(checkout: Checkout, tmp_path: Path) -> None:
    again = Checkout(tmp_path)
    again.build()
    assert (again.release / SUMS).read_text() == (checkout.release / SUMS).read_text()


def test_the_sums_are_those_of_every_file(checkout: Checkout) -> None:
    files = {path.name for path in checkout.release.iterdir() if path.is_file()}
    said = subprocess.run(
        ["sha256sum", "--check", SUMS], check=True, cwd=checkout.release, capture_output=True, text=True
    ).stdout
    assert {line.partition(":")[0] for line in said.splitlines()} == files - {SUMS}
    kinds = {name.replace(trow.__version__, "V").replace(releases.chart_version(), "V") for name in files}
    assert kinds == {
        "trow-V-py3-none-any.whl", "trow-V.tar.gz", "trow-chart-V.tgz", "trow-V.provenance.json", SUMS,
        "trow-image-V.tar", "trow-image-V-amd64.cdx.json",
        "trow-node-agent-image-V.tar", "trow-node-agent-image-V-amd64.cdx.json",
    }  # fmt: skip


def test_the_provenance_names_what_was_built_and_of_which_commit(checkout: Checkout, statement: dict[str, Any]) -> None:
    subjects = {each["name"]: each["digest"]["sha256"] for each in statement["subject"]}
    for name in IMAGES:
        index = json.loads((checkout.release / "images" / name / "index.json").read_bytes())
        assert index["manifests"][0]["digest"] == f"sha256:{subjects.pop(name)}"
    for name, digest in subjects.items():
        assert hashlib.sha256((checkout.release / name).read_bytes()).hexdigest() == digest
    head = subprocess.run(["git", "rev-parse", "HEAD"], check=True, cwd=checkout.folder, capture_output=True, text=True)
    built = statement["predicate"]["buildDefinition"]
    assert built["externalParameters"]["source"]["digest"] == {"gitCommit": head.stdout.strip()}
    inputs = {each["uri"]: each["digest"].get("sha256") for each in built["resolvedDependencies"]}
    lock = checkout.folder / "deploy" / "image" / "packages.lock.json"  # the packages of Debian in both images
    assert inputs["deploy/image/packages.lock.json"] == hashlib.sha256(lock.read_bytes()).hexdigest()
    assert statement["predicate"]["runDetails"]["builder"]["id"] == "https://ci.example.com/builds"


def test_the_bill_of_the_node_agent_has_its_package(checkout: Checkout) -> None:
    bill = json.loads((checkout.release / f"trow-node-agent-image-{trow.__version__}-amd64.cdx.json").read_bytes())
    assert bill["metadata"]["component"]["name"] == "trow-node-agent"
    assert [each["name"] for each in bill["components"]] == ["busybox-static"]


def test_the_wheel_runs(checkout: Checkout, tmp_path: Path) -> None:
    wheel = next(checkout.release.glob("*.whl"))
    install = [sys.executable, "-m", "uv", "pip", "install", "--offline", "--no-deps", "--target", str(tmp_path)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    code = "import trow, trow.cli, sys; print(trow.__file__); sys.exit(trow.cli.main(['version']))"
    done = subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True, text=True)
    assert str(tmp_path) in done.stdout
    assert trow.__version__ in done.stdout


def test_the_source_archive_builds_the_same_wheel(checkout: Checkout, tmp_path: Path) -> None:
    with tarfile.open(checkout.release / f"trow-{trow.__version__}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    committed = ["git", "log", "-1", "--format=%ct"]
    time = subprocess.run(committed, check=True, cwd=checkout.folder, capture_output=True, text=True).stdout.strip()
    argv = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": time}
    source = tmp_path / f"trow-{trow.__version__}"
    subprocess.run(argv, check=True, cwd=source, env=environment, capture_output=True)
    built, released = next(source.glob("dist/*.whl")), next(checkout.release.glob("*.whl"))
    assert built.read_bytes() == released.read_bytes()


def test_it_is_published_in_trow_and_installed_from_there(
    checkout: Checkout, statement: dict[str, Any], plain: Registry, repository: str, box: Box
) -> None:
    namespace = f"{plain.host}/{repository}"
    publish(checkout, box, namespace)
    digests = {each["name"]: each["digest"]["sha256"] for each in statement["subject"]}
    platform = ("--plain-http", "--platform=linux/amd64")
    for image in IMAGES:
        assert plain.manifest(f"{repository}/{image}", trow.__version__).digest == f"sha256:{digests[image]}"
        bills = box.run("oras", "discover", *platform, "--format=json", f"{namespace}/{image}:{trow.__version__}")
        assert "application/vnd.cyclonedx+json" in bills
    chart = f"oci://{namespace}/charts/trow"
    version = f"--version={releases.chart_version()}"
    objects = box.run(
        "helm", "template", "--plain-http", version, "--set=image.repository=example.com/trow", "t", chart
    )
    assert "kind: StatefulSet" in objects


def test_what_is_published_never_changes(checkout: Checkout, plain: Registry, repository: str, box: Box) -> None:
    namespace = f"{plain.host}/{repository}"
    publish(checkout, box, namespace)
    again = checkout.run("publish", "--plain-http", namespace, path=tools(box))
    assert again.returncode == 1
    assert "is there already, and a release never changes; raise the version" in again.stderr


def test_files_that_are_not_committed_are_refused(checkout: Checkout) -> None:
    changed = checkout.folder / "new.txt"
    changed.touch()
    done = checkout.run("build")
    changed.unlink()
    assert done.returncode == 1
    assert "error: files differ from the commit; commit or stash them" in done.stderr


@pytest.mark.parametrize(
    ("version", "expected"),
    [("1.2.3", "1.2.3"), ("1.2.3rc1", "1.2.3-rc.1"), ("1.2.3b2", "1.2.3-beta.2"), ("1.2.3.dev4", "1.2.3-dev.4")],
)
def test_the_chart_has_the_version_as_helm_wants_it(
    version: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trow, "__version__", version)
    assert releases.chart_version() == expected


def test_a_version_that_the_chart_does_not_have_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(trow, "__version__", "9.9.9")
    with pytest.raises(ReleaseError, match=r"Chart.yaml: version is .*, not 9\.9\.9; set it to 9\.9\.9"):
        releases.build(tmp_path / "release", Source("0" * 40, 0), ["amd64"], cache(), lambda _text: None, builder="b:b")
    assert not (tmp_path / "release").exists()


def publish(checkout: Checkout, box: Box, namespace: str) -> None:
    done = checkout.run("publish", "--plain-http", namespace, path=tools(box))
    assert done.returncode == 0, done.stderr


def tools(box: Box) -> str:
    """A PATH on which oras and helm are."""
    return os.pathsep.join((*{str(tool(name).parent) for name in ("oras", "helm")}, box.environment()["PATH"]))
