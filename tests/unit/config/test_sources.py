from __future__ import annotations

import contextlib
import json
import re
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from support.settings import problems
from trow.config import (
    SECTIONS,
    SETTINGS,
    AccessRule,
    Config,
    ConfigError,
    Duration,
    OidcIssuer,
    Size,
    load,
    resolve,
    yaml_text,
)
from trow.config.schema import Admission
from trow.lib.globs import RepositoryGlob

if TYPE_CHECKING:
    from support.fixtures import Write

MISSING = Path("missing")


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


# Values of several parts

GITHUB: Final = "{name: github, issuer: https://token.actions.githubusercontent.com, audiences: [registry.example.com]}"
RULE: Final = "{groups: [dev], repositories: [team-a/**], actions: [pull, push]}"


def test_issuers_from_the_file_and_from_a_variable_are_the_same(write: Write) -> None:
    from_file = load(write(f"auth: {{oidc: [{GITHUB}]}}"), {}, {})
    from_variable = load(None, {"TROW_AUTH_OIDC": f"[{GITHUB}]"}, {})
    assert from_file == from_variable
    (issuer,) = from_file.auth.oidc
    assert issuer == OidcIssuer(
        name="github", issuer=issuer.issuer, audiences=("registry.example.com",), algorithms=("RS256", "ES256")
    )
    assert (issuer.username_claim, issuer.username_prefix, issuer.jwks_uri) == ("sub", None, None)


def test_issuer_keeps_the_slash_at_its_end() -> None:
    text = (
        "[{name: a, issuer: 'https://tenant.example.com/', audiences: [x], jwks_uri: 'https://tenant.example.com/k/'}]"
    )
    (issuer,) = load(None, {"TROW_AUTH_OIDC": text}, {}).auth.oidc
    assert (issuer.issuer, issuer.jwks_uri) == ("https://tenant.example.com/", "https://tenant.example.com/k/")


def test_rules_from_the_file_and_from_a_variable_are_the_same(write: Write) -> None:
    from_file = load(write(f"access:\n  rules:\n    - {RULE}\n"), {}, {})
    from_variable = load(None, {"TROW_ACCESS_RULES": f"[{RULE}]"}, {})
    assert from_file == from_variable
    (rule,) = from_file.access.rules
    assert rule == AccessRule(
        groups=("dev",), repositories=(RepositoryGlob.parse("team-a/**"),), actions=("pull", "push")
    )
    assert isinstance(rule.repositories[0], RepositoryGlob)


def test_namespaces_from_the_file_and_from_a_variable_are_the_same(write: Write) -> None:
    from_file = load(write("kubernetes: {namespaces: {images: team-a, library: platform}}"), {}, {})
    from_variable = load(None, {"TROW_KUBERNETES_NAMESPACES": "{images: team-a, library: platform}"}, {})
    assert from_file == from_variable
    assert from_file.kubernetes.namespaces == {"images": "team-a", "library": "platform"}


