"""The certificate by which the API server knows Trow's webhooks, kept in the cluster and renewed there.

All replicas share one Secret, and any of them does what is due: the second one finds that the Secret has changed
and reads it again. There is no leader. What callers have to trust is in the configurations of the webhooks
(``caBundle``), and every replica sees to it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
from msgspec import Struct

from trow.kube.errors import BadAnswer, Conflict, Forbidden, Invalid, KubeRefused
from trow.kube.objects import PatchType
from trow.kube.owner import OwnerRole
from trow.lib.failures import FailureLog
from trow.oci.errors import Unavailable
from trow.tls.authority import PARTS, Certificates, Lifetimes, reconciled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from trow.kube.objects import Manifest, Objects
    from trow.tls.authority import Leaf

log = logging.getLogger(__name__)

_REGISTRATION: Final = "/apis/admissionregistration.k8s.io/v1"
_KINDS: Final = {
    "validatingwebhookconfigurations": "ValidatingWebhookConfiguration",
    "mutatingwebhookconfigurations": "MutatingWebhookConfiguration",
}
_TYPE: Final = "kubernetes.io/tls"
_TRIES: Final = 5
# How long an API server may take to learn of a change is not said anywhere; it is a second or two.
_PROPAGATION_SECONDS: Final = 60.0
_RECONCILE_SECONDS: Final = 10.0

_Shape = TypeVar("_Shape", bound=Struct)


@dataclass(frozen=True, slots=True)
class CertificatePlan:
    """What is kept, and where.

    Attributes:
        namespace, secret: of the Secret.
        names: those by which the API server calls.
        configuration: the name of the webhook configurations that trust the authority, in both kinds; None: of none.
        lifetimes: of what is issued.
        owner: the ClusterRole with which the Secret goes, "" for none.
    """

    namespace: str
    secret: str
    names: Sequence[str]
    configuration: str | None
    lifetimes: Lifetimes = field(default_factory=Lifetimes)
    owner: str = ""

    @property
    def propagation(self) -> float:
        """Seconds after which every API server has learnt of a new authority."""
        return min(_PROPAGATION_SECONDS, self.lifetimes.certificate / 6)

    @property
    def interval(self) -> float:
        """Seconds from one turn to the next."""
        return min(_RECONCILE_SECONDS, self.lifetimes.certificate / 15)


class _ClientConfig(Struct, rename="camel"):
    ca_bundle: str = ""


class _Webhook(Struct, rename="camel"):
    name: str
    client_config: _ClientConfig


class _Configuration(Struct):
    webhooks: list[_Webhook] | None = None


class _Metadata(Struct, rename="camel"):
    resource_version: str


class _Secret(Struct):
    metadata: _Metadata
    data: dict[str, str] | None = None


class WebhookCertificates:
    """Keeps the certificate of the webhooks. `run` goes on until it is cancelled.

    Args:
        objects: the API.
        plan: what is kept.
        install: called at each turn with what is to be presented from now on.
        clock: seconds of Unix time.

    Attributes:
        bundle: the authorities that callers trust, PEM; b"" while there are none.
    """

    def __init__(
        self,
        objects: Objects,
        plan: CertificatePlan,
        install: Callable[[Leaf], Awaitable[None]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._failures = FailureLog(
            log,
            "the webhooks' certificate cannot be renewed; the present one stays",
            "the webhooks' certificate is renewed again",
        )
        self._objects = objects
        self._plan = plan
        self._owner = OwnerRole(objects, plan.owner)
        self._install = install
        self._clock = clock
        self._secrets = f"/api/v1/namespaces/{plan.namespace}/secrets"
        self._title = f"Secret {plan.namespace}/{plan.secret}"
        self.bundle = b""
        self._changed_at = 0.0
        self._refusal: KubeRefused | Unavailable | None = None

    @property
    def failing(self) -> str:
        """Why it cannot be kept, "" while it can."""
        return self._failures.reason

    async def run(self) -> None:
        """Keep the certificate and the bundle up to date, until cancelled."""
        while True:
            try:
                await self.reconcile()
            except (KubeRefused, Unavailable) as error:
                self._failures.fail(error.message)
            except OSError as error:
                self._failures.fail(f"it cannot be written: {error}")
            except Exception:
                log.exception("the webhooks' certificate could not be renewed")
            else:
                self._failures.succeed()
            # The pause differs each time, so that replicas do not do this at the same moment.
            await asyncio.sleep(random.uniform(0.5, 1.0) * self._plan.interval)  # noqa: S311 - no secret

    async def reconcile(self) -> None:
        """Do one turn of work.

        Raises:
            KubeRefused: the API server does not allow it; the message says which right is missing.
            Unavailable: the API server does not answer.
        """
        current = await self._current()
        try:
            if current.leaf is not None:
                await self._install(current.leaf)
        finally:
            if current.bundle != self.bundle:
                await self._publish(current.bundle)
        if self._refusal is not None:
            raise self._refusal

    # ---- the Secret

    async def _current(self) -> Certificates:
        for _ in range(_TRIES):
            try:
                return await self._reconciled_secret()
            except Conflict:
                log.debug("%s was changed by another replica; it is read again", self._title)
            except Forbidden as error:
                raise Unavailable(
                    f"{self._title} cannot be kept: {error.message}; bind a Role in namespace {self._plan.namespace}"
                    f" with get and patch on secrets (resourceNames: [{self._plan.secret}]), and with create as long"
                    " as the Secret is not there"
                ) from None
        raise Unavailable(f"{self._title} is changed again and again by somebody else; see what else writes it")

    async def _reconciled_secret(self) -> Certificates:
        found = await self._objects.get(f"{self._secrets}/{self._plan.secret}")
        secret = None if found is None else _read(found, _Secret, self._title)
        encoded = (secret.data if secret else None) or {}
        parts = {name: _decoded(encoded.get(name, "")) for name in PARTS}
        present, wrong = Certificates.read(parts)
        for sentence in wrong:
            log.warning("%s: %s; what is missing is issued again", self._title, sentence)
        if present.authorities:
            await self._publish(present.bundle)
        now, plan = self._clock(), self._plan
        propagated = present.bundle == self.bundle and now >= self._changed_at + plan.propagation
        wanted = reconciled(present, now, plan.names, plan.lifetimes, propagated=propagated)
        if wanted.parts == parts:
            return wanted
        await self._write(secret, wanted)
        if wanted.authorities and wanted.authorities[-1] not in present.authorities:
            log.info(
                "%s: there is a new authority; it issues certificates once every API server trusts it", self._title
            )
        if wanted.leaf is not None and wanted.leaf != present.leaf:
            log.info("%s: there is a new certificate for the webhooks", self._title, extra={"expires": wanted.leaf.end})
        return wanted

    async def _write(self, present: _Secret | None, wanted: Certificates) -> None:
        data = {name: base64.b64encode(part).decode() for name, part in wanted.parts.items()}
        if present is None:
            metadata = {"name": self._plan.secret, "labels": {"app.kubernetes.io/managed-by": "trow"}}
            secret = {"apiVersion": "v1", "kind": "Secret", "type": _TYPE, "metadata": metadata, "data": data}
            await self._objects.create(self._secrets, await self._owner.owned(secret))
            return
        # With the version that was read, so that it fails if another replica was faster.
        change: Manifest = {"metadata": {"resourceVersion": present.metadata.resource_version}, "data": data}
        await self._objects.patch(f"{self._secrets}/{self._plan.secret}", change, PatchType.MERGE)

    # ---- the configurations

    async def _publish(self, bundle: bytes) -> None:
        """Write these authorities to the configurations, and note whether they were there already."""
        encoded = base64.b64encode(bundle).decode()
        before, self.bundle, self._refusal = self.bundle, b"", None
        changed = bundle != before
        for kind in _KINDS if self._plan.configuration is not None else ():
            try:
                changed |= await self._set_bundle(kind, encoded)
            except (KubeRefused, Unavailable) as error:
                self._refusal = self._refusal or error
        if self._refusal is None:
            self.bundle = bundle
        if changed:
            self._changed_at = self._clock()

    async def _set_bundle(self, kind: str, encoded: str) -> bool:
        """Write the bundle into one configuration; whether it was another one before, or may have been."""
        path = f"{_REGISTRATION}/{kind}/{self._plan.configuration}"
        found = await self._objects.get(path)
        if found is None:
            return False
        webhooks = _read(found, _Configuration, path).webhooks or ()
        change = [
            operation
            for number, webhook in enumerate(webhooks)
            if webhook.client_config.ca_bundle != encoded
            for operation in (
                # Somebody may have added or removed a webhook since.
                {"op": "test", "path": f"/webhooks/{number}/name", "value": webhook.name},
                {"op": "add", "path": f"/webhooks/{number}/clientConfig/caBundle", "value": encoded},
            )
        ]
        if not change:
            return False
        try:
            await self._objects.patch(path, change, PatchType.JSON)
        except Invalid as error:
            raise Unavailable(f"{path} was changed meanwhile: {error.message}; try again") from None
        log.info("%s %s trusts the webhooks' certificate now", _KINDS[kind], self._plan.configuration)
        return True


def _decoded(part: str) -> bytes:
    """A part of the Secret; one that is not base64 is read as it is, and is not usable."""
    try:
        return base64.b64decode(part, validate=True)
    except binascii.Error:
        return part.encode()


def _read(manifest: Manifest, kind: type[_Shape], where: str) -> _Shape:
    try:
        return msgspec.convert(manifest, kind)
    except msgspec.ValidationError as error:
        raise BadAnswer(
            f"the Kubernetes API server shows something unexpected as {where} ({error}); see what writes it"
        ) from None
