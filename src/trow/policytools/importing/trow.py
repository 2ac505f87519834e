"""`image_validation` of Trow up to 0.10: prefixes of full names, of which the longest that matches decides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trow.policy.images import DOCKER_HUB, HUB_NAMES, split_host
from trow.policy.rules import Effect
from trow.policytools.importing.drafts import ImportResult, PolicyDraft
from trow.policytools.importing.globs import Form, NotTranslatable, Translation
from trow.policytools.importing.precedence import Entry, resolve_precedence
from trow.policytools.importing.prefixes import translation_of_prefix
from trow.policytools.importing.values import mapping, texts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_NAME: Final = "image-validation"
_SECTION: Final = "image_validation"
_KNOWN: Final = {"default", "allow", "deny"}


def detect(item: Mapping[str, object]) -> bool:
    """Whether it is a configuration, or values of the Helm chart."""
    return _SECTION in item or _chart(item) is not None


def _chart(item: Mapping[str, object]) -> object:
    at: object = item
    for key in ("trow", "validationWebhook", "config"):
        at = at.get(key) if isinstance(at, dict) else None
    return at


def convert(item: Mapping[str, object]) -> ImportResult:
    """The policy of a configuration.

    Raises:
        UnreadableSource: it does not have the form that Trow reads.
    """
    result = ImportResult()
    section = mapping(item[_SECTION] if _SECTION in item else _chart(item), _SECTION)
    for key in sorted(set(section) - _KNOWN):
        result.left_out(f"{_SECTION}.{key}", "is unknown")
    default = _default(section, result)
    entries = [entry for effect in Effect for entry in _entries(section, effect, result)]
    given = sum(len(texts(section.get(key), key)) for key in ("allow", "deny"))
    result.finish(PolicyDraft(_NAME, default, resolve_precedence(entries, default, result)), given)
    return result


def _default(section: Mapping[str, object], result: ImportResult) -> Effect:
    given = section.get("default")
    if given in ("Allow", "Deny"):
        return Effect(given)
    result.note(f"{_SECTION}.default", f"{given!r} is neither Allow nor Deny; it was treated as Deny, and is Deny here")
    return Effect.DENY


def _entries(section: Mapping[str, object], effect: Effect, result: ImportResult) -> Iterator[Entry]:
    key = effect.value.lower()
    for text in texts(section.get(key), f"{_SECTION}.{key}"):
        where = f"{key} {text!r}"
        try:
            translation = _translation(text, for_allow=effect is Effect.ALLOW)
        except NotTranslatable as error:
            result.left_out(where, str(error))
            continue
        for remark in translation.remarks:
            result.changed(where, remark)
        yield Entry(text, f"{_hub(text)}*", (len(text),), (len(text),), effect, translation)


def _translation(text: str, *, for_allow: bool) -> Translation:
    return translation_of_prefix(text, Form.FULL, for_allow=for_allow)


def _hub(text: str) -> str:
    """With the one name of Docker Hub, under which entries meet here though they did not there."""
    host, path = split_host(text)
    return f"{DOCKER_HUB}/{path}" if host in HUB_NAMES else text
