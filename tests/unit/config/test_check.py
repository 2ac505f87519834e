from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import trustme

from support.settings import problems
from trow.config import SETTINGS, Bind, Config, load, read_password
from trow.config.sources import CALLED

if TYPE_CHECKING:
    from support.fixtures import Write

MISSING = Path("missing")


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
    assert "variable TROW_LOG_LEVEL: log.level: cannot be 'loud'; write one of debug, info" in text
    assert "variable TROW_LOG_ACCES: unknown variable; did you mean TROW_LOG_ACCESS?" in text
    assert "flag --bind: listen.bind: 'x:99999' is not an address" in text


@pytest.mark.parametrize(
    ("text", "key", "fix"),
    [
        ("lisen: {}", "lisen", "did you mean listen?"),
        ("listen: {binds: []}", "listen.binds", "did you mean listen.bind?"),
        ("max_manifest_size: 1", "max_manifest_size", "did you mean registry.max_manifest_size?"),
        ("zzz: 1", "zzz", "remove it"),
        ("listen: {port: 80}", "listen.port", f"write listen.bind: {Bind.form}"),
        ("port: 80", "port", f"write listen.bind: {Bind.form}"),
        ("auth: {htpasswd: x}", "auth.htpasswd", "write auth.users_file: a path"),
    ],
)
def test_unknown_key_is_refused_with_the_nearest(write: Write, text: str, key: str, fix: str) -> None:
    [problem] = problems(write(text))
    assert (problem.key, problem.wrong, problem.fix) == (key, "unknown setting", fix)


@pytest.mark.parametrize("name", ["zzz", "1"])
def test_unknown_key_that_resembles_none_is_told_what_its_section_has(write: Write, name: str) -> None:
    [problem] = problems(write(f"log: {{{name}: 1}}"))
    assert problem.fix.startswith("remove it; log has level, ")


@pytest.mark.parametrize("right", sorted(CALLED.values()))
def test_what_an_unknown_key_is_answered_with_is_a_setting(right: str) -> None:
    assert right in SETTINGS


@pytest.mark.slow
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
        ("auth: {anonymous: nobody}", "auth.anonymous"),
        ("metadata: mysql", "metadata"),
        ("replicas: 0", "replicas"),
        (
            "{metadata: postgres, postgres: {url: 'postgresql://db/trow', max_connections: 5}}",
            "postgres.max_connections",
        ),
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
    assert config.anonymous_access == "none"
    assert "horse" not in repr(config)


def test_everybody_may_do_all_without_a_user() -> None:
    assert Config().anonymous_access == "all"
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


# Who may come in


@pytest.mark.parametrize("bind", ["0.0.0.0", "[::]:8000", "192.0.2.1", "registry.example.com", "127.0.0.1, 192.0.2.1"])
def test_registry_that_others_can_reach_and_that_knows_nobody_is_refused(write: Write, bind: str) -> None:
    file = write(f"listen: {{bind: [{', '.join(repr(each.strip()) for each in bind.split(','))}]}}")
    [problem] = problems(file)
    assert str(problem).startswith(
        f"{file}: listen.bind: is reachable from other machines, and everybody could push and delete;"
    )
    assert "auth.user" in problem.fix
    assert "--allow-anonymous-push" in problem.fix
    allowed = load(file, {}, {"auth.allow_anonymous_push": "true"})
    assert (allowed.open_to_all, allowed.anonymous_access) == (True, "all")


@pytest.mark.parametrize("bind", ["127.0.0.1", "localhost:0", "[::1]:8000", "127.0.0.2, ::1"])
def test_registry_that_only_this_machine_can_reach_may_know_nobody(bind: str) -> None:
    config = load(None, {}, {"listen.bind": bind})
    assert (config.loopback, config.authenticated, config.open_to_all) == (True, False, True)


