from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme
import yaml
from hypothesis import given
from hypothesis import strategies as st

from trow.config import (
    SECTIONS,
    SETTINGS,
    Bind,
    Config,
    ConfigError,
    Duration,
    Problem,
    Size,
    WebOrigin,
    load,
    read_password,
    resolve,
    yaml_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    Write = Callable[[str], Path]

MISSING = Path("missing")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(text: str) -> Path:
        path = tmp_path / "trow.yaml"
        path.write_text(text, "utf-8")
        return path

    return written


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text("correct horse\n", "utf-8")
    return path


def problems(path: Path | None = None, environment: dict[str, str] | None = None, **flags: str) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        load(path, environment or {}, {key.replace("__", "."): text for key, text in flags.items()})
    return caught.value.problems


# Value types


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


# Sources


def test_nothing_given_is_the_defaults() -> None:
    assert load(None, {}, {}) == Config()


@pytest.mark.parametrize("text", ["", "{}", "limits:\n", "# nothing\n"])
def test_empty_file_is_the_defaults(write: Write, text: str) -> None:
    assert load(write(text), {}, {}) == Config()


def test_every_default_reads_back_from_its_yaml(write: Write) -> None:
    sections = dict.fromkeys(SECTIONS, "")
    for key, setting in SETTINGS.items():
        section, _, name = key.rpartition(".")
        sections[section] = sections.get(section, "") + f"{' ' * bool(section)}{name}: {yaml_text(setting.default)}\n"
    top = sections.pop("")
    assert load(write(top + "".join(f"{name}:\n{lines}" for name, lines in sections.items())), {}, {}) == Config()


def test_every_setting_has_a_description_and_its_variable() -> None:
    assert all(setting.description.endswith(".") for setting in SETTINGS.values())
    assert SETTINGS["registry.max_manifest_size"].environment == "TROW_REGISTRY_MAX_MANIFEST_SIZE"
    assert SETTINGS["data_dir"].environment == "TROW_DATA_DIR"


def test_later_sources_win_and_are_named(write: Write) -> None:
    file = write("limits: {burst: 1, page_size: 1, max_uploads: 1}\n")
    environment = {"TROW_LIMITS_BURST": "2", "TROW_LIMITS_PAGE_SIZE": "2", "TROW_CONFIG": "unused"}
    resolved = resolve(file, environment, {"limits.burst": "3"})
    limits = resolved.config.limits
    assert (limits.burst, limits.page_size, limits.max_uploads, limits.max_page_size) == (3, 2, 1, 10000)
    kinds = [resolved.sources[f"limits.{name}"].kind for name in ("burst", "page_size", "max_uploads", "max_page_size")]
    assert kinds == ["flag", "environment", "file", "default"]


def test_variable_names_the_file(write: Write) -> None:
    assert load(None, {"TROW_CONFIG": str(write("data_dir: /srv/trow"))}, {}).data_dir == Path("/srv/trow")


def test_values_from_text() -> None:
    environment = {
        "TROW_LISTEN_BIND": "[::]:80, localhost",
        "TROW_LISTEN_CORS": "",
        "TROW_REGISTRY_SPARSE_INDEXES": "false",
        "TROW_REGISTRY_MAX_BLOB_SIZE": "5GiB",
        "TROW_LIMITS_BODY_TIMEOUT": "5",
        "TROW_LIMITS_BURST": "7",
        "TROW_AUTH_USER": "",
        "TROW_AUTH_ANONYMOUS": "pull",
    }
    config = load(None, environment, {"log.access": "false"})
    assert config.listen.bind == ("[::]:80", "localhost:8000")
    assert (config.listen.cors, config.auth.user, config.auth.anonymous) == ((), None, "pull")
    assert (config.registry.sparse_indexes, config.log.access) == (False, False)
    assert (config.registry.max_blob_size, config.limits.body_timeout, config.limits.burst) == (5 << 30, 5.0, 7)
    assert isinstance(config.registry.max_blob_size, Size)
    assert isinstance(config.limits.body_timeout, Duration)


def test_variables_of_kubernetes_services_are_no_settings() -> None:
    environment = {
        "TROW_SERVICE_HOST": "10.0.0.1",
        "TROW_SERVICE_PORT": "8000",
        "TROW_SERVICE_PORT_HTTP": "8000",
        "TROW_PORT": "tcp://10.0.0.1:8000",
        "TROW_PORT_8000_TCP": "tcp://10.0.0.1:8000",
        "TROW_PORT_8000_TCP_PROTO": "tcp",
        "TROW_PORT_8000_TCP_PORT": "8000",
        "TROW_PORT_8000_TCP_ADDR": "10.0.0.1",
        "TROW_METRICS_SERVICE_HOST": "10.0.0.2",
        "TROWEL": "not ours",
    }
    assert load(None, environment, {}) == Config()


# Problems: where, key, what, fix


def test_every_problem_is_reported_with_its_place(write: Write) -> None:
    file = write("limits: {burst: 0}\nregistry: {max_blob_size: big}\n")
    found = problems(file, {"TROW_LOG_LEVEL": "loud", "TROW_LOG_ACCES": "true"}, listen__bind="x:99999")
    assert {(problem.source.kind, problem.key) for problem in found} == {
        ("file", "limits.burst"),
        ("file", "registry.max_blob_size"),
        ("environment", "log.level"),
        ("environment", ""),
        ("flag", "listen.bind"),
    }
    text = "\n".join(map(str, found))
    assert f"{file}: registry.max_blob_size: 'big' is not a size; write a whole number of bytes" in text
    assert f"{file}: limits.burst: 0 is less than 1; write a whole number of at least 1" in text
    assert "variable TROW_LOG_LEVEL: log.level: Invalid enum value 'loud'; write one of debug, info" in text
    assert "variable TROW_LOG_ACCES: unknown variable; did you mean TROW_LOG_ACCESS?" in text
    assert "flag --bind: listen.bind: 'x:99999' is not an address" in text


@pytest.mark.parametrize(
    ("text", "key", "fix"),
    [
        ("lisen: {}", "lisen", "did you mean listen?"),
        ("listen: {binds: []}", "listen.binds", "did you mean listen.bind?"),
        ("max_manifest_size: 1", "max_manifest_size", "did you mean registry.max_manifest_size?"),
        ("limits: {zzz: 1}", "limits.zzz", "remove it"),
        ("limits: {1: 1}", "limits.1", "remove it"),
    ],
)
def test_unknown_key_is_refused_with_the_nearest(write: Write, text: str, key: str, fix: str) -> None:
    [problem] = problems(write(text))
    assert (problem.key, problem.wrong, problem.fix) == (key, "unknown setting", fix)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("limits: {burst: 1}\nlimits: {burst: 2}", "key 'limits' is written twice"),
        ("limits:\n  burst: 1\n  burst: 2", "key 'burst' is written twice"),
        ("limits: [", "expected the node content"),
        ("a: 1\n---\nb: 2", "but found another document"),
        ("a: !!python/object:os.system {}", "could not determine a constructor"),
        ("[1, 2]", "is not a mapping"),
        ("limits: 5", "is not a mapping"),
        ("\0", "is not YAML"),
        ("[" * 10000, "is not YAML"),
    ],
)
def test_broken_file_is_refused(write: Write, text: str, wrong: str) -> None:
    [problem] = problems(write(text))
    assert wrong in problem.wrong


