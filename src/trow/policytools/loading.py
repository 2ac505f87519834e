"""Policies from files, for commands without a server; they are read as strictly as from a cluster."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

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

# The settings that decide which images may run. Other settings name files that exist only where the server runs.
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
    """The content of policy files.

    Attributes:
        rules: policies and exceptions; with a configuration, their patterns cover pull-through names too.
        extractor: finds images in built-in, well-known and configured kinds.
        excluded: namespaces to which compiled policies do not apply.
        settings: of the cluster's Trow.
        labels: of the namespaces whose objects are among the files.
    """

    rules: Rules
    extractor: ImageExtractor
    excluded: tuple[str, ...] = ()
    settings: ClusterSettings = field(default_factory=ClusterSettings)
    labels: NamespaceLabels = field(default_factory=NamespaceLabels)


def policies_from(paths: Sequence[Path], namespace: str = "") -> Policies:
    """Read policies and exceptions from files and directories.

    Args:
        paths: Trow's configuration; files with `ClusterImagePolicy`, `ImagePolicy`, `PolicyException` and `Namespace`,
            whose other objects are ignored; directories of such files; or standard input.
        namespace: of an `ImagePolicy` without a namespace.

    Raises:
        UnreadableFile: a file is not valid, or there is no policy.
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
    titles = [(policy.title, policy.namespace) for policy in policies]
    titles += [(f"{EXCEPTION}/{exception.name}", "") for exception in exceptions]
    for title, where in titles:
        if titles.count((title, where)) > 1:
            place = f" in the namespace {where}" if where else ""
            raise UnreadableFile(f"{names}: {title}{place} is there twice; a cluster would keep only the last one")
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


def _read(file: Path, namespace: str, *, alone: bool) -> _Read:
    """The content of a file; a file of a directory may be empty, as for kubectl."""
    documents = read(str(file))
    if not documents and alone:
        raise UnreadableFile(f"{file}: is empty")
    value = documents[0].value if len(documents) == 1 else None
    if isinstance(value, dict) and not {"apiVersion", "kind"} & set(value):
        return _from_configuration(file, value)
    items = [*objects(documents)]
    found = [_from_manifest(document, namespace) for document in items]
    return _Read(
        tuple(each for each in found if isinstance(each, Policy)),
        tuple(each for each in found if isinstance(each, PolicyException)),
        others=tuple(item.value for item, each in zip(items, found, strict=True) if each is None),
    )


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
    """The policy or exception; None if the object has another kind."""
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
            # An exception that is in no cluster yet begins when it is applied: now.
            return exception_of(item, time.time())
        return policy_of(item, namespace)
    except ManifestError as error:
        raise UnreadableFile(f"{document.location}: {error}") from None
