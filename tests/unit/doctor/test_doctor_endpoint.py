"""The registry as clients see it: names, connections, certificates, answers, clocks. The servers are real."""

from __future__ import annotations

import socket
import time
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from typing import TYPE_CHECKING, Final

import pytest
import trustme

from support.doctor import examined, fine, problem, serving, unchecked

if TYPE_CHECKING:
    from pathlib import Path

NOW: Final = datetime.now(UTC)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(organization_name="Acme")


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    return tmp_path / "ca.crt"


# ---- dns and connection


def test_a_name_without_an_address() -> None:
    found = examined("dns", "connection", "tls", url="https://registry.invalid")
    assert problem(found, "dns").where == "registry.invalid"
    assert "registry.invalid to your DNS" in problem(found, "dns").fix
    assert unchecked(found, "connection") == "registry.invalid has no address"
    assert "has no address" in unchecked(found, "tls")


def test_a_name_that_only_the_cluster_knows() -> None:
    found = [each for each in examined("dns", url="http://trow.trow.svc:80") if "cluster's DNS" in each.what]
    assert len(found) == 1


def test_the_registry_is_not_known() -> None:
    assert "give it as --host" in unchecked(examined("dns"), "dns")


def test_nobody_listens() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        found = examined("dns", "connection", url=f"http://127.0.0.1:{held.getsockname()[1]}")
    assert fine(found, "dns").what == "is 127.0.0.1"
    assert problem(found, "connection").what == "cannot be connected to (Connection refused)"


def test_plain_http_is_asked_for_tls() -> None:
    with serving() as address:
        found = problem(examined("connection", url=f"https://{address}"), "connection")
    assert "server gave HTTP response to HTTPS client" in found.what
    assert f"use http://{address}" in found.fix


def test_tls_is_asked_for_plain_http(authority: trustme.CA) -> None:
    with serving(authority.issue_cert("127.0.0.1")) as address:
        found = problem(examined("connection", url=f"http://{address}"), "connection")
    assert found.what.startswith("speaks TLS")
    assert f"use https://{address}" in found.fix


def test_something_that_speaks_neither() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        listener.settimeout(0.01)
        found = problem(examined("connection", url=f"https://{address}"), "connection")
    assert "nobody answers within 5 s" in found.what


# ---- certificates


def test_an_authority_that_nobody_here_trusts(authority: trustme.CA) -> None:
    with serving(authority.issue_cert("127.0.0.1")) as address:
        found = problem(examined("tls", url=f"https://{address}"), "tls")
    assert '" signed the certificate' in found.what
    assert "certificate signed by unknown authority" in found.what
    assert f"/etc/docker/certs.d/{address}/ca.crt" in found.fix


def test_an_authority_that_is_given(authority: trustme.CA, ca_file: Path) -> None:
    with serving(authority.issue_cert("127.0.0.1")) as address:
        found = examined("connection", "tls", "api", url=f"https://{address}", ca_file=ca_file)
    assert "is trusted" in fine(found, "tls").what
    assert fine(found, "connection").what == "answers"
    assert fine(found, "api").what == "is a registry (200)"


def test_a_name_that_is_not_in_the_certificate(authority: trustme.CA, ca_file: Path) -> None:
    with serving(authority.issue_cert("registry.example.com", "10.0.0.7")) as address:
        found = problem(examined("tls", url=f"https://{address}", ca_file=ca_file), "tls")
    assert found.what == "127.0.0.1 is not in the certificate, which is for registry.example.com, 10.0.0.7"


@pytest.mark.parametrize(
    ("begins", "ends", "said"),
    [
        (NOW - timedelta(90), NOW - timedelta(1), "the certificate has expired on"),
        (NOW + timedelta(1), NOW + timedelta(90), "the certificate is not valid before"),
        (NOW - timedelta(90), NOW + timedelta(2), "and nothing has renewed it"),
    ],
)
def test_a_certificate_at_the_wrong_time(
    authority: trustme.CA, ca_file: Path, begins: datetime, ends: datetime, said: str
) -> None:
    certificate = authority.issue_cert("127.0.0.1", not_before=begins, not_after=ends)
    with serving(certificate) as address:
        assert said in problem(examined("tls", url=f"https://{address}", ca_file=ca_file), "tls").what


def test_plain_http_has_no_certificate() -> None:
    with serving() as address:
        assert "plain HTTP" in fine(examined("tls", url=f"http://{address}"), "tls").what


# ---- answers


def test_something_else_than_a_registry_answers() -> None:
    with serving(headers={}, status=404) as address:
        found = problem(examined("api", url=f"http://{address}"), "api")
    assert found.what == "GET /v2/ is answered 404 by something else than a registry"


def test_a_token_service_that_cannot_be_reached() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        realm = f"http://127.0.0.1:{held.getsockname()[1]}/token"
        with serving(headers=challenge(realm), status=401) as address:
            found = problem(examined("api", url=f"http://{address}"), "api")
    assert f"clients are sent to {realm} for a token, which cannot be reached" in found.what
    assert f"set listen.public_url to http://{address}" in found.fix


def test_a_token_service_without_tls_beside_a_registry_with_tls(authority: trustme.CA) -> None:
    with (
        serving() as token,
        serving(authority.issue_cert("127.0.0.1"), challenge(f"http://{token}/token"), 401) as address,
    ):
        found = problem(examined("api", url=f"https://{address}"), "api")
    assert "is not https though the registry is" in found.what
    assert "listen.trusted_proxies" in found.fix


def challenge(realm: str) -> dict[str, str]:
    asked = f'Bearer realm="{realm}",service="trow"'
    return {"Docker-Distribution-Api-Version": "registry/2.0", "WWW-Authenticate": asked}


@pytest.mark.parametrize(("ahead", "way"), [(3600, "3600 s ahead of"), (-600, "600 s behind")])
def test_a_clock_that_is_wrong(ahead: int, way: str) -> None:
    with serving(headers={"Date": formatdate(time.time() + ahead, usegmt=True)}) as address:
        found = problem(examined("clock", url=f"http://{address}"), "clock")
    assert way in rounded(found.what)


def rounded(said: str) -> str:
    """The second may be over before the answer is there."""
    return said.replace("3599 s", "3600 s").replace("601 s", "600 s").replace("599 s", "600 s")


def test_a_clock_that_is_right_and_one_that_is_not_told() -> None:
    with serving(headers={"Date": formatdate(usegmt=True)}) as address:
        fine(examined("clock", url=f"http://{address}"), "clock")
    with serving(headers={}) as address:
        assert "does not say what time" in unchecked(examined("clock", url=f"http://{address}"), "clock")