def test_line_of_broken_yaml_is_named(write: Write) -> None:
    [problem] = problems(write("log:\n  level: info\n  level: debug\n"))
    assert str(problem).endswith("trow.yaml: line 3: key 'level' is written twice; correct the YAML")


def test_absent_file_is_refused() -> None:
    [problem] = problems(MISSING)
    assert "No such file" in problem.wrong


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("listen: {bind: []}", "listen.bind"),
        ("listen: {bind: 127.0.0.1:8000}", "listen.bind"),
        ("listen: {tls: {certificate: a.pem}}", "listen.tls"),
        ("listen: {tls: {certificate: a.pem, key: b.pem, ca: c.pem}}", "listen.tls"),
        ("listen: {tls: {certificate: missing.pem, key: missing.pem}}", "listen.tls"),
        ("listen: {shutdown_grace: -1}", "listen.shutdown_grace"),
        ("data_dir: ''", "data_dir"),
        ("data_dir: null", "data_dir"),
        ("registry: {sparse_images: 'yes'}", "registry.sparse_images"),
        ("registry: {max_blob_size: 0}", "registry.max_blob_size"),
        ("registry: {tag_history: -1}", "registry.tag_history"),
        ('registry: {notice: "two\\nlines"}', "registry.notice"),
        ("registry: {notice: größer}", "registry.notice"),
        ("limits: {requests_per_second: -1}", "limits.requests_per_second"),
        ("limits: {page_size: 10001}", "limits.page_size"),
        ("limits: {body_timeout: 0}", "limits.body_timeout"),
        ("auth: {user: admin}", "auth.user"),
        ("auth: {anonymous: none}", "auth.anonymous"),
        ("auth: {anonymous: nobody}", "auth.anonymous"),
        ("log: {level: INFO}", "log.level"),
    ],
)
def test_bad_value_and_contradiction_are_refused(write: Write, text: str, key: str) -> None:
    [problem] = problems(write(text))
    assert problem.key == key
    assert problem.source.kind == "file"
    assert problem.fix


