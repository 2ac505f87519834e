"""The policy of the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trow.policy import configured
from trow.policy.aliases import aliases_of, with_aliases
from trow.policy.rules import Effect, Mode

if TYPE_CHECKING:
    from collections.abc import Callable

    from trow.config import Config
    from trow.policy.rules import Policy


def adapted(config: Config) -> Callable[[Policy], Policy]:
    """A function that makes a policy cover images under their pull-through names too."""
    aliases = aliases_of(config.admission.pull_through, config.admission.registry_names)
    return lambda policy: with_aliases(policy, aliases)


def configured_policy(config: Config) -> Policy | None:
    """The policy of `image_validation`; None if that is not configured."""
    given = config.image_validation
    if given.default is None:
        return None
    policy = configured.policy_of(Effect(given.default), given.allow, given.deny, Mode(given.mode))
    return adapted(config)(policy)
