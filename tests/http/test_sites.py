"""Pages of other sites in a browser on a machine that may use the registry: they neither read nor write."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

import pytest

from support.registry import Client, basic
from support.server import Trow
from support.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from support.registry import Reply

UPLOADS: Final = "/v2/sites/app/blobs/uploads/"
USER: Final = ("alice", "correct horse")


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Open to everybody, with a public name and a page that may write."""
    listen = {"public_url": "https://registry.example.com", "cors": ["https://ui.example.com"]}
    with Trow.start(tmp_path_factory.mktemp("named"), config={"listen": listen}) as trow, Client(trow.url) as client:
        yield client


def write(client: Client, **headers: str) -> Reply:
    return client.request("POST", UPLOADS, b"", {name.replace("_", "-"): value for name, value in headers.items()})


# By which name


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:5000", "127.0.0.1", "127.8.9.1:80", "[::1]:8000", "[::ffff:127.0.0.1]", "trow.localhost",
     "localhost."],
)  # fmt: skip
def test_names_of_this_machine_are_answered(client: Client, host: str) -> None:
    assert client.get("/v2/", host=host).status == 200
    assert write(client, host=host).status == 202


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1",
     "[2001:db8::1]", "[::ffff:10.0.0.1]", "evillocalhost", "0x7f000001"],
)  # fmt: skip
def test_no_other_name_opens_what_is_open_to_this_machine(client: Client, host: str) -> None:
    """DNS rebinding: the page is from there, and the name now points here."""
    for reply in (
        client.get("/v2/", host=host),
        client.get("/v2/_catalog", host=host),
        write(client, host=host),
        write(client, host=host, origin=f"http://{host}", sec_fetch_site="same-origin"),
        client.request("DELETE", "/v2/sites/app/manifests/v1", headers={"host": host}),
    ):
        assert reply.refusal == (403, "DENIED")
        assert "listen.public_url" in reply.json["errors"][0]["message"]


def test_whoever_looks_whether_it_is_up_does_so_by_any_name(client: Client) -> None:
    for path in ("/healthz", "/readyz", "/readiness"):
        assert client.get(path, host="registry.example.com").status == 200
    assert client.get("/metrics", host="registry.example.com").status == 403


def test_request_that_has_no_name_is_no_page_of_another_site(trow: Trow) -> None:
    """HTTP/1.0, which balancers use to look whether it is up, and browsers for nothing."""
    for path in ("/healthz", "/v2/"):
        with Wire(trow.host) as wire:
            wire.send(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            assert wire.answer().status == 200


def test_a_header_of_the_page_makes_no_name_good(client: Client) -> None:
    assert write(client, host="evil.example", x_forwarded_host="localhost", forwarded="host=localhost").status == 403


def test_names_that_are_configured_are_answered(named: Client) -> None:
    for host in ("registry.example.com", "registry.example.com:8443", "localhost"):
        assert write(named, host=host).status == 202
    assert write(named, host="evil.example").status == 403


def test_where_credentials_let_in_any_name_does(private: Trow) -> None:
    with Client(private.url, USER) as client:
        assert client.get("/v2/", host="registry.internal").status == 200


# From which page

FOREIGN: Final = (
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "https://ui.example.com.evil.example"},
    {"origin": "https://evil.example", "sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"origin": "http://localhost:3000", "sec-fetch-site": "same-site"},
)


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_no_page_of_another_site_writes(
    client: Client, named: Client, private: Trow, headers: Mapping[str, str]
) -> None:
    credentials = {"authorization": basic(*USER)}  # which browsers add by themselves
    with Client(private.url) as other:
        askers: list[tuple[Client, dict[str, str]]] = [(client, {}), (named, {}), (other, credentials)]
        for asker, more in askers:
            for method, path in (
                ("POST", UPLOADS),
                ("PUT", "/v2/sites/app/manifests/v1"),
                ("DELETE", "/v2/sites/app/manifests/v1"),
                ("PATCH", f"{UPLOADS}{'0' * 32}"),
                ("POST", "/token"),
            ):
                reply = asker.request(method, path, b"", {**headers, **more})
                assert reply.refusal == (403, "DENIED"), (method, path)
                assert "listen.cors" in reply.json["errors"][0]["message"]


def test_pages_that_may_write_do(client: Client, named: Client, private: Trow) -> None:
    own = client._pool.host, client._pool.port  # noqa: SLF001
    assert write(client, origin=f"http://{own[0]}:{own[1]}", sec_fetch_site="same-origin").status == 202
    assert write(named, origin="https://ui.example.com", sec_fetch_site="same-site").status == 202
    assert write(named, origin="https://registry.example.com").status == 202
    with Client(private.url, USER) as asker:
        assert write(asker, origin=private.url, sec_fetch_site="same-origin").status == 202


@pytest.mark.slow
def test_any_page_writes_without_credentials_only(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("any")
    with Trow.start(folder, user=USER, config={"listen": {"cors": ["*"]}}) as trow, Client(trow.url) as client:
        origin = f"https://{secrets.token_hex(4)}.example"
        assert write(client, origin=origin, authorization=basic(*USER)).status == 403
        assert write(client, origin=origin).status == 401
        token = client.get("/token?scope=repository:sites/app:push", authorization=basic(*USER)).json["token"]
        assert write(client, origin=origin, authorization=f"Bearer {token}").status == 202
