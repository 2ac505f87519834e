from __future__ import annotations

import asyncio
import base64
import contextlib
from typing import TYPE_CHECKING

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.clock import Clock
from support.loop import run
from support.waiting import eventually
from trow.access.identity import ANONYMOUS, Identity, Method
from trow.access.permissions import Permission
from trow.access.ports import ClientCertificate, Proof
from trow.identity.attempts import STRANGER, Attempt
from trow.identity.authenticator import AuthenticatorChain, Verifiers
from trow.identity.credentials import Stale
from trow.identity.keys import load_or_create
from trow.identity.throttle import Throttle
from trow.identity.tokens import RegistryTokens
from trow.identity.users import SingleUser
from trow.oci.errors import TooManyRequests, Unauthorized, Unavailable
from trow.oci.names import Repository

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "correct: horse"
ALICE = Identity("alice", Method.PASSWORD)
GITHUB = "https://token.actions.githubusercontent.com"
CLIENT = "10.0.0.1"
CERTIFICATE = ClientCertificate("node-1", ("ops", "dev"), "ab" * 32)
ROBOT = "trow_abcdefghijkl_" + "A" * 43


class Known:
    """Verifies whatever it is told to, and notes what it was asked."""

    def __init__(self, name: str, error: Exception | None = None) -> None:
        self.name = name
        self.error = error
        self.asked: list[str] = []

    async def verify(self, token: str) -> Identity:
        self.asked.append(token)
        if self.error:
            raise self.error
        return Identity(self.name, Method.OIDC)


class Passwords:
    """Knows passwords, and notes how it was asked."""

    def __init__(self, right: dict[str, str]) -> None:
        self.right = right
        self.attempts: list[Attempt] = []

    async def verify(self, user: str, secret: str, attempt: Attempt = STRANGER) -> Identity | None:
        self.attempts.append(attempt)
        await asyncio.sleep(0)
        return self.find(user) if self.right.get(user) == secret else None

    def find(self, user: str) -> Identity | None:
        return Identity(user, Method.PASSWORD) if user in self.right else None


class BelievingVerifier:
    """Believes every token, once it answers."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers = asyncio.Event()
        self.answers.set()

    async def verify(self, token: str) -> Identity:
        self.asked.append(token)
        await self.answers.wait()
        return Identity("system:serviceaccount:a:b", Method.KUBERNETES)


class Setup:
    """All kinds of credentials at once."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.tokens = RegistryTokens(load_or_create(folder), "trow", clock=self.clock)
        self.robots = Known("robot:ci")
        self.github = Known("github:repo")
        self.kubernetes = Known("system:serviceaccount:a:b")
        self.chain = AuthenticatorChain(
            Verifiers(self.tokens, self.robots, SingleUser("alice", SECRET), {GITHUB: self.github}, self.kubernetes),
            Throttle(self.clock),
        )

    @property
    def asked(self) -> int:
        return sum(len(each.asked) for each in (self.robots, self.github, self.kubernetes))


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path)


def basic(user: str, secret: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{secret}'.encode()).decode()}"


def proof(authorization: str | None, client: str = CLIENT, certificate: ClientCertificate | None = None) -> Proof:
    return Proof(authorization, client, certificate)


def jwt_of(**claims: object) -> str:
    return jwt.encode(claims, "x" * 32, "HS256")


# no credentials


async def test_no_credentials_are_nobody(setup: Setup) -> None:
    assert await setup.chain.identify(proof(None)) is ANONYMOUS
    assert await setup.chain.identify(proof(basic("", ""))) is ANONYMOUS


async def test_a_certificate_is_somebody(setup: Setup) -> None:
    expected = Identity(
        "certificate:node-1",
        Method.CERTIFICATE,
        groups=("certificate:ops", "certificate:dev"),
        credential="ab" * 32,
    )
    for authorization in (None, basic("", "")):
        assert await setup.chain.identify(proof(authorization, certificate=CERTIFICATE)) == expected
    with pytest.raises(Unauthorized, match="name"):
        await setup.chain.identify(proof(None, certificate=ClientCertificate("", (), "")))


async def test_a_certificate_cannot_name_itself_anything_else(setup: Setup) -> None:
    masters = ClientCertificate("system:admin", ("system:masters",), "")
    found = await setup.chain.identify(proof(None, certificate=masters))
    assert (found.name, found.groups) == ("certificate:system:admin", ("certificate:system:masters",))
    assert found.workload is None


async def test_credentials_count_before_a_certificate(setup: Setup) -> None:
    assert await setup.chain.identify(proof(basic("alice", SECRET), certificate=CERTIFICATE)) == ALICE
    with pytest.raises(Unauthorized):
        await setup.chain.identify(proof(basic("alice", "x"), certificate=CERTIFICATE))


# passwords


async def test_right_password(setup: Setup) -> None:
    assert await setup.chain.identify(proof(basic("alice", SECRET))) == ALICE
    assert await setup.chain.verify_secret("alice", SECRET, CLIENT) == ALICE


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Basic",
        basic("alice", ""),
        basic("", SECRET),
        basic("alice", SECRET + "x"),
        basic("Alice", SECRET),
        basic("alice:correct", "horse"),
        f"Bearer {basic('alice', SECRET)[6:]}",
        "Bearer correct-horse",
        "Bearer a.b.c",
        "Digest username=alice",
    ],
)
async def test_wrong_credentials(setup: Setup, authorization: str) -> None:
    with pytest.raises(Unauthorized):
        await setup.chain.identify(proof(authorization))
    assert not setup.asked


