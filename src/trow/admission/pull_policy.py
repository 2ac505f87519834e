"""The policies at pull time: what no webhook sees, such as static Pods, still has to come from here."""

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
    from trow.admission.verdict_recorder import VerdictRecorder
    from trow.oci.names import Reference, Repository, Tag
    from trow.policy.verdict import Verdict
    from trow.registry.ports import ManifestRecord

# What a runtime asks for after it has asked for a tag, it asks for within this time.
_FOLLOWS_SECONDS: Final = 600.0
_MOST_FOLLOWING: Final = 20_000
# Of one index: nobody pushes out with one of theirs what others have asked for.
_MOST_CHILDREN: Final = 256
_LONGEST_REASON: Final = 1024


@dataclass(frozen=True, slots=True)
class _Asked:
    """How somebody came by a digest, which an index may have named: by which tag, and until when that counts."""

    tag: Tag | None
    until: float


@dataclass(frozen=True, slots=True)
class Pullers:
    """Those who run images, whose pulls are decided."""

    users: frozenset[str]
    groups: frozenset[str]

    def include(self, identity: Identity) -> bool:
        """Whether this is one of them."""
        return identity.name in self.users or not self.groups.isdisjoint(identity.groups)


class PullPolicy:
    """Decides whether those who run images may have a manifest.

    Args:
        tags: what is asked by a digest alone may have been allowed by one of its tags.
        pullers: who they are.
        registries: the names of this registry, the one that most images have first.
        clock: any that goes forward, in seconds.
    """

    def __init__(
        self,
        policies: PolicySource,
        judge: Judge,
        recorder: VerdictRecorder,
        tags: Tags,
        pullers: Pullers,
        registries: Sequence[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policies = policies
        self._judge = judge
        self._recorder = recorder
        self._tags = tags
        self._pullers = pullers
        self._registries = registries
        self._clock = clock
        self._following: LruCache[tuple[str, str, str], _Asked] = LruCache(_MOST_FOLLOWING)
        self._rules = Rules()  # by which that was decided
        self._by_name_only = Rules()  # the same, as far as what follows a tag is concerned
        self._digest_denials = Rules()  # the same, as far as what follows a digest is concerned
        self._by_tag = False  # whether a tag makes a difference to them

    def concerns(self, identity: Identity) -> bool:
        """Whether this is somebody who runs images."""
        return self._pullers.include(identity)

    async def check(
        self, identity: Identity, host: str, repository: Repository, reference: Reference, record: ManifestRecord
    ) -> None:
        """Check that the policies let the image run.

        A runtime asks for a tag first and then for what that stands for by digest: the tag counts for those too, as
        long as the policies stay the same. Who has written a digest beside the tag, or had it written there, asks for
        the digest alone: then any tag counts that this registry vouches for beside it. Whatever it was asked by, what
        is denied by digest is not given out.

        Where the caller is not a Pod's ServiceAccount, the namespace is not known. Then all policies of the cluster
        count that are about every namespace, whatever they exclude, and exceptions for any namespace: what they let in
        has to be pulled.

        Args:
            identity: who pulls.
            host: the name of this registry in the request; another than the known ones is a mirror's.
            repository: where the image is.
            reference: as it was asked for.
            record: what that stands for.

        Raises:
            Denied: a policy is against it.
            Unavailable: the policies are not known, or what they ask for is not.
        """
        rules = self._current()
        tag, until = self._asked_before(identity, repository, reference)
        if until is None:
            tag = await self._decide(rules, identity, self._image(host, repository, reference))
            until = self._clock() + _FOLLOWS_SECONDS
        served = ImageReference(self._named(host), repository, tag, record.digest)
        verdict = await self._verdict(self._digest_denials if tag is None else self._by_name_only, identity, served)
        if not verdict.allowed:
            self._refuse(verdict)
        await self._let_follow(identity, repository, record, _Asked(tag, until))

    def _asked_before(
        self, identity: Identity, repository: Repository, reference: Reference
    ) -> tuple[Tag | None, float | None]:
        """The tag by which somebody has come by a digest, and until when that counts; None where it does not."""
        if not isinstance(reference, Digest):
            return None, None
        asked = self._following.get((identity.name, repository, reference))
        if asked is None or self._clock() >= asked.until:
            return None, None
        return asked.tag, asked.until

    def _current(self) -> Rules:
        try:
            rules = self._policies.rules()
        except NotReady as error:
            raise Unavailable(str(error)) from None
        if rules != self._rules:
            self._following.clear()
            self._rules = rules
            self._by_name_only = replace(rules, policies=tuple(each.by_name_only for each in rules.policies))
            digest_denials = (each.digest_denials for each in rules.policies)
            self._digest_denials = replace(rules, policies=tuple(each for each in digest_denials if each.rules))
            patterns = (of for each in rules.exceptions for of in each.patterns)
            self._by_tag = any(each.depends_on_tags for each in rules.policies) or any(of.by_tag for of in patterns)
        return rules

    async def _decide(self, rules: Rules, identity: Identity, image: ImageReference) -> Tag | None:
        """The tag by which the image may run; None where it takes none. Raises `Denied`."""
        verdict = await self._verdict(rules, identity, image)
        if not verdict.allowed and image.digest is not None and self._by_tag:
            for tag in await self._tags.tags_of(image):
                named = await self._verdict(rules, identity, replace(image, tag=tag))
                if named.allowed:
                    self._recorder.count(named)
                    return tag
                await asyncio.sleep(0)  # others get their turn
        if not verdict.allowed:
            self._refuse(verdict)
        self._recorder.count(verdict)
        return image.tag

    async def _verdict(self, rules: Rules, identity: Identity, image: ImageReference) -> Verdict:
        namespace = identity.workload.namespace if identity.workload else ""
        request = ImageRequest(namespace, (ImageUse("", "pull", str(image)),))
        return await self._judge.judge(rules if namespace else _anywhere(rules), request)

    def _refuse(self, verdict: Verdict) -> NoReturn:
        self._recorder.count(verdict)
        reason = "; ".join(map(str, verdict.denials(Mode.ENFORCE)))
        # Kubelets show the message alone.
        raise Denied(f"a policy does not let this image run: {reason[:_LONGEST_REASON]}", {"reason": reason})

    def _image(self, host: str, repository: Repository, reference: Reference) -> ImageReference:
        registry = self._named(host)
        if isinstance(reference, Digest):
            return ImageReference(registry, repository, None, reference)
        return ImageReference(registry, repository, reference, None)

    def _named(self, host: str) -> str:
        try:
            name = images.registry_of(host)
        except InvalidImage:
            name = ""
        return name if name in self._registries else self._registries[0]

    async def _let_follow(
        self, identity: Identity, repository: Repository, record: ManifestRecord, asked: _Asked
    ) -> None:
        for digest in (record.digest, *await _children(record)):
            self._following.put((identity.name, repository, digest), asked)


async def _children(record: ManifestRecord) -> Sequence[Digest]:
    """What an index names; beside the event loop where it is large."""
    if record.media_type not in media.INDEXES:
        return ()
    large = len(record.content) > manifests.LARGE
    read = functools.partial(manifests.parse, record.content, record.media_type)
    index = await asyncio.to_thread(read) if large else read()
    return [child.digest for child in index.children[:_MOST_CHILDREN]]


def _anywhere(rules: Rules) -> Rules:
    """With exceptions that count where no namespace is known."""
    exceptions = tuple(replace(each, namespaces=each.namespaces | {""}) for each in rules.exceptions)
    return replace(rules, exceptions=exceptions)
