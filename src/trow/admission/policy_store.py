"""The policies in force: that of the configuration, and those of the cluster where they are followed."""

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
    "no policy of images is configured: set image_validation.default, or admission.policies to follow the cluster's"
)
_UNREAD: Final = "the cluster's policies of images have not been read yet; try again"


class PolicyStore:
    """Takes the policies of all sources together.

    Args:
        configured: the policy of the configuration file.
        following: whether the cluster's policies count, which `replace` tells of.
    """

    def __init__(self, configured: Policy | None, *, following: bool) -> None:
        self._configured = (configured,) if configured else ()
        self._following = following
        self._rules: Rules | None = None if following else Rules(self._configured)

    @property
    def waiting(self) -> bool:
        """Whether the cluster's policies are still to be read."""
        return self._rules is None

    def replace(
        self, policies: Sequence[Policy], exceptions: Sequence[PolicyException], labels: Labels = NO_LABELS
    ) -> None:
        """Let these be the cluster's policies, and the labels of its namespaces, from now on."""
        self._rules = Rules((*self._configured, *policies), tuple(exceptions), labels)

    def rules(self) -> Rules:
        """All policies and exceptions.

        Raises:
            NotConfigured: there are no policies, which permits nothing.
            NotReady: the cluster's policies are not known yet.
        """
        if self._rules is None:
            raise NotReady(_UNREAD)
        if not self._following and not self._configured:
            raise NotConfigured(_NONE)
        return self._rules
