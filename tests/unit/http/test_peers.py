from __future__ import annotations

from typing import Final

import pytest

from support.requests import Headers, Scope, Transport
from trow.access.ports import ClientCertificate
from trow.http.pace import Pace
from trow.http.peers import Peers, TerminatorPeers
from trow.http.request import Request
from trow.oci.errors import Denied
from trow.tls.peer import Peer

PROXY: Final = "10.0.0.2:443"
PROXIES: Final = ("10.0.0.0/8", "fd00::/8")
CLIENT: Final = "203.0.113.7"


def scope(client: str = PROXY, *forwarded: str, **headers: str) -> Scope:
    pairs = [("x-forwarded-for", each) for each in forwarded]
    pairs += [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Scope(client=client, headers=Headers(pairs))


def address(*forwarded: str, client: str = PROXY) -> str:
    asked, peers = scope(client, *forwarded), Peers(PROXIES)
    assert peers.address(asked) == peers.of(asked).address
    return peers.address(asked)


# The client's address


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        (["203.0.113.7"], CLIENT),
        (["203.0.113.7, 10.0.0.1"], CLIENT),
        (["203.0.113.7,10.0.0.1 ,\t10.0.0.9"], CLIENT),
        (["203.0.113.7", "10.0.0.1"], CLIENT),  # a proxy may add a line of its own
        (["198.51.100.1, 203.0.113.7"], CLIENT),  # spoofed by the client
        (["10.0.0.1, 203.0.113.7"], CLIENT),  # spoofed as one of our own
        (["198.51.100.1", "203.0.113.7, 10.0.0.1"], CLIENT),
        (["garbage, 203.0.113.7"], CLIENT),
        ([",,, 203.0.113.7"], CLIENT),
        (["203.0.113.7:54321"], CLIENT),
        (["203.0.113.7:54321, 10.0.0.1:80"], CLIENT),
        (["2001:db8::7"], "2001:db8::7"),
        (["[2001:db8::7]"], "2001:db8::7"),
        (["[2001:db8::7]:54321, [fd00::1]:443"], "2001:db8::7"),
        (["2001:DB8:0:0::7, fd00::1"], "2001:db8::7"),
        (["203.0.113.7, ::ffff:10.0.0.1"], CLIENT),
        (["10.0.0.5"], "10.0.0.5"),  # the client is in the proxies' network
        (["10.0.0.5, 10.0.0.1"], "10.0.0.5"),
        # What cannot be read was said by nobody we know: the last proxy before it is as far as can be told.
        (["203.0.113.7, garbage"], "10.0.0.2"),
        (["203.0.113.7, unknown, 10.0.0.1"], "10.0.0.1"),
        (["203.0.113.7, _hidden, 10.0.0.1"], "10.0.0.1"),
        (["203.0.113.7, 10.0.0.1,"], "10.0.0.2"),
        ([""], "10.0.0.2"),
        (["203.0.113.999"], "10.0.0.2"),
        (["203.0.113.7:"], "10.0.0.2"),
        (["203.0.113.7:x"], "10.0.0.2"),
        (["[203.0.113.7"], "10.0.0.2"),
        (["203.0.113.7/8"], "10.0.0.2"),
        (["203.0.113.7\r\nx: y"], "10.0.0.2"),
        (["1"], "10.0.0.2"),
        ([], "10.0.0.2"),
    ],
)
def test_client_is_the_last_address_that_no_proxy_of_ours_has(forwarded: list[str], expected: str) -> None:
    assert address(*forwarded) == expected


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        ("192.0.2.1:80", "192.0.2.1"),
        ("11.0.0.1:80", "11.0.0.1"),
        ("[2001:db8::9]:80", "2001:db8::9"),
        ("unix:", "unix"),
    ],
)
def test_nobody_else_is_believed(client: str, expected: str) -> None:
    headers = {"x_forwarded_proto": "https", "x_forwarded_host": "evil.example", "host": "good.example"}
    asked = scope(client, "203.0.113.7", **headers)
    for peers in (Peers(PROXIES), Peers()):
        assert peers.of(asked) == Peer(expected, "", "http", "good.example")
        assert peers.address(asked) == expected


