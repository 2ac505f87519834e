"""end-1, and what all answers have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.registry import Client


@pytest.mark.parametrize("path", ["/v2/", "/v2"])
def test_this_is_a_registry(client: Client, path: str) -> None:
    reply = client.get(path)
    assert (reply.status, reply.json) == (200, {})
    assert reply.headers["docker-distribution-api-version"] == "registry/2.0"
    assert reply.headers["content-type"] == "application/json"
    assert client.head(path).status == 200


@pytest.mark.parametrize("path", ["/v2/nothing", "/v2/a/manifests/", "/v2/a/b", "/v3/", "/v2/a/tags/list/more"])
def test_end_point_that_is_not_there(client: Client, path: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        assert client.request(method, path).refusal == (404, "UNSUPPORTED")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v2/", "GET, HEAD"),
        ("OPTIONS", "/v2/", "GET, HEAD"),
        ("POST", "/v2/a/manifests/1", "DELETE, GET, HEAD, PUT"),
        ("DELETE", "/v2/a/tags/list", "GET, HEAD"),
        ("PUT", "/healthz", "GET, HEAD"),
        ("GET", "/v2/a/blobs/uploads/", "POST"),
    ],
)
def test_method_that_the_end_point_lacks(client: Client, method: str, path: str, allowed: str) -> None:
    reply = client.request(method, path)
    assert reply.refusal == (405, "UNSUPPORTED")
    assert reply.headers["allow"] == allowed


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/A/tags/list"),
        ("GET", "/v2/a..b/manifests/1"),
        ("PUT", "/v2/a/b-/manifests/1"),
        ("POST", "/v2/" + "x" * 256 + "/blobs/uploads/"),
        ("GET", "/v2/a%20b/tags/list"),
    ],
)
def test_repository_name_outside_the_grammar(client: Client, method: str, path: str) -> None:
    assert client.request(method, path).refusal == (400, "NAME_INVALID")


def test_longest_repository_name_of_any_depth(client: Client) -> None:
    for name in ("x" * 255, "/".join("a" * 128), "a/manifests/b", "blobs/uploads"):
        assert client.get(f"/v2/{name}/tags/list").refusal == (404, "NAME_UNKNOWN")


def test_connection_stays_open_after_a_refusal(client: Client) -> None:
    for _ in range(3):
        assert client.put("/v2/A/manifests/1", b"x" * 100_000).status == 400
        assert client.get("/v2/").status == 200
