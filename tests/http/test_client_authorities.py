"""Authorities and revocation lists of client certificates while the server runs."""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from clients.authority import Authority
from support.server import Tls, Trow
from support.waiting import until
from support.wire import ConnectionEnded, Wire, request
from trow.tls.files import TlsFiles
from trow.tls.terminator import TlsTerminator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clients.authority import Certificate

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Demanding:
    """A registry that demands certificates of an authority, none of which is revoked at first."""

    trow: Trow
    authority: Authority
    ca: Path

    def lets_in(self, certificate: Certificate) -> bool:
        context = ssl.create_default_context(cafile=self.trow.ca)
        context.load_cert_chain(certificate.file, certificate.key)
        try:
            with Wire(self.trow.urls[1].partition("://")[2], context) as wire:
                wire.send_what_it_takes(request("GET", "/v2/"))
                return wire.answer().status == 200
        except (OSError, ConnectionEnded):
            return False


@pytest.fixture
def demanding(tmp_path: Path) -> Iterator[Demanding]:
    authority = Authority(tmp_path / "authority")
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.file.read_bytes())
    demanded = {"bind": "127.0.0.1:0", "client_ca": str(ca), "crl": str(authority.revoke())}
    with Trow.start(tmp_path, tls=True, config={"listen": {"client_tls": demanded}}) as trow:
        yield Demanding(trow, authority, ca)


def test_a_list_is_read_again_and_a_broken_one_is_not_used(demanding: Demanding) -> None:
    lost, kept = demanding.authority.issue("lost"), demanding.authority.issue("kept")
    assert demanding.lets_in(lost)
    path = demanding.authority.revoke(lost)
    until(lambda: not demanding.lets_in(lost))
    assert demanding.lets_in(kept)
    path.write_text("no list")
    until(lambda: b"the old one stays" in demanding.trow.stderr.read_bytes())
    assert demanding.lets_in(kept)
    assert not demanding.lets_in(lost)


def test_authorities_are_read_again(demanding: Demanding, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")
    newcomer = other.issue("newcomer")
    assert not demanding.lets_in(newcomer)
    path = demanding.authority.revoke()
    path.write_bytes(path.read_bytes() + other.revoke().read_bytes())
    demanding.ca.write_bytes(demanding.ca.read_bytes() + other.file.read_bytes())
    until(lambda: demanding.lets_in(newcomer))


def test_past_its_time_a_list_lets_nobody_in(demanding: Demanding) -> None:
    anybody = demanding.authority.issue("anybody")
    assert demanding.lets_in(anybody)
    demanding.authority.revoke(age_days=2)
    until(lambda: not demanding.lets_in(anybody))
    demanding.authority.revoke()
    until(lambda: demanding.lets_in(anybody))


@pytest.mark.parametrize(("age", "warned"), [(0.0, 0), (0.7, 0), (0.8, 1), (2.0, 1)])
def test_a_list_that_runs_out_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, age: float, warned: int
) -> None:
    authority = Authority(tmp_path / "authority")
    crl = authority.revoke(age_days=age)
    tls = Tls.issue(tmp_path / "tls")
    terminator = TlsTerminator(TlsFiles(tls.certificate, tls.key), authority.file, crl)
    for _ in range(3):
        terminator.warn_before_expiry(time.time())
    assert len(caplog.records) == warned
    assert abs(terminator.revocation_ends - (time.time() + (1 - age) * 86400)) < 60
    asyncio.run(terminator.reload())
    terminator.warn_before_expiry(time.time())
    assert len(caplog.records) == 2 * warned