def test_client_certificates_from_a_variable(write: Write, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    [problem] = problems(None, {"TROW_LISTEN_CLIENT_TLS": f"{{bind: ':::1', client_ca: {tmp_path / 'ca.pem'}}}"})
    assert str(problem).startswith("variable TROW_LISTEN_CLIENT_TLS: listen.client_tls: at bind: ':::1' ")
    [problem] = problems(None, {"TROW_LISTEN_CLIENT_TLS": f"{{bind: '[::1]', client_ca: {tmp_path / 'ca.pem'}}}"})
    assert problem.fix == "set listen.tls too"


@pytest.mark.parametrize(
    "name", ["TROW_AUTH_OIDC", "TROW_ACCESS_RULES", "TROW_KUBERNETES_NAMESPACES", "TROW_LISTEN_CLIENT_TLS"]
)
def test_empty_variable_of_several_parts_is_the_default(name: str) -> None:
    assert load(None, {name: ""}, {}) == Config()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"TROW_AUTH_OIDC": "github"}, "auth.oidc: is text and has to be a list; write a mapping with name, issuer"),
        ({"TROW_AUTH_OIDC": "[{name: a}]"}, "auth.oidc: at [0]: lacks 'issuer'"),
        ({"TROW_AUTH_OIDC": "["}, "auth.oidc: is text and has to be a list"),
        ({"TROW_AUTH_OIDC": "[{name: a, name: b}]"}, "auth.oidc: is text and has to be a list"),
        ({"TROW_AUTH_OIDC": f"[{GITHUB}, {GITHUB[:-1]}, issuers: x}}]"}, "[1]: has an unknown 'issuers' (did you mean"),
        ({"TROW_AUTH_OIDC": f"[{GITHUB[:-1]}, algorithms: [none]}}]"}, "at [0].algorithms[0]: cannot be"),
        ({"TROW_AUTH_OIDC": "[{name: a, issuer: b, audiences: [c]}]"}, "at [0].issuer: 'b' is not a URL"),
        ({"TROW_ACCESS_RULES": "[{users: [a], actions: [fly]}]"}, "at [0].actions[0]: cannot be 'fly'"),
        ({"TROW_ACCESS_RULES": "[{users: [a]}]"}, "at [0]: lacks 'actions'"),
        ({"TROW_ACCESS_RULES": "[{users: [a], repositories: [A], actions: [pull]}]"}, "at [0].repositories[0]: 'A' is"),
        ({"TROW_ACCESS_RULES": "[{users: [a], repositories: [1], actions: [pull]}]"}, "at [0].repositories[0]: 1 is"),
        ({"TROW_ACCESS_RULES": "[{user: a, actions: [pull]}]"}, "at [0]: has an unknown 'user' (did you mean users?)"),
        ({"TROW_KUBERNETES_NAMESPACES": "[a]"}, "is a list and has to be a mapping; write a mapping"),
        ({"TROW_KUBERNETES_NAMESPACES": "{a: [b]}"}, "kubernetes.namespaces: at [...]: is a list and has to be text"),
        ({"TROW_LISTEN_TRUSTED_PROXIES": "10.0.0.1/8"}, "'10.0.0.1/8' is not a network; write an address or network"),
        ({"TROW_LISTEN_PUBLIC_URL": "registry"}, "'registry' is not a URL; write a URL such as https://registry.example"),
        ({"TROW_AUTH_CHALLENGE": "digest"}, "cannot be 'digest'; write one of bearer, basic"),
        ({"TROW_AUTH_ANONYMOUS": "all"}, "cannot be 'all'; write one of none, pull"),
        ({"TROW_TOKENS_LIFETIME": "2h"}, "'2h' is more than 1h"),
        ({"TROW_TOKENS_LIFETIME": "5"}, "'5' is less than 10s"),
        ({"TROW_AUDIT_RETENTION": "1s"}, "'1s' is less than 1m"),
        ({"TROW_AUDIT_RETENTION": "36501d"}, "'36501d' is more than 36500d"),
        ({"TROW_AUDIT_MAX_SIZE": "1kB"}, "'1kB' is less than 1MiB"),
        ({"TROW_AUDIT_WEBHOOK_FORMAT": "xml"}, "cannot be 'xml'; write one of cloudevents, kubernetes"),
    ],
)  # fmt: skip
def test_problem_of_a_part_names_the_variable_the_place_and_the_form(environment: dict[str, str], message: str) -> None:
    [problem] = problems(environment=environment)
    (name,) = environment
    assert str(problem).startswith(f"variable {name}: {problem.key}: ")
    assert message in str(problem)
    assert "; write " in str(problem)


def test_problem_of_a_part_names_the_file(write: Write) -> None:
    file = write("access:\n  rules:\n    - {users: [a], actions: [pull]}\n    - {users: [a], actions: [fly]}\n")
    [problem] = problems(file)
    assert str(problem).startswith(
        f"{file}: access.rules: at [1].actions[0]: cannot be 'fly'; write one of pull, push, attach,"
    )


def test_key_written_twice_in_a_part_is_refused(write: Write) -> None:
    [problem] = problems(write("access:\n  rules:\n    - users: [a]\n      users: [b]\n      actions: [pull]\n"))
    assert "key 'users' is written twice" in problem.wrong


# Every setting of identity, access, the cluster and the record

NEW: Final = {
    "listen.public_url": ("https://registry.example.com/", "https://registry.example.com"),
    "listen.trusted_proxies": ("10.0.0.0/8, fd00::/8", ("10.0.0.0/8", "fd00::/8")),
    "auth.users_file": ("FILE", Path("FILE")),
    "kubernetes.node_agents": ("trow", "trow"),
    "auth.anonymous": ("none", "none"),
    "auth.allow_anonymous_push": ("true", True),
    "auth.challenge": ("basic", "basic"),
    "tokens.service": ("registry.example.com", "registry.example.com"),
    "tokens.lifetime": ("10m", 600.0),
    "tokens.keys": ("/keys", Path("/keys")),
    "kubernetes.audiences": ("trow, registry.example.com", ("trow", "registry.example.com")),
    "kubernetes.authorization": ("true", True),
    "kubernetes.anonymous": ("true", True),
    "kubernetes.api_server": ("https://10.0.0.1:6443/", "https://10.0.0.1:6443"),
    "kubernetes.ca_file": ("FILE", Path("FILE")),
    "kubernetes.token_file": ("FILE", Path("FILE")),
    "kubernetes.kubeconfig": ("FILE", Path("FILE")),
    "kubernetes.timeout": ("500ms", 0.5),
    "kubernetes.default_namespace": ("images", "images"),
    "kubernetes.proxied_prefixes": ("f, mirror", ("f", "mirror")),
    "kubernetes.shared_prefixes": ("", ()),
    "audit.enabled": ("false", False),
    "audit.fail_closed": ("true", True),
    "audit.retention": ("7d", 604800.0),
    "audit.max_size": ("1GiB", 2**30),
    "audit.pull_idle": ("2", 2.0),
    "audit.stdout": ("true", True),
    "audit.file": ("audit.log", Path("audit.log")),
    "audit.file_size": ("1MiB", 2**20),
    "audit.file_keep": ("0", 0),
    "audit.webhook": ("https://audit.example.com/hook/", "https://audit.example.com/hook/"),
    "audit.webhook_format": ("kubernetes", "kubernetes"),
    "audit.webhook_token_file": ("FILE", Path("FILE")),
    "audit.webhook_ca_file": ("FILE", Path("FILE")),
}
# What a setting needs beside it.
BESIDE: Final = {
    "auth.users_file": {"access.rules": f"[{RULE}]"},
    "kubernetes.anonymous": {"kubernetes.authorization": "true"},
    "audit.webhook_token_file": {"audit.webhook": "https://audit.example.com"},
    "audit.webhook_ca_file": {"audit.webhook": "https://audit.example.com"},
}