async def test_error_does_not_repeat_the_credentials(setup: Setup) -> None:
    for authorization in (
        basic("mallory", "guess"),
        "Bearer guess",
        f"Bearer {jwt_of(iss='')}",
        basic("x", "eyJguess.a.b"),
    ):
        with pytest.raises(Unauthorized) as caught:
            await setup.chain.identify(proof(authorization))
        said = f"{caught.value.message} {caught.value.detail}"
        assert not any(word in said for word in ("mallory", "guess", "alice", SECRET, authorization[7:]))


async def test_where_passwords_are_not_configured() -> None:
    chain = AuthenticatorChain(Verifiers())
    with pytest.raises(Unauthorized, match="use a token"):
        await chain.identify(proof(basic("alice", SECRET)))
    for secret in (ROBOT, jwt_of(iss=GITHUB), jwt_of(iss="trow")):
        for authorization in (f"Bearer {secret}", basic("x", secret)):
            with pytest.raises(Unauthorized):
                await chain.identify(proof(authorization))


async def test_a_password_may_look_like_a_robots_where_there_are_none() -> None:
    chain = AuthenticatorChain(Verifiers(passwords=SingleUser("alice", "trow_password")))
    assert await chain.verify_secret("alice", "trow_password", CLIENT) == ALICE


async def test_a_password_may_have_dots(tmp_path: Path) -> None:
    chain = AuthenticatorChain(Verifiers(passwords=SingleUser("alice", "a.b.c"), kubernetes=Known("x")))
    assert await chain.verify_secret("alice", "a.b.c", CLIENT) == ALICE


# tokens


@pytest.mark.parametrize("user", ["", "alice", "<token>", "00000000-0000-0000-0000-000000000000"])
async def test_zot_4291_a_token_stands_where_a_password_stands(setup: Setup, user: str) -> None:
    for known, token in (
        (setup.robots, ROBOT),
        (setup.github, jwt_of(iss=GITHUB)),
        (setup.kubernetes, jwt_of(iss="https://kubernetes.default.svc")),
    ):
        for found in (
            await setup.chain.identify(proof(basic(user, token))),
            await setup.chain.identify(proof(f"Bearer {token}")),
            await setup.chain.verify_secret(user, token, CLIENT),
        ):
            assert found.name == known.name
        assert known.asked == [token] * 3


async def test_a_registry_token_in_every_place(setup: Setup) -> None:
    text = setup.tokens.issue(ALICE, ((Repository.parse("a"), frozenset({Permission.PULL})),)).text
    first = await setup.chain.identify(proof(f"Bearer {text}"))
    for authorization in (f"Bearer {text}", f"bearer  {text}", basic("x", text)):
        assert await setup.chain.identify(proof(authorization)) is first
    assert first.delegation is not None
    assert await setup.chain.identify(proof(f"Bearer {setup.tokens.issue(ANONYMOUS, ()).text}")) != ANONYMOUS


async def test_other_issuers_go_to_the_cluster_alone_where_there_is_one(tmp_path: Path) -> None:
    chain = AuthenticatorChain(Verifiers(issuers={GITHUB: Known("github:x")}, passwords=SingleUser("alice", SECRET)))
    with pytest.raises(Unauthorized, match="issuer"):
        await chain.identify(proof(f"Bearer {jwt_of(iss='https://evil.example')}"))


