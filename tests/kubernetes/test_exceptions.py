"""Exceptions need two people, whatever either of them tries: the API server sees to it, and no Trow runs here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from support.cluster import Cluster
from support.policies import (
    CRDS,
    EXCEPTION,
    EXCEPTIONS,
    document,
    exception,
    install_crds,
)
from support.waiting import settles

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.policies import Document

GUARD: Final = "trow-policy-exceptions"
DENIED: Final = f"ValidatingAdmissionPolicy '{GUARD}'"
# bob approves and never asks, both does both, root is in no need of roles.
REQUESTERS: Final = ("alice", "both")
APPROVERS: Final = ("bob", "carol", "both")
ROOT: Final = "admin"


class Office:
    """A cluster in which exceptions are asked for and approved, by users who have the two roles and nothing else."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._names = (f"incident-{number}" for number in range(1000))

    def ask(self, spec: Document, user: str, name: str = "", **metadata: str) -> str:
        given = document(EXCEPTION, spec, name or next(self._names))
        given["metadata"] |= metadata
        return self.kubectl("create", "--filename", "-", user=user, given=given)

    def would_ask(self, spec: Document, user: str) -> str:
        """The same, and nothing is kept."""
        given = document(EXCEPTION, spec)
        return self.kubectl("create", "--dry-run=server", "--filename", "-", user=user, given=given)

    def asked(self, *, approver: str = "") -> str:
        """The name of an exception of alice, approved if somebody is named."""
        name = next(self._names)
        told = self.ask(exception(), "alice", name)
        assert told.endswith("created\n"), told
        if approver:
            told = self.change(name, approver, approver=approver)
            assert told.endswith("patched\n"), told
        return name

    def change(self, name: str, user: str, **fields: object) -> str:
        return self.patch(name, user, "merge", {"spec": fields})

    def patch(self, name: str, user: str, kind: str, patch: object, *args: str) -> str:
        return self.kubectl("patch", "imgex", name, "--type", kind, "--patch", json.dumps(patch), *args, user=user)

    def kubectl(self, *args: str, user: str, given: Document | None = None) -> str:
        acting = () if user == ROOT else ("--as", user)
        return self.cluster.kubectl(*args, *acting, input=json.dumps(given), check=False)

    def read(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.cluster.kubectl("get", "imgex", name, "--output", "json"))
        return found

    def approver(self, name: str) -> str:
        return str(self.read(name)["spec"]["approver"])


