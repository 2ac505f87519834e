"""Certificates as credentials: the listener that demands them, and what is behind it."""

from __future__ import annotations

import random
import re
import socket
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import pytest
import urllib3

from clients.authority import Authority, Certificate
from clients.image import TAG, image
from clients.registry import ALICE, Registry
from conformance.summary import JUDGE
from factories import digest_of
from support.server import Trow
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from clients.drivers import Connect

CLIENTS: Final = ("buildah", "ctr", "helm", "oras", "podman", "regctl", "skopeo")
LARGE: Final = 64 << 20
REQUESTS: Final = 300
# TLS 1.3: a client learns only after its handshake that its certificate is refused, by whichever call comes first.
CUT_OFF: Final = re.compile(
    r"remote error: tls|EOF|reset by peer|broken pipe|conn could not be established|server closed idle connection"
)


@dataclass(frozen=True)
class Guarded:
    """A registry with a listener for client certificates, and certificates for it."""

    trow: Trow
    puller: Certificate
    pusher: Certificate
    revoked: Certificate
    foreign: Certificate

    def seen(self, certificate: Certificate | None) -> Registry:
        """The registry through that listener, by whoever has the certificate."""
        return Registry(self.trow, url=self.trow.urls[1], certificate=certificate)

    @property
    def owner(self) -> Registry:
        """The registry through its other listener, with a password."""
        return Registry(self.trow, ALICE)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    authority, other = Authority(folder / "authority"), Authority(folder / "other")
    puller, revoked = authority.issue("node-1"), authority.issue("node-1")
    demanded = {
        "bind": "127.0.0.1:0",
        "client_ca": str(authority.file),
        "crl": str(authority.revoke(revoked)),
    }
    rules = [
        {"users": ["certificate:node-1"], "actions": ["pull"]},
        {"groups": ["certificate:builders"], "actions": ["pull", "push"]},
    ]
    config = {"listen": {"client_tls": demanded}, "access": {"rules": rules}}
    with Trow.start(folder, tls=True, user=(ALICE.name, ALICE.password), config=config) as trow:
        yield Guarded(trow, puller, authority.issue("build-7", "builders"), revoked, other.issue("node-1"))


def test_a_rule_about_a_certificates_name_lets_its_holder_pull_and_no_more(guarded: Guarded, repository: str) -> None:
    made = image(repository)
    guarded.owner.push(repository, made, TAG)
    node = guarded.seen(guarded.puller)
    assert node.complete(repository, TAG).digest == made.digest
    refused = node.request("POST", f"/v2/{repository}/blobs/uploads/")
    assert (refused.status, refused.json()["errors"][0]["code"]) == (403, "DENIED")


def test_a_rule_about_a_certificates_organization_lets_its_members_push(guarded: Guarded, repository: str) -> None:
    builder = guarded.seen(guarded.pusher)
    builder.push(repository, image(repository), TAG)
    assert builder.complete(repository, TAG).digest == image(repository).digest


@pytest.mark.parametrize("whose", ["nobody's", "another authority's", "revoked"])
def test_without_a_good_certificate_there_is_no_connection(guarded: Guarded, whose: str) -> None:
    shown = {"nobody's": None, "another authority's": guarded.foreign, "revoked": guarded.revoked}[whose]
    with pytest.raises((urllib3.exceptions.SSLError, urllib3.exceptions.ProtocolError)):
        guarded.seen(shown).request("GET", "/healthz")
    assert guarded.seen(guarded.puller).request("GET", "/healthz").status == 200


def test_the_operator_is_told_why_there_is_no_connection(guarded: Guarded) -> None:
    with pytest.raises((urllib3.exceptions.SSLError, urllib3.exceptions.ProtocolError)):
        guarded.seen(guarded.revoked).request("GET", "/healthz")
    until(lambda: any("certificate revoked" in line and '"client":"127.0.0.1"' in line for line in refusals(guarded)))


def refusals(guarded: Guarded) -> list[str]:
    """What the log says of connections that did not come about."""
    return [line for line in guarded.trow.stderr.read_text("utf-8").splitlines() if "no valid certificate" in line]


