"""Authorities that succeed one another: whoever trusts the bundle of now, or the one before, accepts what is shown."""

from __future__ import annotations

import contextlib
import ipaddress
import random
import ssl
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from trow.tls.authority import DAY, Authority, Certificates, Leaf, Lifetimes, reconciled

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NAMES: Final = ("trow.trow.svc", "trow.trow", "127.0.0.1")
LIVES: Final = Lifetimes()
START: Final = 1_700_000_000.0
HOUR: Final = 3600.0


def accepts(bundle: bytes, leaf: Leaf, now: float) -> bool:
    """Whether a client that trusts a bundle takes up a connection, by the name and by the address."""
    policy = PolicyBuilder().store(Store(x509.load_pem_x509_certificates(bundle)))
    policy = policy.time(datetime.fromtimestamp(now, UTC))
    try:
        for subject in (x509.DNSName(NAMES[0]), x509.IPAddress(ipaddress.ip_address(NAMES[2]))):
            policy.build_server_verifier(subject).verify(leaf.certificate, [])
    except VerificationError:
        return False
    return True


def begun(now: float = START) -> Certificates:
    return reconciled(Certificates(), now, NAMES, LIVES, propagated=False)


def through(days: range, there: Certificates, *, propagated: bool) -> Certificates:
    """What comes of looking once a day."""
    for day in days:
        there = reconciled(there, START + day * DAY, NAMES, LIVES, propagated=propagated)
    return there


def shown(certificates: Certificates) -> Leaf:
    assert certificates.leaf is not None
    return certificates.leaf


def read_back(certificates: Certificates) -> Certificates:
    found, wrong = Certificates.read(certificates.parts)
    assert wrong == []
    return found


# What is made


def test_the_first_certificate_is_accepted_by_every_name() -> None:
    first = begun()
    assert accepts(first.bundle, shown(first), START)
    assert shown(first).names == NAMES
    assert (len(first.authorities), first.previous) == (1, None)


def test_an_authority_issues_for_servers_and_for_nothing_else() -> None:
    first = begun()
    authority, leaf = first.authorities[0].certificate, shown(first).certificate
    assert isinstance(authority.public_key().curve, SECP256R1)  # type: ignore[union-attr]
    basic = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    usage = authority.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.digital_signature) == (True, False)
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert [*leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value] == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_lives_are_as_long_as_they_should_be_and_clocks_may_be_behind() -> None:
    first = begun()
    assert first.authorities[0].end == START + 365 * DAY
    assert shown(first).end == START + 30 * DAY
    assert accepts(first.bundle, shown(first), START - 250)
    assert not accepts(first.bundle, shown(first), START + 30 * DAY + 1)


def test_no_certificate_outlives_its_authority() -> None:
    authority = Authority.make(START, DAY)
    assert authority.issue(NAMES, START + DAY / 2, 30 * DAY).end == authority.end


def test_who_has_no_key_issues_nothing() -> None:
    with pytest.raises(ValueError, match="no key any more"):
        Authority(Authority.make(START, DAY).certificate).issue(NAMES, START, DAY)


def test_a_real_handshake(tmp_path: Path) -> None:
    made = reconciled(Certificates(), datetime.now(UTC).timestamp(), NAMES, LIVES, propagated=False)
    file = tmp_path / "both.pem"
    file.write_bytes(shown(made).pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    for name in NAMES:
        client = ssl.create_default_context(cadata=made.bundle.decode())
        assert shake_hands(client, server, name)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(ssl.create_default_context(cadata=begun().bundle.decode()), server, NAMES[0])


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> bool:
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(back, there, server_hostname=name), server.wrap_bio(there, back, server_side=True)]
    for _ in range(4):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return ends[0].getpeercert() is not None


# What is written down


def test_what_is_written_reads_back() -> None:
    first = begun()
    second = reconciled(first, START + 250 * DAY, NAMES, LIVES, propagated=False)
    third = reconciled(second, START + 250 * DAY, NAMES, LIVES, propagated=True)
    for each in (Certificates(), first, second, third):
        assert read_back(each) == each
        assert read_back(each).parts == each.parts


def test_a_key_is_in_no_text_about_it() -> None:
    first = begun()
    for each in (first, first.authorities[0], shown(first)):
        assert "key=" not in repr(each)


def test_nothing_is_written_for_no_change() -> None:
    first = begun()
    assert reconciled(first, START + DAY, NAMES, LIVES, propagated=True) is not None
    assert reconciled(first, START + DAY, NAMES, LIVES, propagated=True).parts == first.parts
    assert reconciled(first, START + DAY, NAMES, LIVES, propagated=False).parts == first.parts


