"""Images that are pulled through this registry have two names, and rules apply to both.

Otherwise the pull-through name would bypass a rule that denies the upstream registry, and a Pod whose image was renamed
by a mutation would not match a rule that allows the upstream registry.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from trow.oci.errors import OciError
from trow.oci.names import Repository
from trow.policy import images
from trow.policy.images import InvalidImage
from trow.policy.patterns import ImagePattern, covers_registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from trow.policy.rules import Policy


@dataclass(frozen=True, slots=True)
class Alias:
    """Images of ``upstream`` are pulled through ``registry``, in repositories below ``path``."""

    upstream: str
    registry: str
    path: Repository

    @classmethod
    def parse(cls, upstream: str, prefix: str) -> Self:
        """Read an entry such as ``docker.io`` and ``registry.example.com/f/docker.io``.

        Raises:
            ValueError: the first is not a registry, or the second not a registry with a path.
        """
        host, path = images.split_host(prefix)
        try:
            return cls(images.registry_of(upstream), images.registry_of(host), Repository.parse(path))
        except (InvalidImage, OciError) as error:
            how = "write HOST/PATH such as registry.example.com/f/docker.io"
            raise ValueError(f"{upstream!r} cannot be named {prefix!r} ({error}); {how}") from None

    def pattern(self, pattern: ImagePattern) -> ImagePattern:
        """The pattern that covers the same images under their pull-through names."""
        return replace(pattern, registry=self.registry, repository=pattern.repository.below(self.path))


def aliases_of(pull_through: Mapping[str, str], registries: Sequence[str] = ()) -> tuple[Alias, ...]:
    """Read `admission.pull_through`. Raises like `Alias.parse`.

    Args:
        pull_through: prefixes of names, by upstream registry.
        registries: the names of this registry, all of which have the same repositories.
    """
    written = [Alias.parse(upstream, prefix) for upstream, prefix in pull_through.items()]
    everywhere = (replace(alias, registry=name) for alias in written for name in (alias.registry, *registries))
    return tuple(dict.fromkeys(everywhere))


def with_aliases(policy: Policy, aliases: Sequence[Alias]) -> Policy:
    """The policy, with patterns that cover images under all their names."""
    if not aliases:
        return policy
    rules = tuple(replace(rule, patterns=tuple(_patterns(rule.patterns, aliases))) for rule in policy.rules)
    exceptions = tuple(replace(each, patterns=tuple(_patterns(each.patterns, aliases))) for each in policy.exceptions)
    return replace(policy, rules=rules, exceptions=exceptions)


def _patterns(patterns: Sequence[ImagePattern], aliases: Sequence[Alias]) -> Iterator[ImagePattern]:
    for pattern in patterns:
        yield pattern
        for alias in aliases:
            if covers_registry(pattern.registry, alias.upstream):
                yield alias.pattern(pattern)
