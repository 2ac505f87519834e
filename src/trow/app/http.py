"""The HTTP interface: who may send a request, and what answers it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trow.http.access import AccessController
from trow.http.challenge import Challenge
from trow.http.handlers.api import Api
from trow.http.handlers.blobs import BlobHandlers
from trow.http.handlers.lists import Lists
from trow.http.handlers.manifests import ManifestBodies
from trow.http.handlers.token import TokenService
from trow.http.handlers.v2 import V2
from trow.http.recorder import Recorder
from trow.http.routes import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trow.app.admission import AdmissionPart
    from trow.app.audit import AuditPart
    from trow.app.identity import Identities
    from trow.app.registry import RegistryPart
    from trow.config import Config
    from trow.controllers.nodes import NodeReader
    from trow.http.handlers.ops import Operations
    from trow.http.routes import Endpoint


def access_of(config: Config, registry: RegistryPart, identities: Identities, audit: AuditPart) -> AccessController:
    """Who sends a request, and whether they may."""
    bearer, public_url = config.auth.challenge == "bearer", config.listen.public_url or ""
    challenge = Challenge(bearer=bearer, public_url=public_url, service=config.tokens.service)
    recorder = Recorder(audit.trail, registry.transfers)
    return AccessController(identities.authenticator, identities.authorizer, registry.metadata, recorder, challenge)


def routes_of(  # noqa: PLR0913, PLR0917 - one for each part that routes lead to
    config: Config,
    access: AccessController,
    registry: RegistryPart,
    identities: Identities,
    audit: AuditPart,
    admission: AdmissionPart,
    nodes: NodeReader | None,
    operations: Operations,
) -> Sequence[Endpoint]:
    """The route table with its handlers."""
    browse, recorder, pulls = registry.browse, access.recorder, admission.pulls
    lists = Lists(config.limits.page_size, config.limits.max_page_size)
    bodies = ManifestBodies(config.registry.max_manifest_size)
    tokens = TokenService(
        access,
        identities.authorizer,
        identities.tokens,
        recorder,
        generation=registry.metadata.generation,
        anonymous=identities.authenticator is None or config.allows_anonymous,
    )
    return table(
        V2(registry.pull, registry.publish, browse, access, recorder, bodies=bodies, lists=lists, pulls=pulls),
        BlobHandlers(registry.pull, registry.push, access, recorder),
        tokens,
        Api(browse, audit.records, access, recorder, lists, nodes),
        admission.handlers,
        operations,
    )
