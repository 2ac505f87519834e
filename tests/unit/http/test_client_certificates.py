"""Whose a client certificate is: no two kinds of names, and no two names, are ever the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from trow.tls.terminator import client_certificate

if TYPE_CHECKING:
    from collections.abc import Sequence

KEY = Ed25519PrivateKey.generate()
SPIFFE = "spiffe://cluster.local/ns/team-a/sa/web"


def certificate(common: str = "", uris: Sequence[str] = (), organizations: Sequence[str] = ()) -> x509.Certificate:
    names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in organizations]
    if common:
        names.append(x509.NameAttribute(NameOID.COMMON_NAME, common, _validate=False))
    subject = x509.Name(names)
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(KEY.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    if uris:
        general = [x509.UniformResourceIdentifier(uri) for uri in uris]
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
    return builder.sign(KEY, None)


def test_names_are_the_uri_or_the_common_name() -> None:
    assert client_certificate(certificate("node-1", organizations=["ops", "dev"])).organizations == ("ops", "dev")
    assert client_certificate(certificate("system:node:node-1")).name == "system:node:node-1"
    assert client_certificate(certificate("node-1", [SPIFFE])).name == SPIFFE
    assert client_certificate(certificate("", ["spiffe://a/" + "b" * 245])).name == "spiffe://a/" + "b" * 245


@pytest.mark.parametrize(
    ("common", "uris", "reason"),
    [
        (SPIFFE, [], "spells a URI"),
        ("", ["system:node:node-1"], "without '://'"),
        ("node-1", ["urn:uuid:1"], "without '://'"),
        ("", ["spiffe://a/" + "b" * 246], "over 256"),
        ("node-1", ["spiffe://a/" + "b" * 1000], "over 256"),
        ("a\nb", [], "not printable"),
        ("", [], "empty"),
    ],
)
def test_a_name_that_could_be_somebody_elses_is_none(common: str, uris: list[str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        client_certificate(certificate(common, uris))


def test_no_organization_is_left_out() -> None:
    many = [f"group-{number}" for number in range(17)]
    assert len(client_certificate(certificate("node-1", organizations=many[:16])).organizations) == 16
    with pytest.raises(ValueError, match="more than 16 organizations"):
        client_certificate(certificate("node-1", organizations=many))