WAYS: Final = {
    "auth.user": {"auth.user": "admin", "auth.password_file": "FILE"},
    "auth.users_file": {"auth.users_file": "FILE", "access.rules": "[{users: ['*'], actions: [pull]}]"},
    "auth.anonymous": {"auth.anonymous": "none"},
    "auth.oidc": {"auth.oidc": "[{name: a, issuer: 'https://a.example', audiences: [b]}]"},
    "access.rules": {"access.rules": "[{anonymous: true, actions: [pull]}]"},
    "kubernetes.audiences": {"kubernetes.audiences": "trow"},
    "kubernetes.authorization": {"kubernetes.authorization": "true"},
}


@pytest.mark.parametrize("way", WAYS)
def test_any_way_to_log_in_or_to_decide_closes_the_registry(password_file: Path, way: str) -> None:
    flags = {key: text.replace("FILE", str(password_file)) for key, text in WAYS[way].items()}
    config = load(None, {}, {"listen.bind": "0.0.0.0", **flags})
    assert (config.authenticated, config.open_to_all, config.anonymous_access) == (True, False, "none")


@pytest.mark.parametrize("anonymous", ["none", "pull"])
def test_what_is_allowed_without_credentials(anonymous: str) -> None:
    assert load(None, {}, {"auth.anonymous": anonymous}).anonymous_access == anonymous


# Contradictions


ISSUER: Final = "name: github, issuer: 'https://a.example', audiences: [trow]"


