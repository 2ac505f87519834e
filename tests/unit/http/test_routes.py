from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import pytest

from trow.access.permissions import Permission
from trow.http.route import Unrecorded
from trow.http.routes import Router, table
from trow.oci.errors import EndpointUnknown, MethodUnsupported
from trow.registry.events import Action

if TYPE_CHECKING:
    from trow.http.routes import Endpoint

DIGEST: Final = "sha256:" + "a" * 64
UPLOAD: Final = "0" * 32
# No route that changes something asks for ADMIN; one that reads does.
READING: Final = {
    Permission.OPEN,
    Permission.PING,
    Permission.LIST,
    Permission.PULL,
    Permission.AUDIT,
    Permission.ADMIN,
}
OF_A_REPOSITORY: Final = {Permission.PULL, Permission.ATTACH, Permission.DELETE}
# What operators ask, and the token service, which has to be reached by who has no token.
ADMISSION: Final = {"/admission/validate", "/admission/mutate", "/admission/reach", "/validate-image"}
OPEN: Final = {"/", "/healthz", "/readyz", "/readiness", "/metrics", "/token", *ADMISSION}


class Named:
    """A handler for every name, which is that name."""

    def __getattr__(self, name: str) -> str:
        return name


HANDLERS: Final = cast("Any", Named())
ROUTES: Final = table(*[HANDLERS] * 6)
ROUTER: Final = Router(ROUTES)


def found(method: str, path: str) -> tuple[object, dict[str, str]]:
    route, parameters = ROUTER.find(method, path)
    return route.handler, dict(parameters)


def name(route: Endpoint) -> str:
    return f"{route.method} {route.path}"


@pytest.mark.parametrize("route", ROUTES, ids=name)
def test_every_route_names_the_permission_it_needs(route: Endpoint) -> None:
    assert isinstance(route.permission, Permission)
    reads = (route.method == "GET" and "uploads" not in route.path) or route.path in {"/token", *ADMISSION}
    assert (route.permission in READING) == reads
    assert ("{repository}" in route.path) == (route.permission in OF_A_REPOSITORY)
    assert (route.permission is Permission.OPEN) == (route.path in OPEN)


@pytest.mark.parametrize("route", ROUTES, ids=name)
def test_every_route_says_what_it_records_or_why_nothing(route: Endpoint) -> None:
    """What changes something that others can see, or tells what is here, is never without a record."""
    if isinstance(route.records, Unrecorded):
        assert len(route.records.why) > 10
        assert "uploads/{upload}" in route.path or route.path in OPEN
    else:
        assert route.records
        assert route.records <= set(Action)


def test_no_route_stands_twice() -> None:
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)


@pytest.mark.parametrize(
    ("method", "path", "handler", "parameters"),
    [
        ("GET", "/v2/", "ping", {}),
        ("HEAD", "/v2", "ping", {}),
        ("GET", "/v2/_catalog", "list_repositories", {}),
        ("GET", "/v2/a/manifests/1", "get_manifest", {"repository": "a", "reference": "1"}),
        ("HEAD", f"/v2/a/b/manifests/{DIGEST}", "get_manifest", {"repository": "a/b", "reference": DIGEST}),
        ("PUT", "/v2/a/manifests/1", "put_manifest", {"repository": "a", "reference": "1"}),
        ("DELETE", "/v2/a/manifests/1", "delete_manifest", {"repository": "a", "reference": "1"}),
        ("GET", "/v2/a/tags/list", "list_tags", {"repository": "a"}),
        ("GET", f"/v2/a/referrers/{DIGEST}", "list_referrers", {"repository": "a", "digest": DIGEST}),
        ("HEAD", f"/v2/a/blobs/{DIGEST}", "get", {"repository": "a", "digest": DIGEST}),
        ("DELETE", f"/v2/a/blobs/{DIGEST}", "delete", {"repository": "a", "digest": DIGEST}),
        ("POST", "/v2/a/blobs/uploads/", "begin", {"repository": "a"}),
        ("POST", "/v2/a/blobs/uploads", "begin", {"repository": "a"}),
        ("PATCH", f"/v2/a/blobs/uploads/{UPLOAD}", "append", {"repository": "a", "upload": UPLOAD}),
        ("PUT", f"/v2/a/blobs/uploads/{UPLOAD}", "finish", {"repository": "a", "upload": UPLOAD}),
        ("GET", f"/v2/a/blobs/uploads/{UPLOAD}", "status", {"repository": "a", "upload": UPLOAD}),
        ("DELETE", f"/v2/a/blobs/uploads/{UPLOAD}", "cancel", {"repository": "a", "upload": UPLOAD}),
        ("GET", "/api/v1/repositories", "repositories", {}),
        ("GET", "/api/v1/repositories/a/b/tags/1/history", "history", {"repository": "a/b", "tag": "1"}),
        ("GET", "/api/v1/audit", "audit", {}),
        ("GET", "/token", "get", {}),
        ("POST", "/token", "post", {}),
        ("HEAD", "/healthz", "healthz", {}),
        ("GET", "/readyz", "readyz", {}),
        ("GET", "/readiness", "readyz", {}),
        ("GET", "/metrics", "metrics", {}),
    ],
)
def test_route(method: str, path: str, handler: str, parameters: dict[str, str]) -> None:
    assert found(method, path) == (handler, parameters)


