"""Values of Connaisseur's Helm chart: globs over full names, of which the most specific that matches names a validator.

Rules that allow or deny without looking (`type: static`) come over. Rules that verify signatures do not, so that what
only they let in is denied. https://github.com/sse-secure-systems/connaisseur, `docs/basics.md` and `internal/policy`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trow.app.importing.drafts import Draft, DraftRule, Imported
from trow.app.importing.globs import Form, Inexpressible, Meaning, meaning_of
from trow.app.importing.precedence import Entry, settled
from trow.app.importing.values import mapping, sequence, text
from trow.policy.images import HUB_NAMES, split_host
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
    into.finish(Draft(_NAME, default, _settled(entries, default, into), mode), 0)
    return into


def _settled(entries: Sequence[Entry], default: Effect, into: Imported) -> tuple[DraftRule, ...]:
    """Without rules that deny what the default denies anyhow, to keep the policy short."""
    rules = settled(entries, default, into)
    if default is Effect.ALLOW or any(rule.effect is Effect.ALLOW for rule in rules):
        return rules
    return ()


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
    yield Entry(rule.pattern, _whole(rule.pattern), _rank(rule.pattern), rule.effect, meaning)


def _whole(pattern: str) -> str:
    """What is compared: the pattern with a star on both sides."""
    return f"{'' if pattern.startswith('*') else '*'}{pattern}{'' if pattern.endswith('*') else '*'}"


def _rank(pattern: str) -> tuple[int, ...]:
    """Components, then how much of each is no star, then how long each is."""
    parts = pattern.split("/")
    return (len(parts), *(len(part.partition("*")[0]) for part in parts), *map(len, parts))


def _denied(rule: _Rule) -> Meaning:
    """As it is compared; names of Docker Hub are one name here."""
    host = split_host(rule.pattern)[0]
    whole = _whole(rule.pattern)
    return meaning_of(whole.removeprefix("*") if host in HUB_NAMES else whole, Form.FULL, trusting=False)


def _allowed(rule: _Rule) -> Meaning:
    """As it is written: whoever allows `example.com/app:v1` means neither `notexample.com` nor `app:v10`."""
    pattern = rule.pattern
    host = split_host(pattern)[0]
    last = pattern.rpartition("/")[2]
    form = Form.FULL if host or pattern.startswith("*") else Form.WRITTEN
    open_end = pattern.endswith("*") or ":" in last or "@" in last
    meaning = meaning_of(pattern if open_end else f"{pattern}*", form, trusting=True)
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
