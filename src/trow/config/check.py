"""What is wrong between settings, and between a setting and the machine."""

from __future__ import annotations

import functools
import ipaddress
import re
import ssl
from typing import TYPE_CHECKING, Final, TypeVar

from trow.config.errors import DEFAULT, Problem
from trow.config.schema import Postgres
from trow.config.values import Bind, PostgresUrl
from trow.lib.dns_names import is_subdomain
from trow.lib.urls import problem_with
from trow.oci.errors import NameInvalid
from trow.oci.names import Repository
from trow.policy.aliases import aliases_of
from trow.policy.configured import patterns_of
from trow.policy.images import registry_of
from trow.policy.paths import Path as ImagePath
from trow.policy.webhooks import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from trow.config.errors import Source
    from trow.config.schema import AccessRule, Admission, Config, Tls

Given = TypeVar("Given")
# Beginnings of names that each belong to one way of logging in.
_RESERVED: Final = ("system:", "robot:", "certificate:")


def read_password(config: Config) -> str | None:
    """The user's password; None when no password file is set."""
    if config.auth.password_file is None:
        return None
    return config.auth.password_file.read_text("utf-8").removesuffix("\n").removesuffix("\r")


def contradictions(config: Config, sources: Mapping[str, Source]) -> Iterator[Problem]:
    """What is wrong between settings, and between a setting and the machine."""
    problem = functools.partial(_problem_at, sources)
    if not config.listen.bind:
        yield problem("listen.bind", "is empty", f"write {Bind.form}")
    if config.limits.page_size > config.limits.max_page_size:
        yield problem("limits.page_size", "is larger than limits.max_page_size", "lower it or raise the other")
    said = sources["registry.empty_upload_expiry"] != DEFAULT
    if said and config.registry.empty_upload_expiry > config.registry.upload_expiry:
        outlives = "is longer than registry.upload_expiry, which ends every upload"
        yield problem("registry.empty_upload_expiry", outlives, "lower it or raise the other")
    yield from _same_addresses(config, problem)
    if not config.tokens.service.strip():
        yield problem("tokens.service", "is empty", "write a name that all replicas share, such as trow")
    try:
        Repository.parse(config.registry.pull_check or "none")
    except NameInvalid:
        yield problem("registry.pull_check", "is not the name of a repository", "write one such as trow/pull-check")
    notice = config.registry.notice
    if notice and not (notice.isascii() and notice.isprintable()):
        yield problem("registry.notice", "cannot be sent in a header", "write printable ASCII on one line")
    yield from _contradictions_of_metadata(config, problem)
    yield from _contradictions_of_storage(config, problem)
    yield from _contradictions_of_auth(config, problem)
    yield from _contradictions_of_oidc(config, problem)
    yield from _contradictions_of_access(config, problem)
    yield from _contradictions_of_audit(config, problem)
    yield from _contradictions_of_admission(config, problem)
    yield from _unreadable(config, problem)
    if config.listen.client_tls and not config.listen.tls:
        yield problem("listen.client_tls", "has no server certificate", "set listen.tls too")
    if config.listen.tls and (wrong := _wrong_with_tls(config.listen.tls)):
        yield problem("listen.tls", wrong, "give a PEM certificate chain and its unencrypted PEM key")


def _same_addresses(config: Config, problem: functools.partial[Problem]) -> Iterator[Problem]:
    """Two listeners of one address: what comes there can be for one of them only."""
    client_tls = config.listen.client_tls
    taken: dict[str, str] = {}
    listeners: Sequence[tuple[str, Bind | None]] = (
        *(("listen.bind", each) for each in config.listen.bind),
        ("listen.client_tls", client_tls.bind if client_tls else None),
        ("listen.probes", config.listen.probes),
        ("admission.bind", config.admission.bind),
    )
    for key, bind in listeners:
        if bind is None or not bind.port:
            continue
        if bind in taken:
            yield problem(key, f"{bind} is also the address of {taken[bind]}", "use different ports")
        taken.setdefault(bind, key)


def _unreadable(config: Config, problem: functools.partial[Problem]) -> Iterator[Problem]:
    client_tls = config.listen.client_tls
    files: Sequence[tuple[str, Path | None]] = (
        ("auth.users_file", config.auth.users_file),
        ("postgres.password_file", config.postgres.password_file),
        ("postgres.ca_file", config.postgres.ca_file),
        ("s3.ca_file", config.s3.ca_file),
        ("kubernetes.kubeconfig", config.kubernetes.kubeconfig),
        ("kubernetes.ca_file", config.kubernetes.ca_file),
        ("kubernetes.token_file", config.kubernetes.token_file),
        ("audit.webhook_token_file", config.audit.webhook_token_file),
        ("audit.webhook_ca_file", config.audit.webhook_ca_file),
        ("admission.ca_file", config.admission.ca_file),
        *(("auth.oidc", issuer.ca_file) for issuer in config.auth.oidc),
        *(("listen.client_tls", path) for path in ((client_tls.client_ca, client_tls.crl) if client_tls else ())),
    )
    for key, path in files:
        try:
            if path is not None:
                path.read_bytes()
        except OSError as error:
            yield problem(key, f"{path} cannot be read ({error.strerror})", "give a readable file")


