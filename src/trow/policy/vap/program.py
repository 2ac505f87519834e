"""The verdict of `verdict.judge` in CEL, as far as it depends on rules alone.

In the expressions an image is a list of three strings: what uses it, its pull policy, and its name, first as it was
written, then in its canonical form (`images.ImageReference`).
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from trow.lib.globs import NAMESPACE
from trow.lib.times import rfc3339
from trow.policy import images
from trow.policy.images import DOCKER_HUB, HUB_NAMES, IDENTIFIER, LONGEST, LONGEST_NAME
from trow.policy.patterns import ANY
from trow.policy.pods import CONTAINERS, MOST_IMAGES, POD_SPECS, UsedBy
from trow.policy.rules import Effect
from trow.policy.vap.cel import Variable, in_namespace, matches, regex, text, texts
from trow.policy.vap.expressions import (
    BEFORE_VERSION,
    HOSTED,
    IPV4,
    NAME,
    NUMERIC,
    OFFICIAL,
    expression_of,
    full_regex,
    glob,
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
# The API server replaces a message of more than 5 KiB by `message`; a character has four bytes at most.
_LONGEST_MESSAGE: Final = 1200
_LONGEST_SHOWN: Final = 200
_OTHER: Final = "use an image that this rule does not match"
# Of an image: the kind of its user without the user's name, its pull policy, and its name as it was written.
_AS_STORED: Final = "[u[0].substring(0, u[0].lastIndexOf(' ')), u[1], u[2]]"


class CelValidation(NamedTuple):
    """An entry of `spec.validations`.

    Attributes:
        expression: true if the object is valid.
        message: the `messageExpression`; the API server evaluates it in any case.
        otherwise: the `message`, which is always short enough.
    """

    expression: str
    message: str
    otherwise: str


class Program(NamedTuple):
    """All that the API server evaluates for one policy."""

    variables: tuple[Variable, ...]
    validations: tuple[CelValidation, ...]


def program_of(policy: Policy, exceptions: Sequence[PolicyException]) -> Program:
    """The policy in CEL.

    Args:
        policy: any; requirements without `cel` are left out.
        exceptions: the active ones.
    """
    exempt = tuple(_exempt(exceptions))
    standing = tuple(
        Variable(f"standing{number}", _exempt_by(each, each.patterns)) for number, each in enumerate(policy.exceptions)
    )
    judged = Variable("judged", f"variables.images.filter(u, {_none_of((*exempt, *standing))})")
    denying = matching(policy, Effect.DENY, judged)
    allowing = matching(policy, Effect.ALLOW, judged) if policy.default is Effect.DENY else None
    rules = (*denying.variables, *(allowing.variables if allowing else ()))
    digest_denials = tuple(_digest_denials(policy, exempt, standing))
    checks = (*_checks(policy, judged, denying, allowing), *(check for _, check in digest_denials))
    digests = (variable for variables, _ in digest_denials for variable in variables)
    variables = (*_image_variables(), *exempt, *standing, judged, *rules, *digests, *_failures(checks))
    return Program(variables, tuple(_validations(policy, checks)))


def _none_of(variables: Sequence[Variable]) -> str:
    return " && ".join(f"!(u in {each})" for each in variables) or "true"


# The images of the object


def _image_variables() -> Iterator[Variable]:
    """The images of the object; of an update only those that the stored object does not have."""
    yield Variable("spec", _spec("object"))
    yield Variable("before", f"request.operation == 'UPDATE' ? ({_spec('oldObject')}) : dyn({{}})")
    yield Variable("named", _uses("variables.spec"))
    yield Variable("kept", f"({_uses('variables.before')}).map(u, {_AS_STORED})")
    yield Variable("uses", f"variables.named.filter(u, !({_AS_STORED} in variables.kept))")
    yield Variable("readable", f"variables.uses.filter(u, {_readable('u[2]')})")
    yield Variable("unreadable", "variables.uses.filter(u, !(u in variables.readable))")
    yield Variable("images", f"variables.readable{_canonical()}")


def _spec(item: str) -> str:
    """The PodSpec of an object, by its kind."""
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
    """Whether `images.parse` can read the name."""
    return (
        f"{name}.size() <= {LONGEST} && {matches(name, NAME)} && !{matches(name, IDENTIFIER)}"
        f" && (!{matches(name, NUMERIC)} || {matches(name, IPV4)})"
        f" && (!{name}.startsWith('[') || isIP({name}.substring(1, {name}.indexOf(']'))))"
        f" && [{_with_host(name)}].all(n, n.find({regex(BEFORE_VERSION)}).size()"
        f" + ({matches('n', OFFICIAL)} ? {len(_LIBRARY)} : 0) <= {LONGEST_NAME})"
    )


def _with_host(name: str) -> str:
    return f"({matches(name, HOSTED)} ? {name} : '{DOCKER_HUB}/' + {name})"


def _canonical() -> str:
    """The steps to the canonical form. A colon in front of a slash is that of a port."""
    address = "'[' + string(ip(u[2].substring(1, u[2].indexOf(']')))) + u[2].substring(u[2].indexOf(']'))"
    tag = "(u[3].matches('[:@]') ? '' : ':latest')"
    steps = (
        f"{_with_host('u[2]')}.replace(':443/', '/', 1).replace(':80/', '/', 1)",
        "u[2].substring(0, u[2].indexOf('/')).lowerAscii(), u[2].substring(u[2].indexOf('/') + 1)",
        f"u[2] in {texts(sorted(HUB_NAMES))} ? '{DOCKER_HUB}' : u[2].startsWith('[') ? {address} : u[2], u[3]",
        f"u[2] + '/' + (u[2] == '{DOCKER_HUB}' && !u[3].contains('/') ? '{_LIBRARY}' : '') + u[3] + {tag}",
    )
    return "".join(f".map(u, [u[0], u[1], {step}])" for step in steps)


def _exempt(exceptions: Sequence[PolicyException]) -> Iterator[Variable]:
    """The images that an exception exempts; they are not evaluated.

    CEL has no clock, but a new object has a creation time, which the API server sets before admission.
    """
    for number, exception in enumerate(exceptions):
        covered = full_regex(expression_of(pattern, ignore_tag=False) for pattern in exception.patterns)
        found = f"variables.images.filter(u, {matches('u[2]', covered)})"
        here = f"request.namespace in {texts(sorted(exception.namespaces))}"
        created = f"timestamp(dyn(object).metadata.creationTimestamp) < timestamp('{rfc3339(exception.ends)}')"
        in_time = f"(request.operation == 'UPDATE' || {created})"
        yield Variable(f"exempt{number}", f"{here} && {in_time} ? {found} : []")


def _exempt_by(exception: StandingException, patterns: Iterable[ImagePattern]) -> str:
    """The images that an exception in the policy exempts by these of its patterns."""
    covered = full_regex(expression_of(pattern, ignore_tag=False) for pattern in patterns)
    found = f"variables.images.filter(u, {matches('u[2]', covered)})"
    here = matches("request.namespace", "|".join(map(glob, exception.namespaces)))
    return found if ANY in exception.namespaces else f"{here} ? {found} : []"


def _digest_denials(
    policy: Policy, exempt: Sequence[Variable], standing: Sequence[Variable]
) -> Iterator[tuple[Sequence[Variable], _Check]]:
    """The denials by digest of images that an exception in the policy exempts without naming the digest."""
    if not standing or not policy.digest_denials.rules:
        return
    by_digest = [(each, [of for of in each.patterns if of.digest]) for each in policy.exceptions]
    named = [
        Variable(f"exempt_digest{number}", _exempt_by(each, patterns))
        for number, (each, patterns) in enumerate(by_digest)
        if patterns
    ]
    some = " || ".join(f"u in {each}" for each in standing)
    others = Variable("exempt_by_name", f"variables.images.filter(u, ({some}) && {_none_of((*exempt, *named))})")
    denying = matching(policy.digest_denials, Effect.DENY, others, "denied_digest")
    check = _Check("denied_digest", others, f"({denying.condition})", denying.rules, "is denied", _OTHER)
    yield (*named, others, *denying.variables), check


# The checks


class _Check(NamedTuple):
    """A check of each image.

    Attributes:
        name: of the variable with the images that fail.
        images: the images that are checked.
        condition: an expression: whether an image ``u`` fails.
        rule: an expression: the name of the rule or requirement.
        reason, remedy: as in `requirements.Violation`.
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


def _failures(checks: Sequence[_Check]) -> Iterator[Variable]:
    """The images that fail each check; an image is reported only for the first check that it fails."""
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
    # As `ImageReference.__str__`: a host without a dot or a port would be read as a part of the repository.
    name = f"({matches('u[2]', HOSTED)} ? u[2] : u[2].replace('/', ':443/', 1))"
    end = in_namespace(text(after)) if NAMESPACE in after else text(after)
    message = _message(found, f"u[0] + ': ' + {name} + {text(before)} + {check.rule} + {end}")
    return CelValidation(f"{found}.size() == 0", message, f"an image {check.reason} ({policy.title}); {check.remedy}")


def _message(found: str, of_one: str) -> str:
    """An expression: the message about the first image, and the number of further ones."""
    cut = f"m.size() > {_LONGEST_MESSAGE} ? m.substring(0, {_LONGEST_MESSAGE}) + '...' : m"
    more = f"({found}.size() > 1 ? '; and ' + string({found}.size() - 1) + ' more' : '')"
    return f"{found}.size() == 0 ? '' : [{found}[0]].map(u, {of_one}).map(m, {cut})[0] + {more}"