@pytest.mark.parametrize("client", ["[fd00::1]:443", "[::ffff:10.0.0.2]:443", "::ffff:10.0.0.2:443"])
def test_proxy_is_known_by_whatever_form_its_address_has(client: str) -> None:
    assert address(CLIENT, client=client) == CLIENT


def test_spoofed_addresses_cannot_push_the_true_one_out() -> None:
    """The client sends as much as it likes; our proxy adds the truth at the right end."""
    for spoofed in ("198.51.100.1, " * 10_000, "x" * 5_000 + ", ", "," * 5_000):
        assert address(f"{spoofed}{CLIENT}") == CLIENT
        assert address(spoofed, CLIENT) == CLIENT


def test_so_many_hops_are_looked_at_and_no_more() -> None:
    assert address(", ".join([CLIENT, *["10.0.0.1"] * 15])) == CLIENT
    assert address(", ".join([CLIENT, *["10.0.0.1"] * 16])) == "10.0.0.1"
    assert address(", ".join([CLIENT, *["10.0.0.1"] * 10_000])) == "10.0.0.1"


def test_chain_on_record_is_bounded_and_keeps_its_right_end() -> None:
    chain = Peers(PROXIES).of(scope(PROXY, "198.51.100.1, " * 10_000 + CLIENT)).forwarded
    assert len(chain) <= 1024
    assert chain.endswith(CLIENT)


# Scheme and host


@pytest.mark.parametrize(
    ("headers", "scheme", "host"),
    [
        ({"host": "trow:8000"}, "http", "trow:8000"),
        ({"x_forwarded_proto": "https", "host": "trow:8000"}, "https", "trow:8000"),
        ({"x_forwarded_proto": "http"}, "http", ""),
        ({"x_forwarded_proto": "javascript"}, "http", ""),
        ({"x_forwarded_host": "registry.example.com", "host": "trow:8000"}, "http", "registry.example.com"),
        ({"x_forwarded_host": "", "host": "trow:8000"}, "http", "trow:8000"),
        ({"x_forwarded_proto": "HTTPS", "x_forwarded_host": "Reg.Example.Com:443"}, "https", "reg.example.com:443"),
        ({"x_forwarded_proto": " https ,\thttp", "host": "trow:8000"}, "https", "trow:8000"),
        ({"x_forwarded_proto": "https,"}, "https", ""),
        ({"x_forwarded_host": "reg.example.com, trow.internal:8000"}, "http", "reg.example.com"),
        ({"x_forwarded_host": "[2001:DB8::1]:5000, trow"}, "http", "[2001:db8::1]:5000"),
        # What is malformed says nothing; it is never put together from pieces.
        ({"x_forwarded_proto": "https http", "host": "trow:8000"}, "http", "trow:8000"),
        ({"x_forwarded_proto": ", https", "host": "trow:8000"}, "http", "trow:8000"),
        ({"x_forwarded_host": "reg.example.com trow.internal", "host": "trow:8000"}, "http", "trow:8000"),
        ({"x_forwarded_host": "https://reg.example.com", "host": "trow:8000"}, "http", "trow:8000"),
        ({"x_forwarded_host": "user@evil.example", "host": "trow:8000"}, "http", "trow:8000"),
        ({"x_forwarded_host": ", evil.example", "host": "trow:8000"}, "http", "trow:8000"),
        ({"x_forwarded_host": "a," * 5000 + "evil.example", "host": "trow:8000"}, "http", "trow:8000"),
        ({"x_forwarded_host": "x" * 2000 + ".evil.example", "host": "trow:8000"}, "http", "trow:8000"),
        ({"host": "a, b"}, "http", ""),
    ],
)
def test_scheme_and_host_are_those_that_the_client_used(headers: dict[str, str], scheme: str, host: str) -> None:
    peer = Peers(PROXIES).of(scope_of(headers))
    assert (peer.scheme, peer.host) == (scheme, host)


