"""The changes to a Pod before it is stored: only where a policy asks for them, and only to Pods.

A tool that owns a Deployment (Argo CD, Flux) would undo a change of it again and again; the controller of a Pod does
not compare. Each `replace` operation comes after a `test`, so a Pod that another webhook has changed meanwhile stays as
it is.
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

# StatefulSets and DaemonSets label their Pods with the revision of the template; a Deployment has a ReplicaSet for each
# revision.
_REVISION: Final = "controller-revision-hash"
# The API server has not validated the object yet, so what is stored of it is bounded: a uid (RFC 9562), and the value
# of a label.
_UID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_LABEL: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", re.ASCII)


class Mutation:
    """Answers reviews of the mutating webhook. It allows every object; the validating webhook denies.

    Args:
        policies: the policies in force.
        extractor: finds images in objects.
        rewriter: rewrites their names.
        pins: keeps the digests of the Pods of one owner.
        recorder: records what was pinned.
        metrics: counts reviews.
        preflight: None if policies are not compiled.
        deadline: seconds for all pins of a review together.
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
        """The patches. A Pod that cannot be changed is left to the validating webhook."""
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
        mutations = self._policies.rules().mutations(request.namespace)
        names = [use.text for use in request.uses]
        if mutations.pull_through:
            names = self._rewriter.renamed(names)
        if mutations.pin_digests:
            tags, names = names, await self._pinned(review, names, source_of(origin.address))
            if pinned := [name for name in names if name not in tags]:
                self._recorder.pinned(review, origin, pinned)
        if self._preflight is not None:
            await self._preflight.check(review, request, names, origin)
        return tuple(_patches_of(request.uses, names))

    async def _pinned(self, review: Review, texts: Sequence[str], source: str) -> list[str]:
        """The names, pinned to the digests of those images that are in this registry."""
        digests = await self._rewriter.digests(texts)
        owner = _owner(review.metadata)
        if owner is not None and is_label(review.namespace) and digests and not review.dry_run:
            digests |= await self._owner_digests(review.namespace, owner, digests, source)
        if review.old_item is not None:
            # `kubectl apply` of the same manifest has to change nothing in the Pod.
            stored = [reference_of(use.text) for use in self._extractor.uses(review.kind, review.old_item)]
            digests |= {replace(each, digest=None): each.digest for each in stored if each and each.tag and each.digest}
        return with_digests(texts, digests)

    async def _owner_digests(
        self, namespace: str, owner: str, digests: Mapping[ImageReference, Digest], source: str
    ) -> Mapping[ImageReference, Digest]:
        """The digests that the first Pod of the same owner got, as far as they are found in time."""
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


def _patches_of(uses: Sequence[ImageUse], names: Sequence[str]) -> Iterator[Patch]:
    for use, name in zip(uses, names, strict=True):
        if name != use.text:
            # The field as JSON pointer (RFC 6901); no member in it has / or ~.
            pointer = "/" + use.field.replace("[", ".").replace("]", "").replace(".", "/")
            yield Patch("test", pointer, use.text)
            yield Patch("replace", pointer, name)


def _owner(metadata: Mapping[str, object]) -> str | None:
    """The uid of the controller, and the revision of its template, which a StatefulSet or DaemonSet can change."""
    owner = controller_of(metadata)
    if owner is None or not _UID.fullmatch(owner.uid):
        return None
    labels = metadata.get("labels")
    revision = labels.get(_REVISION) if isinstance(labels, dict) else None
    if revision is None:
        return owner.uid
    return f"{owner.uid}/{revision}" if isinstance(revision, str) and _LABEL.fullmatch(revision) else None
