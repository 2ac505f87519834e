"""The manifest files at a path: those of a directory that kubectl reads, or those that its kustomization lists.

A kustomization that changes its resources is rejected; `kustomize build` has to run first.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from trow.policytools.documents import STDIN, UnreadableFile, read

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})
_KUSTOMIZATIONS: Final = ("kustomization.yaml", "kustomization.yml", "Kustomization")
# The fields that do not change resources.
_LISTING: Final = frozenset({"apiVersion", "kind", "metadata", "resources"})


def files_of(path: str) -> Iterator[str]:
    """The files at a path, sorted by name.

    Args:
        path: a file, a directory (without its subdirectories), or `STDIN`.

    Raises:
        UnreadableFile: there are no files, or a kustomization changes its resources.
    """
    folder = Path(path)
    if path == STDIN or not folder.is_dir():
        yield path
        return
    if kustomization := _kustomization_in(folder):
        yield from _listed(kustomization, (folder.resolve(),))
        return
    found = sorted(str(file) for file in folder.iterdir() if file.suffix in SUFFIXES and not file.is_dir())
    if not found:
        raise UnreadableFile(f"{path}: has no file that ends with {', '.join(sorted(SUFFIXES))}; give one that has")
    yield from found


def _kustomization_in(folder: Path) -> Path | None:
    return next((folder / name for name in _KUSTOMIZATIONS if (folder / name).is_file()), None)


def _listed(kustomization: Path, parents: tuple[Path, ...]) -> Iterator[str]:
    folder = kustomization.parent
    how = f"run `kustomize build {folder}` first, and give - instead of {folder}"
    for name in _resources(kustomization, how):
        path = folder / name
        if not path.is_dir():
            if not path.exists():
                raise UnreadableFile(f"{kustomization}: {name!r} is not a file here; {how}")
            yield str(path)
            continue
        inner = _kustomization_in(path)
        if inner is None or path.resolve() in parents:
            raise UnreadableFile(f"{kustomization}: {name!r} has no kustomization, or contains this one")
        yield from _listed(inner, (*parents, path.resolve()))


def _resources(kustomization: Path, how: str) -> list[str]:
    documents = read(str(kustomization))
    value = documents[0].value if len(documents) == 1 else None
    if not isinstance(value, dict):
        raise UnreadableFile(f"{kustomization}: is not a kustomization")
    if others := sorted(set(value) - _LISTING):
        raise UnreadableFile(
            f"{kustomization}: {', '.join(others)}: changes the resources, which is not done here; {how}"
        )
    resources = value.get("resources")
    if not isinstance(resources, list) or not all(isinstance(each, str) for each in resources):
        raise UnreadableFile(f"{kustomization}: resources is not a list of files; {how}")
    return resources
