"""Prefixes of image names, as other programs compare them: character by character.

``quay.io/org`` is meant to allow an organisation, and allows ``quay.io/org-of-somebody-else`` too. An entry that allows
therefore ends where a component ends. An entry that denies stays as it was.
"""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from trow.policy.patterns import ImagePattern
from trow.policytools.importing.globs import Form, MatchesNothing, NotTranslatable, Translation, translation_of

if TYPE_CHECKING:
    from collections.abc import Iterator

# No component, tag or host ends like this, so that more has to follow.
_UNFINISHED: Final = ("/", "-", ".", "_", ":")


def translation_of_prefix(entry: str, form: Form, *, for_allow: bool) -> Translation:
    """Patterns for a prefix of names.

    Args:
        entry: the prefix.
        form: of the names that it is compared with.
        for_allow: whether the patterns allow images: then they may cover fewer, else more.

    Raises:
        NotTranslatable: there are none.
    """
    if "*" in entry:
        raise MatchesNothing(f"{entry!r} has a star, which is not a wildcard there, and no image's name contains one")
    last = entry.rpartition("/")[2]
    if "@" in last:
        return _digest(entry, form, for_allow=for_allow)
    if not for_allow or entry.endswith(_UNFINISHED) or not entry:
        return translation_of(f"{entry}*", form, for_allow=for_allow)
    if ":" in last and ("/" in entry or not _has_port(last)):
        return _exact(entry, form)
    if "/" not in entry and _is_host(entry, form):
        return _registry(entry)
    return _component(entry, form)


def _digest(entry: str, form: Form, *, for_allow: bool) -> Translation:
    try:
        return translation_of(entry, form, for_allow=for_allow)
    except NotTranslatable:
        if for_allow:
            raise NotTranslatable(f"{entry!r} is only the beginning of a digest; write the whole digest") from None
    repository = entry.partition("@")[0].partition(":")[0]
    translation = translation_of(f"{repository}:*", form, for_allow=for_allow)
    return replace(translation, remarks=("it denies the whole repository: a digest is compared as a whole here",))


def _has_port(host: str) -> bool:
    name, _, port = host.partition(":")
    return port.isdecimal() and ("." in name or name == "localhost")


def _is_host(entry: str, form: Form) -> bool:
    name = entry.partition(":")[0]
    return form is not Form.WRITTEN or "." in name or name == "localhost"


def _exact(entry: str, form: Form) -> Translation:
    translation = translation_of(entry, form, for_allow=True)
    tag = entry.rpartition(":")[2]
    remark = f"it covers only the tag {tag}, no longer tags that begin with it; write tag: {tag}* to cover those"
    return Translation(translation.patterns, (*translation.remarks, remark))


def _registry(entry: str) -> Translation:
    name, colon, _ = entry.partition(":")
    if not colon and "." not in name and name != "localhost":
        raise MatchesNothing(f"{entry!r} is not a registry; for Docker Hub's image write docker.io/library/{entry}")
    # Registries without a name are told apart by their ports: what was allowed for one address was so for its ports.
    any_port = not colon and _is_numbered(name)
    host, where = (f"{entry}:*", f"{entry}, at any port,") if any_port else (entry, entry)
    try:
        pattern = ImagePattern.parse(host)
    except ValueError as error:
        raise NotTranslatable(str(error)) from None
    return Translation(
        (pattern,), (f"it covers the registry {where} only, no longer registries whose names begin with that",)
    )


def _is_numbered(name: str) -> bool:
    try:
        ipaddress.IPv4Address(name)
    except ValueError:
        return name == "localhost"
    return True


def _component(entry: str, form: Form) -> Translation:
    patterns = tuple(_repository_and_below(entry, form))
    if not patterns:
        raise MatchesNothing(f"{entry!r} matches no image's name")
    return Translation(
        patterns,
        ("it ends where a component of the name ends, no longer within one; end it with * to match longer names",),
    )


def _repository_and_below(entry: str, form: Form) -> Iterator[ImagePattern]:
    for glob in (f"{entry}:*", f"{entry}/*"):
        try:
            yield from translation_of(glob, form, for_allow=True).patterns
        except MatchesNothing:
            # Of Docker Hub's `nginx` only one is to be found in full names.
            continue
