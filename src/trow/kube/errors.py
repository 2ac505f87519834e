"""Errors of the API server.

    Unavailable                  no answer, or one that asks to wait: the same request may succeed later
    └── BadAnswer                an answer that cannot be used
        └── TooLarge             … because it is over a limit
    KubeRefused                  an answer that will be the same until somebody changes something
    ├── Forbidden · NotFound · Conflict · Invalid
    └── Expired

https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md#http-status-codes
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Self

import msgspec
from msgspec import Struct

from trow.oci.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_MESSAGE: Final = 2000
# The one place where the API server says which right was missing; an admission plugin's 403 has other words.
_MISSING_RIGHT: Final = re.compile(
    r'(?:User "(?P<user>[^"]+)" )?cannot (?P<verb>[a-z]+) resource "(?P<resource>[^"]+)"'
    r' in API group "(?P<group>[^"]*)"(?: in the namespace "(?P<namespace>[^"]+)")?'
)


class BadAnswer(Unavailable):
    """The API server did not do what it was asked."""


class TooLarge(BadAnswer):
    """An answer, or one line of it, is over the limit."""


class KubeRefused(Exception):
    """The API server will not do it.

    Attributes:
        status: the HTTP status.
        reason: the API's word for it, such as ``AlreadyExists``; "" when it has none.
        message: a sentence for people, with the API server's own.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class MissingRight:
    """What somebody may not do; "" for the core group, and where it is about the whole cluster."""

    user: str
    verb: str
    resource: str
    group: str
    namespace: str

    @classmethod
    def of(cls, message: str) -> Self | None:
        """Read the API server's words; None where they say something else."""
        found = _MISSING_RIGHT.search(message)
        return None if found is None else cls(**found.groupdict(default=""))


class Forbidden(KubeRefused):
    """A right is missing, or an admission plugin denies it."""

    @property
    def missing(self) -> MissingRight | None:
        """The right; None where an admission plugin denied it."""
        return MissingRight.of(self.message)


class NotFound(KubeRefused):
    """There is no such object, or no such kind of objects."""


class Conflict(KubeRefused):
    """It exists already, has changed meanwhile, or a field belongs to another manager."""


class Invalid(KubeRefused):
    """The object breaks a rule of its schema or of an admission plugin."""


class Expired(KubeRefused):
    """The version asked for is no longer kept: everything has to be listed again."""


class Status(Struct, frozen=True):
    """The API's object for failures."""

    message: str = ""
    reason: str = ""
    code: int = 0

    @classmethod
    def parse(cls, raw: bytes | msgspec.Raw) -> Status:
        """What a body says; an empty status where it is not such an object."""
        try:
            return msgspec.json.decode(raw, type=cls)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return cls()

    def words(self) -> str:
        """The message, cut where it is too long for a log."""
        return self.message[:_LONGEST_MESSAGE] or "no reason is given"


_KINDS: Final[Mapping[int, type[KubeRefused]]] = {
    HTTPStatus.FORBIDDEN: Forbidden,
    HTTPStatus.NOT_FOUND: NotFound,
    HTTPStatus.CONFLICT: Conflict,
    HTTPStatus.GONE: Expired,
    HTTPStatus.UNPROCESSABLE_ENTITY: Invalid,
}
# Said of a kind of objects, or, without the API's object for failures, of a whole group.
_UNKNOWN_KIND: Final = ("", "the server could not find the requested resource")
_PATIENCE: Final = {HTTPStatus.UNAUTHORIZED, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}


def refusal(asked: str, code: int, status: Status) -> KubeRefused | None:
    """The error for a status; None for one that reports a failure of the server and not a refusal.

    Args:
        asked: method and path.
        code: the HTTP status.
        status: what was said with it.
    """
    if not HTTPStatus.BAD_REQUEST <= code < HTTPStatus.INTERNAL_SERVER_ERROR or code in _PATIENCE:
        return None
    message = f"the Kubernetes API server refuses {asked} ({code}): {status.words()}{_hint(code, status.message)}"
    return _KINDS.get(code, KubeRefused)(code, status.reason, message)


def _hint(code: int, message: str) -> str:
    if code == HTTPStatus.NOT_FOUND and message in _UNKNOWN_KIND:
        return "; is its CustomResourceDefinition installed?"
    if code != HTTPStatus.FORBIDDEN or (missing := MissingRight.of(message)) is None:
        return ""
    role = f"a Role in namespace {missing.namespace}" if missing.namespace else "a ClusterRole"
    rule = f'{{apiGroups: ["{missing.group}"], resources: [{missing.resource}], verbs: [{missing.verb}]}}'
    return f"; bind {role} with {rule} to Trow's ServiceAccount"
