"""An authority for client certificates, which can take them back."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey


@dataclass(frozen=True)
class Certificate:
    """A client's certificate and key, PEM."""

    file: Path
    key: Path


class Authority:
    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._ca = trustme.CA()
        self.file = folder / "authority.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def issue(
        self, name: str, organization: str | None = None, *, valid: timedelta = timedelta(days=30)
    ) -> Certificate:
        """A certificate that is good for so long from now."""
        ends = datetime.now(UTC) + valid
        issued = self._ca.issue_cert("client.test", common_name=name, organization_name=organization, not_after=ends)
        stem = secrets.token_hex(4)
        certificate = Certificate(self._folder / f"{stem}.crt", self._folder / f"{stem}.key")
        certificate.file.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(certificate.key))
        return certificate

    def revoke(self, *certificates: Certificate, days: float = 1, age_days: float = 0) -> Path:
        """The list of those that are good no more; it is so old, and good for so long from its beginning."""
        now = datetime.now(UTC) - timedelta(days=age_days)
        authority = x509.load_pem_x509_certificate(self._ca.cert_pem.bytes())
        key = cast("EllipticCurvePrivateKey", load_pem_private_key(self._ca.private_key_pem.bytes(), None))
        revoked = x509.CertificateRevocationListBuilder().issuer_name(authority.subject)
        revoked = revoked.last_update(now).next_update(now + timedelta(days=days))
        for certificate in certificates:
            serial = x509.load_pem_x509_certificate(certificate.file.read_bytes()).serial_number
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            revoked = revoked.add_revoked_certificate(entry)
        path = self._folder / "revoked.pem"
        path.write_bytes(revoked.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
        return path
