"""The policies at pull time: whoever runs images gets no manifest of one that may not run, however it got there."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

import pytest

import factories
from support.admission import samples
from support.numbers import fresh
from support.records import Records
from support.registry import Client, Repository
from support.server import Trow
from support.team import users_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.registry import Reply

REGISTRY: Final = "registry.example.com"
ROOT: Final = ("root", "correct horse")
SECRET: Final = "correct battery"
# Of the group whose pulls are decided, by name one of those, and nobody of the kind.
NODE, KUBELET, DEVELOPER = "node", "kubelet", "developer"
GROUPS: Final = {NODE: "nodes", KUBELET: "others", DEVELOPER: "others"}


class House:
    """A registry that decides pulls, and its users."""

    def __init__(self, trow: Trow) -> None:
        self.trow = trow
        self.root = Client(trow.url, ROOT)
        self.records = Records(self.root)

    def user(self, name: str) -> Client:
        return Client(self.trow.url, (name, SECRET))

    def push(self, folder: str, manifest: factories.Manifest, *tags: str) -> str:
        """The name of a new repository with a manifest."""
        repository = Repository(self.root, f"{folder}/{secrets.token_hex(4)}")
        for tag in tags:
            repository.push(manifest, tag)
        return repository.name


def start(folder: Path, **validation: Any) -> Trow:
    folder.mkdir(exist_ok=True)
    users = folder / "users"
    lines = users_file(dict.fromkeys(GROUPS, SECRET)).splitlines()
    users.write_text("".join(f"{line.rpartition(':')[0]}:{GROUPS[line.partition(':')[0]]}\n" for line in lines))
    users.chmod(0o600)
    everybody = {"groups": ["nodes", "others"], "repositories": ["**"], "actions": ["pull"]}
    config = {
        "auth": {"users_file": str(users)},
        "access": {"rules": [everybody]},
        "image_validation": {
            "default": "Deny",
            "allow": [f"{REGISTRY}/good/", f"{REGISTRY}/tagged/app:v1"],
            "deny": [f"{REGISTRY}/good/but/not/this"],
            **validation,
        },
        "admission": {"registries": [REGISTRY], "pull_groups": ["nodes"], "pull_users": [KUBELET]},
        "audit": {"pull_idle": "200ms"},
    }
    return Trow.start(folder, user=ROOT, config=config)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with start(tmp_path_factory.mktemp("house")) as trow:
        yield House(trow)


def manifest(client: Client, repository: str, reference: str, method: str = "GET") -> Reply:
    return client.request(method, f"/v2/{repository}/manifests/{reference}")


def assert_refused(reply: Reply, image: str) -> None:
    assert reply.refusal == (403, "DENIED")
    (error,) = reply.json["errors"]
    assert error["message"].startswith(f"a policy does not allow this image: pull: {image} is not allowed by any rule")
    assert error["detail"]["reason"].startswith(f"pull: {image} is not allowed by any rule (image_validation, default)")


@pytest.mark.parametrize("user", [NODE, KUBELET])
def test_who_runs_images_gets_what_may_run_and_nothing_else(house: House, user: str) -> None:
    image = factories.image()
    good, evil = (house.push(folder, image, "v1") for folder in ("good", "evil"))
    client = house.user(user)
    for reference in ("v1", image.digest):
        assert manifest(client, good, reference).body == image.raw
        assert manifest(client, good, reference, "HEAD").status == 200
        written = f"{REGISTRY}/{evil}" + (":v1" if reference == "v1" else f"@{reference}")
        assert_refused(manifest(client, evil, reference), written)
        assert manifest(client, evil, reference, "HEAD").status == 403


def test_a_denied_pull_is_on_record(house: House) -> None:
    evil = house.push("evil", factories.image(), "v1")
    assert manifest(house.user(NODE), evil, "v1").status == 403
    record = house.records.one(action="admission", repository=evil)
    assert (record["outcome"], record["actor"]["user"], record["reference"]) == ("denied", NODE, "v1")
    assert record["reason"].startswith(
        f"pull: {REGISTRY}/{evil}:v1 is not allowed by any rule (image_validation, default)"
    )
    assert house.records.search(action="pull", repository=evil) == []


def test_others_get_everything(house: House) -> None:
    image = factories.image()
    evil = house.push("evil", image, "v1")
    for client in (house.user(DEVELOPER), house.root):
        for reference in ("v1", image.digest):
            assert manifest(client, evil, reference).status == 200
    assert house.records.search(action="admission", repository=evil) == []


def test_a_rule_that_denies_wins(house: House) -> None:
    repository = Repository(house.root, "good/but/not/this")
    repository.push(factories.image(), "v1")
    reply = manifest(house.user(NODE), repository.name, "v1")
    assert reply.refusal == (403, "DENIED")
    assert "is denied (image_validation, " in reply.json["errors"][0]["detail"]["reason"]


def tagged(house: House, *tags: str) -> factories.Manifest:
    """An index of which one tag may run."""
    index = factories.index()
    for tag in tags:
        Repository(house.root, "tagged/app").push(index, tag)
    return index


def test_a_runtime_that_may_have_a_tag_gets_what_it_stands_for(house: House) -> None:
    index, client = tagged(house, "v1", "v2"), house.user(NODE)
    children = [child.digest for child in index.children]
    for digest in children:
        assert_refused(manifest(client, "tagged/app", digest), f"{REGISTRY}/tagged/app@{digest}")
    assert manifest(client, "tagged/app", "v1", "HEAD").status == 200
    for digest in (index.digest, *children):
        assert manifest(client, "tagged/app", digest).status == 200
    # The other tag stands for the same, and is another name all the same; and nobody else has asked for the first.
    assert_refused(manifest(client, "tagged/app", "v2"), f"{REGISTRY}/tagged/app:v2")
    for digest in children:
        assert manifest(house.user(KUBELET), "tagged/app", digest).status == 403


def test_a_runtime_that_asks_by_the_digest_of_an_allowed_tag_gets_it(house: House) -> None:
    """As it does for a Pod whose image is written as `app:v1@sha256:...`: it never asks for the tag."""
    index, other, client = tagged(house, "v1"), tagged(house, "v2"), house.user(NODE)
    for digest in (index.digest, *(child.digest for child in index.children)):
        assert manifest(client, "tagged/app", digest).status == 200
    assert_refused(manifest(client, "tagged/app", other.digest), f"{REGISTRY}/tagged/app@{other.digest}")


def test_an_index_in_an_index_is_followed(house: House) -> None:
    inner = factories.index([factories.image()])
    outer = factories.index([inner])
    Repository(house.root, "tagged/app").push(outer, "v1")
    client = house.user(NODE)
    for reference in ("v1", outer.digest, inner.digest, inner.children[0].digest):
        assert manifest(client, "tagged/app", reference).status == 200


def test_what_an_allowed_tag_stood_for_before_is_given_out_by_its_digest_alone(house: House) -> None:
    """Pods whose owner has kept it start again; whoever wants to take it back denies its digest."""
    old = tagged(house, "v1")
    new = tagged(house, "v1")
    client = house.user(NODE)
    assert manifest(client, "tagged/app", "v1").body == new.raw
    assert manifest(client, "tagged/app", old.digest).body == old.raw


def test_a_token_is_no_way_round(house: House) -> None:
    evil = house.push("evil", factories.image(), "v1")
    for user, status in ((NODE, 403), (KUBELET, 403), (DEVELOPER, 200)):
        reply = house.user(user).get(f"/token?service=trow&scope=repository:{evil}:pull")
        with Client(house.trow.url, bearer=reply.json["token"]) as bearer:
            assert manifest(bearer, evil, "v1").status == status


@pytest.mark.slow
def test_decisions_are_counted(house: House) -> None:
    def counted(verdict: str) -> float:
        found = samples(fresh(lambda: house.root.get("/metrics").body), "trow_admission_decisions_total")
        return sum(count for labels, count in found.items() if verdict in labels)

    before = {verdict: counted(verdict) for verdict in ("allow", "deny")}
    good, evil = (house.push(folder, factories.image(), "v1") for folder in ("good", "evil"))
    for repository in (good, evil):
        manifest(house.user(NODE), repository, "v1")
    assert {verdict: counted(verdict) - count for verdict, count in before.items()} == {"allow": 1, "deny": 1}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["warn", "audit"])
def test_a_milder_policy_refuses_no_pull(tmp_path: Path, mode: str) -> None:
    with start(tmp_path, mode=mode) as trow:
        house = House(trow)
        evil = house.push("evil", factories.image(), "v1")
        assert manifest(house.user(NODE), evil, "v1").status == 200