@pytest.mark.parametrize(
    "token", [jwt_of(), jwt_of(iss=""), "eyJh.AAAA.AAAA", "eyJhbGciOiJub25lIn0.e30.", "eyJh..AAAA", "eyJh.eyJh.a.a"]
)
async def test_a_token_that_cannot_be_read_is_shown_to_nobody(setup: Setup, token: str) -> None:
    for authorization in (f"Bearer {token}", basic("x", token)):
        with pytest.raises(Unauthorized):
            await setup.chain.identify(proof(authorization))
    assert not setup.asked


async def test_a_forged_registry_token_is_shown_to_nobody_else(setup: Setup) -> None:
    with pytest.raises(Unauthorized):
        await setup.chain.identify(proof(f"Bearer {jwt_of(iss='trow')}"))
    assert not setup.asked


def test_no_issuer_is_called_as_we_are() -> None:
    with pytest.raises(ValueError, match="trow"):
        AuthenticatorChain(Verifiers(issuers={"trow": Known("x")}))


async def test_cve_2025_30204_long_credentials_are_not_looked_at(setup: Setup) -> None:
    for secret in ("x" * 20_000, "eyJ" + "." * 1_000_000, "trow_" + "a" * 20_000):
        with pytest.raises(Unauthorized, match="16 KiB"):
            await setup.chain.verify_secret("alice", secret, CLIENT)
        with pytest.raises(Unauthorized, match="16 KiB"):
            await setup.chain.identify(proof(f"Bearer {secret}"))
    assert not setup.asked


# failures


async def fail(setup: Setup, authorization: str, times: int, client: str = CLIENT) -> None:
    for _ in range(times):
        with pytest.raises(Unauthorized):
            await setup.chain.identify(proof(authorization, client))


async def test_wrong_passwords_make_the_next_one_wait(setup: Setup) -> None:
    for number in range(5):
        await fail(setup, basic("alice", f"x{number}"), 1)
    for secret in ("x", SECRET):
        with pytest.raises(TooManyRequests) as caught:
            await setup.chain.identify(proof(basic("alice", secret)))
        assert caught.value.retry_after == 1
    assert await setup.chain.identify(proof(basic("alice", SECRET), "10.0.0.2")) == ALICE
    setup.clock.now += 1
    assert await setup.chain.identify(proof(basic("alice", SECRET))) == ALICE
    for number in range(4):
        await fail(setup, basic("alice", f"y{number}"), 1)  # counted again


async def test_wrong_tokens_keep_no_good_credential_of_their_address_waiting(setup: Setup) -> None:
    kinds = {
        ROBOT: setup.robots,
        jwt_of(iss=GITHUB): setup.github,
        jwt_of(iss="https://kubernetes.default.svc"): setup.kubernetes,
    }
    for token, verifier in kinds.items():
        verifier.error = Unauthorized("no")
        for number in range(60):
            await fail(setup, basic(f"user{number}", f"{token}{number}"), 1)
            await fail(setup, f"Bearer {token}{number}", 1)
    for token, verifier in kinds.items():
        verifier.error = None
        for authorization in (f"Bearer {token}", basic("x", token)):
            assert (await setup.chain.identify(proof(authorization))).name == verifier.name
    assert await setup.chain.identify(proof(basic("alice", SECRET))) == ALICE


async def test_a_password_that_was_good_before_passes_ahead_of_the_guesses_of_its_address(setup: Setup) -> None:
    assert await setup.chain.identify(proof(basic("alice", SECRET), "10.0.0.2")) == ALICE
    for number in range(20):
        with contextlib.suppress(Unauthorized, TooManyRequests):
            await setup.chain.identify(proof(basic("alice", f"guess {number}")))
    assert await setup.chain.identify(proof(basic("alice", SECRET))) == ALICE


async def test_a_password_that_is_good_no_more_is_a_guess_like_any_other(tmp_path: Path) -> None:
    clock, passwords = Clock(), Passwords({"alice": SECRET})
    chain = AuthenticatorChain(Verifiers(passwords=passwords), Throttle(clock))
    assert await chain.verify_secret("alice", SECRET, CLIENT) == ALICE
    assert await chain.verify_secret("alice", SECRET, CLIENT) == ALICE
    passwords.right["alice"] = "new"
    with pytest.raises(Unauthorized):
        await chain.verify_secret("alice", SECRET, CLIENT)
    for number in range(4):
        with pytest.raises(Unauthorized):
            await chain.verify_secret("alice", f"{number}", CLIENT)
    with pytest.raises(TooManyRequests):
        await chain.verify_secret("alice", SECRET, CLIENT)
    assert [attempt.known for attempt in passwords.attempts] == [False, True, True, False, False, False, False]


