"""A certificate authority of Trow's own and the certificate that it issues, renewed without a gap.

Callers trust the authorities of a bundle, and learn of another bundle later than it is published. So a new authority is
first only published, beside the old one. It issues when every caller has had the time to learn of it. The old one
leaves the bundle when the last certificate that it issued has expired (RFC 5280).
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Self, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

# What the parts are called in a Secret; two of them are those of the type kubernetes.io/tls.
CA_CERTIFICATES: Final = "ca.crt"
CA_KEYS: Final = "ca.key"
CERTIFICATE: Final = "tls.crt"
KEY: Final = "tls.key"
PREVIOUS: Final = "previous.crt"
PARTS: Final = (CA_CERTIFICATES, CA_KEYS, CERTIFICATE, KEY, PREVIOUS)

DAY: Final = 86400.0
# Clocks differ: what is issued now is good also for those whose clocks are behind.
_SKEW: Final = timedelta(minutes=5)
# With a third of its life left it is renewed.
_LAST_PART: Final = 3
_PEM: Final = re.compile(rb"-----BEGIN ([A-Z ]+)-----[^-]*-----END [A-Z ]+-----")
_UNUSABLE: Final = (ValueError, TypeError, UnsupportedAlgorithm)

Parts: TypeAlias = "Mapping[str, bytes]"


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """For how long, in seconds, an authority and its certificates are good.

    Attributes:
        grace: for so long after its end a certificate may still be in use somewhere.
    """

    authority: float = 365 * DAY
    certificate: float = 30 * DAY
    grace: float = 300.0


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority; one without a key issues no more."""

    certificate: x509.Certificate
    key: EllipticCurvePrivateKey | None = field(default=None, repr=False, compare=False)

    @classmethod
    def make(cls, now: float, life: float) -> Self:
        """Make a new authority."""
        key = generate_private_key(SECP256R1())
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        # Two of them in one bundle are told apart by their names.
        name = _name(f"Trow webhooks {own.digest.hex()[:8]}")
        builder = _builder(name, name, key, now, _time(now + life))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
        return cls(builder.add_extension(own, critical=False).sign(key, hashes.SHA256()), key)

    @property
    def end(self) -> float:
        """Until when it is good, in seconds of Unix time."""
        return _end(self.certificate)

    def issued(self, certificate: x509.Certificate) -> bool:
        """Whether a certificate is of this authority."""
        try:
            certificate.verify_directly_issued_by(self.certificate)
        except (*_UNUSABLE, InvalidSignature):
            return False
        return True

    def issue(self, names: Sequence[str], now: float, life: float) -> Leaf:
        """A new certificate for a server of these names, no longer good than the authority itself.

        Raises:
            ValueError: there is no key to issue with.
        """
        if self.key is None:
            raise ValueError("this authority has no key any more")
        key = generate_private_key(SECP256R1())
        builder = _builder(self.certificate.subject, _name("Trow webhooks"), key, now, _time(min(now + life, self.end)))
        extensions: Sequence[tuple[x509.ExtensionType, bool]] = (
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_usage(signs_certificates=False), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
            (x509.SubjectAlternativeName([*map(_general_name, names)]), False),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False),
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return Leaf(builder.sign(self.key, hashes.SHA256()), key)


@dataclass(frozen=True, slots=True)
class Leaf:
    """What a server presents, and its key."""

    certificate: x509.Certificate
    key: EllipticCurvePrivateKey = field(repr=False, compare=False)

    @classmethod
    def read(cls, certificate: bytes, key: bytes) -> Self:
        """Read both from PEM; the two may stand in one text.

        Raises:
            ValueError: they cannot be read or do not belong together.
        """
        try:
            found = x509.load_pem_x509_certificate(certificate)
            (private,) = _keys(key)
        except _UNUSABLE:
            raise ValueError("there is no certificate with its key in PEM") from None
        if _public(found.public_key()) != _public(private.public_key()):
            raise ValueError("certificate and key do not belong together")
        return cls(found, private)

    @property
    def end(self) -> float:
        """Until when it is good, in seconds of Unix time."""
        return _end(self.certificate)

    @property
    def pem(self) -> bytes:
        """Certificate and key in one text, so that neither is ever seen without the other."""
        return _certificate_pem(self.certificate) + _key_pem(self.key)

    def covers(self, names: Sequence[str]) -> bool:
        """Whether it is good for all these names."""
        return set(map(_general_name, names)) <= set(map(_general_name, self.names))

    @property
    def names(self) -> Sequence[str]:
        """The names that it is good for."""
        return names_in(self.certificate)


@dataclass(frozen=True, slots=True)
class Certificates:
    """All that there is at one moment.

    Attributes:
        authorities: those to be trusted, the oldest first; the last one is to issue from now on, or soon.
        leaf: what the server presents.
        previous: the last certificate of the authority that issued before, as long as it is good.
    """

    authorities: tuple[Authority, ...] = ()
    leaf: Leaf | None = None
    previous: x509.Certificate | None = None

    @classmethod
    def read(cls, parts: Parts) -> tuple[Self, Sequence[str]]:
        """What is written in a Secret, as far as it can be used, and a sentence for whatever cannot."""
        wrong: list[str] = []
        authorities, leaf, previous = _authorities(parts, wrong), None, None
        certificate, key = parts.get(CERTIFICATE, b""), parts.get(KEY, b"")
        try:
            leaf = Leaf.read(certificate, key) if certificate or key else None
        except ValueError as error:
            wrong.append(f"{CERTIFICATE} and {KEY} cannot be used: {error}")
        try:
            previous = x509.load_pem_x509_certificate(parts[PREVIOUS]) if parts.get(PREVIOUS) else None
        except _UNUSABLE:
            wrong.append(f"{PREVIOUS} is not a certificate in PEM")
        if leaf is not None and not any(each.issued(leaf.certificate) for each in authorities):
            wrong.append(f"{CERTIFICATE} is of no authority in {CA_CERTIFICATES}")
        return cls(authorities, leaf, previous), wrong

    @property
    def parts(self) -> dict[str, bytes]:
        """The data of a Secret; what does not exist is empty."""
        keys = [each.key for each in self.authorities if each.key is not None]
        return {
            CA_CERTIFICATES: self.bundle,
            CA_KEYS: b"".join(map(_key_pem, keys)),
            CERTIFICATE: _certificate_pem(self.leaf.certificate) if self.leaf else b"",
            KEY: _key_pem(self.leaf.key) if self.leaf else b"",
            PREVIOUS: _certificate_pem(self.previous) if self.previous else b"",
        }

    @property
    def bundle(self) -> bytes:
        """What callers have to trust, in PEM."""
        return b"".join(_certificate_pem(each.certificate) for each in self.authorities)


