"""Policies of other programs, brought over: what means the same, what means something else, what is left out.

Nothing gets wider without a word: what cannot be said exactly is made narrower or left out, and a remark says so.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from trow.lib.errors import StartError
from trow.policy.resources import ManifestError, policy_of
from trow.policytools.documents import UnreadableFile, objects, read
from trow.policytools.folders import files_of
from trow.policytools.importing import connaisseur, gatekeeper, kyverno, trow
from trow.policytools.importing.drafts import ImportResult, Kind, PolicyDraft, Remark
from trow.policytools.importing.kyverno_signed import drafts_of
from trow.policytools.importing.values import UnreadableSource

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from trow.policytools.documents import Document

__all__ = ["SOURCES", "Kind", "Remark", "imported"]

_MODULES: Final = MappingProxyType(
    {"trow": trow, "connaisseur": connaisseur, "kyverno": kyverno, "gatekeeper": gatekeeper}
)
SOURCES: Final = tuple(_MODULES)


def imported(
    files: Sequence[str], source: str | None = None
) -> tuple[tuple[Mapping[str, object], ...], tuple[Remark, ...]]:
    """Policies as objects of Kubernetes, and what is to be said about them.

    What cannot be read is left out, as long as there is something that can.

    Args:
        files: paths of files and directories, or `-` for standard input.
        source: one of `SOURCES`; without it, each document says by its form what it is.

    Raises:
        UnreadableFile: nothing can be read, or there is nothing of these programs in it.
        UnreadableSource: nothing has the form that its program reads.
    """
    into, odd, found = ImportResult(), list[StartError](), 0
    for path in files:
        try:
            for file in files_of(path):
                found += _file(file, source, into, odd)
        except UnreadableFile as error:
            odd.append(error)
    if not found:
        names = ", ".join("standard input" if file == "-" else file for file in files)
        raise next(iter(odd), UnreadableFile(f"{names}: has no policy of {source or ', '.join(SOURCES)}"))
    for each in odd:
        into.left_out(*str(each).split(": ", 1))
    into.drafts += drafts_of(into.signed)
    manifests = tuple(_manifests(_named_apart(into.drafts), into))
    return manifests, tuple(into.remarks)


def _file(file: str, source: str | None, into: ImportResult, odd: list[StartError]) -> int:
    """In how many of its documents there was something that could be read."""
    found = 0
    try:
        for document in objects(read(file)):
            found += _document(document, source, into, odd)
    except UnreadableFile as error:
        odd.append(error)
    return found


def _document(document: Document, source: str | None, into: ImportResult, odd: list[StartError]) -> bool:
    """Whether there was something in it that could be read."""
    item, place = document.value, document.place
    if not isinstance(item, dict):
        odd.append(UnreadableFile(f"{place}: is no mapping"))
        return False
    module = next(
        (_MODULES[name] for name in SOURCES if source in (None, name) and _MODULES[name].recognised(item)), None
    )
    if module is None:
        into.left_out(str(place), f"{item.get('kind') or 'it'} is no policy of {source or ', '.join(SOURCES)}")
        return False
    try:
        made = module.imported(item)
    except UnreadableSource as error:
        odd.append(UnreadableSource(f"{place}: {error}"))
        return False
    made.remarks = [replace(remark, where=f"{place}: {remark.where}") for remark in made.remarks]
    into.add(made)
    return True


def _named_apart(drafts: Sequence[PolicyDraft]) -> Iterator[PolicyDraft]:
    seen: Counter[tuple[str | None, str]] = Counter()
    for draft in drafts:
        seen[draft.namespace, draft.object_name] += 1
        number = seen[draft.namespace, draft.object_name]
        yield draft if number == 1 else replace(draft, name=f"{draft.object_name}-{number}")


def _manifests(drafts: Iterator[PolicyDraft], into: ImportResult) -> Iterator[Mapping[str, object]]:
    for draft in drafts:
        manifest = draft.manifest()
        try:
            # Where a namespaced policy does not say where it is, whoever applies it does.
            policy_of(manifest, "default")
        except ManifestError as error:
            into.left_out(draft.name, str(error))
        else:
            yield manifest
