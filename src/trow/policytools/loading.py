"""Policies from files, for commands that need no server: the same rules, read as strictly as a cluster reads them."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeGuard

import yaml

from trow.admission.image_extractor import ImageExtractor
from trow.config import Config, ConfigError, load
from trow.policy.decide import Exemption, Rules
from trow.policy.paths import Path as FieldPath
from trow.policy.pods import Kind
from trow.policy.resources import API_VERSION, EXCEPTION, KINDS, ManifestError, exemption_of, is_ours, policy_of
from trow.policy.rules import CONFIGURED, Policy
from trow.policytools.configured import adapted, configured_policy
from trow.policytools.documents import UnreadableFile, objects, read
from trow.policytools.folders import files_of
from trow.policytools.judging import Setting
from trow.policytools.namespaces import NamespaceLabels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trow.policytools.documents import Document

# Passwords and keys are where the server runs, not where its policy is tested.
_ELSEWHERE: Final = f"({os.strerror(errno.ENOENT)})"


@dataclass(frozen=True, slots=True)
class Policies:
    """What was read.

    Attributes:
        rules: policies and exceptions; with a configuration, about images by all the names that it gives them.
        subjects: finds images in the kinds that are built in and in those that a configuration names.
        spared: namespaces that compiled policies leave alone.
        setting: what is known of the Trow that decides by them.
        labels: of the namespaces that are among the files.
    """

    rules: Rules
    subjects: ImageExtractor
    spared: tuple[str, ...] = ()
    setting: Setting = field(default_factory=Setting)
    labels: NamespaceLabels = field(default_factory=NamespaceLabels)


def rules_from(path: Path, namespace: str = "") -> Rules:
    """Policies and exceptions of a file or directory.

    Args:
        path: Trow's configuration, a file with `ClusterImagePolicy`, `ImagePolicy` and `PolicyException`, beside which
            other objects are passed over, a directory of such files, or standard input.
        namespace: that of an `ImagePolicy` which does not say where it is.

    Raises:
        UnreadableFile: something in it is not understood, or there is no policy.
    """
    return policies_from([path], namespace).rules


def policies_from(paths: Sequence[Path], namespace: str = "") -> Policies:
    """Like `rules_from`, of several files and directories, with what a configuration says beside. Raises like it."""
    read_all = [_read(file, namespace, alone=file == path) for path in paths for file in map(Path, files_of(str(path)))]
    names = ", ".join(map(str, paths))
    configs = [each.config for each in read_all if each.config is not None]
    if len(configs) > 1:
        raise UnreadableFile(f"{names}: {len(configs)} configurations; a Trow has one")
    config = configs[0] if configs else Config()
    adapt = adapted(config)
    policies = [policy if each.config else adapt(policy) for each in read_all for policy in each.policies]
    exemptions = [exemption for each in read_all for exemption in each.exemptions]
    if not policies:
        raise UnreadableFile(f"{names}: no policy is there; write {' or '.join(KINDS[:2])}, or {CONFIGURED}.default")
    _refuse_twins(names, [(policy.title, policy.namespace) for policy in policies])
    _refuse_twins(names, [(f"{EXCEPTION}/{exemption.name}", "") for exemption in exemptions])
    kinds = {Kind(k.group, k.kind): [*map(FieldPath.parse, k.paths)] for k in config.admission.extra_kinds}
    labels = NamespaceLabels()
    for each in read_all:
        for item in each.others:
            labels.learn(item)
    rules = Rules(tuple(policies), tuple(exemptions), labels)
    setting = Setting.of(config) if configs else Setting()
    return Policies(rules, ImageExtractor(kinds), config.admission.spared_namespaces, setting, labels)


@dataclass(frozen=True, slots=True)
class _Read:
    policies: tuple[Policy, ...] = ()
    exemptions: tuple[Exemption, ...] = ()
    config: Config | None = None
    others: tuple[object, ...] = ()


def _refuse_twins(names: str, titles: Sequence[tuple[str, str]]) -> None:
    for title, namespace in titles:
        if titles.count((title, namespace)) > 1:
            where = f" in the namespace {namespace}" if namespace else ""
            raise UnreadableFile(f"{names}: {title}{where} is there twice; a cluster would keep the last one only")


def _read(file: Path, namespace: str, *, alone: bool) -> _Read:
    """What is in a file; one of a directory may have nothing in it, as for kubectl."""
    documents = read(str(file))
    if not documents and alone:
        raise UnreadableFile(f"{file}: is empty")
    if len(documents) == 1 and _is_configuration(documents[0].value):
        return _from_configuration(file, documents[0].value)
    items = [*objects(documents)]
    found = [_from_manifest(document, namespace) for document in items]
    return _Read(
        tuple(each for each in found if isinstance(each, Policy)),
        tuple(each for each in found if isinstance(each, Exemption)),
        others=tuple(item.value for item, each in zip(items, found, strict=True) if each is None),
    )


def _is_configuration(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict) and not {"apiVersion", "kind"} & set(value)


def _from_configuration(file: Path, document: Mapping[str, object]) -> _Read:
    if not set(Config.__struct_fields__) & set(document):
        raise UnreadableFile(
            f"{file}: is neither a configuration of Trow nor an object of Kubernetes, which has apiVersion and kind"
        )
    config = _config(file, document)
    policy = configured_policy(config)
    return _Read((policy,) if policy else (), config=config)


def _config(file: Path, document: Mapping[str, object]) -> Config:
    try:
        return load(file, {}, {})
    except ConfigError as error:
        wrong = [problem for problem in error.problems if not problem.wrong.endswith(_ELSEWHERE)]
        if wrong:
            raise UnreadableFile("\n".join(map(str, wrong))) from None
    sections = {name: document[name] for name in (CONFIGURED, "admission") if name in document}
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".yaml") as copy:
        yaml.safe_dump(sections, copy)
        copy.flush()
        return load(Path(copy.name), {}, {})


def _from_manifest(document: Document, namespace: str) -> Policy | Exemption | None:
    """The policy or exception; None of what is something else."""
    item = document.value
    if not isinstance(item, dict):
        raise UnreadableFile(f"{document.place}: is no object; write {', '.join(KINDS)} of {API_VERSION}")
    if not is_ours(item):
        kind = item.get("kind")
        if kind and kind not in KINDS:
            return None
        what = f"{item.get('apiVersion', '')} {kind or 'what has no kind'}".strip()
        raise UnreadableFile(f"{document.place}: {what} is no policy; write {', '.join(KINDS)} of {API_VERSION}")
    try:
        if item.get("kind") == EXCEPTION:
            # One that no cluster has yet begins when it is applied: now.
            return exemption_of(item, time.time())
        return policy_of(item, namespace)
    except ManifestError as error:
        raise UnreadableFile(f"{document.place}: {error}") from None