@pytest.mark.parametrize(
    ("clients", "hosts", "expected"),
    [
        ("203.0.113.7, 10.0.0.1", "reg.example.com, trow.internal", "reg.example.com"),
        # The client makes up what stands left of what our proxies add.
        ("198.51.100.1, 203.0.113.7", "evil.example, reg.example.com", "reg.example.com"),
        ("198.51.100.1, 203.0.113.7, 10.0.0.1", "evil.example, reg.example.com, trow", "reg.example.com"),
        ("unknown, 10.0.0.1", "reg.example.com, trow", "reg.example.com"),
        ("10.0.0.5, 10.0.0.1", "reg.example.com, trow", "reg.example.com"),
        # Lists that do not belong together, because some proxies write one of them again.
        ("203.0.113.7", "reg.example.com, trow.internal", "reg.example.com"),
        ("203.0.113.7, 10.0.0.1", "reg.example.com", "reg.example.com"),
    ],
)
def test_of_a_list_the_value_counts_that_belongs_to_the_client(clients: str, hosts: str, expected: str) -> None:
    asked = scope(PROXY, clients, x_forwarded_host=hosts, x_forwarded_proto=hosts, host="fallback")
    assert Peers(PROXIES).of(asked).host == expected


def test_lists_may_be_spread_over_several_lines() -> None:
    lines = [("x-forwarded-host", "reg.example.com"), ("x-forwarded-host", "trow"), ("x-forwarded-proto", "https"),
             ("x-forwarded-proto", "http")]  # fmt: skip
    peer = Peers(PROXIES).of(Scope(client=PROXY, headers=Headers(lines)))
    assert (peer.scheme, peer.host) == ("https", "reg.example.com")


# Forwarded (RFC 7239)


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        ("for=203.0.113.7", (CLIENT, "http", "trow:8000")),
        ("for=203.0.113.7;proto=https;host=reg.example.com", (CLIENT, "https", "reg.example.com")),
        ("For=203.0.113.7;PROTO=HTTPS;Host=REG.example.com", (CLIENT, "https", "reg.example.com")),
        ('for="203.0.113.7:4711";by=10.0.0.2;host="reg.example.com:443"', (CLIENT, "http", "reg.example.com:443")),
        ('for="[2001:db8::7]:4711"', ("2001:db8::7", "http", "trow:8000")),
        ('for="\\203.0.113.7" ; proto=https', (CLIENT, "https", "trow:8000")),
        (
            "for=203.0.113.7;proto=https;host=a.example, for=10.0.0.1;proto=http;host=trow",
            (CLIENT, "https", "a.example"),
        ),
        ("for=198.51.100.1;host=evil.example, for=203.0.113.7;host=a.example", (CLIENT, "http", "a.example")),
        ("for=unknown;proto=https;host=a.example", ("10.0.0.2", "https", "a.example")),
        # Proxies that name no clients: the first one is nearest to whoever asks.
        ("proto=https;host=a.example", ("10.0.0.2", "https", "a.example")),
        ("proto=https;host=a.example, proto=http;host=trow", ("10.0.0.2", "https", "a.example")),
        ("host=a.example;proto=https, by=10.0.0.1", ("10.0.0.2", "https", "a.example")),
        ("for=_hidden, for=10.0.0.1", ("10.0.0.1", "http", "trow:8000")),
        # A client that tries to make what our proxy adds unreadable.
        ('for="x, for=203.0.113.7;host=a.example', (CLIENT, "http", "a.example")),
        ('for="x, for="[2001:db8::7]:1";host=a.example', ("2001:db8::7", "http", "a.example")),
        ("nonsense, for=203.0.113.7;host=a.example", (CLIENT, "http", "a.example")),
        (",,;;=, for=203.0.113.7;host=a.example", (CLIENT, "http", "a.example")),
        # What our own proxy writes and nobody can read is not what the client has written before it.
        ("for=198.51.100.1;host=evil.example, for=2001:db8::7;host=a.example", ("10.0.0.2", "http", "trow:8000")),
        ("nonsense", ("10.0.0.2", "http", "trow:8000")),
        ("", ("10.0.0.2", "http", "trow:8000")),
        ('for="' * 10_000, ("10.0.0.2", "http", "trow:8000")),
        ("for=198.51.100.1, " * 10_000 + "for=203.0.113.7", (CLIENT, "http", "trow:8000")),
    ],
)
def test_forwarded_is_read_where_no_x_forwarded_header_is_there(forwarded: str, expected: tuple[str, str, str]) -> None:
    peer = Peers(PROXIES).of(scope(PROXY, forwarded=forwarded, host="trow:8000"))
    assert (peer.address, peer.scheme, peer.host) == expected
    assert len(peer.forwarded) <= 1024


