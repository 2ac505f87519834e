"""Records the Pods that compiled policies will deny.

The API server evaluates compiled policies after the mutating webhooks and before the validating ones, which never see
what it denies. So the mutating webhook, which sees every Pod, records, counts and reports these denials.
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
    """Records Pods that the compiled policies will deny.

    Another webhook may still change such a Pod into one that is allowed; then there is a record of both.

    Args:
        policies: the policies in force.
        recorder: records the verdicts.
        excluded: namespaces to which the compiled policies do not apply.
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
        # The policies of the last review, and what is compiled of them, so that indexes are built once.
        self._compiled = (Rules(), Rules())

    async def check(self, review: Review, request: ImageRequest, texts: Sequence[str], origin: Origin) -> None:
        """Record the Pod if the compiled policies will deny it.

        Args:
            review: the review of the mutating webhook.
            request: the images of the Pod.
            texts: their new names.
            origin: where the review came from.

        Raises:
            NotReady: the policies are not known yet.
            Unavailable: the verdict cannot be recorded.
        """
        if review.dry_run or request.namespace in self._excluded:
            return
        uses = tuple(replace(use, text=text) for use, text in zip(request.uses, texts, strict=True))
        changed = ImageRequest(request.namespace, uses, request.stage)
        rules = self._policies.rules()
        if rules is not self._compiled[0]:
            self._compiled = rules, replace(rules, policies=tuple(each.by_name_only for each in rules.policies))
        verdict = judge(self._compiled[1], changed, {}, self._clock())
        if not verdict.allowed:
            await self._recorder.verdict(review, changed, origin, verdict)
