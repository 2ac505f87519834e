"""Image policies at pull time. They also apply to static Pods, which no webhook sees."""

from __future__ import annotations

import asyncio
import functools
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NoReturn

from trow.admission.ports import NotReady
from trow.lib.caches import LruCache
from trow.oci import manifest as manifests
from trow.oci import media
from trow.oci.digest import Digest
from trow.oci.errors import Denied, Unavailable
from trow.oci.names import Tag
from trow.policy import images
from trow.policy.images import ImageReference, InvalidImage
from trow.policy.pods import ImageUse
from trow.policy.rules import Mode
from trow.policy.verdict import ImageRequest, Rules

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trow.access.identity import Identity
    from trow.admission.judge import Judge
    from trow.admission.ports import PolicySource, Tags
    from trow.admission.shared_pulls import SharedPulls
    from trow.admission.verdict_recorder import VerdictRecorder
    from trow.oci.names import Reference, Repository
    from trow.policy.verdict import Verdict
    from trow.registry.ports import ManifestRecord

# A runtime pulls the manifests of a tag by digest within this time.
PULL_SECONDS: Final = 600.0
_MOST_PULLS: Final = 20_000
# Digests of one index, so that one client's index does not displace the pulls of others.
_MOST_CHILDREN: Final = 256
_LONGEST_REASON: Final = 1024


@dataclass(frozen=True, slots=True)
class _Pull:
    """A pull that was allowed: its tag, and until when its digests may be pulled."""

    tag: Tag | None
    until: float


@dataclass(frozen=True, slots=True)
class Pullers:
    """The identities that run images, to whose pulls the policies apply."""

    users: frozenset[str]
    groups: frozenset[str]

    def include(self, identity: Identity) -> bool:
        """Whether the identity is one of them."""
        return identity.name in self.users or not self.groups.isdisjoint(identity.groups)