def _problem_at(sources: Mapping[str, Source], key: str, wrong: str, fix: str) -> Problem:
    return Problem(sources[key], key, wrong, fix)


def _contradictions_of_metadata(config: Config, problem: functools.partial[Problem]) -> Iterator[Problem]:
    postgres = config.postgres
    if config.metadata == "sqlite":
        if config.replicas > 1:
            one = f"is {config.replicas}, and metadata: sqlite is for one process"
            yield problem("replicas", one, "set metadata: postgres and postgres.url, or replicas: 1")
        for name in postgres.__struct_fields__:
            if getattr(postgres, name) != getattr(Postgres(), name):
                no_effect = "has no effect with metadata: sqlite"
                yield problem(f"postgres.{name}", no_effect, "set metadata: postgres, or remove this")
        return
    if config.replicas > 1 and config.audit.enabled:
        kept = f"is {config.replicas}, and the audit record is kept by one process"
        yield problem("replicas", kept, "set audit.enabled: false, or replicas: 1")
    if postgres.url is None:
        yield problem("metadata", "is postgres, and postgres.url is not set", f"write there {PostgresUrl.form}")
    elif postgres.ca_file is not None and (postgres.url.says("sslmode") or postgres.url.says("sslrootcert")):
        what = "is set, and so is sslmode or sslrootcert in postgres.url"
        yield problem("postgres.ca_file", what, "keep one of them; with the file everything is verified")


def _contradictions_of_storage(config: Config, problem: functools.partial[Problem]) -> Iterator[Problem]:
    s3, default = config.s3, type(config.s3)()
    if config.storage != "s3":
        for key in (each for each in s3.__struct_fields__ if getattr(s3, each) != getattr(default, each)):
            yield problem(f"s3.{key}", "has no effect without storage: s3", "set that too, or remove this")
        return
    if config.replicas > 1 and config.tokens.keys is None:
        own = "is null, and replicas with a bucket have data directories of their own: each would make keys of its own"
        yield problem("tokens.keys", own, "give a directory that all replicas have, such as a Secret that is mounted")
    if not s3.bucket or "/" in s3.bucket:
        yield problem("s3.bucket", "names no bucket", "write its name, without scheme and path")
    if s3.prefix and (s3.prefix.startswith("/") or not s3.prefix.endswith("/") or not s3.prefix.isprintable()):
        yield problem("s3.prefix", f"{s3.prefix!r} begins with a slash, or ends without one", "write such as trow/")
    if s3.kms_key and s3.encryption != "aws:kms":
        yield problem("s3.kms_key", "has no effect without s3.encryption: aws:kms", "set that too, or remove this")
    if s3.public_endpoint and not s3.redirect:
        yield problem("s3.public_endpoint", "has no effect without s3.redirect", "set that too, or remove this")


def _contradictions_of_auth(config: Config, problem: functools.partial[Problem]) -> Iterator[Problem]:
    auth = config.auth
    if auth.user is not None and (not auth.user or ":" in auth.user or not auth.user.isprintable()):
        yield problem("auth.user", f"{auth.user!r} is not a user name", "write a name without colon")
    if auth.user is not None and auth.password_file is None:
        yield problem("auth.user", "has no password", "set auth.password_file too")
    if auth.user is None and auth.password_file is not None:
        yield problem("auth.password_file", "is set without a user", "set auth.user too")
    if wrong := _wrong_with_password(config):
        yield problem("auth.password_file", f"{auth.password_file} {wrong}", "give a file that holds the password")
    if not config.loopback and not config.authenticated and not auth.allow_anonymous_push:
        yield problem(
            "listen.bind",
            "is reachable from other machines, and everybody could push and delete",
            "set auth.user, auth.users_file or another way to log in, or give --allow-anonymous-push",
        )
    if auth.anonymous is not None and auth.allow_anonymous_push:
        yield problem("auth.anonymous", "contradicts auth.allow_anonymous_push", "set one of them")
    if auth.users_file is not None and not config.access.rules and not config.kubernetes.authorization:
        yield problem("auth.users_file", "has users without any permission", "write a rule for them into access.rules")


