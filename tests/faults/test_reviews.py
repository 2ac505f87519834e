"""Reviews that nobody has authenticated: what they can cost."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import pytest

from faults.process import memory
from support.admission import Answer, body, pod
from support.server import Trow
from support.wire import Wire, request

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB: Final = 2**20
OURS: Final = "registry.example.com/team/web:1"
JSON: Final = [("Content-Type", "application/json")]
CONFIG: Final[dict[str, Any]] = {
    "image_validation": {"default": "Deny", "allow": ["registry.example.com"]},
    "admission": {"on_registry_addresses": True},
    "listen": {"trusted_proxies": ["127.0.0.1"]},
}


@pytest.fixture
def trow(tmp_path: Any) -> Iterator[Trow]:
    with Trow.start(tmp_path, config=CONFIG) as trow:
        yield trow


def from_address(address: str) -> list[tuple[str, str]]:
    return [*JSON, ("X-Forwarded-For", address)]


def allowed(host: str, address: str = "10.0.0.1") -> bool:
    with Wire(host) as wire:
        answer = wire.ask("POST", "/admission/validate", from_address(address), body(pod(OURS)))
    assert answer.status == 200, answer
    return Answer.of(answer.body).allowed


@pytest.mark.parametrize(
    ("path", "sources", "size"),
    [
        ("/admission/validate", 1, 5 * MIB),
        ("/validate-image", 60, 5 * MIB),
        ("/admission/mutate", 60, 60_000),
    ],
)
def test_unfinished_bodies_cost_no_memory_and_keep_out_nobody(trow: Trow, path: str, sources: int, size: int) -> None:
    """60 of them, from one address or from as many; each is all there but for its last byte."""
    assert allowed(trow.host)
    before = memory(trow.process.pid)
    unfinished = b" " * size
    with contextlib.ExitStack() as stack:

        def send(number: int) -> None:
            whole = request("POST", path, from_address(f"10.1.{number % sources}.1"), unfinished)
            stack.enter_context(Wire(trow.host)).send_what_it_takes(whole[:-1])

        with ThreadPoolExecutor(60) as pool:
            [*pool.map(send, range(60))]
        assert allowed(trow.host)
        # Bodies have 42 MiB; what the last ones had may not have been given back yet, and connections buffer 38 MiB.
        assert memory(trow.process.pid) - before < (42 + 42 + 38) * MIB + 10 * MIB


def test_a_source_that_has_its_share_is_told_so_and_others_are_not(trow: Trow) -> None:
    headers = [*from_address("10.1.1.1"), ("Content-Length", str(MIB)), ("Expect", "100-continue")]
    head = request("POST", "/admission/validate", headers)
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            wire = stack.enter_context(Wire(trow.host))
            wire.send(head)
            wire.wait_until_read()
        third = stack.enter_context(Wire(trow.host))
        third.send(head)
        answer = third.answer("POST")
        assert answer.status in (429, 503)
        assert int(answer.headers["retry-after"][0]) > 0
        large = body(pod(OURS), options={"x": "y" * MIB})
        beside = stack.enter_context(Wire(trow.host))
        answer = beside.ask("POST", "/admission/validate", from_address("10.2.2.2"), large)
        assert Answer.of(answer.body).allowed


def test_a_body_that_is_too_large_is_not_waited_for(trow: Trow) -> None:
    head = request("POST", "/admission/validate", [*JSON, ("Content-Length", str(8 * MIB))])
    with Wire(trow.host) as wire:
        wire.send(head)
        assert wire.answer("POST").status == 413


def test_a_body_that_takes_too_long_ends(trow: Trow) -> None:
    """However evenly its bytes come."""
    head = request("POST", "/admission/validate", [*JSON, ("Content-Length", "60000")])
    with Wire(trow.host) as wire:
        wire.send(head)
        answer = wire.answer("POST")
    assert answer.status == 408
