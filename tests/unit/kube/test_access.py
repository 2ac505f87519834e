"""Where the API server is, and with which credentials it is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trow.kube.access import AccessError, ClusterAccess

if TYPE_CHECKING:
    from pathlib import Path


def test_a_pod_finds_its_api_server(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t", "utf-8")
    access = ClusterAccess.in_pod({"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "8443"}, tmp_path)
    assert access == ClusterAccess("https://10.96.0.1:8443", ca=tmp_path / "ca.crt", token=tmp_path / "token")


def test_an_address_of_ipv6_is_written_in_brackets(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t", "utf-8")
    assert ClusterAccess.in_pod({"KUBERNETES_SERVICE_HOST": "fd00::1"}, tmp_path).url == "https://[fd00::1]:443"


@pytest.mark.parametrize("environment", [{}, {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}])
def test_outside_of_a_pod_the_fix_is_named(tmp_path: Path, environment: dict[str, str]) -> None:
    with pytest.raises(AccessError, match=r"automountServiceAccountToken.*kubeconfig"):
        ClusterAccess.in_pod(environment, tmp_path)


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1:6443",
        "http://cluster",
        "https://",
        "https://u:p@h",
        "https://h?x=1",
        "h:6443",
        "https://h:99999",
    ],
)
def test_a_token_is_never_sent_in_the_clear_or_to_nobody(url: str) -> None:
    with pytest.raises(AccessError, match="https://HOST:PORT"):
        ClusterAccess(url)


@pytest.mark.parametrize("url", ["https://h", "https://h/k8s/clusters/c-1", "http://127.0.0.1:8001", "http://[::1]:1"])
def test_https_and_loopback_are_addresses(url: str) -> None:
    assert ClusterAccess(url).url == url


def test_secrets_are_not_shown() -> None:
    assert "secret" not in repr(ClusterAccess("https://h", token="secret-token", certificate="secret", key="secret"))


def test_unusable_certificates_are_named_with_their_file(tmp_path: Path) -> None:
    broken = tmp_path / "broken.crt"
    broken.write_text("nothing", "utf-8")
    with pytest.raises(AccessError, match=r"broken.crt does not hold certificates"):
        ClusterAccess("https://h", ca=broken).tls()
    with pytest.raises(AccessError, match=r"missing.crt does not hold certificates.*No such file"):
        ClusterAccess("https://h", ca=tmp_path / "missing.crt").tls()
    with pytest.raises(AccessError, match=r"broken.crt and the embedded data are not a certificate"):
        ClusterAccess("https://h", certificate=broken, key="secret").tls()