# Renewal


@pytest.mark.parametrize("propagated", [False, True])
def test_a_certificate_is_renewed_by_the_same_authority_with_a_third_left(propagated: bool) -> None:  # noqa: FBT001
    first = begun()
    assert reconciled(first, START + 20 * DAY - 5, NAMES, LIVES, propagated=propagated).parts == first.parts
    later = reconciled(first, START + 20 * DAY + 5, NAMES, LIVES, propagated=propagated)
    assert later.authorities == first.authorities
    assert shown(later).end == START + 50 * DAY + 5
    assert shown(later).key != shown(first).key
    assert later.previous is None


def test_an_authority_is_succeeded_step_by_step() -> None:
    step0 = through(range(244), begun(), propagated=True)
    old, late = step0.authorities[0], START + 244 * DAY

    step1 = reconciled(step0, late, NAMES, LIVES, propagated=True)  # that was about the old one
    assert step1.authorities[0] is old
    assert len(step1.authorities) == 2
    assert step1.leaf == step0.leaf
    assert reconciled(step1, late + HOUR, NAMES, LIVES, propagated=False) == step1

    step2 = reconciled(step1, late + HOUR, NAMES, LIVES, propagated=True)
    assert step2.authorities == step1.authorities
    assert [each.key is None for each in step2.authorities] == [True, False]
    assert step2.authorities[1].issued(shown(step2).certificate)
    assert step2.previous == shown(step0).certificate
    assert reconciled(step2, START + 259 * DAY, NAMES, LIVES, propagated=True) == step2

    assert shown(step0).end == START + 261 * DAY
    step3 = reconciled(step2, START + 261 * DAY + HOUR, NAMES, LIVES, propagated=True)
    assert step3.authorities == step2.authorities[1:]
    assert (step3.leaf, step3.previous) == (step2.leaf, None)


def test_the_old_authority_goes_on_while_callers_do_not_know_the_new_one() -> None:
    there = through(range(244), begun(), propagated=False)
    for day in range(244, 365):
        there = through(range(day, day + 1), there, propagated=False)
        assert len(there.authorities) == 2
        assert there.authorities[0].issued(shown(there).certificate)
    assert shown(there).end == there.authorities[0].end
    last = reconciled(there, START + 365 * DAY, NAMES, LIVES, propagated=False)
    assert last.authorities[-1].issued(shown(last).certificate)


def test_an_end_that_is_near_is_no_reason_to_issue_again_and_again() -> None:
    there, issued = begun(), set()
    for day in range(365):
        there = through(range(day, day + 1), there, propagated=False)
        issued.add(shown(there).certificate)
    assert len(issued) == 17


def test_what_is_over_is_made_anew_at_once() -> None:
    first = begun()
    later = reconciled(first, START + 800 * DAY, NAMES, LIVES, propagated=False)
    assert len(later.authorities) == 1
    assert later.authorities[0] not in first.authorities
    assert accepts(later.bundle, shown(later), START + 800 * DAY)


def test_a_certificate_that_is_over_is_renewed_by_an_authority_that_is_not() -> None:
    first = begun()
    later = reconciled(first, START + 100 * DAY, NAMES, LIVES, propagated=False)
    assert later.authorities == first.authorities
    assert accepts(first.bundle, shown(later), START + 100 * DAY)


def test_longer_lives_are_taken_up_step_by_step_too() -> None:
    first = begun()
    longer = reconciled(first, START + 1, NAMES, replace(LIVES, authority=2000 * DAY), propagated=True)
    assert longer.leaf == first.leaf
    assert longer.authorities[0] in first.authorities
    assert longer.authorities[1].end == START + 1 + 2000 * DAY


# Names


def test_other_names_are_added_at_once() -> None:
    first = begun()
    other = reconciled(first, START + 1, ("localhost", *NAMES[1:]), LIVES, propagated=False)
    assert shown(other).names == ("localhost", "trow.trow", NAMES[0], "127.0.0.1")
    assert other.authorities == first.authorities
    assert reconciled(other, START + 2, NAMES, LIVES, propagated=False) == other
    renewed = reconciled(other, START + 25 * DAY, NAMES, LIVES, propagated=False)
    assert shown(renewed).names == NAMES


@pytest.mark.parametrize("name", ["0:0:0:0:0:0:0:1", "Trow.Example.COM"])
def test_a_name_is_known_however_it_is_written(name: str) -> None:
    first = reconciled(Certificates(), START, (*NAMES, name), LIVES, propagated=False)
    assert reconciled(first, START + 1, (*NAMES, name), LIVES, propagated=False) == first


