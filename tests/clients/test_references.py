"""What containerd makes of the name of an image, beside what the image policy makes of it."""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from clients.image import tar
from support.references import NEWER, REFUSED, SAME, STRICTER, STRICTER_NEWER, generated
from trow.policy import images
from trow.policy.images import InvalidImage, parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clients.daemons import Containerd


LAYER: Final = tar({"file": b"content"})
ONLY_HERE: Final = r"is an identifier|has no port between|is not the host of a registry|algorithm is not supported"


class Place(NamedTuple):
    """Where an image is pulled from, in the one form that policies compare."""

    registry: str
    repository: str
    tag: str | None
    digest: str | None


def ours(text: str) -> Place | None:
    try:
        image = parse(text)
    except InvalidImage:
        return None
    return Place(image.registry, image.repository, None if image.digest else image.tag, image.digest)


def canonical(name: str) -> Place:
    """A name as containerd writes it: always with a host, and with either a tag or a digest."""
    host, _, rest = name.partition("/")
    path, _, digest = rest.partition("@")
    path, _, tag = path.partition(":")
    registry = images.registry_of(host)
    return Place(registry, images.official(registry, path), tag or None, digest or None)


class ContainerdReferences:
    """Has containerd read names: those of the images in an archive of `docker save`, which it puts into its own form.

    It is what happens to the name in a Pod too (`ParseDockerRef` of distribution/reference).
    """

    def __init__(self, containerd: Containerd) -> None:
        self._containerd = containerd

    def read(self, names: Sequence[str]) -> dict[str, str]:
        """All of these, which containerd does not refuse; several that mean the same are read one after the other."""
        found: dict[str, str] = {}
        while rest := [name for name in names if name not in found]:
            self._containerd.run("images", "import", "--no-unpack", "--all-platforms", self._archive(rest))
            fresh = self._imported(rest)
            assert fresh.keys() - found.keys(), rest
            found |= fresh
        return found

    def refuses(self, name: str) -> str:
        """Why containerd does not read this name."""
        said = self._containerd.refused("images", "import", "--no-unpack", "--all-platforms", self._archive([name]))
        assert "normalize image ref" in said or name == "", said
        return said

    def accepts(self, name: str) -> bool:
        try:
            self.read([name])
        except AssertionError as error:
            if "normalize image ref" not in str(error):
                raise
            return False
        return True

    def _archive(self, names: Sequence[str]) -> str:
        """An image for each name, which says by its author which one it is."""
        files = {"layer.tar": LAYER}
        manifest = []
        for number, name in enumerate(names):
            files[f"{number}.json"] = config(number)
            manifest.append({"Config": f"{number}.json", "RepoTags": [name], "Layers": ["layer.tar"]})
        path = self._containerd.box.home / "named.tar"
        path.write_bytes(tar(files | {"manifest.json": json.dumps(manifest).encode()}))
        return str(path)

    def _imported(self, names: Sequence[str]) -> dict[str, str]:
        listed = self._containerd.run("images", "ls", "--quiet").split()
        packed = self._containerd.box.home / "out.tar"
        self._containerd.run("images", "export", "--all-platforms", packed, *listed)
        with tarfile.open(packed) as archive:
            content = {member.name: read(archive, member) for member in archive if member.isfile()}
        self._containerd.forget()
        index = json.loads(content["index.json"])["manifests"]
        return {
            names[author(content, entry["digest"])]: entry["annotations"]["io.containerd.image.name"] for entry in index
        }


def config(number: int) -> bytes:
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(LAYER).hexdigest()}"]}
    return json.dumps({"architecture": "amd64", "os": "linux", "author": str(number), "rootfs": rootfs}).encode()


def author(content: dict[str, bytes], digest: str) -> int:
    manifest = json.loads(content[blob(digest)])
    return int(json.loads(content[blob(manifest["config"]["digest"])])["author"])


def blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None
    return file.read()


@pytest.fixture
def reader(containerd: Containerd) -> ContainerdReferences:
    if left := containerd.run("images", "ls", "--quiet").split():  # it would be read too
        containerd.run("images", "rm", *left)
    return ContainerdReferences(containerd)


def test_names_mean_the_same_here_and_in_containerd(reader: ContainerdReferences) -> None:
    assert len(SAME) > 100
    assert {name: canonical(read) for name, read in reader.read(SAME).items()} == {name: ours(name) for name in SAME}


@pytest.mark.parametrize("reason", STRICTER)
def test_what_is_refused_here_alone(reader: ContainerdReferences, reason: str) -> None:
    names = STRICTER[reason]
    assert {name: ours(name) for name in names} == dict.fromkeys(names)
    assert reader.read(names).keys() == set(names)


def test_what_is_refused_there_alone(reader: ContainerdReferences) -> None:
    for name in NEWER:
        assert ours(name)
        assert reader.refuses(name)


def test_what_is_refused_by_both(reader: ContainerdReferences) -> None:
    for name in (*REFUSED, *(name for names in STRICTER_NEWER.values() for name in names)):
        assert ours(name) is None, name
        assert reader.refuses(name), name


def test_whatever_is_read_here_is_read_there_in_the_same_way(reader: ContainerdReferences) -> None:
    newer = re.compile(r"[a-z0-9]*[A-Z][A-Za-z0-9-]*/|\[")
    names = [name for name in generated(800, seed="containerd") if not newer.match(name)]
    places = {name: place for name in names if (place := ours(name))}
    assert len(places) > 100
    assert {name: canonical(read) for name, read in reader.read(list(places)).items()} == places


def test_whatever_is_refused_here_alone_is_refused_for_a_reason(reader: ContainerdReferences) -> None:
    names = [name for name in generated(200, seed="refused") if ours(name) is None]
    alone = [name for name in names[:50] if reader.accepts(name)]
    assert alone
    for name in alone:
        with pytest.raises(InvalidImage, match=ONLY_HERE):
            parse(name)
