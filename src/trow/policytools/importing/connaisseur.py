"""Imports the values of Connaisseur's Helm chart, where the most specific glob that matches selects a validator.

Rules that always allow or deny (`type: static`) are imported. Rules that verify signatures are not, so the images that
only they allow are denied. https://github.com/sse-secure-systems/connaisseur, `docs/basics.md` and `internal/policy`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trow.policy.images import DOCKER_HUB, HUB_NAMES, official, split_host
from trow.policy.rules import Effect, Mode
from trow.policytools.importing.drafts import ImportResult, PolicyDraft
from trow.policytools.importing.globs import NameForm, Translation, translation_of
from trow.policytools.importing.precedence import Entry, resolve_precedence
from trow.policytools.importing.values import mapping, sequence, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_NAME: Final = "connaisseur"
_DEFAULT_VALIDATOR: Final = "default"
_EVERYTHING: Final = {"*:*", "*"}


def detect(item: Mapping[str, object]) -> bool:
    """Whether it has the values of the chart, of version 3 or older."""
    values = _application(item)
    return isinstance(values.get("policy"), list) and isinstance(values.get("validators"), list)


def _application(item: Mapping[str, object]) -> Mapping[str, object]:
    inner = item.get("application")
    return inner if isinstance(inner, dict) else item


@dataclass(frozen=True, slots=True)
class _Rule:
    """One rule; `signed` names the validator that verifies signatures: then it can only deny here."""

    pattern: str
    effect: Effect
    signed: str = ""

    @property
    def where(self) -> str:
        return f"policy {self.pattern!r}"


def convert(item: Mapping[str, object]) -> ImportResult:
    """Convert the values.

    Raises:
        UnreadableSource: they do not have the format of the chart.
    """
    result = ImportResult()
    values = _application(item)
    rules = list(_rules(values))
    # Connaisseur denies an image that no rule matches.
    every = [rule for rule in rules if rule.pattern in _EVERYTHING]
    rest = max(every, key=lambda each: (len(each.pattern), each.effect is Effect.DENY), default=None)
    if rest and rest.signed:
        result.left_out(rest.where, _unverified(rest))
    default = rest.effect if rest else Effect.DENY
    entries = [entry for rule in rules if rule not in every for entry in _entries(rule, rest, result)]
    features = mapping(values.get("features"), "features")
    if features.get("namespacedValidation"):
        result.changed(
            "features.namespacedValidation",
            "labels of namespaces have no effect here: the policy applies to all namespaces",
        )
    mode = Mode.WARN if features.get("detectionMode") is True else Mode.ENFORCE
    result.finish(PolicyDraft(_NAME, default, resolve_precedence(entries, default, result), mode), len(entries))
    return result


def _rules(values: Mapping[str, object]) -> Iterator[_Rule]:
    validators = {}
    for number, each in enumerate(sequence(values.get("validators"), "validators")):
        validator = mapping(each, f"validators[{number}]")
        validators[text(validator.get("name"), f"validators[{number}].name")] = validator
    for number, each in enumerate(sequence(values.get("policy"), "policy")):
        rule = mapping(each, f"policy[{number}]")
        pattern = text(rule.get("pattern"), f"policy[{number}].pattern")
        name = text(rule.get("validator"), f"policy[{number}].validator") or _DEFAULT_VALIDATOR
        validator = validators.get(name, {})
        if validator.get("type") == "static":
            yield _Rule(pattern, Effect.ALLOW if validator.get("approve") is True else Effect.DENY)
        else:
            yield _Rule(pattern, Effect.DENY, f"{name} ({validator.get('type') or 'unknown'})")


def _unverified(rule: _Rule) -> str:
    return f"signatures are not verified here, so images that {rule.signed} would have admitted are denied"


def _entries(rule: _Rule, rest: _Rule | None, result: ImportResult) -> Iterator[Entry]:
    least, most = (_rank(rule, best=best) for best in (False, True))
    if rest and rule.effect is Effect.ALLOW is not rest.effect and least <= _rank(rest, best=True):
        result.left_out(rule.where, f"is no more specific than {rest.pattern!r}, which may deny the same images")
        return
    if rule.signed:
        result.left_out(rule.where, _unverified(rule))
    compared, allowed = _compared(rule), rule.effect is Effect.ALLOW

    def translate() -> Translation:
        return _allowed(rule) if allowed else translation_of(compared, NameForm.FULL, for_allow=False)

    if patterns := result.patterns(rule.where, translate):
        yield Entry(rule.pattern, compared, least, most, rule.effect, patterns, bool(rule.signed))


def _compared(rule: _Rule) -> str:
    """The glob that Connaisseur matches: the pattern with a star at both ends.

    The star in front is left out for Docker Hub, whose names are one name here, and for rules that allow: who allows
    `example.com/app` does not intend to allow `notexample.com/app`.
    """
    pattern = rule.pattern if rule.pattern.endswith("*") else f"{rule.pattern}*"
    host, path = split_host(pattern)
    if host in HUB_NAMES:
        return f"{DOCKER_HUB}/{path}"
    if rule.effect is Effect.DENY or pattern.startswith("*"):
        return f"*{pattern.removeprefix('*')}"
    return pattern if host else f"{DOCKER_HUB}/{official(DOCKER_HUB, pattern)}"


def _rank(rule: _Rule, *, best: bool) -> tuple[int, ...]:
    """The specificity of a rule, as Connaisseur compares it.

    It is the number of components, then the length of the common prefix of each component and that of the image, then
    the length of each component. The common prefixes are certain only up to the first star, which may match several
    components. Connaisseur compares with ``index.docker.io`` for Docker Hub.
    """
    host = split_host(rule.pattern)[0]
    certain = host in HUB_NAMES or (bool(host) and rule.effect is Effect.ALLOW)
    parts, alike = rule.pattern.split("/"), []
    for part in parts:
        beginning, star, _ = part.partition("*")
        alike.append(len(beginning) if best or certain else 0)
        certain = certain and not star
    if host in HUB_NAMES - {"index.docker.io"}:
        alike[0] = 0
    return (len(parts), *alike, *map(len, parts))


def _allowed(rule: _Rule) -> Translation:
    """The patterns of a rule that allows, exactly as it is written: who allows the tag `v1` does not intend `v10`."""
    pattern = rule.pattern
    host, last = split_host(pattern)[0], pattern.rpartition("/")[2]
    any_host, open_end = pattern.startswith("*"), pattern.endswith("*")
    form = NameForm.FULL if host or any_host else NameForm.WRITTEN
    has_version = ":" in last or "@" in last
    found = translation_of(pattern if open_end or has_version else f"{pattern}*", form, for_allow=True)
    remarks = [*found.remarks]
    if host and host not in HUB_NAMES and not any_host:
        remarks.append(f"it covers the registry {host} only, no longer registries whose names end with that")
    elif not host and not any_host:
        remarks.append("it covers Docker Hub only, no longer names of other registries that end with it")
    if not open_end and "@" not in pattern:
        remarks.append("it covers exactly this name, no longer names or tags that begin with it")
    return Translation(found.patterns, tuple(remarks))