def _contradictions_of_oidc(config: Config, problem: functools.partial[Problem]) -> Iterator[Problem]:
    names = [issuer.name for issuer in config.auth.oidc]
    if len(set(names)) != len(names):
        yield problem("auth.oidc", "has two issuers of one name", "give each issuer a name of its own")
    for issuer in config.auth.oidc:
        if not re.fullmatch(r"[a-z0-9-]+", issuer.name) or not issuer.audiences or not issuer.algorithms:
            yield problem(
                "auth.oidc",
                f"{issuer.name!r} lacks a name of lower-case letters, digits and '-', an audience or an algorithm",
                "complete it: without an audience a token for anybody would be good here",
            )
        for prefix in (issuer.username_prefix, issuer.groups_prefix):
            if prefix is not None and (not prefix or prefix.startswith(_RESERVED)):
                yield problem(
                    "auth.oidc", f"prefix {prefix!r} could name other users", "write one such as github: instead"
                )
        for url in filter(None, (issuer.issuer, issuer.jwks_uri)):
            if wrong := problem_with(url):
                yield problem("auth.oidc", f"{url} {wrong}", "write https://")


def _contradictions_of_access(config: Config, problem: functools.partial[Problem]) -> Iterator[Problem]:
    issuers = {issuer.name for issuer in config.auth.oidc}
    for number, rule in enumerate(config.access.rules):
        if wrong := _wrong_with_rule(rule, issuers):
            yield problem("access.rules", f"[{number}] {wrong[0]}", wrong[1])
    kubernetes = config.kubernetes
    if kubernetes.anonymous and not kubernetes.authorization:
        yield problem("kubernetes.anonymous", "needs kubernetes.authorization", "switch that on too")
    if kubernetes.kubeconfig and (kubernetes.api_server or kubernetes.token_file or kubernetes.ca_file):
        yield problem(
            "kubernetes.kubeconfig", "is set together with api_server, token_file or ca_file", "keep one of them"
        )


def _wrong_with_rule(rule: AccessRule, issuers: set[str]) -> tuple[str, str] | None:
    return _wrong_with_subjects(rule, issuers) or _wrong_with_grant(rule)


def _wrong_with_subjects(rule: AccessRule, issuers: set[str]) -> tuple[str, str] | None:
    if not (rule.users or rule.groups or rule.issuer or rule.anonymous):
        return "names nobody", "add users, groups, an issuer with claims, or anonymous: true"
    if rule.claims and not rule.issuer:
        return "has claims without an issuer", "say whose claims: write the issuer's name from auth.oidc"
    if rule.issuer and rule.issuer not in issuers:
        return f"names the issuer {rule.issuer!r}", "write the name of an entry of auth.oidc"
    if rule.issuer and not rule.claims and not rule.users and not rule.groups:
        return "lets every subject of an issuer in", "add claims, users or groups"
    return None


def _wrong_with_grant(rule: AccessRule) -> tuple[str, str] | None:
    if {"audit", "admin"} & set(rule.actions) and any(glob != "**" for glob in rule.repositories):
        return "grants audit or admin on some repositories", "they concern all of them: write repositories: ['**']"
    if not rule.actions or not rule.repositories:
        return "grants nothing", "write repositories and actions"
    return None


def _contradictions_of_audit(config: Config, problem: functools.partial[Problem]) -> Iterator[Problem]:
    audit = config.audit
    if audit.fail_closed and not audit.enabled:
        yield problem("audit.fail_closed", "needs audit.enabled, which is off", "change one of them")
    for key in ("file", "webhook", "stdout"):
        if not audit.enabled and getattr(audit, key):
            yield problem(f"audit.{key}", "has no effect without audit.enabled", "set that too, or remove this")
    for key in ("webhook_token_file", "webhook_ca_file"):
        if audit.webhook is None and getattr(audit, key) is not None:
            yield problem(f"audit.{key}", "has no effect without audit.webhook", "set that too, or remove this")


def _contradictions_of_admission(config: Config, problem: functools.partial[Problem]) -> Iterator[Problem]:
    validation, admission = config.image_validation, config.admission
    for key, entries in (("allow", validation.allow), ("deny", validation.deny)):
        for entry in entries:
            if wrong := _wrong_with(patterns_of, entry):
                fix = "write it without scheme" if "://" in entry else "correct the entry"
                yield problem(f"image_validation.{key}", wrong, fix)
        if entries and validation.default is None:
            yield problem(f"image_validation.{key}", "has no default beside it", "write default: Deny, or Allow")
    for name in admission.registries:
        if wrong := _wrong_host(name):
            yield problem("admission.registries", wrong, "write a host, with a port if needed")
    if wrong := _wrong_with(aliases_of, admission.pull_through):
        yield problem("admission.pull_through", wrong, "correct the entry")
    if (admission.pull_groups or admission.pull_users) and not admission.registries:
        yield problem("admission.registries", "is empty, so no pulled image has a name", "write this registry's host")
    if admission.on_registry_addresses and not config.judges_images:
        fix = "set image_validation.default or admission.policies, or remove this"
        yield problem("admission.on_registry_addresses", "has no effect without a policy", fix)
    yield from _contradictions_of_webhooks(admission, problem)


