"""Converts patterns on `image` in Kyverno's rules: ``eu.foo.io/* | bar.io/*``, ``!*:latest``, ``*@sha256:*``."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from trow.lib.globs import NAMESPACE
from trow.policy.patterns import ANY, ImagePattern
from trow.policy.pods import CONTAINERS, UsedBy
from trow.policy.rules import Effect
from trow.policytools.importing.drafts import RuleDraft
from trow.policytools.importing.globs import NameForm, NotTranslatable, translation_of
from trow.policytools.importing.precedence import overlaps
from trow.policytools.importing.values import mapping, sequence

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from trow.policytools.importing.drafts import ImportResult


class ImageRules(NamedTuple):
    """The parts of a policy: its default, its rules, and whether it requires digests."""

    default: Effect
    rules: tuple[RuleDraft, ...]
    digest: bool = False


_LISTS: Final = tuple(each.value for each in CONTAINERS)
# The anchor of an optional field: `=(initContainers)`.
_OPTIONAL: Final = re.compile(r"=\((\w+)\)")
_LOOPED: Final = re.compile(r"request\.object\.spec\.(\w+|\[[\w, ]+\]\[\])")
# The other kinds of validation.
_OTHER_KINDS: Final = frozenset({"anyPattern", "assert", "cel", "deny", "manifests", "podSecurity"})
_ANY_NAME: Final = ("*", "?*")
_OWN_NAMESPACE: Final = re.compile(r"\{\{\s*request\.(?:namespace|object\.metadata\.namespace)\s*\}\}")
_DIGEST: Final = re.compile(r"@(?:sha256:)?\*")


def images_of(validate: Mapping[str, object], where: str, result: ImportResult) -> Mapping[str, Sequence[UsedBy]]:
    """The patterns that images have to match, and in which containers; none, with a remark, if it validates more."""
    patterns: dict[str, dict[str, None]] = defaultdict(dict)
    try:
        for name, image in (*_in_pattern(validate), *_in_foreach(validate)):
            patterns[name][image] = None
    except NotTranslatable as error:
        result.left_out(where, str(error))
        return {}
    if any(len(images) > 1 and any("|" in image for image in images) for images in patterns.values()):
        result.left_out(where, "has several patterns for the same containers, which a policy here cannot express")
        return {}
    if not patterns:
        result.left_out(where, "is not a pattern on the images of containers")
    by_image: dict[str, list[UsedBy]] = defaultdict(list)
    for name in _LISTS:
        if name in patterns:
            by_image[" & ".join(patterns[name])].append(UsedBy(name))
    return by_image


def _in_pattern(validate: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    if others := sorted(_OTHER_KINDS & set(validate)):
        raise NotTranslatable(f"validate.{', validate.'.join(others)}: is not a pattern on the images of containers")
    pattern = mapping(validate.get("pattern"), "validate.pattern")
    if not pattern:
        return
    fields = _unconditional(mapping(pattern.get("spec"), "validate.pattern.spec"))
    if set(pattern) != {"spec"} or not fields or not set(fields) <= set(_LISTS):
        raise NotTranslatable("validate.pattern applies to more than the images of containers")
    for key, value in fields.items():
        containers = [mapping(each, "a container") for each in sequence(value, "containers")]
        if len(containers) != 1 or containers[0].get("name", "*") not in _ANY_NAME:
            raise NotTranslatable("validate.pattern distinguishes containers, which a policy here cannot do")
        yield key, _image({key: value for key, value in containers[0].items() if key != "name"})


def _in_foreach(validate: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for each in sequence(validate.get("foreach"), "validate.foreach"):
        loop = mapping(each, "validate.foreach")
        match = _LOOPED.fullmatch(str(loop.get("list")))
        lists = re.findall(r"\w+", match[1]) if match else []
        if not lists or not set(lists) <= set(_LISTS) or not set(loop) <= {"list", "pattern", "elementScope"}:
            raise NotTranslatable("validate.foreach is not a pattern on the images of containers")
        image = _image(mapping(loop.get("pattern"), "validate.foreach.pattern"))
        yield from ((name, image) for name in lists)


def _image(container: Mapping[str, object]) -> str:
    """The pattern on the image of a container, which has no other pattern."""
    fields = _unconditional(container)
    image = fields.get("image")
    if set(fields) != {"image"} or not isinstance(image, str):
        raise NotTranslatable("validate applies to more than the images of containers")
    return image


def _unconditional(fields: Mapping[str, object]) -> Mapping[str, object]:
    """The fields without the anchor `=()`, which makes no difference for images."""
    found = {_OPTIONAL.sub(r"\1", key): value for key, value in fields.items()}
    if len(found) < len(fields):
        raise NotTranslatable("validate.pattern has the same key twice")
    return found


def rules_of(images: Mapping[str, Sequence[UsedBy]], where: str, result: ImportResult) -> ImageRules | None:
    """One policy for all patterns, each on some kinds of containers; None, with a remark, if that is not possible."""
    of_images = {image: _rules_of_pattern(image, where, result) for image in images}
    found = [(each, tuple(images[image])) for image, each in of_images.items() if each is not None]
    if len(found) < len(images):
        return None
    if len(found) > 1 and any(each.default is Effect.DENY and not each.rules for each, _ in found):
        result.left_out(where, "one of its patterns could not be imported")
        return None
    missing = tuple(each for each in CONTAINERS if not any(each in used_by for _, used_by in found))
    if len(found) == 1 and (not missing or found[0][0].digest):
        if missing:
            result.changed(where, f"also applies to images of {', '.join(each.value for each in missing)}")
        return found[0][0]
    if any(each.digest for each, _ in found):
        result.left_out(where, "asks for digests in some kinds of containers only, which a policy here cannot do")
        return None
    if missing:
        result.note(where, f"does not apply to {', '.join(each.value for each in missing)}, the same as there")
    rules = [replace(rule, used_by=used_by) for each, used_by in found for rule in each.rules]
    if all(each.default is Effect.ALLOW for each, _ in found):
        return ImageRules(Effect.ALLOW, tuple(rules))
    # The policy denies by default, so a rule allows the containers to which no pattern applies in the source.
    allowed = [use for each, used_by in found if each.default is Effect.ALLOW for use in used_by]
    others = RuleDraft("others", Effect.ALLOW, (ImagePattern(ANY),), (*allowed, *missing, UsedBy.VOLUMES))
    return ImageRules(Effect.DENY, (*rules, others))


def _rules_of_pattern(image: str, where: str, result: ImportResult) -> ImageRules | None:
    """The rules of a pattern; None, with a remark, if it cannot be expressed."""
    either = [part.strip() for part in image.split("|")]
    if len(either) == 1 and "!" in image:
        parts = [part.strip() for part in image.split("&")]
        denied = [part[1:].strip() for part in parts if part.startswith("!")]
        allowed = [part for part in parts if not part.startswith("!")]
        if len(allowed) > 1:
            result.left_out(where, "requires an image to match several patterns, which a policy here cannot express")
            return None
        rules = (*_rules(denied, Effect.DENY, where, result), *_rules(allowed, Effect.ALLOW, where, result))
        return ImageRules(Effect.DENY if allowed else Effect.ALLOW, rules)
    if excluded := [part for part in either if part.startswith("!")]:
        # An image passes if it does not match the negated pattern, or matches another one, which matters only where
        # both match.
        denied = [part[1:].strip() for part in excluded]
        if len(denied) > 1 or any(overlaps(denied[0], part) for part in either if part not in excluded):
            result.left_out(where, "has a pattern for everything that does not match another one, with exceptions")
            return None
        return ImageRules(Effect.ALLOW, tuple(_rules(denied, Effect.DENY, where, result)))
    digest = all(_DIGEST.search(part) for part in either)
    if digest:
        names = [_DIGEST.sub("", part) for part in either]
        either = [name if name.endswith("*") or ":" in name.rpartition("/")[2] else f"{name}:*" for name in names]
        if "*" in either:
            return ImageRules(Effect.ALLOW, (), digest=True)
    return ImageRules(Effect.DENY, tuple(_rules(either, Effect.ALLOW, where, result)), digest)


def _rules(globs: Sequence[str], effect: Effect, where: str, result: ImportResult) -> Iterator[RuleDraft]:
    for glob in globs:
        name = glob if "$" in glob else _OWN_NAMESPACE.sub(NAMESPACE, glob)
        translate = partial(translation_of, name, NameForm.WRITTEN, for_allow=effect is Effect.ALLOW)
        if patterns := result.patterns(f"{where}, image {glob!r}", partial(translate, in_namespaces=name != glob)):
            yield RuleDraft(glob, effect, patterns)
