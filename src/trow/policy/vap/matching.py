"""Which rules match an image, as CEL expressions.

The API server limits the cost of CEL: one million for an expression, ten million for a policy (KEP-3488). To match a
regular expression costs the length of the text times that of the expression. So patterns are looked up in maps by the
prefix of a name, as in `rules.RuleIndex`, and only those are matched. Where many patterns have the same prefix, they
are joined to few large regular expressions. These are constants, so they are compiled once; those in maps are compiled
at each use.
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

    # By prefix and rule.
    Groups: TypeAlias = Mapping[str, Mapping[str, Sequence[Expression]]]

# Characters of the regular expressions with the same prefix; up to this many are looked up in maps.
_FEW: Final = 1000
# Characters of one regular expression: 50 images of 80 characters cost half a million with it.
_LONGEST_REGEX: Final = 4000
# cel-go reads expressions of 100 000 characters.
_LONGEST_MAP: Final = 60_000
_HEADS: Final = sequence(("''", *(f"u[2].find({regex(head)})" for head in HEADS)))
_MATCHES: Final = "u[2].substring(h.size()).matches(r[1])"
Item = TypeVar("Item")


class Matching(NamedTuple):
    """The patterns of all rules of one effect, as CEL.

    Attributes:
        variables: the variables that the expressions use.
        condition: an expression: whether a rule matches an image ``u``.
        rules: an expression: the names of the rules that match it, joined; only for rules that deny.
    """

    variables: tuple[Variable, ...]
    condition: str
    rules: str


def matching(policy: Policy, effect: Effect, images: Variable, name: str = "") -> Matching:
    """The expressions that match the rules of one effect, as `Policy.evaluate` does.

    Args:
        policy: any.
        effect: of the rules.
        images: a list of images; the first part of each says what uses it, the third is the name.
        name: the prefix of the variables' names.
    """
    name = name or effect.value.lower()
    by_use: dict[tuple[UsedBy, ...], list[ImageRule]] = defaultdict(list)
    for rule in policy.rules:
        if rule.effect is effect:
            by_use[tuple(each for each in UsedBy if each in rule.used_by)].append(rule)
    parts = [_matching_of_use(name, effect, used_by, rules, images) for used_by, rules in by_use.items()]
    conditions = [part.condition for part in parts]
    rules = f"{sequence(part.rules for part in parts)}.filter(n, n != '').join(', ')"
    variables = tuple(variable for part in parts for variable in part.variables)
    return Matching(variables, " || ".join(conditions) or "false", parts[0].rules if len(parts) == 1 else rules)


def _matching_of_use(
    name: str, effect: Effect, used_by: Sequence[UsedBy], rules: Sequence[ImageRule], images: Variable
) -> Matching:
    """The rules with the same `used_by`."""
    found = _matching("_".join((name, *(each.value for each in used_by))), effect, rules, images)
    if not used_by:
        return found
    using = " || ".join(f"u[0].startsWith({text(f'{each.title} ')})" for each in used_by)
    return Matching(found.variables, f"({using}) && ({found.condition})", f"({using} ? {found.rules} : '')")


def _matching(name: str, effect: Effect, rules: Sequence[ImageRule], images: Variable) -> Matching:
    groups: dict[str, dict[str, list[Expression]]] = defaultdict(lambda: defaultdict(list))
    for rule in rules:
        for pattern in rule.patterns:
            # The API server cannot verify a tag beside a digest, so it is believed here; the webhook verifies it.
            expression = expression_of(pattern, ignore_tag=False)
            # The name of a rule is needed only where it denies.
            groups[expression.head][rule.name if effect is Effect.DENY else ""].append(expression)
    many = {
        head: by_rule
        for head, by_rule in groups.items()
        if sum(_size(each) for found in by_rule.values() for each in found) > _FEW
    }
    maps = tuple(_maps(name, {head: rules for head, rules in groups.items() if head not in many}))
    lists = tuple(_lists(f"{name}_many", many, images))
    names = tuple(_maps(f"{name}_rules", many)) if effect is Effect.DENY else ()
    looked_up = f"{sequence(maps)}.exists(m, {_HEADS}.exists(h, h in m && m[h].exists(r, {_MATCHES})))"
    conditions = ([looked_up] if maps else []) + [f"u in {each}" for each in lists]
    in_map = f"{_HEADS}.filter(h, h in m).map(h, m[h].filter(r, {_MATCHES}).map(r, r[0]).join(', '))"
    matched = f"{sequence((*maps, *names))}.map(m, {in_map}.filter(n, n != '').join(', ')).filter(n, n != '')"
    return Matching((*maps, *lists, *names), " || ".join(conditions) or "false", f"{matched}.join(', ')")


def _maps(name: str, groups: Groups) -> Iterator[Variable]:
    """Maps from prefixes to rules, each with its regular expression for the rest of the name."""
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
    """The images that are covered by the patterns with the same prefix."""
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


def _size(expression: Expression) -> int:
    return len(expression.path) + len(expression.version)


def _chunks(items: Iterable[Item], size: Callable[[Item], int], most: int) -> Iterator[list[Item]]:
    """The items in order, in chunks of at most this size; a single item may be larger."""
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
