"""The pages about image policies, followed with a real cluster whose API server asks a live Trow."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from typing import TYPE_CHECKING, Any, Final

import yaml

from support.cluster import Cluster
from support.pages import ROOT, blocks, prose
from support.reader import Reader, steps
from trow.config import Config
from trow.config.values import ServiceName

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

GUIDES: Final = ROOT / "docs" / "how-to"
PAGES: Final = [
    GUIDES / f"{page}.md"
    for page in (
        "switch-on-admission",
        "allow-only-my-registry",
        "deny-a-registry",
        "roll-out-a-policy",
        "break-glass",
    )
]
API_SERVER: Final = "https://127.0.0.1:6443"
WEBHOOKS: Final = "127.0.0.1:9443"
CERT_MANAGER: Final = "cert-manager.io/v1"
# What some other program has installed in the clusters of readers who look at reports.
REPORTS: Final = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "policyreports.wgpolicyk8s.io"},
    "spec": {
        "group": "wgpolicyk8s.io",
        "scope": "Namespaced",
        "names": {"kind": "PolicyReport", "plural": "policyreports", "singular": "policyreport"},
        "versions": [
            {
                "name": "v1alpha2",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


def test_pages_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each page goes on where the first ends. Nothing but the webhooks' address is different from what they say."""
    folder = tmp_path / "clone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "deploy").symlink_to(ROOT / "deploy")
    with Cluster.start(tmp_path / "cluster") as cluster, held_port() as port:
        cluster.apply(json.dumps(REPORTS))
        replaced = {API_SERVER: cluster.url, WEBHOOKS: f"127.0.0.1:{port}"}
        environment = {"KUBECONFIG": str(cluster.kubeconfig)}
        with Reader(folder, "crane", "kubectl", replaced=replaced, environment=environment) as reader:
            for page in PAGES:
                for block, shown in steps(page):
                    reader.follow(block, shown)


@contextlib.contextmanager
def held_port() -> Iterator[int]:
    """A port for a Trow that is started again; both sides ask to share it."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def test_every_command_of_these_pages_is_run() -> None:
    for page in PAGES:
        for block in blocks(page):
            assert block.language != "sh" or block.words >= {"run", "kubernetes"} or "serve" in block.words, block.code


def test_every_refusal_is_shown() -> None:
    for page in PAGES:
        for block, shown in steps(page):
            assert shown or "kubectl" not in block.code or "fails" not in block.words, block.code


def test_every_object_of_these_pages_is_applied() -> None:
    """But for those of cert-manager, which these clusters do not have, and those that a command only reads."""
    for page in PAGES:
        commands = "".join(block.code for block in blocks(page) if "run" in block.words)
        for block in blocks(page):
            if block.language == "yaml" and objects(block.code):
                assert f"--filename {block.file}" in commands or f" {block.file}" in commands, block.file


def objects(code: str) -> list[Any]:
    """Those objects that these clusters know."""
    return [each for each in yaml.safe_load_all(code) if each.get("apiVersion", CERT_MANAGER) != CERT_MANAGER]


def test_pages_show_the_service_that_the_webhooks_are_called_by() -> None:
    (service,) = (block for block in blocks(PAGES[0]) if block.file == "service.yaml")
    shown = yaml.safe_load(service.code)["metadata"], yaml.safe_load(service.code)["spec"]["ports"]
    (settings,) = (yaml.safe_load(block.code) for block in blocks(PAGES[0]) if block.file == "trow.yaml")
    called = ServiceName.parse(settings["admission"]["service"])
    assert (called.namespace, called.name) == (shown[0]["namespace"], shown[0]["name"])
    assert called.port in [port["port"] for port in shown[1]]


def test_namespaces_that_are_left_alone_are_on_the_page() -> None:
    section = prose(PAGES[0]).partition("## Namespaces that are left alone\n")[2].partition("\n## ")[0]
    shown = re.findall(r"^\| `(.+?)` \|", section, re.MULTILINE)
    assert set(shown) == set(Config().admission.spared_namespaces)
