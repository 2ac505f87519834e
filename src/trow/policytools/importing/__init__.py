"""Imports the policies of other programs, with remarks on what changes and on what is left out.

An imported policy never allows more than its source without a remark: what cannot be expressed exactly is made
narrower, or left out.
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
from trow.policytools.importing.drafts import ImportResult, Remark, RemarkKind
from trow.policytools.importing.kyverno_signed import drafts_of_signed
from trow.policytools.importing.values import UnreadableSource

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from trow.policytools.documents import Document

__all__ = ["SOURCES", "Remark", "RemarkKind", "import_policies"]

_MODULES: Final = MappingProxyType(
    {"trow": trow, "connaisseur": connaisseur, "kyverno": kyverno, "gatekeeper": gatekeeper}
)
SOURCES: Final = tuple(_MODULES)


def import_policies(
    files: Sequence[str], source: str | None = None
) -> tuple[tuple[Mapping[str, object], ...], tuple[Remark, ...]]:
    """The imported policies as Kubernetes objects, and the remarks.

    What cannot be read is left out with a remark, unless nothing can be read.

    Args:
        files: paths of files and directories, or `-` for standard input.
        source: one of `SOURCES`; None: it is detected for each document.

    Raises:
        UnreadableFile: nothing can be read, or there is no policy of these programs.
        UnreadableSource: no policy has the format of its program.
    """
    result, unreadable, found = ImportResult(), list[StartError](), 0
    for path in files:
        for document in _documents(path, unreadable):
            try:
                found += _convert(document, source, result)
            except StartError as error:
                unreadable.append(error)
    if not found:
        names = ", ".join("standard input" if file == "-" else file for file in files)
        raise next(iter(unreadable), UnreadableFile(f"{names}: has no policies of {source or ', '.join(SOURCES)}"))
    for each in unreadable:
        result.left_out(*str(each).split(": ", 1))
    result.drafts += drafts_of_signed(result.signed)
    manifests = tuple(_manifests(result))
    return manifests, tuple(result.remarks)


def _documents(path: str, unreadable: list[StartError]) -> Iterator[Document]:
    """The documents of all files at a path that can be read."""
    try:
        for file in files_of(path):
            try:
                yield from objects(read(file))
            except UnreadableFile as error:
                unreadable.append(error)
    except UnreadableFile as error:
        unreadable.append(error)


def _convert(document: Document, source: str | None, result: ImportResult) -> bool:
    """Add the policies of a document to the result; False if it is not of these programs."""
    item, location = document.value, document.location
    if not isinstance(item, dict):
        raise UnreadableFile(f"{location}: is not a mapping")
    module = next((_MODULES[name] for name in SOURCES if source in (None, name) and _MODULES[name].detect(item)), None)
    if module is None:
        result.left_out(str(location), f"{item.get('kind') or 'it'} is not a policy of {source or ', '.join(SOURCES)}")
        return False
    try:
        converted = module.convert(item)
    except UnreadableSource as error:
        raise UnreadableSource(f"{location}: {error}") from None
    result.drafts += converted.drafts
    result.signed += converted.signed
    result.remarks += [replace(remark, where=f"{location}: {remark.where}") for remark in converted.remarks]
    return True


def _manifests(result: ImportResult) -> Iterator[Mapping[str, object]]:
    seen: Counter[tuple[str | None, str]] = Counter()
    for draft in result.drafts:
        key = draft.scope.namespace, draft.object_name
        seen[key] += 1
        named = draft if seen[key] == 1 else replace(draft, name=f"{draft.object_name}-{seen[key]}")
        manifest = named.manifest()
        try:
            # A namespaced policy without a namespace gets one when it is applied.
            policy_of(manifest, "default")
        except ManifestError as error:
            result.left_out(named.name, str(error))
        else:
            yield manifest
