"""Questions to the cluster: whose token this is (TokenReview), and who may do what (SubjectAccessReview)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from msgspec import Struct

from trow.access.reviews import SubjectAccessReviewStatus, TokenReviewStatus  # noqa: TC001 - msgspec reads them
from trow.oci.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trow.kube.client import KubeClient

_Authentication: TypeAlias = Literal["authentication.k8s.io/v1"]
_Authorization: TypeAlias = Literal["authorization.k8s.io/v1"]
_TOKENS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
_ACCESS: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


class _TokenSpec(Struct, frozen=True):
    token: str
    audiences: tuple[str, ...]

    def __repr__(self) -> str:
        """Without the token."""
        return f"_TokenSpec(audiences={self.audiences})"


class _TokenQuestion(Struct, frozen=True, rename="camel"):
    spec: _TokenSpec
    api_version: str = "authentication.k8s.io/v1"
    kind: str = "TokenReview"


class _TokenReview(Struct, frozen=True, rename="camel"):
    api_version: _Authentication
    kind: Literal["TokenReview"]
    status: TokenReviewStatus


class _AccessSpec(Struct, frozen=True, rename="camel"):
    user: str
    uid: str
    groups: tuple[str, ...]
    extra: dict[str, tuple[str, ...]]
    resource_attributes: dict[str, str]


class _AccessQuestion(Struct, frozen=True, rename="camel"):
    spec: _AccessSpec
    api_version: str = "authorization.k8s.io/v1"
    kind: str = "SubjectAccessReview"


class _SubjectAccessReview(Struct, frozen=True, rename="camel"):
    api_version: _Authorization
    kind: Literal["SubjectAccessReview"]
    status: SubjectAccessReviewStatus


class Reviews:
    """Asks the API server; each call is one request."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    async def token(self, token: str, audiences: Sequence[str]) -> TokenReviewStatus:
        """Whose token this is, if it is meant for one of the audiences.

        Raises:
            Unavailable: the API server does not say.
        """
        question = _TokenQuestion(_TokenSpec(token, tuple(audiences)))
        status = (await self._client.ask("tokenreview", _TOKENS, question, _TokenReview)).status
        if status.authenticated and not status.user.username:
            raise Unavailable("the Kubernetes API server accepts a token and does not say whose it is; try again later")
        return status

    async def access(
        self,
        user: str,
        uid: str,
        groups: Sequence[str],
        extra: Sequence[tuple[str, tuple[str, ...]]],
        attributes: Mapping[str, str],
    ) -> SubjectAccessReviewStatus:
        """Whether somebody may do what ``attributes`` (the API's ``resourceAttributes``) describe.

        Raises:
            Unavailable: the API server does not say.
        """
        spec = _AccessSpec(user, uid, tuple(groups), dict(extra), dict(attributes))
        question = _AccessQuestion(spec)
        return (await self._client.ask("subjectaccessreview", _ACCESS, question, _SubjectAccessReview)).status
