"""The messages that the doctor and its guide know are those of a real containerd, whose resolver the kubelet uses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import pytest
import trustme

from support.doctor import serving
from trow.controllers.pull_errors import cause_of

if TYPE_CHECKING:
    from pathlib import Path

    from clients.daemons import Containerd
    from clients.registry import Registry


NOW: Final = datetime.now(UTC)
ABILITIES: Final = ["pull", "resolve"]


def said(containerd: Containerd, server: str, **settings: object) -> str:
    """What a pull fails with, when images of a host come from a server."""
    containerd.know("broken.example", server, capabilities=ABILITIES, **settings)
    hosts = f"--hosts-dir={containerd.hosts}"
    words = containerd.refused("images", "pull", "--snapshotter=native", hosts, "broken.example/team/app:1")
    return words.strip().splitlines()[-1]  # before it stands what it has tried first


def means(message: str) -> str:
    cause = cause_of(message)
    assert cause is not None, message
    return cause.means


def test_an_authority_that_the_node_does_not_trust(containerd: Containerd, secure: Registry) -> None:
    message = said(containerd, secure.trow.url)
    assert "x509: certificate signed by unknown authority" in message
    assert "does not trust the authority" in means(message)


def test_plain_http_where_tls_is_asked_for(containerd: Containerd, plain: Registry) -> None:
    message = said(containerd, plain.trow.url.replace("http:", "https:"))
    assert "http: server gave HTTP response to HTTPS client" in message
    assert "speaks plain HTTP" in means(message)


@pytest.mark.parametrize(
    ("names", "ends", "wording", "meaning"),
    [
        (["registry.example.com"], 9, "x509: cannot validate certificate for 127.0.0.1", "is not in the certificate"),
        (["10.0.0.7"], 9, "x509: certificate is valid for 10.0.0.7, not 127.0.0.1", "is not in the certificate"),
        (["127.0.0.1"], -1, "x509: certificate has expired or is not yet valid", "the certificate has expired"),
    ],
)
def test_a_certificate_that_is_wrong(
    containerd: Containerd, tmp_path: Path, names: list[str], ends: int, wording: str, meaning: str
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    issued = authority.issue_cert(*names, not_before=NOW - timedelta(9), not_after=NOW + timedelta(ends))
    with serving(issued) as address:
        message = said(containerd, f"https://{address}", ca=str(tmp_path / "ca.crt"))
    assert wording in message
    assert meaning in means(message)


def test_nobody_listens(containerd: Containerd) -> None:
    message = said(containerd, "http://127.0.0.1:1")
    assert "connection refused" in message
    assert "nobody listens" in means(message)


def test_a_name_without_an_address(containerd: Containerd) -> None:
    assert "finds no address" in means(said(containerd, "http://registry.invalid"))


def test_no_credentials(containerd: Containerd, private: Registry) -> None:
    message = said(containerd, private.trow.url, ca=str(private.trow.ca))
    assert "sends no credentials" in means(message)


def test_an_image_that_is_not_there(containerd: Containerd, plain: Registry) -> None:
    message = said(containerd, plain.trow.url)
    assert "not found" in message
    assert "has no such image" in means(message)


def test_too_many_requests(containerd: Containerd) -> None:
    with serving(headers={}, status=429) as address:
        message = said(containerd, f"http://{address}")
    assert "429 Too Many Requests" in message
    assert "too much to do" in means(message)
