"""Values of Connaisseur's Helm chart: globs over full names, of which the most specific that matches names a validator.

Rules that allow or deny without looking (`type: static`) come over. Rules that verify signatures do not, so that what
only they let in is denied. https://github.com/sse-secure-systems/connaisseur, `docs/basics.md` and `internal/policy`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trow.app.importing.drafts import Draft, Imported
from trow.app.importing.globs import Form, Inexpressible, Meaning, meaning_of
from trow.app.importing.precedence import Entry, settled
from trow.app.importing.values import mapping, sequence, text
from trow.policy.images import DOCKER_HUB, HUB_NAMES, split_host
from trow.policy.rules import Effect, Mode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_NAME: Final = "connaisseur"
_DEFAULT_VALIDATOR: Final = "default"
_EVERYTHING: Final = {"*:*", "*"}


def recognised(item: Mapping[str, object]) -> bool:
    """Whether it is the chart's values, of version 3 or older."""
    values = _application(item)
    return isinstance(values.get("policy"), list) and isinstance(values.get("validators"), list)


def _application(item: Mapping[str, object]) -> Mapping[str, object]:
    inner = item.get("application")
    return inner if isinstance(inner, dict) else item


@dataclass(frozen=True, slots=True)
class _Rule:
    """One rule; `signed` names the validator that wants a signature, and then it can only deny."""

    pattern: str
    effect: Effect
    signed: str = ""

    @property
    def where(self) -> str:
        return f"policy {self.pattern!r}"


def imported(item: Mapping[str, object]) -> Imported:
    """The policy of the values.

    Raises:
        UnreadableSource: they have not the form that the chart has.
    """
    into = Imported()
    values = _application(item)
    rules = list(_rules(values))
    default = _default(rules, into)
    entries = [entry for rule in rules if rule.pattern not in _EVERYTHING for entry in _entries(rule, into)]
    mode = _features(mapping(values.get("features"), "features"), into)
    into.finish(Draft(_NAME, default, settled(entries, default, into), mode), len(entries))
    return into


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


def _default(rules: Sequence[_Rule], into: Imported) -> Effect:
    every = [rule for rule in rules if rule.pattern in _EVERYTHING]
    if not every:
        return Effect.DENY
    rule = max(every, key=lambda each: len(each.pattern))
    if rule.signed:
        into.left_out(rule.where, _unverified(rule))
    return rule.effect


def _unverified(rule: _Rule) -> str:
    return f"signatures are not verified here, so that what {rule.signed} let in by it is denied"


def _entries(rule: _Rule, into: Imported) -> Iterator[Entry]:
    if rule.signed:
        into.left_out(rule.where, _unverified(rule))
    try:
        meaning = _allowed(rule) if rule.effect is Effect.ALLOW else _denied(rule)
    except Inexpressible as error:
        into.left_out(rule.where, str(error))
        return
    for remark in meaning.remarks:
        into.changed(rule.where, remark)
    yield Entry(rule.pattern, _compared(rule), _rank(rule.pattern), rule.effect, meaning, bool(rule.signed))


def _compared(rule: _Rule) -> str:
    """What is compared: the pattern with a star at its end, and in front too.

    That in front makes no difference for Docker Hub, whose names are one name here, and is not wanted for what is
    allowed: whoever allows `example.com/app` does not mean `notexample.com/app`.
    """
    pattern = rule.pattern if rule.pattern.endswith("*") else f"{rule.pattern}*"
    host, path = split_host(pattern)
    if host in HUB_NAMES:
        return f"{DOCKER_HUB}/{path}"
    return pattern if rule.effect is Effect.ALLOW or pattern.startswith("*") else f"*{pattern}"


def _rank(pattern: str) -> tuple[int, ...]:
    """Components, then how much of each begins like the image, then how long each is.

    What is compared begins with ``index.docker.io`` for Docker Hub, which no other name of it begins like.
    """
    parts = pattern.split("/")
    alike = [len(part.partition("*")[0]) for part in parts]
    if parts[0] in HUB_NAMES - {"index.docker.io"}:
        alike[0] = 0
    return (len(parts), *alike, *map(len, parts))


def _denied(rule: _Rule) -> Meaning:
    return meaning_of(_compared(rule), Form.FULL, trusting=False)


def _allowed(rule: _Rule) -> Meaning:
    """As it is written: whoever allows the tag `v1` does not mean `v10`."""
    pattern = rule.pattern
    host = split_host(pattern)[0]
    last = pattern.rpartition("/")[2]
    form = Form.FULL if host or pattern.startswith("*") else Form.WRITTEN
    meaning = meaning_of(pattern if ":" in last or "@" in last else _compared(rule), form, trusting=True)
    return Meaning(meaning.patterns, (*meaning.remarks, *_narrowed(pattern, host)))


def _narrowed(pattern: str, host: str) -> Iterator[str]:
    if host and host not in HUB_NAMES and not pattern.startswith("*"):
        yield f"it covers the registry {host} alone, no longer others whose names end so"
    elif not host and not pattern.startswith("*"):
        yield "it covers Docker Hub alone, no longer names of other registries that end so"
    if not pattern.endswith("*") and "@" not in pattern:
        yield "it covers what is written alone, no longer longer names or tags that begin so"


def _features(features: Mapping[str, object], into: Imported) -> Mode:
    if features.get("namespacedValidation"):
        into.changed("features.namespacedValidation", "labels of namespaces decide nothing here: it is for all of them")
    if features.get("detectionMode") is True:
        return Mode.WARN
    return Mode.ENFORCE
