"""Pages of the origins that the settings name may call the registry; no others may."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import factories

if TYPE_CHECKING:
    from support.registry import Client, Repository

UI = "https://ui.example.com"


def test_preflight(strict_client: Client, strict: Repository) -> None:
    asked = {"origin": UI, "access-control-request-method": "PUT", "access-control-request-headers": "authorization"}
    reply = strict_client.request("OPTIONS", strict.manifest("v1"), headers=asked)
    assert (reply.status, reply.body) == (204, b"")
    assert reply.headers["access-control-allow-origin"] == UI
    assert reply.headers["access-control-allow-credentials"] == "true"
    assert {"PUT", "PATCH", "DELETE"} <= set(reply.headers["access-control-allow-methods"].split(", "))
    assert {"Authorization", "Content-Type", "Content-Range"} <= set(
        reply.headers["access-control-allow-headers"].split(", ")
    )
    assert reply.headers["vary"] == "Origin"


def test_answers_can_be_read_by_the_page(strict_client: Client, strict: Repository) -> None:
    image = factories.image(0)
    strict.push(image, "v1")
    for path, status in ((strict.manifest("v1"), 200), (strict.manifest("v2"), 404), ("/v2/nowhere", 404)):
        reply = strict_client.get(path, origin=UI)
        assert (reply.status, reply.headers["access-control-allow-origin"]) == (status, UI)
        assert "Docker-Content-Digest" in reply.headers["access-control-expose-headers"]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://ui.example.com.evil.example"])
def test_other_origins_get_nothing(strict_client: Client, origin: str) -> None:
    preflight = {"origin": origin, "access-control-request-method": "PUT"}
    for reply in (
        strict_client.get("/v2/", origin=origin),
        strict_client.request("OPTIONS", "/v2/", headers=preflight),
    ):
        assert not [name for name in reply.headers if name.lower().startswith("access-control")]


def test_no_origin_is_named_by_default(client: Client) -> None:
    assert not [name for name in client.get("/v2/", origin=UI).headers if name.lower().startswith("access-control")]
    preflight = {"origin": UI, "access-control-request-method": "PUT"}
    assert client.request("OPTIONS", "/v2/", headers=preflight).status == 405
