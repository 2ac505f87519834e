"""Kubeconfig files, as kubectl takes them."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any, Final

import pytest
import trustme

from trow.kube.access import AccessError, ClusterAccess
from trow.kube.kubeconfig import cluster_access_of, kubeconfig_files

if TYPE_CHECKING:
    from pathlib import Path

EXEC: Final = {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": "aws"}


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
        "users": [{"name": "u", "user": user}, {"name": "by-program", "user": {"exec": EXEC}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(document), "utf-8")
    return path


def test_a_kubeconfig_with_a_token_is_read(tmp_path: Path) -> None:
    assert cluster_access_of([kubeconfig(tmp_path)]) == ClusterAccess("https://10.0.0.1:6443", token="secret-token")


def test_files_are_beside_the_kubeconfig(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "cluster": {"certificate-authority": "ca.crt"},
        "user": {"token": "", "client-certificate": "me.crt", "client-key": "/keys/me.key", "tokenFile": "token"},
    }
    access = cluster_access_of([kubeconfig(tmp_path, **changes)])
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
    context = cluster_access_of([path]).tls()
    assert context is not None
    assert len(context.get_ca_certs()) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context": "nope"}, "no context named 'nope'"),
        ({"context": ""}, "no context named ''"),
        ({"context": "lost"}, "no cluster named 'gone'"),
        ({"context": "exec"}, "user 'by-program'.*`exec` runs the program 'aws'.*ServiceAccount's token"),
        ({"user": {"exec": {"command": "aws"}}}, "user 'u'.*missing required field `apiVersion`"),
        ({"user": {"username": "u", "password": "secret"}}, "user 'u'.*`username`"),
        ({"user": {"as": "system:admin"}}, "user 'u'.*`as`"),
        (
            {"cluster": {"insecure-skip-tls-verify": True}},
            "cluster 'c'.*insecure-skip-tls-verify.*certificate-authority-data",
        ),
        ({"cluster": {"proxy-url": "http://p"}}, "cluster 'c'.*proxy-url.*kubectl proxy"),
        ({"cluster": {"server": 7}}, "cluster 'c'.*Expected `str`"),
        ({"cluster": {"server": "http://10.0.0.1"}}, "cluster 'c'.*is not https"),
        ({"cluster": {"certificate-authority-data": "!"}}, "certificate-authority-data is not PEM in base64"),
        ({"user": {"client-key-data": "secret!"}}, "client-key-data is not PEM in base64"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = kubeconfig(tmp_path, **changes)
    with pytest.raises(AccessError, match=message) as caught:
        cluster_access_of([path])
    assert str(path) in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["users: [", "just words", "[]", "\x00", "a: &a [*a, *b]", "contexts: 1"])
def test_what_is_no_kubeconfig_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text, "utf-8")
    with pytest.raises(AccessError, match="kubeconfig"):
        cluster_access_of([path])


def test_a_missing_kubeconfig_is_named(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match=r"cannot be read.*kubeconfig"):
        cluster_access_of([tmp_path / "none"])


def test_a_huge_kubeconfig_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_bytes(b" " * (1 << 20) + b"  ")
    with pytest.raises(AccessError, match="larger than"):
        cluster_access_of([path])


def test_a_server_is_known_by_another_name(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, cluster={"tls-server-name": "kubernetes.default", "disable-compression": True})
    assert cluster_access_of([path]).server_name == "kubernetes.default"


def test_another_context_can_be_named(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, context="lost")
    assert cluster_access_of([path], "dev").url == "https://10.0.0.1:6443"
    with pytest.raises(AccessError, match="no context named 'prod'"):
        cluster_access_of([path], "prod")


def part(folder: Path, **parts: Any) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "config"
    path.write_text(json.dumps({"kind": "Config", **parts}), "utf-8")
    return path


def cluster(name: str, server: str, **more: str) -> dict[str, Any]:
    return {"name": name, "cluster": {"server": server, **more}}


def test_of_several_files_the_first_that_has_a_name_counts(tmp_path: Path) -> None:
    first = part(
        tmp_path / "a",
        contexts=[{"name": "dev", "context": {"cluster": "c", "user": "u"}}],
        clusters=[cluster("c", "https://first", **{"certificate-authority": "ca.crt"})],
        users=None,
    )
    second = part(
        tmp_path / "b",
        **{"current-context": "dev"},
        contexts=[{"name": "dev", "context": {"cluster": "other", "user": "other"}}],
        clusters=[cluster("c", "https://second"), cluster("other", "https://other")],
        users=[{"name": "u", "user": {"tokenFile": "token"}}],
    )
    access = cluster_access_of([first, second])
    assert (access.url, access.ca, access.token) == (
        "https://first",
        first.parent / "ca.crt",  # beside the file that names it
        second.parent / "token",
    )
    third = part(tmp_path / "c", **{"current-context": "gone"})
    with pytest.raises(AccessError, match="no context named 'gone'"):
        cluster_access_of([third, second])


def test_the_files_are_those_that_kubectl_reads(tmp_path: Path) -> None:
    default = tmp_path / ".kube" / "config"
    present = tmp_path / "present"
    present.touch()
    assert kubeconfig_files({}, tmp_path) == kubeconfig_files({"KUBECONFIG": ""}, tmp_path) == [default]
    several = os.pathsep.join(["", str(tmp_path / "missing"), str(present), ""])
    assert kubeconfig_files({"KUBECONFIG": several}, tmp_path) == [present]
    assert kubeconfig_files({"KUBECONFIG": str(tmp_path / "missing")}, tmp_path) == [tmp_path / "missing"]
