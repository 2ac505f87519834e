"""Policies from files, for commands that need no server: the same rules, read as strictly as a cluster reads them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeGuard

from trow.admission.image_extractor import ImageExtractor
from trow.config import Config, ConfigError, load
from trow.policy.resources import API_VERSION, EXCEPTION, KINDS, ManifestError, exception_of, is_ours, policy_of
from trow.policy.rules import CONFIGURED, Policy
from trow.policy.verdict import PolicyException, Rules
from trow.policytools.configured import adapted, configured_policy
from trow.policytools.documents import UnreadableFile, objects, read
from trow.policytools.folders import files_of
from trow.policytools.judging import ClusterSettings
from trow.policytools.namespaces import NamespaceLabels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trow.policytools.documents import Document

# The settings that say which image may run. Files that others name are where the server runs, not where its policy is
# tested.
_ABOUT_IMAGES: Final = frozenset(
    {
        CONFIGURED,
        "admission.extra_kinds",
        "admission.pull_through",
        "admission.registries",
        "admission.excluded_namespaces",
    }
)


@dataclass(frozen=True, slots=True)
class Policies:
    """What was read.

    Attributes:
        rules: policies and exceptions; with a configuration, about images by all the names that it gives them.
        extractor: finds images in the kinds that are built in and in those that a configuration names.
        excluded: namespaces that compiled policies leave alone.
        settings: what is known of the Trow that decides by them.
        labels: of the namespaces that are among the files.
    """

    rules: Rules
    extractor: ImageExtractor
    excluded: tuple[str, ...] = ()
    settings: ClusterSettings = field(default_factory=ClusterSettings)
    labels: NamespaceLabels = field(default_factory=NamespaceLabels)


def policies_from(paths: Sequence[Path], namespace: str = "") -> Policies:
    """Policies and exceptions of files and directories, with what a configuration says beside.

    Args:
        paths: Trow's configuration, files with `ClusterImagePolicy`, `ImagePolicy` and `PolicyException`, whose
            other objects are passed over, directories of such files, or standard input.
        namespace: that of an `ImagePolicy` which does not say where it is.

    Raises:
        UnreadableFile: something in them is not understood, or there is no policy.
    """
    read_all = [_read(file, namespace, alone=file == path) for path in paths for file in map(Path, files_of(str(path)))]
    names = ", ".join(map(str, paths))
    configs = [each.config for each in read_all if each.config is not None]
    if len(configs) > 1:
        raise UnreadableFile(f"{names}: {len(configs)} configurations; Trow has one, so give one")
    config = configs[0] if configs else Config()
    adapt = adapted(config)
    policies = [policy if each.config else adapt(policy) for each in read_all for policy in each.policies]
    exceptions = [exception for each in read_all for exception in each.exceptions]
    if not policies:
        raise UnreadableFile(f"{names}: there is no policy; write {' or '.join(KINDS[:2])}, or {CONFIGURED}.default")
    _refuse_twins(names, [(policy.title, policy.namespace) for policy in policies])
    _refuse_twins(names, [(f"{EXCEPTION}/{exception.name}", "") for exception in exceptions])
    labels = NamespaceLabels()
    for each in read_all:
        for item in each.others:
            labels.learn(item)
    rules = Rules(tuple(policies), tuple(exceptions), labels)
    settings = ClusterSettings.of(config) if configs else ClusterSettings()
    return Policies(
        rules, ImageExtractor(config.admission.kind_paths), config.admission.excluded_namespaces, settings, labels
    )


@dataclass(frozen=True, slots=True)
class _Read:
    policies: tuple[Policy, ...] = ()
    exceptions: tuple[PolicyException, ...] = ()
    config: Config | None = None
    others: tuple[object, ...] = ()


def _refuse_twins(names: str, titles: Sequence[tuple[str, str]]) -> None:
    for title, namespace in titles:
        if titles.count((title, namespace)) > 1:
            where = f" in the namespace {namespace}" if namespace else ""
            raise UnreadableFile(f"{names}: {title}{where} is there twice; a cluster would keep only the last one")


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
        tuple(each for each in found if isinstance(each, PolicyException)),
        others=tuple(item.value for item, each in zip(items, found, strict=True) if each is None),
    )


def _is_configuration(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict) and not {"apiVersion", "kind"} & set(value)


def _from_configuration(file: Path, document: Mapping[str, object]) -> _Read:
    if not set(Config.__struct_fields__) & set(document):
        raise UnreadableFile(
            f"{file}: is neither a configuration of Trow nor an object of Kubernetes with apiVersion and kind"
        )
    try:
        config = load(file, {}, {}, only=_ABOUT_IMAGES)
    except ConfigError as error:
        raise UnreadableFile(str(error)) from None
    policy = configured_policy(config)
    return _Read((policy,) if policy else (), config=config)


def _from_manifest(document: Document, namespace: str) -> Policy | PolicyException | None:
    """The policy or exception; None of what is something else."""
    item = document.value
    if not isinstance(item, dict):
        raise UnreadableFile(f"{document.location}: is not an object; write {', '.join(KINDS)} of {API_VERSION}")
    if not is_ours(item):
        kind = item.get("kind")
        if kind and kind not in KINDS:
            return None
        what = f"{item.get('apiVersion', '')} {kind or 'an object without kind'}".strip()
        raise UnreadableFile(f"{document.location}: {what} is not a policy; write {', '.join(KINDS)} of {API_VERSION}")
    try:
        if item.get("kind") == EXCEPTION:
            # One that no cluster has yet begins when it is applied: now.
            return exception_of(item, time.time())
        return policy_of(item, namespace)
    except ManifestError as error:
        raise UnreadableFile(f"{document.location}: {error}") from None
