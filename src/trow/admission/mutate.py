"""What is changed in a Pod before it is stored: only where a policy asks for it, and only in Pods.

Whoever owns a Deployment (Argo CD, Flux) would change it back forever; nobody owns a Pod but its controller, which
does not compare. Each change is preceded by a test, so that a Pod that somebody else changed meanwhile is left alone.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from trow.admission.image_rewriter import with_digests
from trow.admission.ports import NotReady
from trow.admission.review import AdmissionResponse, Patch
from trow.lib.dns_names import is_label
from trow.lib.kube_objects import controller_of
from trow.lib.source import source_of
from trow.oci.errors import OciError
from trow.policy.changes import reference_of
from trow.policy.pods import UnreadableObject

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from trow.admission.image_extractor import ImageExtractor
    from trow.admission.image_rewriter import ImageRewriter
    from trow.admission.ports import AdmissionMetrics, Pins, PolicySource
    from trow.admission.preflight import Preflight
    from trow.admission.review import Review
    from trow.admission.verdict_recorder import VerdictRecorder
    from trow.oci.digest import Digest
    from trow.policy.images import ImageReference
    from trow.policy.pods import ImageUse
    from trow.registry.events import Origin

log = logging.getLogger(__name__)

# What the controllers of StatefulSets and DaemonSets write on each Pod, as that of a Deployment makes a new ReplicaSet.
_REVISION: Final = "controller-revision-hash"
# What is kept is bounded, and nobody has checked the object yet: a uid as the API server gives it (RFC 9562), a name
# of a namespace (RFC 1123), the value of a label.
_UID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_LABEL: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", re.ASCII)


class Mutation:
    """Answers reviews of the mutating webhook; it never refuses anything, which is what the validating one is for.

    Args:
        preflight: None where nothing is compiled.
        deadline: seconds, for all pins of a review together.
    """

    def __init__(  # noqa: PLR0913 - the composition root's one call
        self,
        policies: PolicySource,
        extractor: ImageExtractor,
        rewriter: ImageRewriter,
        pins: Pins,
        recorder: VerdictRecorder,
        metrics: AdmissionMetrics,
        preflight: Preflight | None = None,
        *,
        deadline: float,
    ) -> None:
        self._policies = policies
        self._extractor = extractor
        self._rewriter = rewriter
        self._pins = pins
        self._recorder = recorder
        self._metrics = metrics
        self._preflight = preflight
        self._deadline = deadline

    async def answer(self, review: Review, origin: Origin) -> AdmissionResponse:
        """The changes, if any. What cannot be changed is left for the validating webhook to judge."""
        began = time.perf_counter()
        try:
            return AdmissionResponse(allowed=True, patches=await self._patches(review, origin))
        except (NotReady, UnreadableObject):
            return AdmissionResponse(allowed=True)
        except Exception:
            log.exception("a Pod could not be changed", extra={"object": review.title})
            return AdmissionResponse(
                allowed=True, warnings=("the images were not pinned; the log of the registry says why",)
            )
        finally:
            self._metrics.reviewed("mutate", time.perf_counter() - began)

    async def _patches(self, review: Review, origin: Origin) -> tuple[Patch, ...]:
        request = await self._extractor.requested(review) if review.kind.is_pod else None
        if request is None:
            return ()
        asked = self._policies.rules().mutations(request.namespace)
        wanted = [use.text for use in request.uses]
        if asked.pull_through:
            wanted = self._rewriter.renamed(wanted)
        if asked.pin_digests:
            names, wanted = wanted, await self._pinned(review, wanted, source_of(origin.address))
            if pinned := [name for name in wanted if name not in names]:
                self._recorder.pinned(review, origin, pinned)
        if self._preflight is not None:
            await self._preflight.check(review, request, wanted, origin)
        return tuple(_changes(request.uses, wanted))

    async def _pinned(self, review: Review, texts: Sequence[str], source: str) -> list[str]:
        """The same names, with the digests of those that are here: by what they are pulled, not by what was written."""
        digests = await self._rewriter.digests(texts)
        owner = _owner(review.metadata)
        if owner is not None and is_label(review.namespace) and digests and not review.dry_run:
            digests |= await self._kept(review.namespace, owner, digests, source)
        return with_digests(texts, {**digests, **self._stored(review)})

    def _stored(self, review: Review) -> Mapping[ImageReference, Digest]:
        """What the tags stand for in the Pod as it is: applying its manifest once more changes nothing in it."""
        if review.old_item is None:
            return {}
        old = [reference_of(use.text) for use in self._extractor.uses(review.kind, review.old_item)]
        return {replace(image, digest=None): image.digest for image in old if image and image.tag and image.digest}

    async def _kept(
        self, namespace: str, owner: str, digests: Mapping[ImageReference, Digest], source: str
    ) -> Mapping[ImageReference, Digest]:
        """What the tags stood for when the first Pod of the same owner was made, where that is found in time."""
        kept: dict[ImageReference, Digest] = {}
        try:
            async with asyncio.timeout(self._deadline):
                for image, digest in digests.items():
                    kept[image] = await self._pins.pin(namespace, owner, str(image), digest, source)
        except (TimeoutError, OciError):
            log.warning(
                "a digest could not be kept for the Pods of one owner", extra={"namespace": namespace, "owner": owner}
            )
        return kept


def _changes(uses: Sequence[ImageUse], wanted: Sequence[str]) -> Iterator[Patch]:
    for use, text in zip(uses, wanted, strict=True):
        if text != use.text:
            at = _pointer(use.field)
            yield Patch("test", at, use.text)
            yield Patch("replace", at, text)


def _owner(metadata: Mapping[str, object]) -> str | None:
    """What makes the Pod, and by which of its templates: of a StatefulSet or DaemonSet those change, not its uid."""
    owner = controller_of(metadata)
    if owner is None or not _UID.fullmatch(owner.uid):
        return None
    labels = metadata.get("labels")
    revision = labels.get(_REVISION) if isinstance(labels, dict) else None
    if revision is None:
        return owner.uid
    return f"{owner.uid}/{revision}" if isinstance(revision, str) and _LABEL.fullmatch(revision) else None


def _pointer(field: str) -> str:
    """A field such as ``spec.containers[0].image`` as JSON pointer (RFC 6901); no member in it has ``/`` or ``~``."""
    return "/" + field.replace("[", ".").replace("]", "").replace(".", "/")
