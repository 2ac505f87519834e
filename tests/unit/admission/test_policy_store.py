"""The policies in force."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.policies import CLUSTER_POLICY, EXCEPTION, document, exception, policy
from trow.admission.policy_store import PolicyStore
from trow.admission.ports import NotConfigured, NotReady
from trow.policy import configured
from trow.policy import resources as manifests
from trow.policy.rules import Effect
from trow.policy.verdict import Rules

if TYPE_CHECKING:
    from trow.policy.rules import Policy

CONFIGURED = configured.policy_of(Effect.DENY, ["registry.example.com"], [])
POLICY = manifests.policy_of(document(CLUSTER_POLICY, policy()))
INCIDENT = manifests.exception_of(document(EXCEPTION, exception()), 0.0)


def test_the_configuration_alone() -> None:
    book = PolicyStore(CONFIGURED, following=False)
    assert not book.waiting
    assert book.rules() == Rules((CONFIGURED,))


def test_without_any_policy_nobody_is_told_that_all_is_well() -> None:
    book = PolicyStore(None, following=False)
    assert not book.waiting
    with pytest.raises(NotConfigured, match=r"image_validation\.default"):
        book.rules()


@pytest.mark.parametrize("given", [None, CONFIGURED])
def test_policies_of_the_cluster_are_waited_for(given: Policy | None) -> None:
    """Those of the configuration alone might allow more than all together."""
    book = PolicyStore(given, following=True)
    assert book.waiting
    with pytest.raises(NotReady, match="not been read"):
        book.rules()


def test_policies_of_the_cluster_add_to_the_configuration() -> None:
    book = PolicyStore(CONFIGURED, following=True)
    book.replace([POLICY], [INCIDENT])
    assert not book.waiting
    assert book.rules() == Rules((CONFIGURED, POLICY), (INCIDENT,))


def test_a_cluster_without_policies_is_one() -> None:
    book = PolicyStore(None, following=True)
    book.replace([], [])
    assert book.rules() == Rules()


def test_the_latest_word_counts() -> None:
    book = PolicyStore(None, following=True)
    book.replace([POLICY], [INCIDENT])
    before = book.rules()
    book.replace([], [])
    assert book.rules() == Rules()
    assert before == Rules((POLICY,), (INCIDENT,))
