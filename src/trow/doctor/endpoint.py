"""The registry as its clients see it: name, connection, certificate, answers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import NameOID

from trow.doctor.findings import NotCheckedError, ok, problem
from trow.doctor.place import CONNECT_SECONDS, get, is_inside
from trow.lib.handshake import NoHandshakeError, certificate_of, distrust, trust_of
from trow.lib.http_client import HttpError
from trow.lib.threads import aside
from trow.tls.authority import names_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from trow.doctor.findings import Diagnosis
    from trow.doctor.place import Place
    from trow.lib.http_client import Answer

_REALM: Final = re.compile(r'realm="([^"]+)"', re.IGNORECASE)
_VERSION: Final = "Docker-Distribution-Api-Version"
_SOON_SECONDS: Final = 7 * 86400
_CLOCK_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class RegistryAnswers:
    """What is found at an address.

    Attributes:
        addresses: of the name.
        trouble: why it cannot be found or connected to.
        certificate: what it shows, in DER; b"" without TLS.
        distrusted: why that is not trusted here, in OpenSSL's words.
        plain: whether it answers to plain HTTP.
        answer: to GET /v2/.
        realm, realm_trouble: where clients are sent for a token, and why they cannot go there.
    """

    url: str
    now: float
    addresses: tuple[str, ...] = ()
    trouble: str = ""
    certificate: bytes = b""
    distrusted: str = ""
    plain: bool = False
    answer: Answer | None = None
    realm: str = ""
    realm_trouble: str = ""

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        parts = urlsplit(self.url)
        return parts.port or (80 if parts.scheme == "http" else 443)

    @property
    def host_port(self) -> str:
        """As names of images have it."""
        return urlsplit(self.url).netloc

    @property
    def reached(self) -> RegistryAnswers:
        """Raises `NotCheckedError` where nobody answers."""
        if self.trouble:
            raise NotCheckedError(f"{self.url} {self.trouble}")
        return self


async def endpoint(place: Place) -> RegistryAnswers:
    """The endpoint of the registry, looked at once."""
    url = await place.url()

    async def look() -> RegistryAnswers:
        return await look_at(url, place.options.ca_file)

    return await place.once("endpoint", look)


async def look_at(url: str, ca_file: Path | None) -> RegistryAnswers:
    """Find out what is at an address, without credentials."""
    bare = RegistryAnswers(url, time.time())
    try:
        found = await aside(lambda: socket.getaddrinfo(bare.host, bare.port, type=socket.SOCK_STREAM))
    except OSError as error:
        return RegistryAnswers(url, bare.now, trouble=f"has no address ({error.strerror!s})")
    addresses = tuple(dict.fromkeys(str(each[4][0]) for each in found))
    try:
        shown, why = await _certificate(bare, addresses, ca_file)
    except OSError as error:
        return RegistryAnswers(url, bare.now, addresses, trouble=f"cannot be connected to ({reason(error)})")
    answer = await _answer(f"{'https' if shown else 'http'}://{bare.host_port}/v2/")
    challenge = answer.headers.get("WWW-Authenticate", "") if answer else ""
    realm = _REALM.search(challenge) if challenge.lower().startswith("bearer ") else None
    trouble = await _realm_trouble(realm[1]) if realm else ""
    plain = answer is not None and not shown
    return RegistryAnswers(
        url, time.time(), addresses, "", shown, why, plain, answer, realm[1] if realm else "", trouble
    )


async def _certificate(at: RegistryAnswers, addresses: Sequence[str], ca_file: Path | None) -> tuple[bytes, str]:
    for address in addresses:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                shown = await certificate_of(address, at.port, at.host)
                return shown, await distrust(address, at.port, at.host, trust_of(ca_file))
        except NoHandshakeError:
            return b"", ""
        except OSError:
            if address == addresses[-1]:
                raise
    raise NotCheckedError(f"{at.host} has no address")


def reason(error: OSError) -> str:
    """Why a connection fails, for people."""
    if isinstance(error, TimeoutError):
        return f"nobody answers within {CONNECT_SECONDS:g} s"
    return os.strerror(error.errno) if error.errno else str(error)


async def _answer(url: str) -> Answer | None:
    with contextlib.suppress(HttpError):
        return await get(url)
    return None


async def _realm_trouble(url: str) -> str:
    try:
        answer = await get(url)
    except HttpError as error:
        return str(error)
    return f"answers {answer.status}" if answer.status >= HTTPStatus.NOT_FOUND else ""


# ---- checks


async def check_name(place: Place) -> AsyncIterator[Diagnosis]:
    """Has the name an address, also for nodes?"""
    at = await endpoint(place)
    if is_inside(at.host):
        yield problem(
            "is a name of the cluster's DNS, which nodes do not ask when they pull",
            at.host,
            "give the registry a name outside of the cluster, or a NodePort:"
            " helm upgrade trow deploy/helm/trow --namespace trow --reset-then-reuse-values"
            " --set host=registry.example.com",
        )
    if not at.addresses:
        yield problem(
            at.trouble, at.host, f"add {at.host} to your DNS, or for a trial to /etc/hosts here and on each node"
        )
    elif not is_inside(at.host):
        yield ok(f"is {', '.join(at.addresses)}", at.host)


async def check_connection(place: Place) -> AsyncIterator[Diagnosis]:
    """Is it reached, by the scheme that it speaks?"""
    at = await endpoint(place)
    if not at.addresses:
        raise NotCheckedError(f"{at.host} has no address")
    wants_tls = at.url.startswith("https")
    if at.trouble:
        yield problem(
            at.trouble,
            at.url,
            "see that Trow is ready and which ports lead to it: kubectl get pods,services,ingresses --namespace trow",
        )
    elif wants_tls and not at.certificate:
        fix = f"use http://{at.host_port}, and tell clients so, or give Trow a certificate (tls.source, listen.tls)"
        if not at.plain:
            fix = "see which port is the registry's: kubectl get services,ingresses --namespace trow"
        speaks = "speaks plain HTTP" if at.plain else "speaks neither TLS nor HTTP"
        yield problem(f"{speaks}; clients say: server gave HTTP response to HTTPS client", at.url, fix)
    elif at.certificate and not wants_tls:
        yield problem(
            "speaks TLS; plain HTTP is refused there",
            at.url,
            f"use https://{at.host_port}, also in hosts.toml of nodes",
        )
    elif at.answer is None:
        yield problem(
            "takes connections and does not answer", at.url, "see the log: kubectl logs --namespace trow trow-0"
        )
    else:
        yield ok("answers", at.url)


async def check_trust(place: Place) -> AsyncIterator[Diagnosis]:
    """Is the certificate one that clients accept?"""
    at = (await endpoint(place)).reached
    if not at.certificate:
        yield ok("has no certificate: it is plain HTTP, which docker and containerd have to be told", at.url)
        return
    certificate = x509.load_der_x509_certificate(at.certificate)
    left = certificate.not_valid_after_utc.timestamp() - at.now
    if at.distrusted:
        yield problem(*_distrusted(at, certificate))
    elif left < soon(certificate):
        yield problem(
            f"the certificate ends on {_day(certificate)}, and nothing has renewed it",
            at.url,
            "see what should: kubectl get certificates --all-namespaces; without cert-manager, write another one to the"
            " files of listen.tls, or delete the Secret of tls.source=generated and upgrade the release",
        )
    else:
        yield ok(f"is trusted: {issuer(certificate)} signed it until {_day(certificate)}", at.url)


def _distrusted(at: RegistryAnswers, certificate: x509.Certificate) -> tuple[str, str, str]:
    why = at.distrusted.lower()
    if "mismatch" in why or "not valid for" in why:
        names = ", ".join(names_in(certificate)) or "no name at all"
        fix = "add the name to it (tls.dnsNames of the chart; dnsNames of the Certificate), or use one of those names"
        return f"{at.host} is not in the certificate, which is for {names}", at.url, fix
    if "expired" in why:
        fix = "renew it: see kubectl get certificates --all-namespaces, or write another one to the files of listen.tls"
        return f"the certificate has expired on {_day(certificate)}", at.url, fix
    if "not yet valid" in why:
        fix = "set the clock of this machine: timedatectl status"
        return f"the certificate is not valid before {certificate.not_valid_before_utc.date()}", at.url, fix
    what = (
        f"{issuer(certificate)} signed the certificate, and this machine does not trust that authority"
        f" ({at.distrusted}); clients say: certificate signed by unknown authority"
    )
    fix = (
        "take the authority's certificate (tls.source=generated: kubectl get secret trow-tls --namespace trow"
        " --output 'jsonpath={.data.ca\\.crt}' | base64 --decode > ca.crt), try it with trow doctor --ca-file,"
        f" and give it to docker as /etc/docker/certs.d/{at.host_port}/ca.crt and to nodes as `ca` in hosts.toml"
    )
    return what, at.url, fix


async def check_api(place: Place) -> AsyncIterator[Diagnosis]:
    """Is it a registry, and does the way to a token work?"""
    at = (await endpoint(place)).reached
    answer = at.answer
    if answer is None:
        raise NotCheckedError(f"{at.url} does not answer")
    downgraded = at.url.startswith("https:") and at.realm.startswith("http:")
    if answer.headers.get(_VERSION) is None:
        yield problem(
            f"GET /v2/ is answered {answer.status} by something else than a registry",
            at.url,
            "see where the Ingress, Gateway or proxy sends /v2/, and that the Service has endpoints:"
            " kubectl get endpointslices --namespace trow",
        )
    elif at.realm and (at.realm_trouble or downgraded):
        yield problem(
            f"clients are sent to {at.realm} for a token, which"
            f" {at.realm_trouble or 'is not https though the registry is'}; logins and pulls fail there",
            at.url,
            f"set listen.public_url to {at.url}, or name the proxy in listen.trusted_proxies",
        )
    else:
        yield ok(f"is a registry ({answer.status})" + (f", tokens are at {at.realm}" if at.realm else ""), at.url)


async def check_clock(place: Place) -> AsyncIterator[Diagnosis]:
    """Is the registry's clock that of this machine?"""
    at = (await endpoint(place)).reached
    date = at.answer.headers.get("Date", "") if at.answer else ""
    try:
        ahead = parsedate_to_datetime(date).timestamp() - at.now
    except ValueError:
        raise NotCheckedError(f"{at.url} does not say what time it is there") from None
    yield clock("the registry", at.url, ahead, "this machine")


