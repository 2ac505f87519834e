"""The webhooks by which the API server asks Trow: whether it can, and what stops when it cannot."""

from __future__ import annotations

import base64
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509

from trow.controllers.webhooks import probe_event
from trow.doctor.endpoint import soon
from trow.doctor.findings import lacking, ok, problem, unchecked
from trow.kube.errors import Forbidden, KubeRefused
from trow.lib.kube_objects import labels, listing, mapping, object_name, objects_in, text
from trow.oci.errors import Unavailable
from trow.policy.selectors import LabelRequirement, Operator, Selector
from trow.policy.webhooks import PROBE_ANSWER, REGISTRATION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence

    from trow.doctor.findings import Diagnosis
    from trow.doctor.place import Place, Setup
    from trow.kube.objects import Manifest

KINDS: Final = ("validatingwebhookconfigurations", "mutatingwebhookconfigurations")
_SYSTEM: Final = "kube-system"
_FAILED: Final = re.compile(r'failed calling webhook "(?P<name>[^"]+)": (?P<why>.*)', re.DOTALL)
_AGAIN: Final = "Trow writes it again, complete, when the API server reaches it: kubectl delete {} {}"


@dataclass(frozen=True, slots=True)
class WebhookFacts:
    """One way on which the API server calls.

    Attributes:
        service: NAMESPACE/NAME; "" where it calls a URL.
        pods: whether it is about Pods.
        fail: whether what it is about fails while nobody answers.
    """

    kind: str
    configuration: str
    name: str
    service: str
    url: str
    bundle: bytes
    pods: bool
    fail: bool
    selector: Selector

    @property
    def where(self) -> str:
        return f"{self.kind.removesuffix('s')}/{self.configuration}, {self.name}"


