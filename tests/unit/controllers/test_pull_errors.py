"""What the kubelet's words mean."""

from __future__ import annotations

import shlex
from typing import Final

import pytest

from trow.controllers.pull_errors import CAUSES, Cause, cause_of, words_of

IMAGE: Final = f"registry.example.com/team-a/app@sha256:{'403404429503401'.ljust(64, '0')}"


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("unexpected status from HEAD request: 401 Unauthorized", "the node sends no credentials"),
        ("unexpected status from HEAD request: 503 Service Unavailable", "the registry has too much to do"),
        ("dial tcp 10.0.0.7:443: connect: connection refused", "nobody listens"),
    ],
)
def test_the_digest_of_an_image_says_nothing_about_the_cause(said: str, means: str) -> None:
    assert cause_of(f'failed to pull "{IMAGE}"') is None
    cause = cause_of(f'failed to pull "{IMAGE}": {said}')
    assert cause is not None
    assert cause.means.startswith(means)


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.means)
def test_every_text_can_be_filled_in(cause: Cause) -> None:
    words = words_of(IMAGE, "team-b", "ci", "node1")
    for text in (cause.means, cause.fix, cause.agent_fix):
        assert "{" not in text.format(**words)


def test_the_owner_is_the_namespace_of_the_repository() -> None:
    words = words_of(IMAGE, "team-b", "ci", "node1")
    assert (words["host"], words["owner"], words["namespace"]) == ("registry.example.com", "team-a", "team-b")


def test_a_command_that_is_copied_runs_nothing_that_an_image_is_called() -> None:
    """The API server lets a Pod name any text as its image, and a kubelet repeats it."""
    image = "registry.example.com/x; touch $(y) 'denied/app"
    cause = cause_of(f'InvalidImageName: couldn\'t parse image name "{image}"')
    assert cause is not None
    words = shlex.split(cause.fix.format(**words_of(image, "team-b", "ci", "node1")))
    assert words[:3] == ["kubectl", "create", "rolebinding"]
    assert words[words.index("--namespace") + 1] == "x; touch $(y) 'denied"
