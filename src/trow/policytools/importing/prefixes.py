"""Beginnings of image names, as other programs compare them: character by character, wherever they end.

Whoever allows ``quay.io/org`` means an organisation and gets ``quay.io/org-of-somebody-else`` too. To allow, an entry
is therefore taken to end where a component ends. To forbid, it stays what it was.
"""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from trow.policy.patterns import ImagePattern
from trow.policytools.importing.globs import Form, Nothing, NotTranslatable, Translation, translation_of

if TYPE_CHECKING:
    from collections.abc import Iterator

# No component, tag or host ends like this, so that more has to follow.
_UNFINISHED: Final = ("/", "-", ".", "_", ":")


def translation_of_prefix(entry: str, form: Form, *, trusting: bool) -> Translation:
    """Patterns for the beginning of names.

    Args:
        entry: the beginning.
        form: of the names that it is compared with.
        trusting: whether something is permitted by it.

    Raises:
        Inexpressible: there are none.
    """
    if "*" in entry:
        raise Nothing(f"{entry!r} has a star, which is no glob there but a character that no image's name has")
    last = entry.rpartition("/")[2]
    if "@" in last:
        return _digest(entry, form, trusting=trusting)
    if not trusting or entry.endswith(_UNFINISHED) or not entry:
        return translation_of(f"{entry}*", form, trusting=trusting)
    if ":" in last and ("/" in entry or not _has_port(last)):
        return _exact(entry, form)
    if "/" not in entry and _is_host(entry, form):
        return _registry(entry)
    return _component(entry, form)


def _digest(entry: str, form: Form, *, trusting: bool) -> Translation:
    try:
        return translation_of(entry, form, trusting=trusting)
    except NotTranslatable:
        if trusting:
            raise NotTranslatable(f"{entry!r} is the beginning of a digest only; write all of it") from None
    repository = entry.partition("@")[0].partition(":")[0]
    meaning = translation_of(f"{repository}:*", form, trusting=trusting)
    return replace(meaning, remarks=("it denies all of the repository: a digest is compared as a whole here",))


def _has_port(host: str) -> bool:
    name, _, port = host.partition(":")
    return port.isdecimal() and ("." in name or name == "localhost")


def _is_host(entry: str, form: Form) -> bool:
    name = entry.partition(":")[0]
    return form is not Form.WRITTEN or "." in name or name == "localhost"


def _exact(entry: str, form: Form) -> Translation:
    meaning = translation_of(entry, form, trusting=True)
    tag = entry.rpartition(":")[2]
    remark = f"it covers the tag {tag} alone, no longer others that begin so; write tag: {tag}* if they are meant"
    return Translation(meaning.patterns, (*meaning.remarks, remark))


def _registry(entry: str) -> Translation:
    name, colon, _ = entry.partition(":")
    if not colon and "." not in name and name != "localhost":
        raise Nothing(f"{entry!r} is no registry; if Docker Hub's image is meant, write docker.io/library/{entry}")
    # Registries without a name are told apart by their ports: what was allowed for one address was so for its ports.
    any_port = not colon and _is_numbered(name)
    host, where = (f"{entry}:*", f"{entry}, at any port,") if any_port else (entry, entry)
    try:
        pattern = ImagePattern.parse(host)
    except ValueError as error:
        raise NotTranslatable(str(error)) from None
    return Translation((pattern,), (f"it covers the registry {where} alone, no longer others whose names begin so",))


def _is_numbered(name: str) -> bool:
    try:
        ipaddress.IPv4Address(name)
    except ValueError:
        return name == "localhost"
    return True


def _component(entry: str, form: Form) -> Translation:
    patterns = tuple(_repository_and_below(entry, form))
    if not patterns:
        raise Nothing(f"{entry!r} is like no image's name")
    return Translation(
        patterns, ("it ends where a component ends, no longer within one; end it with * if that is meant",)
    )


def _repository_and_below(entry: str, form: Form) -> Iterator[ImagePattern]:
    for glob in (f"{entry}:*", f"{entry}/*"):
        try:
            yield from translation_of(glob, form, trusting=True).patterns
        except Nothing:
            # Of Docker Hub's `nginx` only one is to be found in full names.
            continue
