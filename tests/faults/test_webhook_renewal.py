"""A renewed certificate of the webhooks, under the eyes of API servers that do not ask twice."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import pytest
import trustme

from support.server import Trow
from support.waiting import until
from support.webhooks import OURS, VALIDATION, CertManager, Guard, ask, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

LOADERS: Final = 3


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> CertManager:
    return CertManager(tmp_path_factory.mktemp("issuer") / "files")


@pytest.fixture(scope="module")
def guard(issuer: CertManager, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guard]:
    config = {"admission": {"bind": "127.0.0.1:0", "tls": issuer.settings}, "image_validation": VALIDATION}
    with Trow.start(tmp_path_factory.mktemp("guard"), config=config) as trow:
        yield Guard(trow, issuer.context)


def test_renewed_files_are_taken_up_and_open_connections_stay(issuer: CertManager, guard: Guard) -> None:
    with guard.wire() as wire:
        old = shown(wire)
        renewed = issuer.issue()
        guard.wait_until_shown(renewed)
        assert ask(wire, OURS)
        assert shown(wire) == old != renewed


def test_files_that_do_not_fit_together_are_not_taken(issuer: CertManager, guard: Guard) -> None:
    before = guard.certificate()
    issuer.issue(key=trustme.CA().issue_cert("127.0.0.1").private_key_pem.bytes())
    until(lambda: guard.logged("the old one stays"))
    assert guard.certificate() == before
    guard.wait_until_shown(issuer.issue())


def test_no_review_fails_while_certificates_are_renewed(issuer: CertManager, guard: Guard) -> None:
    """Neither on connections that are kept nor on new ones; nothing is tried twice."""
    done = threading.Event()
    with ThreadPoolExecutor(LOADERS) as pool:
        loaders = [pool.submit(load, guard, done, keep=number > 0) for number in range(LOADERS)]
        try:
            for _ in range(2):
                guard.wait_until_shown(issuer.issue())
        finally:
            done.set()
        assert all(loader.result() > 10 for loader in loaders)


def load(guard: Guard, done: threading.Event, *, keep: bool) -> int:
    """How many reviews were answered, each on a connection of its own or all on one."""
    answered = 0
    while not done.is_set():
        with guard.wire() as wire:
            more = True
            while more:
                assert ask(wire, OURS)
                answered += 1
                more = keep and not done.is_set()
    return answered