class PullPolicy:
    """Decides whether those who run images may pull a manifest.

    Args:
        policies: the policies in force.
        judge: evaluates them.
        recorder: counts verdicts.
        tags: finds the tags of a digest, one of which may be allowed.
        pullers: the identities to whose pulls the policies apply.
        registries: the names of this registry; the first is used for a host that is none of them.
        clock: a monotonic clock, in seconds.
        shared: what other replicas have allowed; None where there is one process.
    """

    def __init__(  # noqa: PLR0913 - one for each part that it asks
        self,
        policies: PolicySource,
        judge: Judge,
        recorder: VerdictRecorder,
        tags: Tags,
        pullers: Pullers,
        registries: Sequence[str],
        clock: Callable[[], float] = time.monotonic,
        *,
        shared: SharedPulls | None = None,
    ) -> None:
        self._policies = policies
        self._shared = shared
        self._judge = judge
        self._recorder = recorder
        self._tags = tags
        self._pullers = pullers
        self._registries = registries
        self._clock = clock
        # By user, repository and digest.
        self._pulls: LruCache[tuple[str, str, str], _Pull] = LruCache(_MOST_PULLS)
        self._rules = Rules()  # the policies by which these pulls were allowed
        self._by_name_only = Rules()  # what applies to the digests of a tag
        self._digest_denials = Rules()  # what applies to digests that were pulled without a tag
        self._by_tag = False  # whether a policy or exception depends on tags

    def concerns(self, identity: Identity) -> bool:
        """Whether the policies apply to the pulls of the identity."""
        return self._pullers.include(identity)

    async def check(
        self, identity: Identity, host: str, repository: Repository, reference: Reference, record: ManifestRecord
    ) -> None:
        """Check that the policies allow the image.

        A runtime resolves a tag first, and then pulls manifests by digest: the tag counts for these too, as long as the
        policies do not change. For a name with a tag and a digest a runtime sends only the digest: then every tag
        counts that points at the digest, or once did. A digest that a policy denies is denied under every tag.

        The namespace is not known unless the caller is the ServiceAccount of a Pod. Then the policies of the cluster
        that apply to every namespace count, whatever they exclude, and exceptions for any namespace: a node has to pull
        what they exempt.

        Args:
            identity: who pulls.
            host: the name of this registry in the request; an unknown one is that of a mirror.
            repository: the repository of the image.
            reference: the tag or digest in the request.
            record: the manifest at which the reference points.

        Raises:
            Denied: a policy does not allow the image.
            Unavailable: the policies, or the facts that they need, cannot be read now.
        """
        rules = self._current_rules()
        registry = self._registry(host)
        pull = self._pulls.get((identity.name, repository, reference)) if isinstance(reference, Digest) else None
        if pull is None or self._clock() >= pull.until:
            tag, digest = (None, reference) if isinstance(reference, Digest) else (reference, None)
            image = ImageReference(registry, repository, tag, digest)
            allowed = await self._allowed_elsewhere(identity, repository, digest)
            allowed = allowed or await self._allowed_tag(rules, identity, image)
            pull = _Pull(allowed, self._clock() + PULL_SECONDS)
        served = ImageReference(registry, repository, pull.tag, record.digest)
        remaining = self._digest_denials if pull.tag is None else self._by_name_only
        verdict = await self._verdict(remaining, identity, served)
        if not verdict.allowed:
            self._deny(verdict)
        children = await _children(record)
        for each in (record.digest, *children):
            self._pulls.put((identity.name, repository, each), pull)
        # A manifest has tags of its own, which any replica finds; those that an index names have not.
        if self._shared is not None and self._by_tag and children and isinstance(reference, Tag):
            await self._shared.tell(identity, repository, children, reference)

    async def _allowed_elsewhere(self, identity: Identity, repository: Repository, digest: Digest | None) -> Tag | None:
        if self._shared is None or digest is None or not self._by_tag:
            return None
        return await self._shared.find(identity, repository, digest)

    def _current_rules(self) -> Rules:
        try:
            rules = self._policies.rules()
        except NotReady as error:
            raise Unavailable(str(error)) from None
        if rules != self._rules:
            self._pulls.clear()
            self._rules = rules
            if self._shared is not None:
                self._shared.rules_changed()
            self._by_name_only = replace(rules, policies=tuple(each.by_name_only for each in rules.policies))
            digest_denials = (each.digest_denials for each in rules.policies)
            self._digest_denials = replace(rules, policies=tuple(each for each in digest_denials if each.rules))
            patterns = (of for each in rules.exceptions for of in each.patterns)
            self._by_tag = any(each.depends_on_tags for each in rules.policies) or any(of.by_tag for of in patterns)
        return rules

    async def _allowed_tag(self, rules: Rules, identity: Identity, image: ImageReference) -> Tag | None:
        """The tag with which the image is allowed; None if it needs none. Raises `Denied`."""
        verdict = await self._verdict(rules, identity, image)
        if not verdict.allowed and image.digest is not None and self._by_tag:
            for tag in await self._tags.tags_of(image):
                with_tag = await self._verdict(rules, identity, replace(image, tag=tag))
                if with_tag.allowed:
                    self._recorder.count(with_tag)
                    return tag
                await asyncio.sleep(0)  # let other tasks run
        if not verdict.allowed:
            self._deny(verdict)
        self._recorder.count(verdict)
        return image.tag

    async def _verdict(self, rules: Rules, identity: Identity, image: ImageReference) -> Verdict:
        namespace = identity.workload.namespace if identity.workload else ""
        request = ImageRequest(namespace, (ImageUse("", "pull", str(image)),))
        if not namespace:  # exceptions count for any namespace
            exceptions = tuple(replace(each, namespaces=each.namespaces | {""}) for each in rules.exceptions)
            rules = replace(rules, exceptions=exceptions)
        return await self._judge.judge(rules, request)

    def _deny(self, verdict: Verdict) -> NoReturn:
        self._recorder.count(verdict)
        reason = "; ".join(map(str, verdict.denials(Mode.ENFORCE)))
        # A kubelet shows only the message.
        raise Denied(f"a policy does not allow this image: {reason[:_LONGEST_REASON]}", {"reason": reason})

    def _registry(self, host: str) -> str:
        try:
            name = images.registry_of(host)
        except InvalidImage:
            name = ""
        return name if name in self._registries else self._registries[0]


async def _children(record: ManifestRecord) -> Sequence[Digest]:
    """The manifests that an index names; a large one is parsed in a thread."""
    if record.media_type not in media.INDEXES:
        return ()
    large = len(record.content) > manifests.LARGE
    read = functools.partial(manifests.parse, record.content, record.media_type)
    index = await asyncio.to_thread(read) if large else read()
    return [child.digest for child in index.children[:_MOST_CHILDREN]]