@pytest.mark.parametrize(
    ("text", "key", "wrong", "fix"),
    [
        (
            "auth: {anonymous: pull, allow_anonymous_push: true}",
            "auth.anonymous",
            "contradicts auth.allow_anonymous_push",
            "set one of them",
        ),
        ("auth: {users_file: FILE}", "auth.users_file", "has users without any permission", "into access.rules"),
        (
            f"auth: {{oidc: [{{{ISSUER}}}, {{{ISSUER}}}]}}",
            "auth.oidc",
            "has two issuers of one name",
            "a name of its own",
        ),
        (f"auth: {{oidc: [{{{ISSUER.replace('github', 'Git Hub')}}}]}}", "auth.oidc", "'Git Hub' lacks", "complete it"),
        (f"auth: {{oidc: [{{{ISSUER.replace('[trow]', '[]')}}}]}}", "auth.oidc", "an audience", "a token for anybody"),
        (f"auth: {{oidc: [{{{ISSUER}, algorithms: []}}]}}", "auth.oidc", "or an algorithm", "complete it"),
        (f"auth: {{oidc: [{{{ISSUER}, username_prefix: ''}}]}}", "auth.oidc", "prefix '' could name", "github:"),
        (f"auth: {{oidc: [{{{ISSUER}, username_prefix: 'system:x:'}}]}}", "auth.oidc", "'system:x:' could", "github:"),
        (f"auth: {{oidc: [{{{ISSUER}, groups_prefix: 'robot:'}}]}}", "auth.oidc", "'robot:' could name", "github:"),
        (f"auth: {{oidc: [{{{ISSUER}, ca_file: MISSING}}]}}", "auth.oidc", "missing cannot be read", "a readable file"),
        (
            f"auth: {{oidc: [{{{ISSUER.replace('https', 'http')}}}]}}",
            "auth.oidc",
            "http://a.example is not https",
            "write https://",
        ),
        (
            f"auth: {{oidc: [{{{ISSUER}, jwks_uri: 'http://a.example/keys'}}]}}",
            "auth.oidc",
            "http://a.example/keys is not https",
            "write https://",
        ),
        ("access: {rules: [{actions: [pull]}]}", "access.rules", "[0] names nobody", "add users, groups"),
        (
            "access: {rules: [{users: [a], actions: [pull]}, {users: [a], claims: {ref: x}, actions: [pull]}]}",
            "access.rules",
            "[1] has claims without an issuer",
            "from auth.oidc",
        ),
        (
            "access: {rules: [{issuer: github, claims: {ref: x}, actions: [pull]}]}",
            "access.rules",
            "[0] names the issuer 'github'",
            "an entry of auth.oidc",
        ),
        (
            f"auth: {{oidc: [{{{ISSUER}}}]}}\naccess: {{rules: [{{issuer: github, actions: [pull]}}]}}",
            "access.rules",
            "[0] lets every subject of an issuer in",
            "add claims, users or groups",
        ),
        (
            "access: {rules: [{users: [a], actions: []}]}",
            "access.rules",
            "[0] grants nothing",
            "write repositories and",
        ),
        (
            "access: {rules: [{users: [a], repositories: [], actions: [pull]}]}",
            "access.rules",
            "[0] grants nothing",
            "write repositories and",
        ),
        (
            "access: {rules: [{users: [a], repositories: [team-a/**], actions: [audit]}]}",
            "access.rules",
            "[0] grants audit or admin on some repositories",
            "write repositories: ['**']",
        ),
        ("kubernetes: {anonymous: true}", "kubernetes.anonymous", "needs kubernetes.authorization", "switch that on"),
        (
            "kubernetes: {kubeconfig: FILE, api_server: 'https://10.0.0.1'}",
            "kubernetes.kubeconfig",
            "is set together with api_server",
            "keep one of them",
        ),
        (
            "kubernetes: {kubeconfig: FILE, token_file: FILE}",
            "kubernetes.kubeconfig",
            "is set together",
            "keep one of them",
        ),
        (
            "kubernetes: {kubeconfig: FILE, ca_file: FILE}",
            "kubernetes.kubeconfig",
            "is set together",
            "keep one of them",
        ),
        (
            "audit: {enabled: false, fail_closed: true}",
            "audit.fail_closed",
            "needs audit.enabled, which is off",
            "change one",
        ),
        (
            "audit: {webhook_token_file: FILE}",
            "audit.webhook_token_file",
            "no effect without audit.webhook",
            "set that",
        ),
        ("audit: {webhook_ca_file: FILE}", "audit.webhook_ca_file", "no effect without audit.webhook", "set that"),
        (
            "listen: {client_tls: {bind: '[::]:1', client_ca: FILE}}",
            "listen.client_tls",
            "has no server certificate",
            "listen.tls",
        ),
        (
            "{replicas: 2, metadata: postgres, postgres: {url: 'postgresql://db'}}",
            "replicas",
            "is 2, and the audit record is kept by one process",
            "set audit.enabled: false",
        ),
        (
            "{replicas: 2, audit: {enabled: false}}",
            "replicas",
            "is 2, and metadata: sqlite is for one process",
            "set metadata: postgres",
        ),
        (
            "postgres: {url: 'postgresql://trow@db/trow'}",
            "postgres.url",
            "has no effect with metadata: sqlite",
            "set metadata: postgres",
        ),
        ("metadata: postgres", "metadata", "is postgres, and postgres.url is not set", "write there a URL such as"),
        (
            "{metadata: postgres, postgres: {url: 'postgresql://trow@db/trow?sslmode=require', ca_file: FILE}}",
            "postgres.ca_file",
            "and so is sslmode or sslrootcert in postgres.url",
            "keep one of them",
        ),
        (
            "{metadata: postgres, postgres: {url: 'postgresql://trow@db/trow', password_file: MISSING}}",
            "postgres.password_file",
            "missing cannot be read (No such",
            "a readable file",
        ),
        ("kubernetes: {kubeconfig: MISSING}", "kubernetes.kubeconfig", "missing cannot be read (No such", "a readable"),
        ("kubernetes: {ca_file: MISSING}", "kubernetes.ca_file", "missing cannot be read (No such", "a readable"),
        ("kubernetes: {token_file: MISSING}", "kubernetes.token_file", "missing cannot be read (No such", "a readable"),
        (
            "audit: {webhook: 'https://a.example', webhook_token_file: MISSING}",
            "audit.webhook_token_file",
            "missing cannot be read (No such",
            "a readable file",
        ),
        (
            "audit: {webhook: 'https://a.example', webhook_ca_file: MISSING}",
            "audit.webhook_ca_file",
            "missing cannot be read (No such",
            "a readable file",
        ),
    ],
)
def test_contradiction_names_file_key_and_fix(
    write: Write, password_file: Path, text: str, key: str, wrong: str, fix: str
) -> None:
    file = write(text.replace("FILE", str(password_file)).replace("MISSING", str(MISSING)))
    [problem] = problems(file)
    assert problem.key == key
    assert wrong in problem.wrong
    assert fix in problem.fix
    assert str(problem) == f"{file}: {key}: {problem.wrong}; {problem.fix}"


