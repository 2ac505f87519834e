"""The doctor in Trow's own Pod, with the rights of Trow: it finds out what it can, and says what it may not."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Any, Final

import pytest

from support import own
from support.installed import Installation
from support.pages import ROOT
from trow.doctor.checks import CHECKS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from support.nodes import NodeCluster

PAGE: Final = ROOT / "docs" / "how-to" / "troubleshoot.md"
FINE: Final = {
    "dns", "connection", "tls", "api", "clock", "trow", "ready", "space", "audit", "exceptions", "policies", "webhooks",
    "reach", "pods", "cluster-clock",
}  # fmt: skip
# By check, which right Trow lacks.
LACKING: Final = {
    "kinds": "get customresourcedefinitions.apiextensions.k8s.io",
    "webhooks": "list validatingwebhookconfigurations.admissionregistration.k8s.io",
    "pull-secrets": "list serviceaccounts",
    "audience": "list nodes",
    "nodes": "list nodes",
    "node-port": "list services in the namespace {namespace}",
    "cluster-clock": "list leases.coordination.k8s.io in the namespace kube-node-lease",
}
# Of the machine where images are pushed, and of nodes.
ELSEWHERE: Final = {"docker", "podman", "config-path", "short-names"}


@pytest.fixture(scope="module")
def installed(
    node_cluster: NodeCluster, own_image: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    node_cluster.import_image(own_image, own.REFERENCE)
    found = Installation.install("helm", node_cluster, tmp_path_factory.mktemp("doctor"))
    found.wait_in_force()
    yield found
    found.uninstall()


def command() -> list[str]:
    """As the page has it, but for the namespace."""
    (line,) = re.findall(r"^ *kubectl (exec .*) trow doctor --config (\S+)$", PAGE.read_text("utf-8"), re.MULTILINE)
    return shlex.split(line[0].replace(" --namespace trow", "") + " trow doctor")


def told(installed: Installation, *flags: str) -> Mapping[str, list[Mapping[str, Any]]]:
    """What each check says."""
    asked = (f"--namespace={installed.namespace}", *command(), *flags, "--output=json")
    findings = json.loads(installed.cluster.kubectl(*asked))["findings"]
    by_check: dict[str, list[Mapping[str, Any]]] = {}
    for each in findings:
        by_check.setdefault(each["check"], []).append(each)
    assert by_check.keys() == {each.name for each in CHECKS}
    return by_check


def test_it_checks_what_trow_may_see_and_names_each_right_that_is_missing(installed: Installation) -> None:
    """And it succeeds, so that kubectl does."""
    found = told(installed, "--config=/etc/trow/config/trow.yaml")
    assert {each["status"] for said in found.values() for each in said} == {"ok", "unchecked"}
    assert {name for name, said in found.items() if any(each["status"] == "ok" for each in said)} == FINE
    somebody = f"system:serviceaccount:{installed.namespace}:trow"
    for name, right in LACKING.items():
        said = [each["what"] for each in found[name] if each["status"] == "unchecked"]
        wanted = f"{somebody} may not {right.format(namespace=installed.namespace)}; run the doctor where"
        assert any(each.startswith(wanted) for each in said), (name, said)
    assert FINE | LACKING.keys() | ELSEWHERE == found.keys()


def test_it_asks_for_the_configuration_that_it_may_not_read_in_the_cluster(installed: Installation) -> None:
    found = told(installed)
    asks = f"may not list configmaps in the namespace {installed.namespace}"
    for name in ("dns", "connection", "api", "pods", "reach", "audience"):
        (said,) = found[name]
        assert said["status"] == "unchecked"
        assert asks in said["what"]
        assert said["what"].endswith("--config FILE")