def _selector(written: Mapping[str, object]) -> Selector:
    exact = mapping(written.get("matchLabels"))
    wanted = [{"key": key, "operator": "In", "values": [value]} for key, value in exact.items()]
    return Selector(
        tuple(
            LabelRequirement(
                text(each.get("key")), Operator(each.get("operator")), tuple(map(text, listing(each.get("values"))))
            )
            for each in (*wanted, *objects_in(written, "matchExpressions"))
        )
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """Everything about the webhooks of one cluster.

    Attributes:
        webhooks: those of any Trow.
        name: of the configurations that this Trow keeps; "" where it keeps none.
        service: that leads to this Trow, as NAMESPACE/NAME; "" where the API server calls a URL.
        services, served: those that exist, and those with endpoints, of the namespaces that are called; None where
            nobody may look.
        labels: of the namespaces without which nothing starts.
        unseen: what could not be looked at, and why.
    """

    webhooks: Sequence[WebhookFacts]
    name: str
    service: str
    services: Collection[str] | None
    served: Collection[str]
    labels: Mapping[str, Mapping[str, str]]
    unseen: Sequence[Diagnosis] = ()


async def asked(place: Place) -> Asked:
    """Read the configurations, and the Services that they name, as far as there is the right to do so."""
    setup, home = await place.setup(), await place.namespace()
    webhooks: list[WebhookFacts] = []
    unseen: dict[str, Diagnosis] = {}
    for kind in KINDS:
        try:
            configurations = await place.listed(f"/apis/{REGISTRATION}/{kind}")
        except Forbidden as error:
            if not setup.webhooks or not setup.called:
                raise
            unseen[kind] = unchecked(lacking(error), "webhooks of other installations")
            own = await place.cluster.objects.get(f"/apis/{REGISTRATION}/{kind}/{setup.webhooks}")
            configurations = [own] if own is not None else []
        for each in configurations:
            webhooks += _webhooks(kind, each, home)
    services, served = set[str](), set[str]()
    try:
        for namespace in {each.service.partition("/")[0] for each in webhooks if each.service}:
            there, behind = await _services(place, namespace)
            services |= there
            served |= behind
    except Forbidden as error:
        unseen["services"] = unchecked(lacking(error), "Services of webhooks")
    vital = {object_name(each): labels(each) for each in await place.listed("/api/v1/namespaces")}
    return Asked(
        webhooks,
        setup.webhooks if setup.called else "",
        setup.service,
        services if "services" not in unseen else None,
        served,
        {name: vital[name] for name in (_SYSTEM, home) if name in vital},
        [*unseen.values()],
    )


async def _services(place: Place, namespace: str) -> tuple[set[str], set[str]]:
    """Those of a namespace, and those with somebody behind them."""
    found = await place.listed(f"/api/v1/namespaces/{namespace}/services")
    slices = await place.listed(f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices")
    served = {labels(each).get("kubernetes.io/service-name") for each in slices if each.get("endpoints")}
    return {f"{namespace}/{object_name(each)}" for each in found}, {f"{namespace}/{each}" for each in served}


def _webhooks(kind: str, configuration: Manifest, home: str) -> Iterator[WebhookFacts]:
    name = object_name(configuration)
    managed = labels(configuration).get("app.kubernetes.io/managed-by") == "trow"
    for each in objects_in(configuration, "webhooks"):
        client = mapping(each.get("clientConfig"))
        service = mapping(client.get("service"))
        called = f"{service.get('namespace')}/{service.get('name')}" if service else ""
        if not (managed or "trow" in f"{name} {each.get('name')}" or called.startswith(f"{home}/")):
            continue
        resources = {text(one) for rule in objects_in(each, "rules") for one in listing(rule.get("resources"))}
        yield WebhookFacts(
            kind,
            name,
            text(each.get("name")),
            called,
            text(client.get("url")),
            base64.b64decode(text(client.get("caBundle")) or b""),
            bool({"pods", "*", "*/*"} & resources),
            each.get("failurePolicy") != "Ignore",
            _selector(mapping(each.get("namespaceSelector"))),
        )


async def check_webhooks(place: Place) -> AsyncIterator[Diagnosis]:
    """Whose are they, whom do they call, and what stops with Trow?"""
    found, now = await asked(place), time.time()
    if not found.webhooks and found.name:
        yield problem(
            "the API server does not ask Trow: there are no webhooks",
            f"configurations {found.name}",
            "Trow writes them when the API server reaches it; its log says why it does not yet:"
            " kubectl logs trow-0 --namespace trow | grep webhook",
        )
    by_configuration: dict[tuple[str, str], list[WebhookFacts]] = {}
    for each in found.webhooks:
        by_configuration.setdefault((each.kind, each.configuration), []).append(each)
    for (kind, name), webhooks in by_configuration.items():
        wrong = list(_left_over(webhooks, found)) or [
            finding for each in webhooks for finding in _wrong(each, found, now)
        ]
        for finding in wrong:
            yield finding
        if not wrong:
            yield ok(f"calls {webhooks[0].service or webhooks[0].url}", f"{kind.removesuffix('s')}/{name}")
    for finding in found.unseen:
        yield finding


def _left_over(webhooks: Sequence[WebhookFacts], found: Asked) -> Iterator[Diagnosis]:
    first = webhooks[0]
    if found.name and (
        first.configuration != found.name or (found.service and first.service not in ("", found.service))
    ):
        insists = " and insists on an answer" if any(each.fail for each in webhooks) else ""
        yield problem(
            f"is of another installation: it calls {first.service or first.url}{insists}",
            first.where,
            f"if that one is no longer there: kubectl delete {first.kind} {first.configuration}",
        )


def _wrong(webhook: WebhookFacts, found: Asked, now: float) -> Iterator[Diagnosis]:
    again = _AGAIN.format(webhook.kind, webhook.configuration)
    stops = "; until then nothing that it is about is created" if webhook.fail else ""
    if found.services is None or not webhook.service:
        pass
    elif webhook.service not in found.services:
        yield problem(f"calls Service {webhook.service}, which does not exist{stops}", webhook.where, again)
    elif webhook.service not in found.served:
        namespace = webhook.service.partition("/")[0]
        fix = f"see why no Pod of Trow runs: kubectl get pods,endpointslices --namespace {namespace}"
        yield problem(f"calls Service {webhook.service}, which has no endpoints{stops}", webhook.where, fix)
    yield from _stale(webhook, now, again)
    for namespace, own in found.labels.items():
        if webhook.fail and webhook.pods and webhook.selector.matches(namespace, own):
            yield problem(
                f"insists on an answer about Pods of {namespace}: while Trow is down, they cannot start, and with them"
                " Trow itself",
                webhook.where,
                f"name {namespace} in admission.excluded_namespaces. {again}",
            )


def _stale(webhook: WebhookFacts, now: float, again: str) -> Iterator[Diagnosis]:
    if not webhook.bundle:
        return
    try:
        authorities = x509.load_pem_x509_certificates(webhook.bundle)
    except ValueError:
        yield problem("its caBundle holds no certificates in PEM form", webhook.where, again)
        return
    last = max(authorities, key=lambda each: each.not_valid_after_utc)
    left = last.not_valid_after_utc.timestamp() - now
    if left < soon(last):
        ends = "ends" if left > 0 else "ended"
        yield problem(f"its caBundle {ends} on {last.not_valid_after_utc.date()}", webhook.where, again)


# ---- does the API server reach Trow?


async def check_reach(place: Place) -> AsyncIterator[Diagnosis]:
    """What does the API server say when it is given something that it has to ask Trow about?

    The probe is the one that Trow itself sends (`controllers/webhooks.py`): an Event that is never stored.
    """
    setup = await place.setup()
    if not setup.called or not setup.webhooks:
        raise setup.unknown("no address of the webhooks is known (admission.service, admission.url)")
    namespace = setup.service.partition("/")[0] or await place.namespace()
    said = ""
    try:
        await place.cluster.objects.create(
            f"/api/v1/namespaces/{namespace}/events", probe_event(namespace), dry_run=True
        )
    except (KubeRefused, Unavailable) as error:
        said = error.message
        if PROBE_ANSWER not in said and not _FAILED.search(said):
            raise
    for finding in judge_probe(said, setup):
        yield finding


def judge_probe(said: str, setup: Setup) -> Iterable[Diagnosis]:
    """Did it answer, and if not, why?"""
    where = "API server to Trow"
    if PROBE_ANSWER in said:
        yield ok("the API server reaches Trow, and trusts it", where)
        return
    found = _FAILED.search(said)
    if found is None:
        yield problem(
            "the API server does not ask Trow about its probe",
            where,
            f"see the configuration: kubectl get {KINDS[0]} {setup.webhooks} --output yaml; its log says why Trow"
            " does not write it",
        )
        return
    why = found["why"].strip()
    meaning, fix = next(
        ((what, fix) for signs, what, fix in _CALLS if any(sign in why for sign in signs)), ("cannot be called", _LOG)
    )
    fix = fix.format(name=setup.webhooks, namespace=setup.service.partition("/")[0] or "trow")
    yield problem(f"{meaning} ({why})", f"{where}, {found['name']}", fix)


_LOG: Final = "see the log: kubectl logs trow-0 --namespace {namespace}"
_CALLS: Final = (
    (
        ("x509", "certificate"),
        "the API server does not trust the certificate that Trow shows: the caBundle is stale, or it is not Trow",
        (
            "kubectl delete validatingwebhookconfigurations,mutatingwebhookconfigurations {name}; Trow writes both."
            " With admission.tls see that admission.ca_file is the authority of that certificate"
        ),
    ),
    (
        ("not found", "no endpoints", "no service port"),
        "the Service has nobody behind it",
        "kubectl get services,endpointslices,pods --namespace {namespace}",
    ),
    (("connection refused",), "nobody listens where the API server calls", _LOG),
    (
        ("deadline exceeded", "timeout", "no route", "unreachable"),
        "packets of the API server do not arrive",
        (
            "let the control plane reach port 8443 of the Pod (firewall of a managed cluster, NetworkPolicy):"
            " kubectl describe networkpolicies --namespace {namespace}"
        ),
    ),
)
