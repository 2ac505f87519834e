"""Images that are pulled through this registry have two names; rules are about both.

Without it, whoever writes the pull-through name goes round a rule that denies the upstream registry, and a Pod whose
image was renamed on its way goes round one that allows it.
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
    """Names of ``upstream`` are, here, names of ``registry`` below ``path``."""

    upstream: str
    registry: str
    path: Repository

    @classmethod
    def parse(cls, upstream: str, prefix: str) -> Self:
        """Read an entry such as ``docker.io`` and ``registry.example.com/f/docker.io``.

        Raises:
            ValueError: it is not a registry, or not a registry with a path.
        """
        host, path = images.split_host(prefix)
        try:
            return cls(images.registry_of(upstream), images.registry_of(host), Repository.parse(path))
        except (InvalidImage, OciError) as error:
            how = "write HOST/PATH such as registry.example.com/f/docker.io"
            raise ValueError(f"{upstream!r} cannot be named {prefix!r} ({error}); {how}") from None

    def pattern(self, pattern: ImagePattern) -> ImagePattern:
        """The same images by their name here."""
        return replace(pattern, registry=self.registry, repository=pattern.repository.below(self.path))


def aliases_of(pull_through: Mapping[str, str], registries: Sequence[str] = ()) -> tuple[Alias, ...]:
    """Read `admission.pull_through`. Raises like `Alias.parse`.

    Args:
        pull_through: prefixes of names by registry.
        registries: the names of this registry: what is below one of them is below each.
    """
    written = [Alias.parse(upstream, prefix) for upstream, prefix in pull_through.items()]
    everywhere = (replace(alias, registry=name) for alias in written for name in (alias.registry, *registries))
    return tuple(dict.fromkeys(everywhere))


def under_all_names(policy: Policy, aliases: Sequence[Alias]) -> Policy:
    """The policy, all of which is about images by all their names."""
    if not aliases:
        return policy
    rules = tuple(replace(rule, patterns=_named(rule.patterns, aliases)) for rule in policy.rules)
    exceptions = tuple(replace(each, patterns=_named(each.patterns, aliases)) for each in policy.exceptions)
    return replace(policy, rules=rules, exceptions=exceptions)


def _named(patterns: Sequence[ImagePattern], aliases: Sequence[Alias]) -> tuple[ImagePattern, ...]:
    return tuple(each for pattern in patterns for each in _patterns(pattern, aliases))


def _patterns(pattern: ImagePattern, aliases: Sequence[Alias]) -> Iterator[ImagePattern]:
    yield pattern
    for alias in aliases:
        if covers_registry(pattern.registry, alias.upstream):
            yield alias.pattern(pattern)