async def test_guesses_at_the_same_time_are_no_more_guesses_than_one_after_the_other() -> None:
    passwords = Passwords({"alice": SECRET})
    chain = AuthenticatorChain(Verifiers(passwords=passwords), Throttle(Clock()))
    guesses = [chain.verify_secret("alice", f"guess {number}", CLIENT) for number in range(60)]
    answers = await asyncio.gather(*guesses, return_exceptions=True)
    assert len(passwords.attempts) == 5
    assert sum(isinstance(answer, TooManyRequests) for answer in answers) == 55


async def test_questions_about_tokens_that_were_never_good_do_not_keep_the_good_ones_waiting() -> None:
    """As many of them as there are, from the same address: a node has one."""
    cluster = BelievingVerifier()
    chain = AuthenticatorChain(Verifiers(kubernetes=cluster))
    good = jwt_of(iss="https://kubernetes.default.svc", sub="good")
    await chain.verify_secret("", good, CLIENT)
    cluster.answers.clear()  # from now on it takes its time
    bad = [asyncio.ensure_future(chain.verify_secret("", jwt_of(iss="x", n=n), CLIENT)) for n in range(2000)]
    await eventually(lambda: len(cluster.asked) == 1 + 8)
    again = asyncio.ensure_future(chain.verify_secret("", good, CLIENT))
    await eventually(lambda: cluster.asked.count(good) == 2)
    other = asyncio.ensure_future(chain.verify_secret("", jwt_of(iss="x", new=1), "10.0.0.2"))
    cluster.answers.set()
    assert (await again).name == (await other).name == "system:serviceaccount:a:b"
    answers = await asyncio.gather(*bad, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, Exception)]
    assert refused
    assert all(isinstance(answer, TooManyRequests) for answer in refused)
    assert len(refused) < 2000


@pytest.mark.parametrize("error", [Unavailable("no answer"), Stale("expired")])
async def test_what_is_no_guess_is_no_failure(setup: Setup, error: Exception) -> None:
    setup.robots.error = setup.kubernetes.error = error
    for secret in (ROBOT, jwt_of(iss="https://kubernetes.default.svc")):
        for _ in range(60):
            with pytest.raises(type(error)):
                await setup.chain.identify(proof(basic("x", secret)))
    assert await setup.chain.identify(proof(basic("alice", SECRET))) == ALICE


async def test_registry_tokens_that_have_run_out_lock_nobody_out(setup: Setup) -> None:
    old = setup.tokens.issue(ALICE, ()).text
    await setup.chain.identify(proof(f"Bearer {old}"))
    setup.clock.now += 301
    await fail(setup, f"Bearer {old}", 60)
    await fail(setup, f"Bearer {jwt_of(iss='trow')}", 60)
    new = setup.tokens.issue(ALICE, ()).text
    assert (await setup.chain.identify(proof(f"Bearer {new}"))).name == "alice"
    assert await setup.chain.identify(proof(basic("alice", SECRET))) == ALICE


async def test_wrong_passwords_of_one_user_keep_nobody_else_of_their_address_waiting(setup: Setup) -> None:
    text = setup.tokens.issue(ALICE, ()).text
    for number in range(300):
        with contextlib.suppress(Unauthorized, TooManyRequests):
            await setup.chain.identify(proof(basic(f"user{number % 30}", f"{number}")))
    assert await setup.chain.identify(proof(basic("alice", SECRET))) == ALICE
    assert (await setup.chain.identify(proof(f"Bearer {text}"))).name == "alice"


async def test_a_malformed_header_is_no_guess(setup: Setup) -> None:
    await fail(setup, "nonsense", 60)
    assert await setup.chain.identify(proof(basic("alice", SECRET))) == ALICE


@given(
    st.one_of(
        st.text(),
        st.text().map(lambda text: f"Bearer {text}"),
        st.text().map(lambda text: basic("x", text.encode("utf-8", "replace").decode())),
    )
)
def test_any_header_is_somebody_or_refused(authorization: str) -> None:
    chain = AuthenticatorChain(Verifiers(robots=Known("robot:x"), passwords=SingleUser("alice", SECRET)))
    try:
        found = run(chain.identify(proof(authorization)))
    except Unauthorized:
        return
    assert found.name in ("", "robot:x")
