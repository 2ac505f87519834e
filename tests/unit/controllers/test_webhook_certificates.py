"""Replicas keep the certificate of the webhooks in a Secret, and have callers trust it before they show it."""

from __future__ import annotations

import asyncio
import base64
import copy
import ipaddress
import logging
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from support.apiserver import Answer, Asked, ObjectServer
from support.clock import Clock
from support.waiting import eventually
from trow.controllers.webhook_certificates import CertificatePlan, WebhookCertificates
from trow.kube.access import ClusterAccess
from trow.kube.client import KubeClient
from trow.kube.errors import BadAnswer, KubeRefused
from trow.kube.objects import Objects
from trow.oci.errors import Unavailable
from trow.tls.authority import DAY, Authority, Certificates, Leaf, Lifetimes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

NAMES: Final = ("trow.trow.svc", "127.0.0.1")
SECRETS: Final = "/api/v1/namespaces/trow/secrets"
SECRET: Final = f"{SECRETS}/trow-webhook"
REGISTRATION: Final = "/apis/admissionregistration.k8s.io/v1"
VALIDATING: Final = f"{REGISTRATION}/validatingwebhookconfigurations/trow"
MUTATING: Final = f"{REGISTRATION}/mutatingwebhookconfigurations/trow"
SETTLING: Final = 60.0


class Shop:
    """An API server with objects by their paths: versions, merge patches and JSON patches with tests.

    Attributes:
        refused: what is answered instead, by method and path.
        bundles: every ``caBundle`` that the validating webhooks had, the first one "".
    """

    def __init__(self, server: ObjectServer) -> None:
        self.server = server
        self.objects: dict[str, dict[str, Any]] = {}
        self.refused: dict[tuple[str, str], Answer] = {}
        self.bundles: list[bytes] = [b""]
        self._version = 0
        server.reply = self._reply

    def put(self, path: str, **fields: Any) -> None:
        self._version += 1
        metadata = {"name": path.rpartition("/")[2], "resourceVersion": str(self._version)}
        self.objects[path] = {**fields, "metadata": metadata}
        if path == VALIDATING and len(self._bundles(path)) == 1:
            self.bundles.append(self.bundle(path))

    def configure(self, path: str, *bundles: bytes) -> None:
        """A configuration with this many webhooks."""
        configs = [{"service": {"name": "trow"}} | ({"caBundle": _text(each)} if each else {}) for each in bundles]
        webhooks = [
            {"name": f"w{number}.trow.io", "clientConfig": config, "rules": []} for number, config in enumerate(configs)
        ]
        self.put(path, webhooks=webhooks)

    def bundle(self, path: str) -> bytes:
        """The ``caBundle`` that all webhooks of a configuration have."""
        (found,) = self._bundles(path)
        return base64.b64decode(found)

    def _bundles(self, path: str) -> set[str]:
        return {each["clientConfig"].get("caBundle", "") for each in self.objects[path].get("webhooks", ())}

    def part(self, name: str) -> bytes:
        return base64.b64decode(self.objects[SECRET]["data"][name])

    def spoil(self, **parts: str) -> None:
        """Write other parts into the Secret, where _ stands for a dot, as they are."""
        data = {name.replace("_", "."): value for name, value in parts.items()}
        self.put(SECRET, data=self.objects[SECRET]["data"] | data)

    def written(self) -> list[str]:
        """What was written since the last call."""
        asked = [f"{each.method} {each.path}" for each in self.server.asked if each.method != "GET"]
        self.server.asked.clear()
        return asked

    def _reply(self, asked: Asked) -> Answer:
        if (asked.method, asked.path) in self.refused:
            return self.refused[asked.method, asked.path]
        if asked.method == "POST":
            return self._create(f"{asked.path}/{asked.body['metadata']['name']}", asked.body)
        if asked.path not in self.objects:
            return status(404, "not found")
        return Answer(self.objects[asked.path]) if asked.method == "GET" else self._patch(asked)

    def _create(self, path: str, body: dict[str, Any]) -> Answer:
        if path in self.objects:
            return status(409, "it exists", "AlreadyExists")
        self.put(path, **{key: value for key, value in body.items() if key != "metadata"})
        return Answer(self.objects[path], 201)

    def _patch(self, asked: Asked) -> Answer:
        present = copy.deepcopy(self.objects[asked.path])
        if asked.content_type == "application/merge-patch+json":
            if asked.body["metadata"]["resourceVersion"] != present["metadata"]["resourceVersion"]:
                return status(409, "it has changed", "Conflict")
            present["data"] = present.get("data", {}) | asked.body["data"]
        elif not all(_operate(present, operation) for operation in asked.body):
            return status(422, "the test failed", "Invalid")
        self.put(asked.path, **{key: value for key, value in present.items() if key != "metadata"})
        return Answer(self.objects[asked.path])