def without_rules(schema: Any) -> Any:
    if isinstance(schema, list):
        return [without_rules(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: without_rules(value) for key, value in schema.items() if key != "x-kubernetes-validations"}


def open_office(cluster: Cluster) -> Office:
    install_crds(cluster)
    cluster.kubectl("apply", "--filename", str(EXCEPTIONS))
    for role, users in (("requester", REQUESTERS), ("approver", APPROVERS)):
        named = [f"--user={user}" for user in users]
        cluster.kubectl("create", "clusterrolebinding", role, f"--clusterrole=trow-exception-{role}", *named)
    office = Office(cluster)
    assert settles(lambda: "created" in office.would_ask(exception(), "alice"))
    assert settles(lambda: DENIED in office.would_ask(exception(), ROOT))  # for a moment nothing is guarded
    assert settles(lambda: all(may(cluster, "patch", "--as", user) for user in APPROVERS))
    return office


# The rules of the CRDs forbid some of it too; the admission policy has to do without them.
@pytest.fixture(scope="module", params=["as installed", "by the admission policy alone"])
def office(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with Cluster.start(tmp_path_factory.mktemp("office"), controllers=False) as cluster:
        opened = open_office(cluster)
        if request.param != "as installed":
            relax(opened)
        yield opened


def may(cluster: Cluster, verb: str, *who: str) -> bool:
    return "yes" in cluster.kubectl("auth", "can-i", verb, "imgex", *who, check=False).splitlines()


def relax(office: Office) -> None:
    """Take the rules out of the CRDs, and leave the types."""
    crds = [without_rules(crd) for crd in yaml.safe_load_all(CRDS.read_text("utf-8"))]
    office.cluster.apply(yaml.safe_dump_all(crds))
    assert settles(lambda: "created" in office.would_ask(exception(duration="99h"), "alice"))


# WebhookScope


def test_one_asks_and_another_approves(office: Office) -> None:
    name = office.asked()
    assert office.approver(name) == ""
    assert "patched" in office.change(name, "bob", approver="bob")
    assert office.approver(name) == "bob"


def test_nobody_asks_in_the_name_of_another(office: Office) -> None:
    for user, named in (("both", "alice"), ("alice", "carol"), (ROOT, "alice")):
        told = office.ask(exception(requester=named), user)
        assert f"spec.requester has to be who creates the exception: {user}" in told
        assert DENIED in told


def test_an_exception_is_not_approved_from_the_start(office: Office) -> None:
    for user, approver in (("alice", "bob"), (ROOT, "bob"), ("both", "bob")):
        told = office.ask(exception(requester=user, approver=approver), user)
        assert "spec.approver has to be empty at first" in told


def test_nobody_is_requester_and_approver_of_one_exception(office: Office) -> None:
    assert "created" not in office.ask(exception(requester="both", approver="both"), "both")
    assert "created" in office.ask(exception(requester="both"), "both", "by-both")
    assert "has to be somebody else than the requester" in office.change("by-both", "both", approver="both")
    assert office.approver("by-both") == ""
    assert "patched" in office.change("by-both", "carol", approver="carol")


def test_a_cluster_administrator_needs_another_one_too(office: Office) -> None:
    assert "created" in office.ask(exception(requester=ROOT), ROOT, "by-root")
    assert "has to be somebody else than the requester" in office.change("by-root", ROOT, approver=ROOT)
    assert office.approver("by-root") == ""


def test_a_name_that_is_generated_is_guarded_too(office: Office) -> None:
    for requester, words in (("alice", "created"), ("bob", "has to be who creates the exception: alice")):
        given = document(EXCEPTION, exception(requester=requester))
        given["metadata"] = {"generateName": "incident-"}
        assert words in office.kubectl("create", "--filename", "-", user="alice", given=given)


def test_the_time_of_creation_is_not_of_the_requesters_choice(office: Office) -> None:
    assert "created" in office.ask(exception(), "alice", "later", creationTimestamp="2999-01-01T00:00:00Z")
    assert not office.read("later")["metadata"]["creationTimestamp"].startswith("2999")
    patch = {"metadata": {"creationTimestamp": "2999-01-01T00:00:00Z"}}
    office.patch("later", "bob", "merge", patch)
    assert not office.read("later")["metadata"]["creationTimestamp"].startswith("2999")


# Approving


def test_nobody_approves_in_the_name_of_another(office: Office) -> None:
    name = office.asked()
    for user, named in (("bob", "carol"), ("both", "bob"), (ROOT, "bob")):
        assert f"spec.approver has to be who approves the exception: {user}" in office.change(
            name, user, approver=named
        )
    assert office.approver(name) == ""


def test_an_approval_is_not_taken_back_or_over(office: Office) -> None:
    name = office.asked(approver="bob")
    for user in ("bob", "carol", ROOT):
        for approver in ("", None, "carol", "alice", ROOT):
            assert "an approval is not taken back" in office.change(name, user, approver=approver)
    assert office.approver(name) == "bob"


def test_an_approval_is_not_removed(office: Office) -> None:
    name = office.asked(approver="bob")
    told = office.patch(name, "bob", "json", [{"op": "remove", "path": "/spec/approver"}])
    assert "an approval is not taken back" in told
    assert office.approver(name) == "bob"


@pytest.mark.parametrize(
    "changed",
    [
        {"reason": "because I say so, that is why"},
        {"requester": "mallory"},
        {"duration": "24h"},
        {"namespaces": ["team-a", "kube-system"]},
        {"policies": ["ClusterImagePolicy/all-of-them"]},
        {"images": [{"registry": "*"}]},
        {"images": [{"registry": "docker.io", "repository": "library/nginx"}]},
    ],
)
def test_nothing_but_the_approver_is_changed(office: Office, changed: Document) -> None:
    name = office.asked()
    before = office.read(name)
    for approval in ({}, {"approver": "bob"}):
        assert "make another exception" in office.change(name, "bob", **changed, **approval)
    assert office.read(name) == before


def test_what_was_approved_is_not_changed_afterwards(office: Office) -> None:
    name = office.asked(approver="bob")
    for user in ("bob", ROOT):
        assert "make another exception" in office.change(name, user, namespaces=["kube-system"])
    assert office.read(name)["spec"]["namespaces"] == ["team-a"]


def test_labels_and_status_are_no_business_of_the_guard(office: Office) -> None:
    name = office.asked(approver="bob")
    assert "labeled" in office.kubectl("label", "imgex", name, "ticket=4711", user="carol")
    told = office.patch(name, ROOT, "merge", {"status": {"expiresAt": "2026-01-01T00:00:00Z"}}, "--subresource=status")
    assert "patched" in told
    assert office.read(name)["status"] == {"expiresAt": "2026-01-01T00:00:00Z"}


def test_nothing_is_approved_by_way_of_the_status(office: Office) -> None:
    name = office.asked()
    office.patch(name, ROOT, "merge", {"spec": {"approver": "bob"}}, "--subresource=status")
    assert office.approver(name) == ""


def test_the_manifest_can_be_applied_again_after_the_approval(office: Office) -> None:
    """As GitOps does it forever: what says nothing of an approver takes nobody's approval back."""
    given = document(EXCEPTION, exception(requester=ROOT), "again")
    assert "created" in office.kubectl("apply", "--filename", "-", user=ROOT, given=given)
    assert "patched" in office.change("again", "bob", approver="bob")
    assert "unchanged" in office.kubectl("apply", "--filename", "-", user=ROOT, given=given)
    assert office.approver("again") == "bob"


# Roles


def test_who_asks_can_do_nothing_else(office: Office) -> None:
    name = office.asked()
    for told in (
        office.change(name, "alice", approver="alice"),
        office.kubectl("delete", "imgex", name, user="alice"),
        office.patch(name, "alice", "merge", {"status": {}}, "--subresource=status"),
    ):
        assert 'User "alice" cannot' in told
    assert name in office.kubectl("get", "imgex", user="alice")


def test_who_approves_can_neither_ask_nor_exchange_what_is_approved(office: Office) -> None:
    name = office.asked()
    given = document(EXCEPTION, exception(requester="bob"), "by-bob")
    for told in (
        office.ask(exception(requester="bob"), "bob"),
        office.kubectl("apply", "--server-side", "--filename", "-", user="bob", given=given),
        office.kubectl("delete", "imgex", name, user="bob"),
        office.patch(name, "bob", "merge", {"status": {}}, "--subresource=status"),
    ):
        assert 'User "bob" cannot' in told


def test_two_accounts_with_tokens_of_their_own_are_two_users(office: Office, tmp_path: Path) -> None:
    """No impersonation here: the API server finds out by itself who they are."""
    cluster = office.cluster
    cluster.create_namespace("people")
    asks, approves = (account(cluster, tmp_path, role) for role in ("requester", "approver"))
    assert settles(lambda: may(cluster, "create", *asks) and may(cluster, "patch", *approves))
    given = json.dumps(document(EXCEPTION, exception(requester="system:serviceaccount:people:requester"), "by-token"))
    approval = '{"spec": {"approver": "system:serviceaccount:people:approver"}}'
    patch = ("patch", "imgex", "by-token", "--type=merge", "--patch")

    forged = cluster.kubectl(
        *asks, "create", "--filename", "-", input=given.replace("people:requester", "people:other"), check=False
    )
    assert "spec.requester has to be who creates the exception: system:serviceaccount:people:requester" in forged
    assert "created" in cluster.kubectl(*asks, "create", "--filename", "-", input=given)
    assert "cannot patch" in cluster.kubectl(*asks, *patch, approval, check=False)
    wrong = cluster.kubectl(*approves, *patch, approval.replace("people:approver", "people:boss"), check=False)
    assert "spec.approver has to be who approves the exception: system:serviceaccount:people:approver" in wrong
    assert "patched" in cluster.kubectl(*approves, *patch, approval)
    assert office.approver("by-token") == "system:serviceaccount:people:approver"


def account(cluster: Cluster, folder: Path, role: str) -> tuple[str, str]:
    """Options that make kubectl a ServiceAccount with a role and nothing else."""
    cluster.kubectl("create", "serviceaccount", role, "--namespace", "people")
    bound = (f"--clusterrole=trow-exception-{role}", f"--serviceaccount=people:{role}")
    cluster.kubectl("create", "clusterrolebinding", f"people-{role}", *bound)
    document = json.loads(cluster.kubeconfig.read_text("utf-8"))
    document["users"] = [{"name": "admin", "user": {"token": cluster.token("people", role, cluster.url)}}]
    path = folder / role
    path.write_text(json.dumps(document), "utf-8")
    return "--kubeconfig", str(path)


# The admission policy itself


def test_the_api_server_finds_no_fault_in_the_expressions(office: Office) -> None:
    """A controller checks their types."""
    policy, *_ = yaml.safe_load_all(EXCEPTIONS.read_text("utf-8"))
    name = f"validatingadmissionpolicy/{policy['metadata']['name']}"
    with office.cluster.checking_types():
        office.cluster.kubectl("wait", name, "--for", "jsonpath={.status.typeChecking}", "--timeout", "50s")
    status = json.loads(office.cluster.kubectl("get", name, "--output", "json"))["status"]
    assert status["typeChecking"] == {}
