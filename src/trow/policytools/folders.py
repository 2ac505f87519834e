"""Which files a path stands for: of a directory those that kubectl reads, or that its kustomization lists.

A kustomization that changes what it lists is refused: `kustomize build` has to run before.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from trow.policytools.documents import STDIN, UnreadableFile, read

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})
_KUSTOMIZATIONS: Final = ("kustomization.yaml", "kustomization.yml", "Kustomization")
# Members that change nothing, and name the files.
_LISTING: Final = frozenset({"apiVersion", "kind", "metadata", "resources"})


def files_of(path: str) -> Iterator[str]:
    """The files that a path stands for, in the order of their names.

    Args:
        path: a file, a directory (without its subdirectories), or `STDIN`.

    Raises:
        UnreadableFile: there are none, or a kustomization does more than list them.
    """
    folder = Path(path)
    if path == STDIN or not folder.is_dir():
        yield path
        return
    if kustomization := _kustomization(folder):
        yield from _listed(kustomization, (folder.resolve(),))
        return
    found = sorted(str(file) for file in folder.iterdir() if file.suffix in SUFFIXES and not file.is_dir())
    if not found:
        raise UnreadableFile(f"{path}: has no file that ends with {', '.join(sorted(SUFFIXES))}; give one that has")
    yield from found


def _kustomization(folder: Path) -> Path | None:
    return next((folder / name for name in _KUSTOMIZATIONS if (folder / name).is_file()), None)


def _listed(kustomization: Path, around: tuple[Path, ...]) -> Iterator[str]:
    folder = kustomization.parent
    how = f"run `kustomize build {folder}` first, and give - instead of {folder}"
    for name in _resources(kustomization, how):
        path = folder / name
        if not path.is_dir():
            if not path.exists():
                raise UnreadableFile(f"{kustomization}: {name!r} is not a file here; {how}")
            yield str(path)
            continue
        inner = _kustomization(path)
        if inner is None or path.resolve() in around:
            raise UnreadableFile(f"{kustomization}: {name!r} has no kustomization, or contains this one")
        yield from _listed(inner, (*around, path.resolve()))


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
