"""The listeners that end TLS themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trow.http.capacity import capacity_of
from trow.tls.files import TlsFiles
from trow.tls.terminator import ConnectionLimit, TlsTerminator
from trow.tls.webhook_listener import WebhookListener

if TYPE_CHECKING:
    from trow.config import Config
    from trow.http.metrics import Metrics

# Certificate and key in one file, below the data directory.
_KEPT: Final = ("keys", "webhook.pem")


def client_tls_of(config: Config, metrics: Metrics) -> TlsTerminator | None:
    """The listener for client certificates, which does not listen yet; None where none is wanted."""
    settings, tls = config.listen.client_tls, config.listen.tls
    if settings is None or tls is None:
        return None
    limit = ConnectionLimit(capacity_of(config).tls_connections)
    terminator = TlsTerminator(TlsFiles(tls.certificate, tls.key), settings.client_ca, settings.crl, limit)
    if settings.crl is not None:
        metrics.add_gauge(
            "trow_client_crl_expiry_timestamp_seconds",
            "When the first list of revoked client certificates runs out, in seconds since 1970",
            lambda: terminator.revocation_ends,
        )
    return terminator


def webhook_listener_of(config: Config) -> WebhookListener | None:
    """The listener for webhooks alone, which does not listen yet; None where none is wanted."""
    settings = config.admission
    if settings.bind is None:
        return None
    limit = ConnectionLimit(capacity_of(config).tls_connections)
    if settings.tls is not None:
        return WebhookListener(TlsFiles(settings.tls.certificate, settings.tls.key), limit)
    kept = config.data_dir.joinpath(*_KEPT)
    return WebhookListener(TlsFiles(kept, kept), limit)
