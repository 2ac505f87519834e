"""JSON Web Tokens before they are verified: whether a text is one, and who has issued it."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from trow.oci.numbers import finite

if TYPE_CHECKING:
    from collections.abc import Mapping

# What is longer is not a token: it is not split, decoded or asked about (CVE-2025-30204).
LONGEST_TOKEN: Final = 16 * 1024
# "eyJ" is how a JSON object begins in base64: a password with two dots in it stays a password.
_DECODER: Final = msgspec.json.Decoder(dict[str, Any], float_hook=finite)
_JWT: Final = re.compile(r"eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")


def is_jwt(text: str) -> bool:
    """Whether it has the form of a JWT."""
    return len(text) <= LONGEST_TOKEN and _JWT.fullmatch(text) is not None


def unverified_header(token: str) -> Mapping[str, object]:
    """The header of a token; empty when it cannot be read."""
    return _part(token, 0)


def unverified_claims(token: str) -> Mapping[str, object]:
    """The claims of a token, which anybody may have written; empty when they cannot be read."""
    return _part(token, 1)


def issuer_of(token: str) -> str | None:
    """The issuer that a token names; None where none can be read."""
    issuer = unverified_claims(token).get("iss")
    return issuer if isinstance(issuer, str) and issuer else None


def _part(token: str, number: int) -> Mapping[str, object]:
    if not is_jwt(token):
        return {}
    text = token.split(".")[number]
    try:
        return _DECODER.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, RecursionError, msgspec.DecodeError):
        return {}