def clock(who: str, where: str, ahead: float, than: str, behind: float = _CLOCK_SECONDS) -> Diagnosis:
    """Judge how many seconds a clock is ahead of another one."""
    if -behind <= ahead <= _CLOCK_SECONDS:
        return ok(f"{who} has the time of {than}", where)
    way = "ahead of" if ahead > 0 else "behind"
    return problem(
        f"the clock of {who} is {abs(ahead):.0f} s {way} {than}'s: tokens and certificates seem expired or too new",
        where,
        "synchronise both, and see with: timedatectl status",
    )


# ---- certificates


def soon(certificate: x509.Certificate) -> float:
    """With how many seconds left a certificate should have been renewed."""
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return min(_SOON_SECONDS, life.total_seconds() / 10)


def issuer(certificate: x509.Certificate) -> str:
    """Who has signed it, by a name for people."""
    if certificate.issuer == certificate.subject:
        return "nobody but itself"
    kinds = (NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.ORGANIZATION_NAME)
    named = (str(each.value) for kind in kinds for each in certificate.issuer.get_attributes_for_oid(kind))
    return f'"{next(named, certificate.issuer.rfc4514_string())}"'


def _day(certificate: x509.Certificate) -> str:
    return certificate.not_valid_after_utc.date().isoformat()