def _operate(item: dict[str, Any], operation: dict[str, Any]) -> bool:
    """One operation of RFC 6902, `test` or `add`; False if it fails."""
    *way, last = operation["path"].strip("/").split("/")
    at: Any = item
    for step in way:
        if isinstance(at, list) and int(step) >= len(at):
            return False
        at = at[int(step)] if isinstance(at, list) else at[step]
    if operation["op"] == "test":
        return bool(at.get(last) == operation["value"])
    at[last] = operation["value"]
    return True


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def status(code: int, message: str, reason: str = "") -> Answer:
    return Answer({"kind": "Status", "message": message, "reason": reason, "code": code}, code)


class Replica(WebhookCertificates):
    """A replica, and what it shows.

    Attributes:
        error: why it cannot.
    """

    def __init__(self, objects: Objects, plan: CertificatePlan, clock: Clock) -> None:
        self.now = clock
        self.leaf: Leaf | None = None
        self.error: Exception | None = None
        super().__init__(objects, plan, self.show, clock)

    async def show(self, leaf: Leaf) -> None:
        if self.error is not None:
            raise self.error
        self.leaf = leaf

    async def after(self, seconds: float) -> Leaf:
        """What is shown after that time and another look."""
        self.now.now += seconds
        await self.reconcile()
        assert self.leaf is not None
        return self.leaf

    async def live(self, seconds: float, step: float = DAY) -> Leaf:
        """What is shown after many looks."""
        while seconds > step:
            await self.after(step)
            seconds -= step
        return await self.after(seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shop() -> Iterator[Shop]:
    with ObjectServer.start() as server:
        found = Shop(server)
        found.configure(VALIDATING, b"")
        found.configure(MUTATING, b"")
        yield found


@asynccontextmanager
async def replica(
    shop: Shop,
    clock: Clock,
    names: tuple[str, ...] = NAMES,
    lifetimes: Lifetimes = Lifetimes(),  # noqa: B008
) -> AsyncIterator[Replica]:
    client = KubeClient(ClusterAccess(shop.server.url))
    try:
        yield Replica(Objects(client), CertificatePlan("trow", "trow-webhook", names, "trow", lifetimes), clock)
    finally:
        await client.close()


def accepts(bundle: bytes, leaf: Leaf, now: float) -> bool:
    policy = PolicyBuilder().store(Store(x509.load_pem_x509_certificates(bundle)))
    policy = policy.time(datetime.fromtimestamp(now, UTC))
    try:
        for subject in (x509.DNSName(NAMES[0]), x509.IPAddress(ipaddress.ip_address(NAMES[1]))):
            policy.build_server_verifier(subject).verify(leaf.certificate, [])
    except VerificationError:
        return False
    return True


def authorities(bundle: bytes) -> int:
    return bundle.count(b"BEGIN CERTIFICATE")


# The first time


async def test_at_first_everything_is_made_and_callers_are_told(shop: Shop, clock: Clock) -> None:
    async with replica(shop, clock) as trow:
        leaf = await trow.after(0)
    assert shop.objects[SECRET]["type"] == "kubernetes.io/tls"
    assert shop.part("tls.crt") + shop.part("tls.key") == leaf.pem
    for path in (VALIDATING, MUTATING):
        assert shop.bundle(path) == shop.part("ca.crt")
        assert accepts(shop.bundle(path), leaf, clock())
        assert shop.objects[path]["webhooks"][0]["clientConfig"]["service"] == {"name": "trow"}
    assert shop.written() == [f"POST {SECRETS}", f"PATCH {VALIDATING}", f"PATCH {MUTATING}"]


async def test_where_all_is_well_nothing_is_written(shop: Shop, clock: Clock) -> None:
    async with replica(shop, clock) as trow:
        first = await trow.after(0)
        shop.written()
        assert await trow.live(19 * DAY) == first
    assert shop.written() == []


async def test_another_replica_takes_what_is_there(shop: Shop, clock: Clock) -> None:
    async with replica(shop, clock) as one, replica(shop, clock) as other:
        assert await one.after(0) == await other.after(1)
    assert shop.written().count(f"POST {SECRETS}") == 1


async def test_a_secret_that_was_made_beforehand_is_filled(shop: Shop, clock: Clock) -> None:
    shop.put(SECRET, type="Opaque")
    async with replica(shop, clock) as trow:
        leaf = await trow.after(0)
    assert shop.objects[SECRET]["type"] == "Opaque"
    assert accepts(shop.part("ca.crt"), leaf, clock())
    assert shop.written()[0] == f"PATCH {SECRET}"


# Several replicas


@pytest.mark.parametrize("there", [False, True])
async def test_of_two_replicas_at_once_one_is_first_and_the_other_takes_what_that_has_made(
    shop: Shop,
    clock: Clock,
    there: bool,  # noqa: FBT001
) -> None:
    if there:
        shop.put(SECRET, type="Opaque", data={})
    shop.server.reply = after_two(shop, ("GET", SECRET))
    async with replica(shop, clock) as one, replica(shop, clock) as other:
        first, second = await asyncio.gather(one.after(0), other.after(0))
    assert first == second
    assert accepts(shop.bundle(VALIDATING), first, clock())
    writes = [each for each in shop.written() if "secrets" in each]
    assert writes == [f"PATCH {SECRET}" if there else f"POST {SECRETS}"] * 2


def after_two(shop: Shop, question: tuple[str, str]) -> Callable[[Asked], Answer]:
    """The same answer for the first two who ask, whatever has happened in between."""
    answer = shop.server.reply
    same: list[Answer] = []

    def reply(asked: Asked) -> Answer:
        if (asked.method, asked.path) == question and len(same) < 2:
            same.append(same[0] if same else copy.deepcopy(answer(asked)))  # type: ignore[arg-type]
            return same[-1]
        return answer(asked)  # type: ignore[return-value]

    return reply


async def test_two_replicas_renew_once(shop: Shop, clock: Clock) -> None:
    async with replica(shop, clock) as one, replica(shop, clock) as other:
        old = await one.after(0)
        await other.after(0)
        clock.now += 21 * DAY
        shop.server.reply = after_two(shop, ("GET", SECRET))
        first, second = await asyncio.gather(one.after(0), other.after(0))
    assert first == second != old


async def test_who_is_always_too_late_says_so(shop: Shop, clock: Clock) -> None:
    shop.refused["POST", SECRETS] = status(409, "it exists", "AlreadyExists")
    async with replica(shop, clock) as trow:
        with pytest.raises(Unavailable, match="Secret trow/trow-webhook is changed again and again"):
            await trow.reconcile()


async def test_replicas_with_other_names_do_not_quarrel(shop: Shop, clock: Clock) -> None:
    async with replica(shop, clock) as old, replica(shop, clock, ("new.trow.svc", *NAMES)) as new:
        await old.after(0)
        wide = await new.after(1)
        for _ in range(3):
            assert (await old.after(1), await new.after(1)) == (wide, wide)
    assert set(wide.names) == {"new.trow.svc", *NAMES}


# Rotation


@pytest.mark.slow
async def test_a_new_authority_is_published_first_then_it_issues_and_then_the_old_one_goes(
    shop: Shop, clock: Clock
) -> None:
    async with replica(shop, clock) as trow:
        await trow.after(0)
        before = await trow.live(243 * DAY)
        assert authorities(shop.bundle(VALIDATING)) == 1

        assert await trow.after(DAY) == before
        assert authorities(shop.bundle(VALIDATING)) == authorities(shop.bundle(MUTATING)) == 2
        assert shop.part("ca.key").count(b"BEGIN") == 2
        assert await trow.after(SETTLING - 1) == before

        issued = await trow.after(1)
        assert issued != before
        assert authorities(shop.bundle(VALIDATING)) == 2
        assert shop.part("ca.key").count(b"BEGIN") == 1
        assert not accepts(shop.bundles[-2], issued, clock())
        assert accepts(shop.bundles[-1], issued, clock())
        assert accepts(shop.bundles[-1], before, clock())

        await trow.live(before.end - clock())
        assert authorities(shop.bundle(VALIDATING)) == 2
        last = await trow.after(301)
        assert authorities(shop.bundle(VALIDATING)) == authorities(shop.bundle(MUTATING)) == 1
        assert accepts(shop.bundles[-1], last, clock())


@pytest.mark.slow
async def test_at_every_step_callers_accept_what_both_replicas_show(shop: Shop, clock: Clock) -> None:
    """Callers know the bundle of now, or that of a minute ago; one replica looks only twice a day."""
    heard: list[tuple[float, bytes]] = []
    async with replica(shop, clock) as one, replica(shop, clock) as other:
        await one.after(0)
        await other.after(0)
        for step in steps():
            shown = [await one.after(step)]
            shown += [await other.after(0)] if len(heard) % 3 == 0 else [other.leaf] if other.leaf else []
            heard.append((clock(), shop.bundles[-1]))
            known = {shop.bundles[-1], next(bundle for at, bundle in heard if at >= clock() - SETTLING / 2)}
            assert all(accepts(bundle, leaf, clock()) for bundle in known for leaf in shown)
    assert [authorities(bundle) for bundle in shop.bundles[2:]] == [1, 2, 1, 2, 1]


def steps() -> Iterator[float]:
    """Two rotations: days, and twice a minute where something happens."""
    for _ in range(2):
        yield from [DAY] * 243
        yield from [DAY / 24] * 30
        yield from [SETTLING / 2] * 10
        yield from [DAY] * 40


@pytest.mark.slow
async def test_nobody_issues_while_a_configuration_cannot_be_changed(shop: Shop, clock: Clock) -> None:
    async with replica(shop, clock) as trow:
        await trow.after(0)
        await trow.live(243 * DAY)
        shop.refused["PATCH", MUTATING] = forbidden("patch", "mutatingwebhookconfigurations")
        for _ in range(5):
            with pytest.raises(KubeRefused, match=r"resources: \[mutatingwebhookconfigurations\], verbs: \[patch\]"):
                await trow.after(DAY)
        assert authorities(shop.bundle(VALIDATING)) == 2
        assert trow.leaf is not None
        assert accepts(shop.bundle(MUTATING), trow.leaf, clock())

        shop.refused.clear()
        before = await trow.after(DAY)
        assert await trow.after(SETTLING - 1) == before
        assert await trow.after(1) != before


@pytest.mark.slow
async def test_a_bundle_that_somebody_has_taken_back_has_to_settle_again(shop: Shop, clock: Clock) -> None:
    async with replica(shop, clock) as trow:
        await trow.after(0)
        before = await trow.live(244 * DAY)
        assert await trow.after(SETTLING - 1) == before
        shop.configure(MUTATING, shop.bundles[-2])
        assert await trow.after(1) == before
        assert await trow.after(SETTLING - 1) == before
        shop.configure(VALIDATING, b"")
        assert await trow.after(SETTLING) == before
        assert await trow.after(SETTLING) != before


def forbidden(verb: str, resource: str, group: str = "admissionregistration.k8s.io", where: str = "") -> Answer:
    user = 'User "system:serviceaccount:trow:trow"'
    return status(403, f'{user} cannot {verb} resource "{resource}" in API group "{group}"{where}', "Forbidden")


async def test_a_replica_that_begins_in_the_middle_waits_until_it_has_seen_for_itself(shop: Shop, clock: Clock) -> None:
    async with replica(shop, clock) as trow:
        await trow.after(0)
        before = await trow.live(244 * DAY)
    async with replica(shop, clock) as trow:
        assert await trow.after(10 * SETTLING) == before
        assert await trow.after(SETTLING - 1) == before
        assert await trow.after(1) != before


async def test_what_is_over_after_a_long_time_is_made_anew(shop: Shop, clock: Clock) -> None:
    async with replica(shop, clock) as trow:
        first = await trow.after(0)
        later = await trow.after(700 * DAY)
    assert later != first
    assert authorities(shop.bundle(VALIDATING)) == 1
    assert accepts(shop.bundle(VALIDATING), later, clock())


# Configurations


async def test_a_configuration_that_appears_is_filled_in(
    shop: Shop, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    shop.objects.clear()
    async with replica(shop, clock) as trow:
        for _ in range(3):
            await trow.after(10)
        shop.configure(MUTATING, b"", b"")
        leaf = await trow.after(10)
    assert accepts(shop.bundle(MUTATING), leaf, clock())
    assert "MutatingWebhookConfiguration trow trusts the webhooks' certificate now" in caplog.text


async def test_only_what_differs_is_changed(shop: Shop, clock: Clock) -> None:
    async with replica(shop, clock) as trow:
        await trow.after(0)
        good = shop.bundle(VALIDATING)
        shop.configure(VALIDATING, good, b"other", good, b"")
        shop.server.asked.clear()
        await trow.after(10)
        (patch,) = [each for each in shop.server.asked if each.method == "PATCH"]
    assert [(each["op"], each["path"]) for each in patch.body] == [
        ("test", "/webhooks/1/name"),
        ("add", "/webhooks/1/clientConfig/caBundle"),
        ("test", "/webhooks/3/name"),
        ("add", "/webhooks/3/clientConfig/caBundle"),
    ]
    assert shop.bundle(VALIDATING) == good


async def test_a_webhook_that_was_removed_meanwhile_is_not_taken_for_another(shop: Shop, clock: Clock) -> None:
    shop.configure(VALIDATING, b"", b"")
    answer = shop.server.reply

    def reply(asked: Asked) -> Any:
        if (asked.method, asked.path) == ("PATCH", VALIDATING):
            shop.objects[VALIDATING]["webhooks"] = shop.objects[VALIDATING]["webhooks"][1:]
        return answer(asked)

    async with replica(shop, clock) as trow:
        shop.server.reply = reply
        with pytest.raises(Unavailable, match=f"{VALIDATING} was changed meanwhile"):
            await trow.reconcile()
        assert accepts(shop.bundle(MUTATING), await after(trow), clock())
        shop.server.reply = answer
        await trow.after(10)
    assert shop.bundle(VALIDATING) == shop.bundle(MUTATING)


async def after(trow: Replica) -> Leaf:
    assert trow.leaf is not None
    return trow.leaf


async def test_a_configuration_without_webhooks_needs_nothing(shop: Shop, clock: Clock) -> None:
    shop.put(MUTATING)
    async with replica(shop, clock) as trow:
        await trow.after(0)
    assert shop.written() == [f"POST {SECRETS}", f"PATCH {VALIDATING}"]


# What others have written


@pytest.mark.parametrize(
    ("parts", "said", "same"),
    [
        ({"ca_crt": "garbage"}, "ca.crt is not made of certificates in PEM", False),
        ({"ca_crt": ""}, "tls.crt is of no authority in ca.crt", False),
        ({"ca_crt": "not base64"}, "ca.crt is not made of certificates in PEM", False),
        ({"tls_crt": "garbage"}, "tls.crt and tls.key cannot be used", False),
        ({"tls_key": "", "ca_key": ""}, "tls.crt and tls.key cannot be used", False),
        ({"ca_key": ""}, "ca.key does not have the key of the last authority in ca.crt", True),
        ({"previous_crt": "garbage"}, "previous.crt is not a certificate in PEM", True),
        ({"ca_crt": "", "ca_key": "", "tls_crt": "", "tls_key": ""}, "", False),
    ],
)
async def test_a_secret_that_somebody_has_spoilt_is_made_anew(
    shop: Shop,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    parts: dict[str, str],
    said: str,
    same: bool,  # noqa: FBT001
) -> None:
    async with replica(shop, clock) as trow:
        first = await trow.after(0)
        shop.spoil(
            **{name: base64.b64encode(b"?").decode() if each == "garbage" else each for name, each in parts.items()}
        )
        healed = await trow.after(1)
        assert (f"Secret trow/trow-webhook: {said}" in caplog.text) if said else not caplog.records
        assert (healed == first) == same
        assert accepts(shop.bundle(VALIDATING), healed, clock())
        caplog.clear()
        await trow.after(1)
        assert not caplog.records
        issued = await trow.after(SETTLING)
        assert accepts(shop.bundle(VALIDATING), issued, clock())
        assert shop.part("ca.key").count(b"BEGIN") == 1


async def test_without_the_authoritys_key_nobody_is_cut_off(shop: Shop, clock: Clock) -> None:
    async with replica(shop, clock) as trow:
        first = await trow.after(0)
        shop.spoil(ca_key="")
        assert await trow.after(1) == first
        assert authorities(shop.bundle(VALIDATING)) == 2
        second = await trow.after(SETTLING)
        assert second != first
        assert accepts(shop.bundle(VALIDATING), second, clock())
        assert accepts(shop.bundle(VALIDATING), first, clock())


async def test_a_secret_that_was_deleted_is_made_anew(shop: Shop, clock: Clock) -> None:
    async with replica(shop, clock) as trow:
        first = await trow.after(0)
        del shop.objects[SECRET]
        second = await trow.after(10)
    assert not accepts(shop.bundle(VALIDATING), first, clock())
    assert accepts(shop.bundle(VALIDATING), second, clock())


async def test_other_parts_of_the_secret_stay(shop: Shop, clock: Clock) -> None:
    shop.put(SECRET, type="Opaque", data={"note": _text(b"hands off")})
    async with replica(shop, clock) as trow:
        await trow.after(0)
    assert shop.part("note") == b"hands off"


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        (SECRET, {"data": ["tls.crt"]}),
        (SECRET, {"data": {"tls.crt": 1}}),
        (VALIDATING, {"webhooks": [{"name": "a"}]}),
        (VALIDATING, {"webhooks": {}}),
    ],
)
async def test_an_object_of_another_shape_is_not_understood(
    shop: Shop, clock: Clock, path: str, shape: dict[str, Any]
) -> None:
    shop.objects[path] = {"metadata": {"name": "x", "resourceVersion": "1"}, **shape}
    async with replica(shop, clock) as trow:
        with pytest.raises(BadAnswer, match="shows something unexpected as"):
            await trow.reconcile()


