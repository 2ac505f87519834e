from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from trow.config import Bind, Duration, ExactUrl, Network, PostgresUrl, Size, WebOrigin, WebUrl, yaml_text


@pytest.mark.parametrize(
    ("text", "size"),
    [("4MiB", 4 << 20), ("64KiB", 65536), (4096, 4096), ("0", 0), ("1 GB", 10**9), ("1TiB", 2**40), ("7B", 7)],
)
def test_size_is_read(text: object, size: int) -> None:
    assert Size.parse(text) == size


@pytest.mark.parametrize("text", ["", "-1", "1.5MiB", "4mib", "4 M", "MiB", "1e3", "٣", "9" * 19, True, 1.0, None, [4]])
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        Size.parse(text)


@given(st.integers(0, 10**18 - 1))
def test_size_reads_back_from_its_text(number: int) -> None:
    assert Size.parse(Size(number).text) == number


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5m", 300), ("24h", 86400), ("7d", 604800), (90, 90), (1.5, 1.5), ("500ms", 0.5)],
)
def test_duration_is_read(text: object, seconds: float) -> None:
    assert Duration.parse(text) == seconds


@pytest.mark.parametrize("text", ["", "-1s", "1h30m", "s", "1 week", "inf", float("nan"), False, None, "1e9"])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        Duration.parse(text)


@given(st.integers(0, 10**9 - 1))
def test_duration_reads_back_from_its_text(number: int) -> None:
    assert Duration.parse(Duration(number).text) == float(number)


@pytest.mark.parametrize(
    ("text", "bind", "host", "port"),
    [
        ("127.0.0.1:80", "127.0.0.1:80", "127.0.0.1", 80),
        ("127.0.0.1", "127.0.0.1:8000", "127.0.0.1", 8000),
        ("[::]:8000", "[::]:8000", "::", 8000),
        ("[::1]", "[::1]:8000", "::1", 8000),
        ("::1", "[::1]:8000", "::1", 8000),
        ("localhost:0", "localhost:0", "localhost", 0),
        ("registry.example.com:443", "registry.example.com:443", "registry.example.com", 443),
    ],
)
def test_bind_is_read(text: str, bind: str, host: str, port: int) -> None:
    parsed = Bind.parse(text)
    assert (parsed, parsed.host, parsed.port) == (bind, host, port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":80",
        "a:b:c",
        "host:",
        "host:65536",
        "host:-1",
        "[::1",
        "[host]:80",
        "256.1.1.1:80",
        "a/b:80",
        "-a:80",
        8000,
    ],
)
def test_what_is_no_bind_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"is not an address|names no valid host"):
        Bind.parse(text)


@pytest.mark.parametrize("text", ["*", "https://ui.example.com", "http://localhost:3000", "http://[::1]:80"])
def test_origin_is_read(text: str) -> None:
    assert WebOrigin.parse(text) == text


@pytest.mark.parametrize("text", ["", "ui.example.com", "https://a/", "https://a@b", "null", "ftp://a", "http://"])
def test_what_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an origin"):
        WebOrigin.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://registry.example.com",
        "https://registry.example.com:8443",
        "http://localhost:8000",
        "https://[2001:db8::1]:443",
        "https://host/a/b",
    ],
)
def test_url_is_read(text: str) -> None:
    assert WebUrl.parse(text) == ExactUrl.parse(text) == text
    assert WebUrl.parse(f"{text}/") == text, "paths are added to it"
    assert ExactUrl.parse(f"{text}/") == f"{text}/", "names of issuers are compared as they are written"


@pytest.mark.parametrize(
    "text",
    ["", "registry.example.com", "ftp://host", "https://", "https://user@host", "https://host?x=y", "https://host#x",
     "https://host/a b", "https://a:b", "https://a:99999999", "https://[::1", "https://a\r\nb", 8000, None, ["https://a"]],
)  # fmt: skip
def test_what_is_no_url_is_refused(text: object) -> None:
    for kind in (WebUrl, ExactUrl):
        with pytest.raises(ValueError, match="is not a URL"):
            kind.parse(text)


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("192.0.2.7", "192.0.2.7/32"),
        ("fd00::/8", "fd00::/8"),
        ("2001:DB8::1", "2001:db8::1/128"),
        ("0.0.0.0/0", "0.0.0.0/0"),
    ],
)
def test_network_is_read(text: str, network: str) -> None:
    assert Network.parse(text) == network


@pytest.mark.parametrize(
    "text", ["", "10.0.0.1/8", "10.0.0.0/33", "10.0.0", "host", "*", "10.0.0.0/255.0.0.1", "fd00::/129", 10.5, None, []]
)
def test_what_is_no_network_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="is not a network"):
        Network.parse(text)


def test_yaml_text_quotes_what_yaml_would_misread() -> None:
    for text in ("no", "null", "1", "a: b", "#", "", "[::]:80"):
        assert yaml.safe_load(f"x: {yaml_text(text)}") == {"x": text}


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://trow@postgres.example.com:5432/trow",
        "postgres://10.0.0.1",
        "postgresql://trow@a:5432,b:5433/trow?sslmode=verify-full&sslrootcert=/etc/ca.crt",
        "postgresql://trow@[fd00::1]:5432/trow",
        "postgresql:///trow?host=/run/postgresql",
    ],
)
def test_where_a_database_is(url: str) -> None:
    assert PostgresUrl.parse(url) == url


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("mysql://trow@db/trow", "is not the URL"),
        ("postgresql://trow@db/tr ow", "is not the URL"),
        (5432, "is not the URL"),
        ("postgresql://trow:secret-word@db/trow", "has a password"),
        ("postgresql://trow@db/trow?password=secret-word", "has a password"),
        ("postgresql://trow:secret-word@db/tr ow", "is not the URL"),
    ],
)
def test_a_url_of_a_database_has_no_password_and_an_error_shows_none(url: object, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong) as refused:
        PostgresUrl.parse(url)
    assert "secret-word" not in str(refused.value)
