"""What the API server is about to refuse by itself, put on record before it does.

Compiled policies speak between the mutating webhooks and the validating ones: what they refuse is never shown to the
latter. The mutating webhook sees every Pod, so it is there that such a refusal can be written down, counted and told.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from trow.policy.verdict import ImageRequest, Rules, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from trow.admission.ports import PolicySource
    from trow.admission.review import Review
    from trow.admission.verdict_recorder import VerdictRecorder
    from trow.registry.events import Origin


class Preflight:
    """Reports Pods that the compiled policies refuse.

    A webhook of somebody else may still change such a Pod into one that is allowed; then both are on record.

    Args:
        excluded: namespaces that the compiled policies leave alone.
        clock: seconds of Unix time.
    """

    def __init__(
        self,
        policies: PolicySource,
        recorder: VerdictRecorder,
        excluded: Collection[str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._policies = policies
        self._recorder = recorder
        self._excluded = frozenset(excluded)
        self._clock = clock
        # The rules that were seen last, and as much of them as is compiled: indexes are made once.
        self._known = (Rules(), Rules())

    async def check(self, review: Review, request: ImageRequest, texts: Sequence[str], origin: Origin) -> None:
        """Report the Pod if it is about to be refused.

        Args:
            review: as it was asked.
            request: the images in question.
            texts: their names as they are changed to.
            origin: where the review came from.

        Raises:
            NotReady: the policies are not known yet.
            Unavailable: nothing may happen that is not on record, and this cannot be recorded.
        """
        if review.dry_run or request.namespace in self._excluded:
            return
        uses = tuple(replace(use, text=text) for use, text in zip(request.uses, texts, strict=True))
        changed = ImageRequest(request.namespace, uses, request.stage)
        verdict = judge(self._compiled(), changed, {}, self._clock())
        if not verdict.allowed:
            await self._recorder.verdict(review, changed, origin, verdict)

    def _compiled(self) -> Rules:
        """What the API server can decide: it knows nothing of what is in this registry."""
        rules = self._policies.rules()
        if rules is not self._known[0]:
            compiled = tuple(policy.by_name_only for policy in rules.policies)
            self._known = rules, replace(rules, policies=compiled)
        return self._known[1]