def _contradictions_of_webhooks(admission: Admission, problem: functools.partial[Problem]) -> Iterator[Problem]:
    if admission.bind is not None and not admission.tls and not admission.service:
        fix = "set admission.service, for a certificate that Trow keeps, or admission.tls"
        yield problem("admission.bind", "has no certificate", fix)
    for key in ("tls", "service", "url", "certificate_names", "ca_file"):
        if admission.bind is None and getattr(admission, key):
            yield problem(f"admission.{key}", "has no effect without admission.bind", "set that too, or remove this")
    if admission.ca_file and not admission.tls:
        yield problem("admission.ca_file", "has no effect without admission.tls", "set that too, or remove this")
    if admission.url and not admission.url.startswith("https://"):
        yield problem("admission.url", f"{admission.url} is not HTTPS", "write https://HOST:PORT")
    if admission.tls and (wrong := _wrong_with_tls(admission.tls)):
        yield problem("admission.tls", wrong, "give a PEM certificate chain and its unencrypted PEM key")
    if admission.authority_lifetime < 2 * admission.certificate_lifetime:
        wrong = "is less than twice admission.certificate_lifetime"
        yield problem("admission.authority_lifetime", wrong, "raise it, or lower the other")
    written = admission.bind is not None and admission.webhooks is not None and (admission.service or admission.url)
    if written and admission.deadline >= TIMEOUT:
        wrong = f"is {admission.deadline.text}, and API servers wait {TIMEOUT}s for the webhooks that Trow writes"
        yield problem("admission.deadline", wrong, f"lower it below {TIMEOUT}s")
    yield from _wrong_names(admission, problem)


def _wrong_names(admission: Admission, problem: functools.partial[Problem]) -> Iterator[Problem]:
    if not is_subdomain(admission.secret):
        yield problem("admission.secret", f"{admission.secret!r} is not the name of a Secret", "write its name alone")
    if admission.owner and not is_subdomain(admission.owner):
        wrong = f"{admission.owner!r} is not a valid name of a ClusterRole"
        yield problem("admission.owner", wrong, "write a name such as trow-admission")
    if admission.webhooks is not None and not is_subdomain(admission.webhooks):
        wrong = f"{admission.webhooks!r} is not a valid name of a configuration"
        yield problem("admission.webhooks", wrong, "write a name such as trow")
    for each in admission.extra_kinds:
        for path in each.paths:
            if wrong_path := _wrong_with(ImagePath.parse, path):
                yield problem("admission.extra_kinds", f"{each.kind}: {wrong_path}", "write such as spec.template.spec")
        if not each.resource and "." not in each.group:
            wrong = f"{each.kind} is of the group {each.group!r}, which contains many kinds"
            yield problem("admission.extra_kinds", wrong, "write its resource too, such as resource: deployments")
    for name in admission.certificate_names:
        if not _is_address(name) and not is_subdomain(name):
            yield problem(
                "admission.certificate_names", f"{name!r} is not the name of a host", "write it without scheme and port"
            )


def _is_address(text: str) -> bool:
    return _wrong_with(ipaddress.ip_address, text) is None


def _wrong_with(parse: Callable[[Given], object], given: Given) -> str | None:
    try:
        parse(given)
    except ValueError as error:
        return str(error)
    return None


def _wrong_host(name: str) -> str | None:
    """What is wrong with the name of a registry, for those who write it as a URL too."""
    if "://" in name:
        return f"{name!r} is a URL, and images name a host: {name.partition('://')[2].strip('/')}"
    return _wrong_with(registry_of, name)


def _wrong_with_password(config: Config) -> str | None:
    try:
        password = read_password(config)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except UnicodeDecodeError:
        return "is not UTF-8 text"
    return "is empty" if password == "" else None


def _wrong_with_tls(tls: Tls) -> str | None:
    for path in (tls.certificate, tls.key):
        try:
            path.read_bytes()
        except OSError as error:
            return f"{path} cannot be read ({error.strerror})"
    try:
        # The password keeps OpenSSL from asking for one at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate, tls.key, password="")
    except (ssl.SSLError, ValueError) as error:
        return f"{tls.certificate} and {tls.key} cannot be used ({getattr(error, 'reason', None) or error})"
    return None