@pytest.mark.parametrize(
    "repository",
    [
        "manifests",
        "blobs",
        "tags/list",
        "manifests/manifests",
        "a/manifests/b",
        "a/blobs/uploads",
        "a/blobs/uploads/b",
        "blobs/uploads",
        f"a/referrers/{DIGEST[7:]}",
        "v2/a/tags/list",
        "a/tags/1/history",
    ],
)
def test_repository_with_the_words_of_the_end_points_in_its_name(repository: str) -> None:
    here = {"repository": repository}
    assert found("GET", f"/v2/{repository}/manifests/1") == ("get_manifest", here | {"reference": "1"})
    assert found("GET", f"/v2/{repository}/blobs/{DIGEST}") == ("get", here | {"digest": DIGEST})
    assert found("POST", f"/v2/{repository}/blobs/uploads/") == ("begin", here)
    assert found("PATCH", f"/v2/{repository}/blobs/uploads/{UPLOAD}") == ("append", here | {"upload": UPLOAD})
    assert found("GET", f"/v2/{repository}/tags/list") == ("list_tags", here)
    assert found("GET", f"/v2/{repository}/referrers/{DIGEST}") == ("list_referrers", here | {"digest": DIGEST})
    assert found("GET", f"/api/v1/repositories/{repository}/tags/1/history") == ("history", here | {"tag": "1"})


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/v1/",
        "/v2/a",
        "/v2/a/",
        "/v2/manifests/1",
        "/v2//manifests/1",
        "/v2/a/manifests/",
        "/v2/a/manifests/1/2",
        "/v2/a/tags/list/",
        "/v2/a/tags",
        f"/v2/a/blobs/uploads/{UPLOAD}/",
        "/v2/_catalog/",
        "/healthz/",
        "/token/",
        "/v2/token",
        "/api/v1/audit/",
        "healthz",
        "/V2/",
        "/v2/\n",
        "/api/v1/repositories/",
        "/api/v1/repositories/a/tags/1",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST"])
def test_no_such_end_point(method: str, path: str) -> None:
    with pytest.raises(EndpointUnknown):
        ROUTER.find(method, path)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v2/", ("GET", "HEAD")),
        ("OPTIONS", "/v2/", ("GET", "HEAD")),
        ("PATCH", "/v2/a/manifests/1", ("DELETE", "GET", "HEAD", "PUT")),
        ("PUT", f"/v2/a/blobs/{DIGEST}", ("DELETE", "GET", "HEAD")),
        ("POST", f"/v2/a/blobs/uploads/{UPLOAD}", ("DELETE", "GET", "HEAD", "PATCH", "PUT")),
        ("GET", "/v2/a/blobs/uploads/", ("POST",)),
        ("DELETE", "/metrics", ("GET", "HEAD")),
        ("PUT", "/token", ("GET", "HEAD", "POST")),
        ("POST", "/api/v1/audit", ("GET", "HEAD")),
        ("DELETE", "/api/v1/repositories", ("GET", "HEAD")),
        ("get", "/v2/", ("GET", "HEAD")),
    ],
)
def test_method_that_the_end_point_lacks(method: str, path: str, allowed: tuple[str, ...]) -> None:
    with pytest.raises(MethodUnsupported) as caught:
        ROUTER.find(method, path)
    assert caught.value.allowed == allowed
