"""Policies of other programs as policies of Trow, with remarks on what changes and on what is left out.

Nothing allows more than before without a remark: what cannot be expressed exactly is made narrower or left out.
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
    """Policies as Kubernetes objects, and remarks on them.

    What cannot be read is left out, as long as there is something that can.

    Args:
        files: paths of files and directories, or `-` for standard input.
        source: one of `SOURCES`; without it, the form of each document tells.

    Raises:
        UnreadableFile: nothing can be read, or nothing in it is of these programs.
        UnreadableSource: no policy has the form that its program reads.
    """
    result, unreadable, found = ImportResult(), list[StartError](), 0
    for path in files:
        try:
            for file in files_of(path):
                found += _file(file, source, result, unreadable)
        except UnreadableFile as error:
            unreadable.append(error)
    if not found:
        names = ", ".join("standard input" if file == "-" else file for file in files)
        raise next(iter(unreadable), UnreadableFile(f"{names}: has no policies of {source or ', '.join(SOURCES)}"))
    for each in unreadable:
        result.left_out(*str(each).split(": ", 1))
    result.drafts += drafts_of_signed(result.signed)
    manifests = tuple(_manifests(result))
    return manifests, tuple(result.remarks)


def _file(file: str, source: str | None, result: ImportResult, unreadable: list[StartError]) -> int:
    """How many of its documents could be read."""
    found = 0
    try:
        for document in objects(read(file)):
            found += _document(document, source, result, unreadable)
    except UnreadableFile as error:
        unreadable.append(error)
    return found


def _document(document: Document, source: str | None, result: ImportResult, unreadable: list[StartError]) -> bool:
    """Whether it could be read."""
    item, location = document.value, document.location
    if not isinstance(item, dict):
        unreadable.append(UnreadableFile(f"{location}: is not a mapping"))
        return False
    module = next((_MODULES[name] for name in SOURCES if source in (None, name) and _MODULES[name].detect(item)), None)
    if module is None:
        result.left_out(str(location), f"{item.get('kind') or 'it'} is not a policy of {source or ', '.join(SOURCES)}")
        return False
    try:
        made = module.convert(item)
    except UnreadableSource as error:
        unreadable.append(UnreadableSource(f"{location}: {error}"))
        return False
    made.remarks = [replace(remark, where=f"{location}: {remark.where}") for remark in made.remarks]
    result.add(made)
    return True


def _manifests(result: ImportResult) -> Iterator[Mapping[str, object]]:
    seen: Counter[tuple[str | None, str]] = Counter()
    for draft in result.drafts:
        key = draft.scope.namespace, draft.object_name
        seen[key] += 1
        named = draft if seen[key] == 1 else replace(draft, name=f"{draft.object_name}-{seen[key]}")
        manifest = named.manifest()
        try:
            # A namespaced policy that does not name its namespace gets it when it is applied.
            policy_of(manifest, "default")
        except ManifestError as error:
            result.left_out(named.name, str(error))
        else:
            yield manifest
