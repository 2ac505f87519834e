"""Translates prefixes of image names, which other programs compare character by character.

``quay.io/org`` is intended to allow an organisation, but allows ``quay.io/org-of-somebody-else`` too. So the patterns
of an entry that allows end where a component ends. An entry that denies is not changed.
"""

from __future__ import annotations

import contextlib
import ipaddress
from dataclasses import replace
from typing import Final

from trow.policy.patterns import ImagePattern
from trow.policytools.importing.globs import MatchesNothing, NameForm, NotTranslatable, Translation, translation_of

# No component, tag or host ends with these, so more has to follow.
_UNFINISHED: Final = ("/", "-", ".", "_", ":")


def translation_of_prefix(entry: str, form: NameForm, *, for_allow: bool) -> Translation:
    """Translate a prefix; arguments as `translation_of`.

    Raises:
        NotTranslatable: no pattern can express it.
    """
    if "*" in entry:
        raise MatchesNothing(f"{entry!r} has a star, which is not a wildcard there, and no image's name contains one")
    last = entry.rpartition("/")[2]
    if "@" in last:
        return _digest(entry, form, for_allow=for_allow)
    if not for_allow or entry.endswith(_UNFINISHED) or not entry:
        return translation_of(f"{entry}*", form, for_allow=for_allow)
    host, _, rest = last.partition(":")
    is_host = "." in host or host == "localhost"
    if rest and ("/" in entry or not (rest.isdecimal() and is_host)):
        found = translation_of(entry, form, for_allow=True)
        remark = f"it covers only the tag {rest}, no longer tags that begin with it; write tag: {rest}* to cover those"
        return Translation(found.patterns, (*found.remarks, remark))
    if "/" not in entry and (is_host or form is not NameForm.WRITTEN):
        return _registry(entry)
    patterns: list[ImagePattern] = []
    for glob in (f"{entry}:*", f"{entry}/*"):
        # For `nginx` of Docker Hub in full names, one of both matches nothing.
        with contextlib.suppress(MatchesNothing):
            patterns += translation_of(glob, form, for_allow=True).patterns
    if not patterns:
        raise MatchesNothing(f"{entry!r} matches no image's name")
    remark = "it ends where a component of the name ends, no longer within one; end it with * to match longer names"
    return Translation(tuple(patterns), (remark,))


def _digest(entry: str, form: NameForm, *, for_allow: bool) -> Translation:
    try:
        return translation_of(entry, form, for_allow=for_allow)
    except NotTranslatable:
        if for_allow:
            raise NotTranslatable(f"{entry!r} is only the beginning of a digest; write the whole digest") from None
    repository = entry.partition("@")[0].partition(":")[0]
    translation = translation_of(f"{repository}:*", form, for_allow=for_allow)
    return replace(translation, remarks=("it denies the whole repository: a digest is compared as a whole here",))


def _registry(entry: str) -> Translation:
    name, colon, _ = entry.partition(":")
    if not colon and "." not in name and name != "localhost":
        raise MatchesNothing(f"{entry!r} is not a registry; for Docker Hub's image write docker.io/library/{entry}")
    any_port = not colon and name == "localhost"
    with contextlib.suppress(ValueError):
        # A prefix that is an address allows all its ports.
        any_port = any_port or (not colon and bool(ipaddress.IPv4Address(name)))
    host, where = (f"{entry}:*", f"{entry}, at any port,") if any_port else (entry, entry)
    try:
        pattern = ImagePattern.parse(host)
    except ValueError as error:
        raise NotTranslatable(str(error)) from None
    remark = f"it covers the registry {where} only, no longer registries whose names begin with that"
    return Translation((pattern,), (remark,))
