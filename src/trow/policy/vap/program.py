"""The verdict of `decide.judge` in the API server's own language, as far as rules alone decide.

Images pass through named expressions as lists of texts: who uses the image, its pull policy, and its name, first as it
was written, then in the form that is compared (`images.ImageReference`).
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from trow.lib.globs import NAMESPACE
from trow.lib.times import rfc3339
from trow.policy import images
from trow.policy.images import DOCKER_HUB, HUB_NAMES
from trow.policy.patterns import ANY
from trow.policy.pods import CONTAINERS, MOST_IMAGES, POD_SPECS, UsedBy
from trow.policy.rules import Effect
from trow.policy.vap.cel import Variable, here, matches, regex, text, texts
from trow.policy.vap.expressions import (
    BEFORE_VERSION,
    HOSTED,
    IDENTIFIER,
    IPV4,
    LONGEST,
    LONGEST_NAME,
    NAME,
    NUMERIC,
    OFFICIAL,
    expression_of,
    glob,
    whole,
)
from trow.policy.vap.matching import matching
from trow.policy.verdict import DEFAULT, INVALID, allowed_images

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from trow.policy.patterns import ImagePattern
    from trow.policy.rules import Policy, StandingException
    from trow.policy.vap.matching import Matching
    from trow.policy.verdict import PolicyException

_LIBRARY: Final = images.official(DOCKER_HUB, "")
# A message of more than 5 KiB is replaced by one that names nothing; a character has four bytes at most.
_LONGEST_MESSAGE: Final = 1200
_LONGEST_SHOWN: Final = 200
_OTHER: Final = "use an image that this rule does not match"
# Of an image: what uses it without its name, its pull policy, and its own name as it was written.
_AS_STORED: Final = "[u[0].substring(0, u[0].lastIndexOf(' ')), u[1], u[2]]"


class CelValidation(NamedTuple):
    """What has to be true.

    Attributes:
        expression: true if nothing is the matter.
        message: what is, as an expression of a text; evaluated in any case.
        otherwise: the same in a text that is always short enough.
    """

    expression: str
    message: str
    otherwise: str


class Program(NamedTuple):
    """All that the API server evaluates for one policy."""

    variables: tuple[Variable, ...]
    validations: tuple[CelValidation, ...]


def program_of(policy: Policy, exceptions: Sequence[PolicyException]) -> Program:
    """The policy in expressions.

    Args:
        policy: any; what it asks of an image's content is left out.
        exceptions: those that are to count, until this is written again.
    """
    exempt, standing = tuple(_exempt(exceptions)), tuple(_standing(policy.exceptions))
    judged = Variable("judged", f"variables.images.filter(u, {_none_of((*exempt, *standing))})")
    denying = matching(policy, Effect.DENY, judged)
    allowing = matching(policy, Effect.ALLOW, judged) if policy.default is Effect.DENY else None
    rules = (*denying.variables, *(allowing.variables if allowing else ()))
    digest_denials = tuple(_digest_denials(policy, exempt, standing))
    checks = (*_checks(policy, judged, denying, allowing), *(check for _, check in digest_denials))
    recalled = (variable for variables, _ in digest_denials for variable in variables)
    variables = (*_reading(), *exempt, *standing, judged, *rules, *recalled, *_findings(checks))
    return Program(variables, tuple(_validations(policy, checks)))


def _none_of(variables: Sequence[Variable]) -> str:
    return " && ".join(f"!(u in {each})" for each in variables) or "true"


# Which images there are


def _reading() -> Iterator[Variable]:
    """An update is asked about what the stored object does not have yet."""
    yield Variable("spec", _spec("object"))
    yield Variable("before", f"request.operation == 'UPDATE' ? ({_spec('oldObject')}) : dyn({{}})")
    yield Variable("named", _uses("variables.spec"))
    yield Variable("kept", f"({_uses('variables.before')}).map(u, {_AS_STORED})")
    yield Variable("uses", f"variables.named.filter(u, !({_AS_STORED} in variables.kept))")
    yield Variable("readable", f"variables.uses.filter(u, {_readable('u[2]')})")
    yield Variable("unreadable", "variables.uses.filter(u, !(u in variables.readable))")
    yield Variable("images", f"variables.readable{_canonical()}")


def _spec(item: str) -> str:
    """Where the specification of Pods is, by kind."""
    kinds = defaultdict(list)
    for (_, kind), path in POD_SPECS.items():
        kinds[".".join((f"dyn({item})", *path))].append(kind)
    usual = max(kinds, key=lambda path: len(kinds[path]))
    others = [f"request.kind.kind in {texts(kinds[path])} ? {path} : " for path in kinds if path != usual]
    return "".join(others) + usual


def _uses(spec: str) -> str:
    containers = [
        f"{spec}.?{kind.value}.orValue([]).map(c,"
        f" [{text(f'{kind.title} ')} + c.name, string(c.?imagePullPolicy.orValue('')), string(c.?image.orValue(''))])"
        for kind in CONTAINERS
    ]
    volumes = (
        f"{spec}.?volumes.orValue([]).filter(v, has(v.image)).map(v,"
        f" [{text(f'{UsedBy.VOLUMES.title} ')} + v.name,"
        " string(v.image.?pullPolicy.orValue('')), string(v.image.?reference.orValue(''))])"
    )
    return " + ".join((*containers, volumes))


def _readable(name: str) -> str:
    """What `images.parse` reads."""
    return (
        f"{name}.size() <= {LONGEST} && {matches(name, NAME)} && !{matches(name, IDENTIFIER)}"
        f" && (!{matches(name, NUMERIC)} || {matches(name, IPV4)})"
        f" && (!{name}.startsWith('[') || isIP({name}.substring(1, {name}.indexOf(']'))))"
        f" && [{_hosted(name)}].all(n, n.find({regex(BEFORE_VERSION)}).size()"
        f" + ({matches('n', OFFICIAL)} ? {len(_LIBRARY)} : 0) <= {LONGEST_NAME})"
    )


def _hosted(name: str) -> str:
    return f"({matches(name, HOSTED)} ? {name} : '{DOCKER_HUB}/' + {name})"


def _canonical() -> str:
    """The steps to the form that is compared. A colon in front of a slash is that of a port."""
    address = "'[' + string(ip(u[2].substring(1, u[2].indexOf(']')))) + u[2].substring(u[2].indexOf(']'))"
    tag = "(u[3].matches('[:@]') ? '' : ':latest')"
    steps = (
        f"{_hosted('u[2]')}.replace(':443/', '/', 1).replace(':80/', '/', 1)",
        "u[2].substring(0, u[2].indexOf('/')).lowerAscii(), u[2].substring(u[2].indexOf('/') + 1)",
        f"u[2] in {texts(sorted(HUB_NAMES))} ? '{DOCKER_HUB}' : u[2].startsWith('[') ? {address} : u[2], u[3]",
        f"u[2] + '/' + (u[2] == '{DOCKER_HUB}' && !u[3].contains('/') ? '{_LIBRARY}' : '') + u[3] + {tag}",
    )
    return "".join(f".map(u, [u[0], u[1], {step}])" for step in steps)


def _exempt(exceptions: Sequence[PolicyException]) -> Iterator[Variable]:
    """Images that an exception lets through; they are judged no further.

    Expressions have no clock, but what is created bears the time of that (the API server writes it before it asks).
    """
    for number, exception in enumerate(exceptions):
        covered = whole(expression_of(pattern, ignore_tag=False) for pattern in exception.patterns)
        found = f"variables.images.filter(u, {matches('u[2]', covered)})"
        here = f"request.namespace in {texts(sorted(exception.namespaces))}"
        created = f"timestamp(dyn(object).metadata.creationTimestamp) < timestamp('{rfc3339(exception.ends)}')"
        in_time = f"(request.operation == 'UPDATE' || {created})"
        yield Variable(f"exempt{number}", f"{here} && {in_time} ? {found} : []")


def _standing(exceptions: Sequence[StandingException]) -> Iterator[Variable]:
    """Images that the policy itself exempts."""
    for number, exception in enumerate(exceptions):
        yield Variable(f"standing{number}", _covered(exception, exception.patterns))


def _covered(exception: StandingException, patterns: Iterable[ImagePattern]) -> str:
    covered = whole(expression_of(pattern, ignore_tag=False) for pattern in patterns)
    found = f"variables.images.filter(u, {matches('u[2]', covered)})"
    here = matches("request.namespace", "|".join(map(glob, exception.namespaces)))
    return found if ANY in exception.namespaces else f"{here} ? {found} : []"


def _digest_denials(
    policy: Policy, exempt: Sequence[Variable], standing: Sequence[Variable]
) -> Iterator[tuple[Sequence[Variable], _Check]]:
    """What is denied by digest, of the images that the policy exempts without naming that."""
    if not standing or not policy.digest_denials.rules:
        return
    by_digest = [(each, [of for of in each.patterns if of.digest]) for each in policy.exceptions]
    told = [
        Variable(f"told{number}", _covered(each, patterns))
        for number, (each, patterns) in enumerate(by_digest)
        if patterns
    ]
    some = " || ".join(f"u in {each}" for each in standing)
    left = Variable("left", f"variables.images.filter(u, ({some}) && {_none_of((*exempt, *told))})")
    denying = matching(policy.digest_denials, Effect.DENY, left, "recalled")
    check = _Check("recalled", left, f"({denying.condition})", denying.rules, "is denied", _OTHER)
    yield (*told, left, *denying.variables), check


# What is said of them


class _Check(NamedTuple):
    """What is asked of each image.

    Attributes:
        name: of the variable with the images that do not pass.
        images: those that are asked about.
        condition: whether an image ``u`` does not pass, as an expression.
        rule: what names the rule or requirement, as an expression of a text.
        reason: in words, after the image's name.
        remedy: in words.
    """

    name: str
    images: Variable
    condition: str
    rule: str
    reason: str
    remedy: str


def _checks(policy: Policy, judged: Variable, denying: Matching, allowing: Matching | None) -> Iterator[_Check]:
    if denying.variables:
        yield _Check("denied", judged, f"({denying.condition})", denying.rules, "is denied", _OTHER)
    if allowing:
        remedy = allowed_images(policy)
        yield _Check(
            "unlisted", judged, f"!({allowing.condition})", text(DEFAULT), "is not allowed by any rule", remedy
        )
    for each in policy.require:
        if each.cel:
            variable = f"unmet_{each.field()}"
            yield _Check(variable, judged, f"({each.cel})", text(each.name), each.reason, each.remedy)


def _findings(checks: Sequence[_Check]) -> Iterator[Variable]:
    """Only the first thing that is the matter with an image is told."""
    before: list[Variable] = []
    for check in checks:
        before.append(Variable(check.name, f"{check.images}.filter(u, {_none_of(before)} && {check.condition})"))
        yield before[-1]


def _validations(policy: Policy, checks: Sequence[_Check]) -> Iterator[CelValidation]:
    many = f"the object names more than {MOST_IMAGES} images ({policy.title}, {INVALID})"
    yield CelValidation(f"variables.named.size() <= {MOST_IMAGES}", text(many), many)
    shown = f"strings.quote(u[2].size() > {_LONGEST_SHOWN} ? u[2].substring(0, {_LONGEST_SHOWN}) + '...' : u[2])"
    wrong = f"is not the name of an image ({policy.title}, {INVALID})"
    message = _message("variables.unreadable", f"u[0] + ': ' + {shown} + {text(f' {wrong}')}")
    yield CelValidation("variables.unreadable.size() == 0", message, f"what is written {wrong}")
    for check in checks:
        yield _validation(policy, check)


def _validation(policy: Policy, check: _Check) -> CelValidation:
    found = f"variables.{check.name}"
    before, after = f" {check.reason} ({policy.title}, ", f"); {check.remedy}"
    # As `ImageReference` is shown: without a dot or a port, a host would be read as part of the repository.
    name = f"({matches('u[2]', HOSTED)} ? u[2] : u[2].replace('/', ':443/', 1))"
    told = here(text(after)) if NAMESPACE in after else text(after)
    message = _message(found, f"u[0] + ': ' + {name} + {text(before)} + {check.rule} + {told}")
    return CelValidation(f"{found}.size() == 0", message, f"an image {check.reason} ({policy.title}); {check.remedy}")


def _message(found: str, of_one: str) -> str:
    """What is said of the first image, and how many more there are."""
    cut = f"m.size() > {_LONGEST_MESSAGE} ? m.substring(0, {_LONGEST_MESSAGE}) + '...' : m"
    more = f"({found}.size() > 1 ? '; and ' + string({found}.size() - 1) + ' more' : '')"
    return f"{found}.size() == 0 ? '' : [{found}[0]].map(u, {of_one}).map(m, {cut})[0] + {more}"