def test_users_file_that_is_not_there() -> None:
    found = problems(auth__users_file="missing", access__rules="[{users: [a], actions: [pull]}]")
    assert [str(problem) for problem in found] == [
        "flag --users-file: auth.users_file: missing cannot be read (No such file or directory); give a readable file"
    ]


@pytest.mark.parametrize("host", ["127.0.0.1:9000", "localhost", "[::1]:9000"])
def test_issuer_on_this_machine_needs_no_https(host: str) -> None:
    text = f"[{{name: a, issuer: 'http://{host}/x', jwks_uri: 'http://{host}/keys', audiences: [trow]}}]"
    (issuer,) = load(None, {"TROW_AUTH_OIDC": text}, {}).auth.oidc
    assert issuer.issuer == f"http://{host}/x"


def test_users_whom_the_cluster_decides_about_need_no_rule(password_file: Path) -> None:
    load(None, {}, {"auth.users_file": str(password_file), "kubernetes.authorization": "true"})


@pytest.mark.parametrize("missing", ["client_ca", "crl"])
def test_files_of_client_certificates_have_to_be_there(tmp_path: Path, missing: str) -> None:
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost")
    leaf.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    authority.cert_pem.write_to_path(tmp_path / "client_ca")
    (tmp_path / "crl").touch()
    flags = {"listen.tls": f"{tmp_path / 'both.pem'},{tmp_path / 'both.pem'}"}
    files = f"client_ca: {tmp_path / 'client_ca'}, crl: {tmp_path / 'crl'}"
    environment = {"TROW_LISTEN_CLIENT_TLS": f"{{bind: '127.0.0.1:0', {files}}}"}
    config = load(None, environment, flags)
    assert config.listen.client_tls is not None
    assert config.authenticated
    (tmp_path / missing).unlink()
    [problem] = problems(None, environment, listen__tls=flags["listen.tls"])
    assert str(problem).startswith(
        f"variable TROW_LISTEN_CLIENT_TLS: listen.client_tls: {tmp_path / missing} cannot be"
    )


def test_every_contradiction_is_told_at_once(write: Write) -> None:
    text = "auth: {user: a}\naudit: {enabled: false, fail_closed: true}\nkubernetes: {anonymous: true}\n"
    keys = [problem.key for problem in problems(write(text), listen__bind="0.0.0.0")]
    assert keys == ["auth.user", "kubernetes.anonymous", "audit.fail_closed"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "admission: {registries: ['https://reg.example.com/']}",
            "'https://reg.example.com/' is a URL, and images name a host: reg.example.com; write a host, with",
        ),
        ("image_validation: {default: Deny, allow: ['https://x.y/']}", "; write it without scheme"),
        (
            "admission: {extra_kinds: [{group: a.b, kind: Thing, paths: ['spec.a[']}]}",
            "Thing: 'spec.a[' is not a path; write members with dots",
        ),
        ("tokens: {service: ''}", "is empty; write a name that all replicas share"),
    ],
)
def test_what_is_often_written_otherwise_is_refused_with_the_fix(write: Write, text: str, said: str) -> None:
    [problem] = problems(write(text))
    assert said in str(problem)
