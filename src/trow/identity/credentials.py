"""What an ``Authorization`` header says, read strictly: RFC 9110 section 11, RFC 7617, RFC 6750."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from trow.oci.errors import Unauthorized

# Longer credentials are refused before they are looked at (CVE-2025-30204).
LONGEST_CREDENTIAL: Final = 16 * 1024
_HEADER: Final = re.compile(r"([A-Za-z]{1,32}) +([^ ].*)", re.DOTALL)
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


class Stale(Unauthorized):
    """The credential was genuine and is no longer good. Nobody has guessed, so this is not a failed login."""


@dataclass(frozen=True, slots=True)
class Password:
    """A user and what stands where a password stands; clients put tokens there too."""

    user: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Bearer:
    """A token."""

    token: str = field(repr=False)


Credentials: TypeAlias = Password | Bearer


def parse_authorization(authorization: str | None) -> Credentials | None:
    """Read the header; None where nobody says who they are.

    Raises:
        Unauthorized: it is neither Basic nor Bearer as the specifications have them. The message never repeats it.
    """
    if authorization is None:
        return None
    if len(authorization) > LONGEST_CREDENTIAL:
        raise Unauthorized(
            f"the Authorization header is longer than {LONGEST_CREDENTIAL // 1024} KiB;"
            " use a token with fewer claims or groups"
        )
    header = _HEADER.fullmatch(authorization)
    scheme, value = header.groups() if header else ("", "")
    match scheme.lower():
        case "basic":
            return _basic(value.rstrip(" "))
        case "bearer":
            token = value.rstrip(" ")
            if not _TOKEN.fullmatch(token):
                raise Unauthorized("the token after 'Bearer' has characters that no token has; send it as it was given")
            return Bearer(token)
    raise Unauthorized(
        "the Authorization header is neither 'Basic' nor 'Bearer' with credentials after it; send one of them"
    )


def _basic(encoded: str) -> Password | None:
    try:
        content = base64.b64decode(encoded, validate=True)
        user, colon, secret = content.decode().partition(":")
    except (binascii.Error, ValueError):
        content, user, colon, secret = b"", "", "", ""
    if base64.b64encode(content).decode() != encoded:
        raise Unauthorized("the Basic credentials are not valid base64 of UTF-8 text; send base64 of USER:PASSWORD")
    if not colon:
        raise Unauthorized(
            "the Basic credentials have no ':' between user name and password; send base64 of USER:PASSWORD"
        )
    if _CONTROL.search(user) or _CONTROL.search(secret):
        raise Unauthorized(
            "the Basic credentials have a control character, often a line break at the end; send them without it"
        )
    # Some clients send empty credentials when they have none.
    return Password(user, secret) if user or secret else None