# What somebody else has written


DAMAGES: Final = {
    "ca.crt": "ca.crt is not made of certificates in PEM",
    "ca.key": "ca.key is not made of private keys in PEM",
    "tls.crt": "tls.crt and tls.key cannot be used: there is no certificate with its key in PEM",
    "tls.key": "tls.crt and tls.key cannot be used: there is no certificate with its key in PEM",
    "previous.crt": "previous.crt is not a certificate in PEM",
}
BROKEN: Final = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize("garbage", [b"garbage", b"\xff\x00", BROKEN, BROKEN.replace(b"PRIVATE KEY", b"CERTIFICATE")])
@pytest.mark.parametrize("part", DAMAGES)
def test_what_cannot_be_read_is_told_and_made_anew(part: str, garbage: bytes) -> None:
    first = begun()
    found, wrong = Certificates.read(first.parts | {part: garbage})
    if part == "ca.key" and garbage != BROKEN:  # there is no key in it
        assert wrong == ["ca.key does not have the key of the last authority in ca.crt"]
    else:
        assert wrong[0] == DAMAGES[part]
    healed = reconciled(found, START + 1, NAMES, LIVES, propagated=False)
    assert accepts(healed.bundle, shown(healed), START + 1)
    assert read_back(healed) == healed


def test_without_the_authoritys_key_the_certificate_stays_until_another_authority_is_known() -> None:
    first = begun()
    found, _ = Certificates.read(first.parts | {"ca.key": b""})
    healed = reconciled(found, START + 1, NAMES, LIVES, propagated=True)
    assert healed.leaf == first.leaf
    assert healed.authorities[0] in first.authorities
    assert len(healed.authorities) == 2
    assert reconciled(healed, START + 25 * DAY, NAMES, LIVES, propagated=False) == healed
    propagated = reconciled(healed, START + 2, NAMES, LIVES, propagated=True)
    assert accepts(healed.bundle, shown(propagated), START + 2)
    assert propagated.authorities[1].issued(shown(propagated).certificate)


def test_a_certificate_of_somebody_else_is_replaced() -> None:
    first, other = begun(), begun()
    parts = first.parts | {part: other.parts[part] for part in ("tls.crt", "tls.key")}
    found, wrong = Certificates.read(parts)
    assert wrong == ["tls.crt is of no authority in ca.crt"]
    healed = reconciled(found, START + 1, NAMES, LIVES, propagated=False)
    assert healed.authorities == first.authorities
    assert accepts(first.bundle, shown(healed), START + 1)


def test_a_key_of_another_certificate_is_not_taken() -> None:
    first = begun()
    found, wrong = Certificates.read(first.parts | {"tls.key": begun().parts["tls.key"]})
    assert found.leaf is None
    assert wrong == ["tls.crt and tls.key cannot be used: certificate and key do not belong together"]


# Years


class Replica:
    """Looks at the Secret now and then, and shows what it saw last."""

    def __init__(self, lag: float) -> None:
        self.lag = lag
        self.looked_at = 0.0
        self.leaf: Leaf | None = None


def known(published: Sequence[tuple[float, bytes]], when: float) -> bytes:
    """The bundle that was published at a time."""
    return next((bundle for at, bundle in reversed(published) if at <= when), published[0][1])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_at_any_moment_of_years_what_is_shown_is_accepted(seed: int) -> None:
    """Replicas and callers are behind by up to a day, and everything is noticed late."""
    chance = random.Random(seed)
    secret = begun()
    published = [(START, secret.bundle)]
    replicas = [Replica(chance.uniform(0, DAY)) for _ in range(3)]
    now = START
    while now < START + 1000 * DAY:
        for replica in replicas:
            if now - replica.looked_at < replica.lag:
                continue
            replica.looked_at = now
            published_at, bundle = published[-1]
            propagated = secret.bundle == bundle and now - published_at > 2 * DAY
            secret = reconciled(secret, now, NAMES, LIVES, propagated=propagated)
            replica.leaf = secret.leaf
            if secret.bundle != bundle:
                published.append((now, secret.bundle))
        shows = [replica.leaf for replica in replicas if replica.leaf]
        assert all(accepts(known(published, when), leaf, now) for leaf in shows for when in (now, now - DAY))
        now += chance.uniform(HOUR, 1.5 * DAY)
    assert [bundle.count(b"BEGIN CERT") for _, bundle in published][:8] == [1, 2] * 4