def names_in(certificate: x509.Certificate) -> Sequence[str]:
    """The names and addresses that a certificate is for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return (*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress)))


def reconciled(
    present: Certificates, now: float, names: Sequence[str], lifetimes: Lifetimes, *, propagated: bool
) -> Certificates:
    """The certificates that are needed now.

    Args:
        present: those that exist.
        now: seconds of Unix time.
        names: those of the server.
        lifetimes: of what is made now.
        propagated: whether every caller has known the last authority for long enough.
    """
    kept = _without_expired(present, now, lifetimes)
    last = kept.authorities[-1] if kept.authorities else None
    if last is None or last.key is None or last.end - now <= lifetimes.authority / _LAST_PART:
        fresh = Authority.make(now, lifetimes.authority)
        kept, propagated = replace(kept, authorities=(*kept.authorities, fresh)), False
    return _with_current_leaf(kept, now, names, lifetimes, propagated=propagated)


def _without_expired(given: Certificates, now: float, lifetimes: Lifetimes) -> Certificates:
    before = now - lifetimes.grace
    previous = given.previous if given.previous is not None and _end(given.previous) > before else None
    leaf = given.leaf.certificate if given.leaf else None
    in_use = [each for each in (leaf, previous) if each and _end(each) > before]
    needed = tuple(
        each
        for each in given.authorities
        if each.end > now and (each is given.authorities[-1] or any(map(each.issued, in_use)))
    )
    return replace(given, authorities=needed, previous=previous)


def _with_current_leaf(
    given: Certificates, now: float, names: Sequence[str], lifetimes: Lifetimes, *, propagated: bool
) -> Certificates:
    newest, leaf = given.authorities[-1], given.leaf
    present = next((each for each in given.authorities if leaf and each.issued(leaf.certificate)), None)
    if leaf is None or present is None or leaf.end <= now:
        # Nobody accepts what there is.
        return _with_leaf(given, newest, newest.issue(names, now, lifetimes.certificate))
    issuer = newest if propagated else present
    due = leaf.end - now < lifetimes.certificate / _LAST_PART and issuer.end > leaf.end
    if issuer.key is None or (issuer is present and not due and leaf.covers(names)):
        return given
    # While replicas are told of other names one after the other, those of all of them are needed.
    wanted = names if leaf.covers(names) else [*dict.fromkeys([*names, *leaf.names])]
    return _with_leaf(given, issuer, issuer.issue(wanted, now, lifetimes.certificate))


def _with_leaf(given: Certificates, issuer: Authority, leaf: Leaf) -> Certificates:
    """Authorities before the issuer issue no more, and lose their keys."""
    older = [*itertools.takewhile(lambda each: each is not issuer, given.authorities)]
    authorities = (*(Authority(each.certificate) for each in older), *given.authorities[len(older) :])
    last = given.leaf.certificate if given.leaf else None
    previous = last if last is not None and not issuer.issued(last) else given.previous
    return Certificates(authorities, leaf, previous)


def _authorities(parts: Parts, wrong: list[str]) -> tuple[Authority, ...]:
    found = parts.get(CA_CERTIFICATES, b"")
    if not found:
        return ()
    try:
        certificates = x509.load_pem_x509_certificates(found)
    except _UNUSABLE:
        wrong.append(f"{CA_CERTIFICATES} is not made of certificates in PEM")
        return ()
    keys: dict[bytes, EllipticCurvePrivateKey] = {}
    try:
        keys = {_public(key.public_key()): key for key in _keys(parts.get(CA_KEYS, b""))}
    except _UNUSABLE:
        wrong.append(f"{CA_KEYS} is not made of private keys in PEM")
    authorities = tuple(Authority(each, keys.get(_public(each.public_key()))) for each in certificates)
    if authorities[-1].key is None:
        wrong.append(f"{CA_KEYS} does not have the key of the last authority in {CA_CERTIFICATES}")
    return authorities


def _keys(pem: bytes) -> Iterator[EllipticCurvePrivateKey]:
    for block in _PEM.finditer(pem):
        if block[1].endswith(b"PRIVATE KEY"):
            key = load_pem_private_key(block[0], password=None)
            if not isinstance(key, EllipticCurvePrivateKey):
                raise TypeError("this is another kind of key")
            yield key


def _builder(
    issuer: x509.Name, subject: x509.Name, key: EllipticCurvePrivateKey, now: float, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_time(now) - _SKEW)
        .not_valid_after(end)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _general_name(name: str) -> x509.GeneralName:
    """A name as certificates have it; equal ones are the same name."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name.lower())


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds), tz=UTC)


def _end(certificate: x509.Certificate) -> float:
    return certificate.not_valid_after_utc.timestamp()


def _certificate_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _public(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
