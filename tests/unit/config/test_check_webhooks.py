"""Settings of the listener for webhooks: what is wrong between them, and what is no name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from support.server import Tls
from trow.cli.banner import banner
from trow.config import ConfigError, load

if TYPE_CHECKING:
    from pathlib import Path

    from support.fixtures import Write
    from trow.config.errors import Problem

BIND: Final = "bind: '[::]:8443'"
KEPT: Final = f"{BIND}, service: trow/trow"


def problems(write: Write, admission: str) -> list[Problem]:
    try:
        load(write(f"admission: {{{admission}}}"), {}, {})
    except ConfigError as error:
        return [*error.problems]
    return []


@pytest.mark.parametrize(
    "admission",
    [
        KEPT,
        f"{KEPT}, certificate_names: [127.0.0.1, '::1', hooks.example.com]",
        f"{KEPT}, secret: hooks.example, webhooks: trow.example.com",
        f"{KEPT}, certificate_lifetime: 10s, authority_lifetime: 20s",
        f"{BIND}, service: {'a' * 63}/{'b' * 63}",
        f"{BIND}, service: trow/trow:443, url: 'https://10.0.0.1:9443'",
        f"{BIND}, service: 0/1-2, webhooks: null",
    ],
)
def test_a_certificate_of_the_cluster_is_accepted(write: Write, admission: str) -> None:
    assert problems(write, admission) == []


def test_a_certificate_in_files_is_accepted(write: Write, tmp_path: Path) -> None:
    tls = Tls.issue(tmp_path / "tls")
    files = f"tls: {{certificate: {tls.certificate}, key: {tls.key}}}"
    assert problems(write, f"{BIND}, {files}") == []
    assert problems(write, f"{KEPT}, {files}, ca_file: {tls.certificate}") == []


@pytest.mark.parametrize(
    ("admission", "key", "wrong"),
    [
        (BIND, "bind", "has no certificate"),
        ("service: trow/trow", "service", "has no effect without admission.bind"),
        ("certificate_names: [localhost]", "certificate_names", "has no effect without admission.bind"),
        ("on_registry_addresses: true", "on_registry_addresses", "has no effect without a policy"),
        (f"{BIND}, tls: {{certificate: /missing, key: /missing}}", "tls", "/missing cannot be read (No such file or"),
        (f"{BIND}, service: trow", "service", "'trow' names no Service"),
        (f"{BIND}, service: trow/trow/trow", "service", "'trow/trow/trow' names no Service"),
        (f"{BIND}, service: Trow/trow", "service", "'Trow/trow' names no Service"),
        (f"{BIND}, service: trow/-trow", "service", "'trow/-trow' names no Service"),
        (f'{BIND}, service: "trow/trow\\n"', "service", "'trow/trow\\n' names no Service"),
        (f"{BIND}, service: trow/{'a' * 64}", "service", f"'trow/{'a' * 64}' names no Service"),
        (f"{BIND}, service: trow/trow:0", "service", "'trow/trow:0' names no Service"),
        (f"{BIND}, service: trow/trow:65536", "service", "'trow/trow:65536' names no Service"),
        ("url: 'https://10.0.0.1'", "url", "has no effect without admission.bind"),
        (f"{KEPT}, url: 'http://10.0.0.1'", "url", "http://10.0.0.1 is not HTTPS"),
        (f"{KEPT}, ca_file: /dev/null", "ca_file", "has no effect without admission.tls"),
        ("extra_kinds: [{group: '', kind: Other, paths: [spec]}]", "extra_kinds", "Other is of the group ''"),
        (f"{KEPT}, secret: trow/other", "secret", "'trow/other' is not the name of a Secret"),
        (f"{KEPT}, secret: ''", "secret", "'' is not the name of a Secret"),
        (f"{KEPT}, owner: Trow", "owner", "'Trow' is not a valid name of a ClusterRole"),
        (f"{KEPT}, webhooks: Trow", "webhooks", "'Trow' is not a valid name of a configuration"),
        (
            f"{KEPT}, certificate_names: ['https://trow']",
            "certificate_names",
            "'https://trow' is not the name of a host",
        ),
        (f"{KEPT}, certificate_names: ['trow:8443']", "certificate_names", "'trow:8443' is not the name of a host"),
        (
            f"{KEPT}, certificate_names: ['*.example.com']",
            "certificate_names",
            "'*.example.com' is not the name of a host",
        ),
        (f"{KEPT}, authority_lifetime: 59d", "authority_lifetime", "is less than twice admission.certificate_lifetime"),
        (f"{KEPT}, deadline: 5s", "deadline", "is 5s, and API servers wait 5s for the webhooks that Trow writes"),
        ("deadline: 30s", "deadline", "'30s' is more than 29s"),
        (f"{KEPT}, webhooks: null, deadline: 1h", "deadline", "'1h' is more than 29s"),
        (f"{KEPT}, certificate_lifetime: 9s", "certificate_lifetime", "'9s' is less than 10s"),
    ],
)
def test_what_does_not_fit_is_refused(write: Write, admission: str, key: str, wrong: str) -> None:
    (problem,) = problems(write, admission)
    assert problem.key == f"admission.{key}"
    assert problem.wrong.startswith(wrong)
    assert problem.fix


@pytest.mark.parametrize(
    "admission", [f"{KEPT}, deadline: 4.9s", f"{KEPT}, webhooks: null, deadline: 29s", "deadline: 29s"]
)
def test_a_deadline_below_what_the_api_server_waits_is_taken(write: Write, admission: str) -> None:
    assert load(write(f"admission: {{{admission}}}"), {}, {}).admission.deadline


def test_the_banner_shows_the_address(write: Write) -> None:
    config = load(write(f"admission: {{{KEPT}}}"), {}, {})
    shown = banner(config, ["127.0.0.1:8000"], ["[::]:8443"]).splitlines()
    assert shown[1:3] == ["  listening   http://127.0.0.1:8000", "  listening   https://[::]:8443 for webhooks"]
    assert shown[-1] == "  push        docker push 127.0.0.1:8000/NAME:TAG"
