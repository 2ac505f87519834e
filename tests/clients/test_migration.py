"""The pages about coming from another registry: with the real distribution, and with OCI layouts as zot has them."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any, Final

import pytest
import urllib3

from clients.image import TAG, image, index, write_layout
from clients.registry import ACCEPT
from support.pages import ROOT, blocks
from support.reader import Reader
from support.waiting import until
from tools.find import tool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clients.box import Box
    from support.pages import Block

HOW_TO: Final = ROOT / "docs" / "how-to"
DISTRIBUTION: Final = HOW_TO / "migrate-from-distribution.md"
ZOT: Final = HOW_TO / "migrate-from-zot.md"
# What the page calls the older registry.
OLD: Final = "127.0.0.1:5000"
LISTENING: Final = re.compile(r"listening on (127\.0\.0\.1:\d+)")
CONFIGURATION: Final = """\
version: 0.1
storage: {{filesystem: {{rootdirectory: {data}}}}}
http: {{addr: "127.0.0.1:0"}}
"""
SBOM: Final = "application/vnd.example.sbom"
END_SECONDS: Final = 30


@pytest.fixture
def distribution(tmp_path: Path) -> Iterator[str]:
    """The host of the older registry, which is empty."""
    home = tmp_path / "distribution"
    home.mkdir()
    (home / "config.yml").write_text(CONFIGURATION.format(data=home / "data"), "utf-8")
    log = home / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [tool("registry"), "serve", home / "config.yml"],
            env={"OTEL_TRACES_EXPORTER": "none", "HOME": str(home)}, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        yield until(lambda: LISTENING.findall(log.read_text("utf-8")))[0]
    finally:
        process.terminate()
        process.wait(END_SECONDS)


@pytest.fixture
def reader(tmp_path: Path, distribution: str) -> Iterator[Reader]:
    """Beside both registries, of which the new one is empty."""
    folder = tmp_path / "reader"
    folder.mkdir()
    with Reader(folder, "crane", "regctl", replaced={OLD: distribution}) as following:
        following.serve(f"trow serve --data-dir {folder / 'data'}")
        yield following


def fill(registry: str, box: Box) -> None:
    """Images in repositories of one and of several components, an index, and something that refers to an image."""
    box.run("regctl", "registry", "set", registry, "--tls=disabled")
    for repository, made in (("web", image("web")), ("team-a/web", index("web")), ("team-a/web/api", image("api"))):
        layout = write_layout(made, box.home / repository.replace("/", "-"))
        for tag in (TAG, "latest"):
            box.run("regctl", "image", "copy", f"ocidir://{layout}:{TAG}", f"{registry}/{repository}:{tag}")
    signed = f"{registry}/team-a/web:{TAG}"
    box.run("regctl", "artifact", "put", f"--artifact-type={SBOM}", f"--subject={signed}", stdin=b"")


def content(registry: str) -> dict[str, tuple[str, bytes]]:
    """Type and bytes of what each tag points at."""
    found = {}
    for repository in answer(registry, "_catalog")["repositories"]:
        for tag in answer(registry, f"{repository}/tags/list")["tags"]:
            manifest = get(registry, f"{repository}/manifests/{tag}", ACCEPT)
            assert manifest.status == 200
            found[f"{repository}:{tag}"] = manifest.headers["Content-Type"], manifest.data
    return found


def get(registry: str, path: str, accept: str = "*/*") -> urllib3.BaseHTTPResponse:
    return urllib3.request("GET", f"http://{registry}/v2/{path}", headers={"Accept": accept})


def answer(registry: str, path: str) -> Any:
    return json.loads(get(registry, path).data)


def referrers(registry: str, repository: str) -> list[str]:
    """The types of what refers to the image TAG."""
    digest = get(registry, f"{repository}/manifests/{TAG}", ACCEPT).headers["Docker-Content-Digest"]
    return [each["artifactType"] for each in answer(registry, f"{repository}/referrers/{digest}")["manifests"]]


# How the blocks of the page begin: those that copy, each enough by itself, and the one that compares.
COPYING: Final = {
    "crane": "for repository in $(crane catalog",
    "regctl": "regctl registry set",
    "skopeo": "skopeo sync",
}
COMPARING: Final = "digests()"


def block(begins: str) -> Block:
    [found] = [each for each in blocks(DISTRIBUTION) if each.code.startswith(begins)]
    return found


@pytest.mark.parametrize("program", ["crane", "regctl"])
def test_everything_that_has_a_tag_is_copied_byte_for_byte(
    program: str, distribution: str, reader: Reader, box: Box
) -> None:
    fill(distribution, box)
    before = content(distribution)
    assert len(before) == 7
    reader.follow(block(COPYING[program]))
    after = content(reader.host)
    assert after == before
    assert referrers(reader.host, "team-a/web") == [SBOM]
    for tag in after:
        box.run("crane", "validate", "--insecure", "--remote", f"{reader.host}/{tag}")
    reader.follow(block(COMPARING))


def test_a_repository_is_copied_by_skopeo(distribution: str, reader: Reader, box: Box) -> None:
    fill(distribution, box)
    reader.follow(block(COPYING["skopeo"]))
    before, after = content(distribution), content(reader.host)
    for tag in (TAG, "latest"):
        assert after[f"team-a/web:{tag}"] == before[f"team-a/web:{tag}"]


def test_every_command_of_the_page_is_run() -> None:
    commands = [each for each in blocks(DISTRIBUTION) if each.language == "sh"]
    assert commands == [block(begins) for begins in (*COPYING.values(), COMPARING)]


def test_layouts_are_copied_as_zot_keeps_them(tmp_path: Path, reader: Reader) -> None:
    """Each repository is a folder in the root directory, below which further repositories may be."""
    kept = {"web": image("web"), "team-a/web": index("web"), "team-a/web/api": image("api")}
    for repository, made in kept.items():
        write_layout(made, tmp_path / "reader" / "zot" / repository)
    followed = [block for block in blocks(ZOT) if "layouts" in block.words]
    assert followed
    for block in followed:
        reader.follow(block)
    assert {tag: manifest for tag, (_, manifest) in content(reader.host).items()} == {
        f"{repository}:{TAG}": made.raw for repository, made in kept.items()
    }
