"""What the cluster answers when it is asked whose a token is, and who may do what."""

from __future__ import annotations

from msgspec import Struct


class UserInfo(Struct, frozen=True):
    """Whom a token belongs to."""

    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, tuple[str, ...]] = {}


class TokenReviewStatus(Struct, frozen=True):
    """The answer to a TokenReview; ``authenticated`` without a common audience means nothing."""

    authenticated: bool = False
    user: UserInfo = UserInfo()
    audiences: tuple[str, ...] = ()
    error: str = ""


class SubjectAccessReviewStatus(Struct, frozen=True, rename="camel"):
    """The answer to a SubjectAccessReview; ``denied`` is a veto, ``evaluation_error`` says that it is not sure."""

    allowed: bool
    denied: bool = False
    reason: str = ""
    evaluation_error: str = ""