def test_no_setting_is_without_its_test() -> None:
    sections = ("auth", "tokens", "access", "kubernetes", "audit")
    there = {key for key in SETTINGS if key.startswith(tuple(f"{section}." for section in sections))}
    elsewhere = {"auth.user", "auth.password_file", "auth.oidc", "access.rules", "kubernetes.namespaces"}
    assert there - elsewhere == {key for key in NEW if not key.startswith("listen.")}


@pytest.mark.parametrize("key", NEW)
def test_setting_from_its_variable_and_from_the_file(write: Write, tmp_path: Path, key: str) -> None:
    text, expected = NEW[key]
    if text == "FILE":
        text, expected = str(tmp_path / "some"), tmp_path / "some"
        (tmp_path / "some").touch()
    given = {key: text, **BESIDE.get(key, {})}
    config = load(None, {SETTINGS[each].environment: value for each, value in given.items()}, {})
    assert attrgetter(key)(config) == expected
    sections: dict[str, str] = {}
    for each in given:
        section, _, name = each.partition(".")
        sections[section] = sections.get(section, "") + f"  {name}: {yaml_text(attrgetter(each)(config))}\n"
    file = write("".join(f"{section}:\n{lines}" for section, lines in sections.items()))
    assert load(file, {}, {}) == config


def test_defaults_are_closed_where_it_matters() -> None:
    config = Config()
    assert not any([config.listen.trusted_proxies, config.kubernetes.audiences, config.access.rules])
    assert (config.auth.allow_anonymous_push, config.kubernetes.authorization) == (False, False)
    assert (config.audit.enabled, config.auth.challenge, config.tokens.lifetime) == (True, "bearer", 300.0)


@pytest.mark.parametrize("key", SETTINGS)
def test_every_mistake_in_a_setting_tells_the_place_and_what_to_write(write: Write, key: str) -> None:
    section, _, name = key.rpartition(".")
    for value in ({"no": {"such": "thing"}}, [[["list"]]], -1, "\0"):
        line = json.dumps({section: {name: value}} if section else {name: value})
        with contextlib.suppress(ConfigError):
            load(write(line), {}, {})
            continue
        for problem in problems(write(line)):
            assert problem.key
            assert problem.fix
            assert not re.search("`(array|object|str|int|null)|Invalid enum|required field", str(problem)), str(problem)


PART = {"image_validation", "admission.registries"}


def test_a_part_of_the_configuration_is_read_alone(write: Write) -> None:
    file = write(
        "auth: {password_file: /nowhere}\nlisten: {colour: red}\n"
        "admission: {registries: [a.example], secret: '-'}\nimage_validation: {default: Deny}\n"
    )
    environment = {"TROW_LOG_LEVEL": "loud", "TROW_IMAGE_VALIDATION_MODE": "warn"}
    config = load(file, environment, {"limits.burst": "none"}, only=PART)
    assert (config.image_validation.default, config.image_validation.mode) == ("Deny", "warn")
    assert config.admission == Admission(registries=("a.example",))
    assert (config.auth, config.listen, config.log) == (Config().auth, Config().listen, Config().log)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("image_validation: {default: Perhaps}", "image_validation.default: "),
        ("image_validation: {allow: [quay.io]}", "image_validation.allow: has no default"),
        ("image_validation: {alow: [quay.io]}", "did you mean image_validation.allow?"),
        ("image_validaton: {default: Deny}", "did you mean image_validation?"),
        ("admission: {registrys: [a.example]}", "did you mean admission.registries?"),
        ("image_validation: 1", "image_validation: is not a mapping"),
    ],
)
def test_what_is_wrong_in_the_part_that_is_read_is_told(write: Write, text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(problem)):
        load(write(text), {}, {}, only=PART)
