"""Imports `image_validation` of Trow up to 0.10: prefixes of full names, of which the longest that matches decides."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from trow.policy.images import DOCKER_HUB, HUB_NAMES, split_host
from trow.policy.rules import Effect
from trow.policytools.importing.drafts import ImportResult, PolicyDraft
from trow.policytools.importing.globs import NameForm
from trow.policytools.importing.precedence import Entry, resolve_precedence
from trow.policytools.importing.prefixes import translation_of_prefix
from trow.policytools.importing.values import mapping, texts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_NAME: Final = "image-validation"
_SECTION: Final = "image_validation"
_KNOWN: Final = {"default", "allow", "deny"}


def detect(item: Mapping[str, object]) -> bool:
    """Whether it is a configuration, or has the values of the Helm chart."""
    return _SECTION in item or _chart(item) is not None


def _chart(item: Mapping[str, object]) -> object:
    at: object = item
    for key in ("trow", "validationWebhook", "config"):
        at = at.get(key) if isinstance(at, dict) else None
    return at


def convert(item: Mapping[str, object]) -> ImportResult:
    """Convert a configuration.

    Raises:
        UnreadableSource: it does not have the format of Trow.
    """
    result = ImportResult()
    section = mapping(item[_SECTION] if _SECTION in item else _chart(item), _SECTION)
    for key in sorted(set(section) - _KNOWN):
        result.left_out(f"{_SECTION}.{key}", "is unknown")
    default = section.get("default")
    if default not in ("Allow", "Deny"):
        result.note(
            f"{_SECTION}.default", f"{default!r} is neither Allow nor Deny; it was treated as Deny, and is Deny here"
        )
        default = "Deny"
    entries, given = list[Entry](), 0
    for effect in Effect:
        key = effect.value.lower()
        written = texts(section.get(key), f"{_SECTION}.{key}")
        given += len(written)
        entries += _entries(written, effect, result)
    rules = resolve_precedence(entries, Effect(default), result)
    result.finish(PolicyDraft(_NAME, Effect(default), rules), given)
    return result


def _entries(written: Sequence[str], effect: Effect, result: ImportResult) -> Iterator[Entry]:
    translate = partial(translation_of_prefix, form=NameForm.FULL, for_allow=effect is Effect.ALLOW)
    for text in written:
        if patterns := result.patterns(f"{effect.value.lower()} {text!r}", partial(translate, text)):
            host, path = split_host(text)
            # Entries overlap under the canonical name of Docker Hub, as the patterns do.
            name = f"{DOCKER_HUB}/{path}" if host in HUB_NAMES else text
            yield Entry(text, f"{name}*", (len(text),), (len(text),), effect, patterns)
