"""Where the API server is, and what Trow shows it."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from trow.kube.access import Access, AccessError

if TYPE_CHECKING:
    from pathlib import Path


def kubeconfig(tmp_path: Path, **changes: Any) -> Path:
    """A good one, but for the changes to its cluster and user."""
    cluster = {"server": "https://10.0.0.1:6443"} | changes.get("cluster", {})
    user = {"token": "secret-token"} | changes.get("user", {})
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "preferences": {},
        "current-context": changes.get("context", "dev"),
        "contexts": [
            {"name": "dev", "context": {"cluster": "c", "user": "u", "namespace": "x"}},
            {"name": "lost", "context": {"cluster": "gone", "user": "u"}},
            {"name": "exec", "context": {"cluster": "c", "user": "by-program"}},
        ],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}, {"name": "by-program", "user": {"exec": {"command": "aws"}}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(document), "utf-8")
    return path


def test_a_pod_finds_its_api_server(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t", "utf-8")
    access = Access.in_pod({"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "8443"}, tmp_path)
    assert access == Access("https://10.96.0.1:8443", ca=tmp_path / "ca.crt", token=tmp_path / "token")


def test_an_address_of_ipv6_is_written_in_brackets(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t", "utf-8")
    assert Access.in_pod({"KUBERNETES_SERVICE_HOST": "fd00::1"}, tmp_path).url == "https://[fd00::1]:443"


@pytest.mark.parametrize("environment", [{}, {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}])
def test_outside_of_a_pod_the_fix_is_named(tmp_path: Path, environment: dict[str, str]) -> None:
    with pytest.raises(AccessError, match=r"automountServiceAccountToken.*kubeconfig"):
        Access.in_pod(environment, tmp_path)


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
        Access(url)


@pytest.mark.parametrize("url", ["https://h", "https://h/k8s/clusters/c-1", "http://127.0.0.1:8001", "http://[::1]:1"])
def test_https_and_loopback_are_addresses(url: str) -> None:
    assert Access(url).url == url


def test_secrets_are_not_shown() -> None:
    assert "secret" not in repr(Access("https://h", token="secret-token", certificate="secret", key="secret"))


def test_a_kubeconfig_with_a_token_is_read(tmp_path: Path) -> None:
    assert Access.from_kubeconfig(kubeconfig(tmp_path)) == Access("https://10.0.0.1:6443", token="secret-token")


def test_files_are_beside_the_kubeconfig(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "cluster": {"certificate-authority": "ca.crt"},
        "user": {"token": "", "client-certificate": "me.crt", "client-key": "/keys/me.key", "tokenFile": "token"},
    }
    access = Access.from_kubeconfig(kubeconfig(tmp_path, **changes))
    assert (access.ca, access.certificate) == (tmp_path / "ca.crt", tmp_path / "me.crt")
    assert (str(access.key), access.token) == ("/keys/me.key", tmp_path / "token")


def test_embedded_certificates_are_used(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("me")

    def data(pem: trustme.Blob) -> str:
        return base64.b64encode(pem.bytes()).decode()

    path = kubeconfig(
        tmp_path,
        cluster={"certificate-authority-data": data(authority.cert_pem)},
        user={
            "client-certificate-data": data(issued.cert_chain_pems[0]),
            "client-key-data": data(issued.private_key_pem),
        },
    )
    context = Access.from_kubeconfig(path).tls()
    assert context is not None
    assert len(context.get_ca_certs()) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context": "nope"}, "no context named 'nope'"),
        ({"context": ""}, "no context named ''"),
        ({"context": "lost"}, "no cluster named 'gone'"),
        ({"context": "exec"}, "user 'by-program'.*`exec`.*ServiceAccount's token"),
        ({"user": {"username": "u", "password": "secret"}}, "user 'u'.*`username`"),
        ({"user": {"as": "system:admin"}}, "user 'u'.*`as`"),
        ({"cluster": {"insecure-skip-tls-verify": True}}, "cluster 'c'.*`insecure-skip-tls-verify`"),
        ({"cluster": {"proxy-url": "http://p"}}, "cluster 'c'.*`proxy-url`"),
        ({"cluster": {"server": 7}}, "cluster 'c'.*Expected `str`"),
        ({"cluster": {"server": "http://10.0.0.1"}}, "cluster 'c'.*is not https"),
        ({"cluster": {"certificate-authority-data": "!"}}, "certificate-authority-data is not PEM in base64"),
        ({"user": {"client-key-data": "secret!"}}, "client-key-data is not PEM in base64"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = kubeconfig(tmp_path, **changes)
    with pytest.raises(AccessError, match=message) as caught:
        Access.from_kubeconfig(path)
    assert str(path) in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["users: [", "just words", "[]", "\x00", "a: &a [*a, *b]", "contexts: 1"])
def test_what_is_no_kubeconfig_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text, "utf-8")
    with pytest.raises(AccessError, match="kubeconfig"):
        Access.from_kubeconfig(path)


def test_a_missing_kubeconfig_is_named(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match=r"cannot be read.*kubeconfig"):
        Access.from_kubeconfig(tmp_path / "none")


def test_a_huge_kubeconfig_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_bytes(b" " * (1 << 20) + b"  ")
    with pytest.raises(AccessError, match="larger than"):
        Access.from_kubeconfig(path)


def test_unusable_certificates_are_named_with_their_file(tmp_path: Path) -> None:
    broken = tmp_path / "broken.crt"
    broken.write_text("nothing", "utf-8")
    with pytest.raises(AccessError, match=r"broken.crt does not hold certificates"):
        Access("https://h", ca=broken).tls()
    with pytest.raises(AccessError, match=r"missing.crt does not hold certificates.*No such file"):
        Access("https://h", ca=tmp_path / "missing.crt").tls()
    with pytest.raises(AccessError, match=r"broken.crt and the embedded data are not a certificate"):
        Access("https://h", certificate=broken, key="secret").tls()