def test_forwarded_of_a_client_does_not_count_beside_what_the_proxy_says() -> None:
    """Proxies that write X-Forwarded-* pass on a Forwarded that they do not know."""
    spoofed = "for=198.51.100.1;proto=http;host=evil.example"
    for headers in ({"x_forwarded_host": "a.example"}, {"x_forwarded_proto": "https", "host": "a.example"}):
        assert Peers(PROXIES).of(scope(PROXY, CLIENT, forwarded=spoofed, **headers)).host == "a.example"
        assert Peers(PROXIES).of(scope(PROXY, forwarded=spoofed, **headers)).address == "10.0.0.2"


def test_forwarded_of_anybody_else_does_not_count() -> None:
    peer = Peers(PROXIES).of(scope("192.0.2.1:80", forwarded="for=203.0.113.7;host=evil.example", host="good.example"))
    assert peer == Peer("192.0.2.1", "", "http", "good.example")


def scope_of(headers: dict[str, str]) -> Scope:
    return scope(PROXY, CLIENT, **headers)


def test_scheme_of_our_own_listener() -> None:
    asked = scope("192.0.2.1:1", host="registry.example.com")
    asked.scheme = "https"
    assert Peers(PROXIES).of(asked).scheme == Peers().of(asked).scheme == "https"


def test_host_of_a_request_over_http_2_is_its_authority() -> None:
    asked = scope("192.0.2.1:1")
    asked.authority = "registry.example.com:443"
    assert Peers().of(asked).host == "registry.example.com:443"


# Client certificates


def test_certificate_belongs_to_the_connection_and_no_header_can_say_otherwise() -> None:
    certificate = ClientCertificate("node-1", ("nodes",), "ab" * 32)
    connections = {"/inner/1": Peer(CLIENT, "", "https", "", certificate)}
    peers = TerminatorPeers(connections)
    forged = {"x_forwarded_host": "evil.example", "x_forwarded_proto": "http", "host": "good.example"}
    asked = scope("/inner/1", "198.51.100.1", **forged)
    assert peers.known(asked) == Peer(CLIENT, "", "https", "good.example", certificate)
    for stranger in ("/inner/2", "", "127.0.0.1:5000"):
        with pytest.raises(Denied):
            peers.known(scope(stranger, "198.51.100.1", **forged))
    del connections["/inner/1"]
    with pytest.raises(Denied):
        peers.known(asked)


def test_client_of_a_request_stays_who_it_was_when_its_connection_ends() -> None:
    connections = {"/inner/1": Peer(CLIENT, "", "https", "", ClientCertificate("node-1", (), "ab" * 32))}
    request = Request(scope("/inner/1"), Transport(), TerminatorPeers(connections), Pace(1, 1))
    del connections["/inner/1"]
    assert request.client == request.peer.address == request.origin.address == CLIENT
    assert request.certificate is not None
