"""The policies in force: the policy of the configuration, and those of the cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trow.admission.ports import NotConfigured, NotReady
from trow.policy.selectors import NO_LABELS
from trow.policy.verdict import Rules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trow.policy.rules import Policy
    from trow.policy.selectors import Labels
    from trow.policy.verdict import PolicyException

_NONE: Final = (
    "no image policy is configured: set image_validation.default, or admission.policies to use those of the cluster"
)
_UNREAD: Final = "the cluster's image policies have not been read yet; try again"


class PolicyStore:
    """Holds the policies of all sources.

    Args:
        configured: the policy of the configuration file.
        following: whether the policies of the cluster are in force too; `replace` sets them.
    """

    def __init__(self, configured: Policy | None, *, following: bool) -> None:
        self._configured = (configured,) if configured else ()
        self._following = following
        self._rules: Rules | None = None if following else Rules(self._configured)

    @property
    def waiting(self) -> bool:
        """Whether the policies of the cluster have not been read yet."""
        return self._rules is None

    def replace(
        self, policies: Sequence[Policy], exceptions: Sequence[PolicyException], labels: Labels = NO_LABELS
    ) -> None:
        """Set the policies of the cluster, and the labels of its namespaces."""
        self._rules = Rules((*self._configured, *policies), tuple(exceptions), labels)

    def rules(self) -> Rules:
        """All policies and exceptions.

        Raises:
            NotConfigured: no policy is configured; nothing is allowed.
            NotReady: the policies of the cluster have not been read yet.
        """
        if self._rules is None:
            raise NotReady(_UNREAD)
        if not self._following and not self._configured:
            raise NotConfigured(_NONE)
        return self._rules
