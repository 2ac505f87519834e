"""Patterns on `image` in Kyverno's rules: ``eu.foo.io/* | bar.io/*``, ``!*:latest``, ``*@sha256:*``."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeAlias

from trow.lib.globs import NAMESPACE
from trow.policy.patterns import ANY, ImagePattern
from trow.policy.pods import CONTAINERS, UsedBy
from trow.policy.rules import Effect
from trow.policytools.importing.drafts import RuleDraft
from trow.policytools.importing.globs import Form, NotTranslatable, translation_of
from trow.policytools.importing.precedence import overlaps
from trow.policytools.importing.values import mapping, sequence

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from trow.policytools.importing.drafts import ImportResult

Ruled: TypeAlias = "tuple[Effect, tuple[RuleDraft, ...], bool]"

_LISTS: Final = tuple(each.value for each in CONTAINERS)
# `=(initContainers)`: if there are any.
_IF_THERE: Final = re.compile(r"=\((\w+)\)")
_LOOPED: Final = re.compile(r"request\.object\.spec\.(\w+|\[[\w, ]+\]\[\])")
# Other ways to ask for something, which Kyverno has beside patterns.
_OTHER_WAYS: Final = frozenset({"anyPattern", "assert", "cel", "deny", "manifests", "podSecurity"})
_ANY_NAME: Final = ("*", "?*")
_OWN: Final = re.compile(r"\{\{\s*request\.(?:namespace|object\.metadata\.namespace)\s*\}\}")
_DIGEST: Final = re.compile(r"@(?:sha256:)?\*")


def images_of(validate: Mapping[str, object], where: str, result: ImportResult) -> Mapping[str, Sequence[UsedBy]]:
    """Patterns that images have to be like, and of what; none if that is not what is asked, which is noted."""
    try:
        found = _together([*_patterned(validate), *_looped(validate)])
    except NotTranslatable as error:
        result.left_out(where, str(error))
        return {}
    if not found:
        result.left_out(where, "is not a pattern on the images of containers")
    by_image: dict[str, list[UsedBy]] = defaultdict(list)
    for name in _LISTS:
        if name in found:
            by_image[found[name]].append(UsedBy(name))
    return by_image


def _together(found: Sequence[tuple[str, str]]) -> Mapping[str, str]:
    """By kind of container, what its images have to be like: like all of it, where there is more than one pattern."""
    patterns: dict[str, dict[str, None]] = defaultdict(dict)
    for name, image in found:
        patterns[name][image] = None
    if any(len(images) > 1 and any("|" in image for image in images) for images in patterns.values()):
        raise NotTranslatable("has several patterns for the same containers, which a policy here cannot express")
    return {name: " & ".join(images) for name, images in patterns.items()}


def _plain(fields: Mapping[str, object]) -> Mapping[str, object]:
    """The same without `=()`, which asks for no more of what is there."""
    found = {_IF_THERE.sub(r"\1", key): value for key, value in fields.items()}
    if len(found) < len(fields):
        raise NotTranslatable("validate.pattern has the same key twice")
    return found


def _patterned(validate: Mapping[str, object]) -> Sequence[tuple[str, str]]:
    if others := sorted(_OTHER_WAYS & set(validate)):
        raise NotTranslatable(f"validate.{', validate.'.join(others)}: is not a pattern on the images of containers")
    pattern = mapping(validate.get("pattern"), "validate.pattern")
    if not pattern:
        return ()
    spec = mapping(pattern.get("spec"), "validate.pattern.spec")
    fields = _plain(spec)
    if set(pattern) != {"spec"} or not fields or not set(fields) <= set(_LISTS):
        raise NotTranslatable("validate.pattern applies to more than the images of containers")
    return [(key, _image(value)) for key, value in fields.items()]


def _image(containers: object) -> str:
    found = [mapping(each, "a container") for each in sequence(containers, "containers")]
    if len(found) != 1 or found[0].get("name", "*") not in _ANY_NAME:
        raise NotTranslatable("validate.pattern distinguishes containers, which a policy here cannot do")
    return _single({key: value for key, value in found[0].items() if key != "name"})


def _single(fields: Mapping[str, object]) -> str:
    wanted = _plain(fields)
    image = wanted.get("image")
    if set(wanted) != {"image"} or not isinstance(image, str):
        raise NotTranslatable("validate applies to more than the images of containers")
    return image


def _looped(validate: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for each in sequence(validate.get("foreach"), "validate.foreach"):
        loop = mapping(each, "validate.foreach")
        match = _LOOPED.fullmatch(str(loop.get("list")))
        lists = re.findall(r"\w+", match[1]) if match else []
        if not lists or not set(lists) <= set(_LISTS) or not set(loop) <= {"list", "pattern", "elementScope"}:
            raise NotTranslatable("validate.foreach is not a pattern on the images of containers")
        image = _single(mapping(loop.get("pattern"), "validate.foreach.pattern"))
        yield from ((name, image) for name in lists)


def ruled_by_use(images: Mapping[str, Sequence[UsedBy]], where: str, result: ImportResult) -> Ruled | None:
    """Like `_ruled`, of patterns each of which is about some uses: others are left alone, as they are there."""
    found = {image: _ruled(image, where, result) for image in images}
    ruled = [(each, tuple(images[image])) for image, each in found.items() if each is not None]
    if len(ruled) < len(found):
        return None
    if len(ruled) > 1 and any(default is Effect.DENY and not rules for (default, rules, _), _ in ruled):
        result.left_out(where, "one of its patterns could not be imported")
        return None
    missing = tuple(each for each in CONTAINERS if not any(each in used_by for _, used_by in ruled))
    if len(ruled) == 1 and (not missing or ruled[0][0][2]):
        if missing:
            result.changed(where, f"also applies to images of {', '.join(each.value for each in missing)}")
        return ruled[0][0]
    if any(digest for (_, _, digest), _ in ruled):
        result.left_out(where, "asks for digests in some kinds of containers only, which a policy here cannot do")
        return None
    if missing:
        result.note(where, f"does not apply to {', '.join(each.value for each in missing)}, the same as there")
    return _joined(ruled, missing)


def _joined(ruled: Sequence[tuple[Ruled, tuple[UsedBy, ...]]], missing: Sequence[UsedBy]) -> Ruled:
    """One policy: where it denies by default, what was allowed there by saying nothing is allowed by a rule."""
    rules = [replace(rule, used_by=used_by) for (_, found, _), used_by in ruled for rule in found]
    if all(default is Effect.ALLOW for (default, _, _), _ in ruled):
        return Effect.ALLOW, tuple(rules), False
    open_to = [each for (default, _, _), used_by in ruled if default is Effect.ALLOW for each in used_by]
    others = RuleDraft("others", Effect.ALLOW, (ImagePattern(ANY),), (*open_to, *missing, UsedBy.VOLUMES))
    return Effect.DENY, (*rules, others), False


def _ruled(image: str, where: str, result: ImportResult) -> Ruled | None:
    """Default and rules of a pattern, and whether a digest is asked for; None if there are none, which is noted."""
    either = [part.strip() for part in image.split("|")]
    each = [part.strip() for part in image.split("&")]
    if len(either) == 1 and "!" in image:
        return _all_of(each, where, result)
    if excluded := [part for part in either if part.startswith("!")]:
        return _unless(excluded, [part for part in either if part not in excluded], where, result)
    digest = all(_DIGEST.search(part) for part in either)
    globs = [_any_version(part) for part in either] if digest else either
    if digest and "*" in globs:
        return Effect.ALLOW, (), True
    return Effect.DENY, tuple(_rules(globs, Effect.ALLOW, where, result)), digest


def _all_of(parts: Sequence[str], where: str, result: ImportResult) -> Ruled | None:
    """What is like none of some patterns, and like at most one more."""
    denied = [part[1:].strip() for part in parts if part.startswith("!")]
    allowed = [part for part in parts if not part.startswith("!")]
    if len(allowed) > 1:
        result.left_out(where, "requires an image to match several patterns, which a policy here cannot express")
        return None
    rules = (*_rules(denied, Effect.DENY, where, result), *_rules(allowed, Effect.ALLOW, where, result))
    return Effect.DENY if allowed else Effect.ALLOW, rules, False


def _unless(excluded: Sequence[str], allowed: Sequence[str], where: str, result: ImportResult) -> Ruled | None:
    """What is not like a pattern, or like one of others: these say nothing unless they meet it."""
    denied = excluded[0][1:].strip()
    if len(excluded) > 1 or any(overlaps(denied, each) for each in allowed):
        result.left_out(where, "has a pattern for everything that does not match another one, with exceptions")
        return None
    return Effect.ALLOW, tuple(_rules([denied], Effect.DENY, where, result)), False


def _any_version(glob: str) -> str:
    """The same without the digest, which the policy asks for."""
    name = _DIGEST.sub("", glob)
    return name if name.endswith("*") or ":" in name.rpartition("/")[2] else f"{name}:*"


def _rules(globs: Sequence[str], effect: Effect, where: str, result: ImportResult) -> Iterator[RuleDraft]:
    for glob in globs:
        place = f"{where}, image {glob!r}"
        try:
            own = glob if "$" in glob else _OWN.sub(NAMESPACE, glob)
            translation = translation_of(own, Form.WRITTEN, for_allow=effect is Effect.ALLOW, in_namespaces=own != glob)
        except NotTranslatable as error:
            result.left_out(place, str(error))
            continue
        for remark in translation.remarks:
            result.changed(place, remark)
        yield RuleDraft(glob, effect, translation.patterns)