# Troubles


@pytest.mark.parametrize("verb", ["get", "create", "patch"])
async def test_a_missing_right_is_named(shop: Shop, clock: Clock, verb: str) -> None:
    if verb == "patch":
        shop.put(SECRET, type="Opaque")
    method, path = {"get": ("GET", SECRET), "create": ("POST", SECRETS), "patch": ("PATCH", SECRET)}[verb]
    shop.refused[method, path] = forbidden(verb, "secrets", "", ' in the namespace "trow"')
    async with replica(shop, clock) as trow:
        with pytest.raises(Unavailable) as caught:
            await trow.reconcile()
    said = caught.value.message
    assert said.startswith("Secret trow/trow-webhook cannot be kept: ")
    assert f'bind a Role in namespace trow with {{apiGroups: [""], resources: [secrets], verbs: [{verb}]}}' in said
    assert said.endswith(
        "bind a Role in namespace trow with get and patch on secrets (resourceNames: [trow-webhook]), and with create"
        " as long as the Secret is not there"
    )


@pytest.mark.slow
async def test_it_goes_on_after_troubles_and_says_so_once(
    shop: Shop, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    shop.server.down()
    async with replica(shop, clock, lifetimes=Lifetimes(40, 15)) as trow:
        running = asyncio.create_task(trow.run())
        try:
            await eventually(lambda: "cannot be reached" in trow.failing)
            shop.server.up()
            clock.now += 1
            await eventually(lambda: trow.leaf)
            await eventually(lambda: not trow.failing)
            assert not running.done()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    assert caplog.text.count("the webhooks' certificate cannot be renewed; the present one stays") == 1
    assert "the webhooks' certificate is renewed again" in caplog.text


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("a mistake")])
async def test_callers_are_told_also_where_the_certificate_cannot_be_shown(
    shop: Shop, clock: Clock, error: Exception
) -> None:
    async with replica(shop, clock) as trow:
        trow.error = error
        running = asyncio.create_task(trow.run())
        await eventually(lambda: shop.bundle(MUTATING))
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.slow
async def test_no_key_is_ever_logged(shop: Shop, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    keys = set()
    async with replica(shop, clock) as trow:
        for _ in range(270):
            keys.add((await trow.after(DAY)).key)
            keys |= {found.key for found in _authorities(shop) if found.key}
        shop.spoil(tls_key=_text(b"?"), ca_key="?")
        await trow.after(1)
        shop.refused["GET", SECRET] = forbidden("get", "secrets", "")
        with pytest.raises(Unavailable):
            await trow.after(1)
    assert len(keys) > 12
    assert len(caplog.records) > 12
    for key in keys:
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        assert pem.splitlines()[1] not in caplog.text
        assert _text(pem.encode())[80:120] not in caplog.text
    assert "PRIVATE KEY" not in caplog.text


def _authorities(shop: Shop) -> tuple[Authority, ...]:
    parts = {name: base64.b64decode(value) for name, value in shop.objects[SECRET]["data"].items()}
    return Certificates.read(parts)[0].authorities


@pytest.mark.parametrize(("life", "propagation", "interval"), [(30 * DAY, 60, 10), (60, 10, 4), (15, 2.5, 1)])
def test_short_lives_are_looked_after_more_often(life: float, propagation: float, interval: float) -> None:
    plan = CertificatePlan("trow", "trow-webhook", NAMES, "trow", Lifetimes(2 * life, life))
    assert (plan.propagation, plan.interval) == (propagation, interval)
    assert plan.propagation + 2 * plan.interval < life / 3