# User and password


def test_user_with_password(password_file: Path) -> None:
    config = load(None, {}, {"auth.user": "admin", "auth.password_file": str(password_file)})
    assert read_password(config) == "correct horse"
    assert config.auth.anonymous_access == "none"
    assert "horse" not in repr(config)


def test_everybody_may_do_all_without_a_user() -> None:
    assert Config().auth.anonymous_access == "all"
    assert read_password(Config()) is None


@pytest.mark.parametrize(("content", "password"), [(b"a\n\n", "a\n"), (b"a\r\n", "a"), (b"a", "a"), (b" a ", " a ")])
def test_one_trailing_newline_is_not_part_of_the_password(password_file: Path, content: bytes, password: str) -> None:
    password_file.write_bytes(content)
    assert read_password(load(None, {}, {"auth.user": "u", "auth.password_file": str(password_file)})) == password


@pytest.mark.parametrize(
    ("content", "wrong"), [(b"", "is empty"), (b"\n", "is empty"), (b"\xff", "is not UTF-8"), (None, "cannot be read")]
)
def test_useless_password_file_is_refused(password_file: Path, content: bytes | None, wrong: str) -> None:
    password_file.unlink() if content is None else password_file.write_bytes(content)
    [problem] = problems(auth__user="u", auth__password_file=str(password_file))
    assert wrong in problem.wrong


def test_password_without_user_and_user_with_colon_are_refused(password_file: Path) -> None:
    assert [problem.key for problem in problems(auth__password_file=str(password_file))] == ["auth.password_file"]
    assert [problem.key for problem in problems(auth__user="a:b", auth__password_file=str(password_file))] == [
        "auth.user"
    ]


# TLS


def test_matching_certificate_and_key_are_accepted_and_others_refused(tmp_path: Path) -> None:
    authority = trustme.CA()
    for name in ("one", "two"):
        leaf = authority.issue_cert("localhost")
        leaf.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        leaf.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.crt")
    certificate, key, other = tmp_path / "one.crt", tmp_path / "one.key", tmp_path / "two.key"
    tls = load(None, {"TROW_LISTEN_TLS": f"{certificate},{key}"}, {}).listen.tls
    assert tls is not None
    assert (tls.certificate, tls.key) == (certificate, key)
    [problem] = problems(listen__tls=f"{certificate},{other}")
    assert "cannot be used (KEY_VALUES_MISMATCH)" in problem.wrong
    [problem] = problems(listen__tls=f"{certificate}")
    assert problem.fix.startswith("write both files")


def test_yaml_text_quotes_what_yaml_would_misread() -> None:
    for text in ("no", "null", "1", "a: b", "#", "", "[::]:80"):
        assert yaml.safe_load(f"x: {yaml_text(text)}") == {"x": text}