def test_a_client_that_has_said_all_still_gets_its_answer(guarded: Guarded) -> None:
    context = ssl.create_default_context(cafile=guarded.trow.ca)
    context.load_cert_chain(guarded.puller.file, guarded.puller.key)
    address = urlsplit(guarded.trow.urls[1])
    with (
        socket.create_connection((str(address.hostname), address.port or 0), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
    ):
        secured.sendall(b"GET /healthz HTTP/1.1\r\nhost: trow\r\nconnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: secured.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_a_connection_keeps_its_identity_and_two_do_not_mix(guarded: Guarded, repository: str) -> None:
    guarded.owner.push(repository, image(repository), TAG)
    manifest, uploads = f"/v2/{repository}/manifests/{TAG}", f"/v2/{repository}/blobs/uploads/"
    node, builder = guarded.seen(guarded.puller), guarded.seen(guarded.pusher)
    for _ in range(REQUESTS // 3):
        assert node.request("GET", manifest).status == 200
        assert node.request("POST", uploads).status == 403
        started = builder.request("POST", uploads)
        assert started.status == 202
        assert builder.request("DELETE", started.headers["Location"]).status == 204
    assert (node.connections, builder.connections) == (1, 1)


def test_a_password_counts_before_the_certificate(guarded: Guarded, repository: str) -> None:
    node = guarded.seen(guarded.puller)
    headers = urllib3.make_headers(basic_auth=f"{ALICE.name}:{ALICE.password}")
    assert node.request("POST", f"/v2/{repository}/blobs/uploads/", headers=headers).status == 202
    wrong = urllib3.make_headers(basic_auth=f"{ALICE.name}:wrong")
    assert node.request("GET", "/v2/", headers=wrong).status == 401


def test_a_token_for_a_certificate_is_good_at_the_other_listener(guarded: Guarded, repository: str) -> None:
    guarded.owner.push(repository, image(repository), TAG)
    answer = guarded.seen(guarded.puller).request("GET", f"/token?service=trow&scope=repository:{repository}:pull,push")
    assert answer.json()["scope"] == f"repository:{repository}:pull"
    bearer = {"Authorization": f"Bearer {answer.json()['token']}"}
    anybody = Registry(guarded.trow)
    assert anybody.request("GET", f"/v2/{repository}/manifests/{TAG}").status == 401
    assert anybody.request("GET", f"/v2/{repository}/manifests/{TAG}", headers=bearer).status == 200


def test_a_large_blob_goes_through_both_ways(
    guarded: Guarded, repository: str, record_property: Callable[[str, object], None]
) -> None:
    content = random.Random(repository).randbytes(LARGE)
    rates = {}
    for way, registry in (("with a certificate", guarded.seen(guarded.pusher)), ("without", guarded.owner)):
        name = f"{repository}/{way.partition(' ')[0]}"
        began = time.perf_counter()
        pushed = registry.request("POST", f"/v2/{name}/blobs/uploads/?digest={digest_of(content)}", body=content)
        sent = time.perf_counter()
        assert pushed.status == 201, pushed.data
        assert registry.request("GET", f"/v2/{name}/blobs/{digest_of(content)}").data == content
        rates[way] = [f"{LARGE / 2**20 / seconds:.0f}" for seconds in (sent - began, time.perf_counter() - sent)]
    told = "; ".join(f"{up} up and {down} down {way}" for way, (up, down) in rates.items())
    record_property(JUDGE, f"client certificates, 64 MiB, MiB/s: {told}")


@pytest.mark.parametrize("client", CLIENTS)
def test_clients_push_and_pull_with_a_certificate_alone(
    guarded: Guarded, client: str, connect: Connect, repository: str
) -> None:
    driver = connect(client, guarded.seen(guarded.pusher))
    said = driver.push_refused(repository)
    assert CUT_OFF.search(said), said
    driver.know_certificate(guarded.pusher)
    driver.push(repository)
    assert driver.pull(repository) == guarded.owner.complete(*driver.pushed(repository)).digest
