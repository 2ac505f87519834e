"""Which rules match an image, as expressions of the API server.

An expression may cost so much: one million for each, ten million for all of a policy (KEP-3488). Matching costs the
length of the text times that of the regular expression. So patterns are found in maps by the beginning of a name, as
`rules.Index` does it, and only those are matched. Where many have the same beginning, there is an expression for as
many as it can afford; it is compiled in advance, while those in maps are compiled whenever they are used.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, TypeVar

from trow.policy.pods import UsedBy
from trow.policy.rules import Effect
from trow.policy.vap.cel import Variable, matches, regex, sequence, text
from trow.policy.vap.expressions import HEADS, anchored, any_of, expression_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from trow.policy.rules import ImageRule, Policy
    from trow.policy.vap.expressions import Expression

    # By beginning and rule.
    Groups: TypeAlias = Mapping[str, Mapping[str, Sequence[Expression]]]

# Characters of regular expressions with the same beginning, up to which they are looked up in maps.
_FEW: Final = 1000
# Of one that is compiled in advance: with it 50 images of 80 characters cost half a million.
_LONGEST_REGEX: Final = 4000
# cel-go reads expressions of 100 000 characters.
_LONGEST_MAP: Final = 60_000
_HEADS: Final = sequence(("''", *(f"u[2].find({regex(head)})" for head in HEADS)))
_MATCHES: Final = "u[2].substring(h.size()).matches(r[1])"
Item = TypeVar("Item")


class Matching(NamedTuple):
    """The patterns of all rules of one effect.

    Attributes:
        variables: what the expressions use, beside the list of images that they are asked about.
        condition: whether an image ``u`` is covered, as an expression.
        rules: the names of those that cover it, as an expression of a text; only of what denies.
    """

    variables: tuple[Variable, ...]
    condition: str
    rules: str


def matching(policy: Policy, effect: Effect, images: Variable, name: str = "") -> Matching:
    """Expressions of what `Policy.decide` looks up.

    Args:
        policy: any.
        effect: of the rules.
        images: their first part says what uses them, their third is the name.
        name: what the names of variables begin with.
    """
    name = name or effect.value.lower()
    by_use: dict[tuple[UsedBy, ...], list[ImageRule]] = defaultdict(list)
    for rule in policy.rules:
        if rule.effect is effect:
            by_use[tuple(each for each in UsedBy if each in rule.used_by)].append(rule)
    parts = [_part(name, effect, used_by, rules, images) for used_by, rules in by_use.items()]
    conditions = [part.condition for part in parts]
    rules = f"{sequence(part.rules for part in parts)}.filter(n, n != '').join(', ')"
    variables = tuple(variable for part in parts for variable in part.variables)
    return Matching(variables, " || ".join(conditions) or "false", parts[0].rules if len(parts) == 1 else rules)


def _part(
    name: str, effect: Effect, used_by: Sequence[UsedBy], rules: Sequence[ImageRule], images: Variable
) -> Matching:
    """The rules that are about the same uses."""
    found = _matching("_".join((name, *(each.value for each in used_by))), effect, rules, images)
    if not used_by:
        return found
    using = " || ".join(f"u[0].startsWith({text(f'{each.title} ')})" for each in used_by)
    return Matching(found.variables, f"({using}) && ({found.condition})", f"({using} ? {found.rules} : '')")


def _matching(name: str, effect: Effect, rules: Sequence[ImageRule], images: Variable) -> Matching:
    groups = _grouped(rules, effect)
    many = {head: rules for head, rules in groups.items() if _length(rules) > _FEW}
    maps = tuple(_maps(name, {head: rules for head, rules in groups.items() if head not in many}))
    lists = tuple(_lists(f"{name}_many", many, images))
    names = tuple(_maps(f"{name}_rules", many)) if effect is Effect.DENY else ()
    looked_up = f"{sequence(maps)}.exists(m, {_HEADS}.exists(h, h in m && m[h].exists(r, {_MATCHES})))"
    conditions = ([looked_up] if maps else []) + [f"u in {each}" for each in lists]
    return Matching((*maps, *lists, *names), " || ".join(conditions) or "false", _rules((*maps, *names)))


def _grouped(rules: Sequence[ImageRule], effect: Effect) -> Groups:
    """Which rule it is matters only where one denies."""
    found: dict[str, dict[str, list[Expression]]] = defaultdict(lambda: defaultdict(list))
    for rule in rules:
        for pattern in rule.patterns:
            # Beside a digest, a tag is believed here: whether it stands for that only the webhook can tell.
            expression = expression_of(pattern, ignore_tag=False)
            found[expression.head][rule.name if effect is Effect.DENY else ""].append(expression)
    return found


def _maps(name: str, groups: Groups) -> Iterator[Variable]:
    """By beginning, rules with their regular expressions for the rest of the name."""
    entries = [
        (head, sequence((text(rule), regex(anchored(expression)))))
        for head, rules in groups.items()
        for rule, found in rules.items()
        for expression in _regexes(found)
    ]
    for number, chunk in enumerate(_chunks(entries, lambda entry: sum(map(len, entry)), _LONGEST_MAP)):
        members: dict[str, list[str]] = defaultdict(list)
        for head, entry in chunk:
            members[head].append(entry)
        listed = ",\n".join(f"{text(head)}: {sequence(found)}" for head, found in members.items())
        yield Variable(f"{name}{number}", f"{{{listed}}}")


def _lists(name: str, groups: Groups, images: Variable) -> Iterator[Variable]:
    """The images that are covered by some of the patterns with the same beginning."""
    expressions = (
        (head, expression)
        for head, rules in groups.items()
        for expression in _regexes([each for found in rules.values() for each in found])
    )
    for number, (head, expression) in enumerate(expressions):
        rest = f"u[2].startsWith({text(head)}) && u[2].substring({len(head)})" if head else "u[2]"
        yield Variable(f"{name}{number}", f"{images}.filter(u, {matches(rest, expression)})")


def _regexes(found: Sequence[Expression]) -> Iterator[str]:
    return map(any_of, _chunks(found, _size, _LONGEST_REGEX))


def _length(rules: Mapping[str, Sequence[Expression]]) -> int:
    return sum(_size(each) for found in rules.values() for each in found)


def _size(expression: Expression) -> int:
    return len(expression.path) + len(expression.version)


def _chunks(items: Iterable[Item], size: Callable[[Item], int], most: int) -> Iterator[list[Item]]:
    """In order, as many together as are not larger than so much; one alone may be."""
    chunk: list[Item] = []
    taken = 0
    for item in items:
        if chunk and taken + size(item) > most:
            yield chunk
            chunk, taken = [], 0
        chunk.append(item)
        taken += size(item)
    if chunk:
        yield chunk


def _rules(maps: Sequence[Variable]) -> str:
    named = f"m[h].filter(r, {_MATCHES}).map(r, r[0]).join(', ')"
    of_map = f"{_HEADS}.filter(h, h in m).map(h, {named}).filter(n, n != '').join(', ')"
    return f"{sequence(maps)}.map(m, {of_map}).filter(n, n != '').join(', ')"
