"""Policies from files, for commands that need no server: the same rules, read as strictly as a cluster reads them."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeGuard

import msgspec

from trow.admission.paths import Path as FieldPath
from trow.admission.subjects import Subjects
from trow.app.documents import UnreadableFile, objects, read
from trow.config import ConfigError, load
from trow.config.schema import ExtraKind, ImageValidation
from trow.policy import configured
from trow.policy.decide import Exemption, Rules
from trow.policy.manifests import API_VERSION, EXCEPTION, KINDS, ManifestError, exemption_of, is_ours, policy_of
from trow.policy.pods import Kind
from trow.policy.rules import Effect, Mode, Policy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from trow.app.documents import Document

SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})
# Passwords and keys are where the server runs, not where its policy is tested.
_ELSEWHERE: Final = f"({os.strerror(errno.ENOENT)})"


@dataclass(frozen=True, slots=True)
class Policies:
    """What was read.

    Attributes:
        rules: policies and exceptions.
        subjects: finds images in the kinds that are built in and in those that the configuration names.
    """

    rules: Rules
    subjects: Subjects


def rules_from(path: Path, namespace: str = "") -> Rules:
    """Policies and exceptions of a file or directory.

    Args:
        path: Trow's configuration, a file of `ClusterImagePolicy`, `ImagePolicy` and `PolicyException`, or a directory
            of such files, which is not searched deeper.
        namespace: that of an `ImagePolicy` which does not say where it is.

    Raises:
        UnreadableFile: something in it is not understood, or there is no policy.
    """
    return policies_from([path], namespace).rules


def policies_from(paths: Sequence[Path], namespace: str = "") -> Policies:
    """Like `rules_from`, of several, with the kinds that a configuration adds. Raises like it."""
    read_all = [_read(file, namespace) for path in paths for file in _files(path)]
    policies = [policy for each in read_all for policy in each.policies]
    exemptions = [exemption for each in read_all for exemption in each.exemptions]
    names = ", ".join(map(str, paths))
    if not policies:
        raise UnreadableFile(f"{names}: has no policy; write {' or '.join(KINDS[:2])}, or image_validation.default")
    _refuse_twins(names, [(policy.title, policy.namespace) for policy in policies])
    _refuse_twins(names, [(f"{EXCEPTION}/{exemption.name}", "") for exemption in exemptions])
    kinds = {kind: where for each in read_all for kind, where in each.kinds.items()}
    return Policies(Rules(tuple(policies), tuple(exemptions)), Subjects(kinds))


@dataclass(frozen=True, slots=True)
class _Read:
    policies: tuple[Policy, ...] = ()
    exemptions: tuple[Exemption, ...] = ()
    kinds: Mapping[Kind, Sequence[FieldPath]] = field(default_factory=dict)


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    found = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and not file.name.startswith("."))
    if not found:
        raise UnreadableFile(f"{path}: has no file that ends with {', '.join(sorted(SUFFIXES))}")
    yield from found


def _refuse_twins(names: str, titles: Sequence[tuple[str, str]]) -> None:
    for title, namespace in titles:
        if titles.count((title, namespace)) > 1:
            where = f" in the namespace {namespace}" if namespace else ""
            raise UnreadableFile(f"{names}: {title}{where} is there twice; a cluster would keep the last one only")


def _read(file: Path, namespace: str) -> _Read:
    documents = read(str(file))
    if not documents:
        raise UnreadableFile(f"{file}: is empty")
    if len(documents) == 1 and _is_configuration(documents[0].value):
        return _from_configuration(file, documents[0].value)
    found = [_from_manifest(document, namespace) for document in objects(documents)]
    return _Read(
        tuple(each for each in found if isinstance(each, Policy)),
        tuple(each for each in found if isinstance(each, Exemption)),
    )


def _is_configuration(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict) and not {"apiVersion", "kind"} & set(value)


def _from_configuration(file: Path, document: Mapping[str, object]) -> _Read:
    try:
        load(file, {}, {})
    except ConfigError as error:
        wrong = [problem for problem in error.problems if not problem.wrong.endswith(_ELSEWHERE)]
        if wrong:
            raise UnreadableFile("\n".join(map(str, wrong))) from None
    validation = msgspec.convert(document.get("image_validation") or {}, ImageValidation)
    admission = document.get("admission")
    extra = msgspec.convert(admission.get("extra_kinds") or [] if isinstance(admission, dict) else [], list[ExtraKind])
    return _Read(
        _configured(validation), kinds={Kind(k.group, k.kind): [*map(FieldPath.parse, k.paths)] for k in extra}
    )


def _configured(validation: ImageValidation) -> tuple[Policy, ...]:
    if validation.default is None:
        return ()
    effect, mode = Effect(validation.default), Mode(validation.mode)
    return (configured.policy_of(effect, validation.allow, validation.deny, mode),)


def _from_manifest(document: Document, namespace: str) -> Policy | Exemption:
    item = document.value
    if not isinstance(item, dict):
        raise UnreadableFile(f"{document.place}: is no object; write {', '.join(KINDS)} of {API_VERSION}")
    if not is_ours(item):
        what = f"{item.get('apiVersion')} {item.get('kind')}"
        raise UnreadableFile(f"{document.place}: {what} is no policy; keep {', '.join(KINDS)} in files of their own")
    try:
        if item.get("kind") == EXCEPTION:
            # One that no cluster has yet begins when it is applied: now.
            return exemption_of(item, time.time())
        return policy_of(item, namespace)
    except ManifestError as error:
        raise UnreadableFile(f"{document.place}: {error}") from None
