from __future__ import annotations

import logging

import pytest

from support.clock import Clock
from trow.lib.failures import SECONDS_BETWEEN_REASONS, FailureLog


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lamp(clock: Clock, caplog: pytest.LogCaptureFixture) -> FailureLog:
    caplog.set_level(logging.INFO)
    return FailureLog(logging.getLogger("trow.test"), "the lamp is dark", "the lamp shines again", clock=clock)


def test_a_failure_that_goes_on_is_logged_once(lamp: FailureLog, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        lamp.fail("no oil")
    assert caplog.messages == ["the lamp is dark: no oil"]
    assert lamp.reason == "no oil"


def test_reasons_that_differ_each_time_are_logged_once_in_a_minute(
    lamp: FailureLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    lamp.fail("no oil")
    for number in range(100):
        lamp.fail(f"no wick {number}")
    assert caplog.messages == ["the lamp is dark: no oil"]
    assert lamp.reason == "no wick 99"
    clock.now += SECONDS_BETWEEN_REASONS
    lamp.fail("no wick 100")
    lamp.fail("no wick 101")
    assert caplog.messages == ["the lamp is dark: no oil", "the lamp is dark: no wick 100"]


def test_the_end_of_a_failure_is_logged_once_and_the_next_failure_again(
    lamp: FailureLog, caplog: pytest.LogCaptureFixture
) -> None:
    lamp.succeed()
    lamp.fail("no oil")
    lamp.succeed()
    lamp.succeed()
    assert lamp.reason == ""
    lamp.fail("no oil")
    assert caplog.messages == ["the lamp is dark: no oil", "the lamp shines again", "the lamp is dark: no oil"]


def test_an_error_without_words_is_named_by_its_kind(lamp: FailureLog, caplog: pytest.LogCaptureFixture) -> None:
    lamp.fail(TimeoutError())
    assert caplog.messages == ["the lamp is dark: TimeoutError"]
