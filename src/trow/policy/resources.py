"""Policies and exceptions as Kubernetes objects (`policy.trow.io/v1alpha1`), read strictly.

The API server validates the same by the schema of the CustomResourceDefinitions. It is validated here again, because
files come from people as well, and because an unknown field must never be ignored: it may be a condition
(CVE-2025-29778).
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from datetime import datetime  # noqa: TC003 - msgspec reads the annotations
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Struct

from trow.lib.globs import NAMESPACE, matches
from trow.lib.mistakes import reword
from trow.policy.patterns import ANY, ImagePattern
from trow.policy.pods import UsedBy
from trow.policy.requirements import REQUIREMENTS
from trow.policy.rules import (
    CLUSTER,
    CONFIGURED,
    NAMESPACED,
    Effect,
    ImageRule,
    Mode,
    Mutations,
    Namespaces,
    Policy,
    StandingException,
)
from trow.policy.selectors import LabelRequirement, Operator, Selector
from trow.policy.verdict import LONGEST_EXCEPTION, PolicyException

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


GROUP: Final = "policy.trow.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
EXCEPTION: Final = "PolicyException"
KINDS: Final = (CLUSTER, NAMESPACED, EXCEPTION)

RULES_AT_MOST: Final = 1000
IMAGES_AT_MOST: Final = 40
ENTRIES_AT_MOST: Final = 50
EXCEPTIONS_AT_MOST: Final = 20
EXEMPT_AT_MOST: Final = 20
LABELS_AT_MOST: Final = 20
VALUES_AT_MOST: Final = 100
_RULE_NAME: Final = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?\Z"
_NAMESPACE: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z"
_TITLE: Final = rf"^((Cluster)?ImagePolicy/[a-z0-9]([-a-z0-9.]*[a-z0-9])?|{CONFIGURED})\Z"
_NAMESPACE_GLOB: Final = r"^[a-z0-9*]([-a-z0-9*]*[a-z0-9*])?\Z"
_LABEL_KEY: Final = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
    r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z"
)
_LABEL_VALUE: Final = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?\Z"
_DURATION: Final = re.compile(r"(?:([0-9]{1,4})h)?(?:([0-9]{1,5})m)?(?:([0-9]{1,6})s)?")
_REQUIRED: Final = {each.field(): each.values for each in REQUIREMENTS if each.values}

# The values of an enum, which the messages of msgspec leave out.
_CHOICES: Final = {
    "default": "Allow or Deny",
    "action": "Allow or Deny",
    "mode": "enforce, warn or audit",
    "controllers": "enforce, warn or ignore",
    "usedBy": "containers, initContainers, ephemeralContainers or volumes",
    "operator": "In, NotIn, Exists or DoesNotExist",
    **_REQUIRED,
}

# The form of a field in words; msgspec would show the regular expression.
_FORMS: Final = {
    "name": "lower-case letters, digits, - and ., with a letter or digit at both ends, such as our-registry",
    "include": "the name of a namespace in lower case, in which * stands for anything, such as team-*",
    "exclude": "the name of a namespace in lower case, in which * stands for anything, such as team-*",
    "namespaces": "the name of a namespace in lower case, such as team-a",
    "policies": f"ClusterImagePolicy/NAME, ImagePolicy/NAME or {CONFIGURED}",
    "matchLabels": "a label as Kubernetes has it, such as tier: prod or example.com/tier: prod",
    "key": "a label as Kubernetes has it, such as tier or example.com/tier",
    "values": "what a label can be: letters and digits, with -, _ and . in between",
    **_REQUIRED,
}

LabelKey = Annotated[str, Meta(pattern=_LABEL_KEY, max_length=317)]
LabelValue = Annotated[str, Meta(pattern=_LABEL_VALUE, max_length=63)]
NamespaceGlob = Annotated[str, Meta(pattern=_NAMESPACE_GLOB, max_length=63)]
NamespaceName = Annotated[str, Meta(pattern=_NAMESPACE, max_length=63)]
Reason = Annotated[str, Meta(min_length=10, max_length=1000)]
PolicyTitle = Annotated[str, Meta(pattern=_TITLE, max_length=82)]
_UsedBy: TypeAlias = Literal["initContainers", "containers", "ephemeralContainers", "volumes"]
# Of an optional field: an empty value would be a condition that is always true.
NonEmpty = Annotated[str, Meta(min_length=1)]
Value = TypeVar("Value", str, float)


class ManifestError(ValueError):
    """An object is not a valid policy or exception; the message names the object and the field."""


class _Images(Struct, frozen=True, forbid_unknown_fields=True):
    registry: Annotated[str, Meta(min_length=1, max_length=261)]
    repository: NonEmpty = "**"
    tag: NonEmpty = ANY
    semver: NonEmpty = ""
    digest: NonEmpty = ""

    def pattern(self) -> ImagePattern:
        return ImagePattern.parse(self.registry, self.repository, self.tag, self.digest, self.semver)


def _patterns(images: Sequence[_Images], where: str) -> tuple[ImagePattern, ...]:
    try:
        return tuple(each.pattern() for each in images)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _without_namespace(patterns: Sequence[ImagePattern], where: str, why: str) -> tuple[ImagePattern, ...]:
    """The patterns, none of which may depend on the namespace."""
    if wrong := next((each for each in patterns if each.in_namespaces), None):
        raise ValueError(f"{where}: {wrong.repository!r}: {NAMESPACE} {why}")
    return tuple(patterns)


_NOT_IN_DENY: Final = (
    "is for rules that allow: where the namespace is not known, as when a node pulls, such a rule would have to deny"
    " either no image or the images of all namespaces; write default: Deny and a rule that allows"
)
_NOT_IN_EXCEPTION: Final = "is for rules that allow; an exception has its namespaces: write one of them"


class _Rule(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    name: Annotated[str, Meta(pattern=_RULE_NAME, max_length=63)]
    action: Literal["Allow", "Deny"]
    images: Annotated[tuple[_Images, ...], Meta(min_length=1, max_length=IMAGES_AT_MOST)]
    used_by: Annotated[tuple[_UsedBy, ...], Meta(min_length=1)] = ()

    def rule(self) -> ImageRule:
        where, effect = f"spec.rules, images of {self.name!r}", Effect(self.action)
        patterns = _patterns(self.images, where)
        if effect is Effect.DENY:
            _without_namespace(patterns, where, _NOT_IN_DENY)
        return ImageRule(self.name, effect, patterns, tuple(map(UsedBy, self.used_by)))


class _Exception(Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(pattern=_RULE_NAME, max_length=63)]
    reason: Reason
    images: Annotated[tuple[_Images, ...], Meta(min_length=1, max_length=EXEMPT_AT_MOST)]

    def standing(self, namespaces: tuple[str, ...] = (ANY,)) -> StandingException:
        where = f"spec.exceptions, images of {self.name!r}"
        patterns = _without_namespace(_patterns(self.images, where), where, _NOT_IN_EXCEPTION)
        return StandingException(self.name, self.reason, patterns, namespaces)


class _ClusterException(_Exception, frozen=True, forbid_unknown_fields=True):
    namespaces: Annotated[tuple[NamespaceGlob, ...], Meta(min_length=1, max_length=ENTRIES_AT_MOST)] = (ANY,)

    def standing(self, namespaces: tuple[str, ...] = ()) -> StandingException:
        return super().standing(namespaces or self.namespaces)


if TYPE_CHECKING:
    _Require: TypeAlias = Struct
else:
    _Require = msgspec.defstruct(
        "_Require",
        [(each.field(), each.type_, each.absent) for each in REQUIREMENTS],
        frozen=True,
        forbid_unknown_fields=True,
    )


class _Mutate(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    pin_digests: bool = False
    pull_through: bool = False


class _Namespaces(Struct, frozen=True, forbid_unknown_fields=True):
    include: Annotated[tuple[NamespaceGlob, ...], Meta(min_length=1)] = (ANY,)
    exclude: tuple[NamespaceGlob, ...] = ()


class _Expression(Struct, frozen=True, forbid_unknown_fields=True):
    key: LabelKey
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: Annotated[tuple[LabelValue, ...], Meta(max_length=VALUES_AT_MOST)] = ()

    def requirement(self) -> LabelRequirement:
        operator = Operator(self.operator)
        if bool(self.values) is not (operator in (Operator.IN, Operator.NOT_IN)):
            raise ValueError(
                f"spec.namespaceSelector.matchExpressions: {self.key} {self.operator}: write values with In and NotIn,"
                " and none with Exists and DoesNotExist"
            )
        return LabelRequirement(self.key, operator, self.values)


class _Selector(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    match_labels: Annotated[dict[LabelKey, LabelValue], Meta(max_length=LABELS_AT_MOST)] = {}
    match_expressions: Annotated[tuple[_Expression, ...], Meta(max_length=LABELS_AT_MOST)] = ()

    def selector(self) -> Selector:
        labels = (LabelRequirement(key, Operator.IN, (value,)) for key, value in self.match_labels.items())
        return Selector((*labels, *(each.requirement() for each in self.match_expressions)))


class _ImagePolicy(Struct, frozen=True, forbid_unknown_fields=True):
    default: Literal["Allow", "Deny"]
    mode: Literal["enforce", "warn", "audit"] = "enforce"
    controllers: Literal["enforce", "warn", "ignore"] = "warn"
    rules: Annotated[tuple[_Rule, ...], Meta(max_length=RULES_AT_MOST)] = ()
    require: _Require = _Require()
    mutate: _Mutate = _Mutate()
    exceptions: Annotated[tuple[_Exception, ...], Meta(max_length=EXCEPTIONS_AT_MOST)] = ()

    def policy(self, kind: str, name: str, namespace: str, namespaces: Namespaces) -> Policy:
        _check_names("spec.rules: two rules", self.rules)
        _check_names("spec.exceptions: two exceptions", self.exceptions)
        required = (each.read(getattr(self.require, each.field())) for each in REQUIREMENTS)
        return Policy(
            kind,
            name,
            Effect(self.default),
            tuple(rule.rule() for rule in self.rules),
            namespace,
            Mode(self.mode),
            Mode(self.controllers),
            namespaces,
            tuple(each for each in required if each is not None),
            Mutations(self.mutate.pin_digests, self.mutate.pull_through),
            exceptions=tuple(each.standing() for each in self.exceptions),
        )


def _check_names(what: str, items: Sequence[_Rule | _Exception]) -> None:
    counted = Counter(each.name for each in items)
    if repeated := next((each for each, count in counted.items() if count > 1), None):
        raise ValueError(f"{what} have the name {repeated!r}; give each its own")


class _ClusterImagePolicy(_ImagePolicy, frozen=True, forbid_unknown_fields=True, rename="camel"):
    exceptions: Annotated[tuple[_ClusterException, ...], Meta(max_length=EXCEPTIONS_AT_MOST)] = ()
    namespaces: _Namespaces = _Namespaces()
    namespace_selector: _Selector = _Selector()

    def selected(self) -> Namespaces:
        return Namespaces(self.namespaces.include, self.namespaces.exclude, self.namespace_selector.selector())


class _PolicyException(Struct, frozen=True, forbid_unknown_fields=True):
    reason: Reason
    requester: Annotated[str, Meta(min_length=1)]
    duration: str
    namespaces: Annotated[tuple[NamespaceName, ...], Meta(min_length=1, max_length=ENTRIES_AT_MOST)]
    policies: Annotated[tuple[PolicyTitle, ...], Meta(min_length=1, max_length=ENTRIES_AT_MOST)]
    images: Annotated[tuple[_Images, ...], Meta(min_length=1, max_length=ENTRIES_AT_MOST)]
    approver: str = ""


class _Metadata(Struct, frozen=True, rename="camel"):
    name: Annotated[str, Meta(min_length=1, max_length=253)]
    namespace: str = ""
    creation_timestamp: Annotated[datetime, Meta(tz=True)] | None = None


class _Manifest(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    api_version: str
    kind: str
    metadata: _Metadata
    spec: dict[str, object]
    status: object = None


def policy_of(item: Mapping[str, object], namespace: str = "") -> Policy:
    """Read a `ClusterImagePolicy` or an `ImagePolicy`.

    Args:
        item: the object as the API server or a file has it.
        namespace: of an `ImagePolicy` without a namespace.

    Raises:
        ManifestError: it is something else, or not valid.
    """
    manifest = _manifest(item, (CLUSTER, NAMESPACED))
    kind, name = manifest.kind, manifest.metadata.name
    try:
        if kind == CLUSTER:
            cluster = msgspec.convert(manifest.spec, _ClusterImagePolicy)
            return cluster.policy(kind, name, "", cluster.selected())
        where = _required(
            manifest.metadata.namespace or namespace, "metadata.namespace is missing; write where it is in force"
        )
        return msgspec.convert(manifest.spec, _ImagePolicy).policy(kind, name, where, Namespaces())
    except ValueError as error:
        raise ManifestError(f"{kind}/{name}: {_message(error, 'spec')}") from None


def exception_of(item: Mapping[str, object], begins: float | None = None) -> PolicyException:
    """Read a `PolicyException`.

    Args:
        item: the object as the API server or a file has it.
        begins: when it was created, in seconds of Unix time, if the object does not say.

    Raises:
        ManifestError: it is something else, or not valid.
    """
    manifest = _manifest(item, (EXCEPTION,))
    name, created = manifest.metadata.name, manifest.metadata.creation_timestamp
    try:
        spec = msgspec.convert(manifest.spec, _PolicyException)
        at = created.timestamp() if created else begins
        return PolicyException(
            name,
            spec.reason,
            spec.requester,
            spec.approver,
            _required(at, "metadata.creationTimestamp is missing, from which its duration is counted; write one"),
            duration_of(spec.duration),
            frozenset(spec.namespaces),
            frozenset(spec.policies),
            _without_namespace(_patterns(spec.images, "spec.images"), "spec.images", _NOT_IN_EXCEPTION),
        )
    except ValueError as error:
        raise ManifestError(f"{EXCEPTION}/{name}: {_message(error, 'spec')}") from None


def _required(value: Value | None, otherwise: str) -> Value:
    if value is None or value == "":
        raise ValueError(otherwise)
    return value


def is_ours(item: Mapping[str, object]) -> bool:
    """Whether the object is in the API group of the policies."""
    version = item.get("apiVersion")
    return isinstance(version, str) and matches(f"{GROUP}/*", version)


def duration_of(text: str) -> float:
    """Seconds of a duration such as ``4h`` or ``1h30m``, at most 24 hours.

    Raises:
        ValueError: it is not a duration, or too long.
    """
    match = _DURATION.fullmatch(text)
    seconds = (
        sum(float(part or 0) * unit for part, unit in zip(match.groups(), (3600, 60, 1), strict=True)) if match else 0
    )
    if not 0 < seconds <= LONGEST_EXCEPTION:
        raise ValueError(f"spec.duration: {text!r} is not between 1s and 24h; write hours and minutes, such as 4h")
    return seconds


def _manifest(item: Mapping[str, object], kinds: Sequence[str]) -> _Manifest:
    try:
        manifest = msgspec.convert(item, _Manifest)
    except msgspec.ValidationError as error:
        raise ManifestError(f"{item.get('kind') or 'the object'}: {_message(error)}") from None
    if manifest.api_version != API_VERSION or manifest.kind not in kinds:
        wanted = " or ".join(kinds)
        raise ManifestError(f"{manifest.api_version} {manifest.kind} is not a {wanted} of {API_VERSION}")
    return manifest


def _message(error: Exception, root: str = "") -> str:
    """The message of msgspec in plain words, after the path of the field; our own messages have the path already."""
    what, _, place = str(error).rpartition(" - at ")
    what, path = (what, place.removeprefix("`key` in ").strip("`").removeprefix("$")) if what else (place, "")
    where = f"{root}{path}".removeprefix(".")
    if not where or not isinstance(error, msgspec.ValidationError):
        return reword(str(error))
    if what.startswith(_UNKNOWN):
        alike = difflib.get_close_matches(what.removeprefix(_UNKNOWN).strip("`"), _FIELDS, 1)
        fix = f"did you mean {alike[0]}?" if alike else "remove it; the reference of image policies lists all fields"
        return f"{where}: {reword(what)}; {fix}"
    field = where.removesuffix("[...]").rpartition(".")[2].partition("[")[0]
    if _AN_EXPRESSION in what and field in _FORMS:
        return f"{where}: is not valid; write {_FORMS[field]}"
    choices = _CHOICES.get(field) if "enum" in what else None
    said = reword(what)
    return f"{where}: {said}; write {choices}" if choices else f"{where}: {said}"


_AN_EXPRESSION: Final = "matching regex"
_UNKNOWN: Final = "Object contains unknown field "
_STRUCTS: Final = (
    *(_Images, _Rule, _ClusterException, _Require, _Mutate, _Namespaces, _Expression, _Selector),
    *(_ImagePolicy, _ClusterImagePolicy, _PolicyException),
)
# The type of `spec`, by kind.
SPECS: Final[Mapping[str, type[Struct]]] = {
    CLUSTER: _ClusterImagePolicy,
    NAMESPACED: _ImagePolicy,
    EXCEPTION: _PolicyException,
}
_FIELDS: Final = sorted({name for struct in _STRUCTS for name in struct.__struct_encode_fields__})
