# ruff: noqa: SLF001 - bounds are private where nobody but this page needs them
"""The page of limits has the numbers that the code has, and every setting that is a limit."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from support.pages import ROOT
from trow.admission import pull_policy as pulls
from trow.admission import review
from trow.app import admission as pins
from trow.audit import queries, record, trail
from trow.cli import simulate
from trow.config import SETTINGS, yaml_text
from trow.controllers import policies, webhooks
from trow.controllers import status as statuses
from trow.controllers import vap as compiled
from trow.doctor import nodes as doctor_nodes
from trow.doctor import place as doctor_place
from trow.doctor import pulls as doctor_pulls
from trow.http import capacity, dispatch, metrics, request, response, server
from trow.http.handlers import admission, lists, manifests, token
from trow.identity import authenticator, oidc_keys, rbac, rule_decisions, throttle, users
from trow.kube import exec_plugin, kubeconfig, objects
from trow.lib import failures, lines, repeated
from trow.metadata.transactions import manifests as manifest_rows
from trow.oci import manifest, ranges
from trow.policy import pods
from trow.policy import resources as policies_of
from trow.registry import aggregator, browse, events, sessions, transfers
from trow.registry import image_lookup as known
from trow.registry import mounts as anywhere
from trow.sql import lookups, postgres
from trow.storage import disk, s3, workers

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE: Final = (ROOT / "docs" / "reference" / "limits.md").read_text("utf-8")
# Rows by their first cell, and the numbers that are fixed in them.
FIXED: Final = {
    "connections": (capacity._MOST_CONNECTIONS,),
    "blobs that pass through from a bucket (`storage: s3`)": (capacity._MOST_STREAMS, response._OPENING_SECONDS),
    "parts of uploads on their way to a bucket": (
        s3.PART >> 20,
        s3._PLACES.total,
        s3._PLACES.each,
        s3._PLACES.patience,
        s3._AT_ONCE,
    ),
    "calls to a bucket": (s3._LOOKS_AT_ONCE,),
    "requests under way": (capacity.MOST_REQUESTS, capacity._REQUEST_BYTES // 1024),
    "what logs show of a path": (request.LONGEST_PATH,),
    "manifests of 4 to 64 KiB in memory": (
        manifests._SMALL.total,
        manifests._SMALL.each,
        manifests._SMALL.patience,
        manifests._SMALL.waiting_each,
        manifests._SMALL.waiting,
    ),
    "members of a manifest over 64 KiB": (manifest.MOST_MEMBERS,),
    "large manifests (over 64 KiB) in memory": (manifests._BOUNDS.total, manifests._BOUNDS.each),
    "lists being read": (lists._BOUNDS.total, lists._BOUNDS.each),
    "a list of repositories being read": (browse._MOST_READS, browse._LEAST_READ, browse._LONGEST_SECONDS),
    "connections to PostgreSQL (`metadata: postgres`)": (postgres._PAGES, postgres._SCANS),
    "look-ups that share a query": (lookups._MOST, lookups._AT_ONCE),
    "annotations of one entry of such a list": (manifest_rows._LISTED_ANNOTATIONS,),
    "a header that is read": (request._LONGEST_HEADER,),
    "a `Range` header": (ranges._LONGEST,),
    "an `artifactType`": (manifest._LONGEST_TYPE,),
    "parameters of a query": (request._MOST_PARAMETERS,),
    "annotations in a list of referrers": (browse._MOST_REFERRER_BYTES,),
    "rules of a policy object": (policies_of.RULES_AT_MOST, policies_of.IMAGES_AT_MOST),
    "the rest of a body that is not wanted, after the answer is decided": (
        dispatch._DRAIN_BYTES // (1024 * 1024),
        dispatch._DRAIN_SECONDS,
    ),
    "a form at `/token`": (token._LARGEST_FORM, token._MOST_FIELDS, token._FORM_SECONDS),
    "forms over 4 KiB that arrive": (
        token._FORMS.total,
        token._FORMS.each,
        token._FORMS.patience,
        token._FORMS.waiting_each,
        token._FORMS.waiting,
    ),
    "questions to the API server about rights": (
        rbac._REVIEWS.total,
        rbac._REVIEWS.each,
        rbac._REVIEWS.patience,
        rbac._REVIEWS.waiting_each,
        rbac._REVIEWS.waiting,
    ),
    "questions to an OIDC issuer about its keys": (oidc_keys._PAUSE_SECONDS, oidc_keys._PAUSE_WITHOUT_KEYS_SECONDS),
    "decisions of rules that are remembered": (rule_decisions.MOST_DECISIONS, rule_decisions._DIGEST_BYTES),
    "scopes that are looked at": (token._MOST_SCOPES,),
    "uploads that keep a file open between requests": (sessions.MOST_KEPT_OPEN, capacity._OF_SESSIONS),
    "threads that hash and write": (workers._LEAST_THREADS, workers._MOST_THREADS, workers._PATIENCE_SECONDS),
    "searches for a mount without `from`": (
        anywhere.SEARCHES.total,
        anywhere.CANDIDATES,
        anywhere.SEARCHES.each,
        anywhere.SEARCH_SECONDS * 1000,
    ),
    "threads that flush": (disk._THREADS, disk._OF_ONE_OWNER, disk._PATIENCE_SECONDS),
    "passwords being checked": (
        users._STRANGERS.total,
        users._KNOWN.total,
        users._STRANGERS.waiting_each,
        users._KNOWN.waiting_each,
        users._KNOWN.patience,
    ),
    "attempts of one user": (
        authenticator._LOGINS.each,
        authenticator._LOGINS.waiting_each,
        authenticator._LOGINS.patience,
    ),
    "wrong passwords": (throttle._FREE, throttle._WINDOW / 60, throttle._LONGEST_WAIT),
    "questions to the API server about tokens": (
        authenticator._TOKEN_REVIEWS.total,
        authenticator._TOKEN_REVIEWS.waiting_each,
        authenticator._TOKEN_REVIEWS.patience,
    ),
    "what the scopes of a token name": (token._ROOM, token._ENTRY),
    "connections that an old certificate has taken": (server.MOST_OLD,),
    "a message in a condition of a policy": (statuses.LONGEST_CONDITION_MESSAGE,),
    "a look at the webhooks and the cluster's policies": (webhooks._RECONCILE_SECONDS, policies._RECONCILE_SECONDS),
    "a kubeconfig file": (kubeconfig.LONGEST_KUBECONFIG >> 20,),
    "a credential plugin of a kubeconfig file, for commands": (
        exec_plugin.MOST_OUTPUT_BYTES >> 20,
        kubeconfig.PLUGIN_SECONDS,
        exec_plugin.INTERACTIVE_SECONDS,
    ),
    "a dump for `trow policy simulate`": (simulate._LARGEST / 2**30,),
    "references of a manifest that are remembered, to know what a pull is": (
        transfers._MOST_REFERENCES,
        transfers._MOST_KNOWN,
    ),
    "a review": (admission.LARGEST_REVIEW, admission._BODY_SECONDS),
    "small reviews at a time": (admission.SMALL.total, admission.SMALL.each, admission.SMALL.patience),
    "large reviews at a time": (admission.OTHERS.total, admission.OTHERS.each, admission.OTHERS.patience),
    "images of an object": (pods.MOST_IMAGES,),
    "digests kept for owners of Pods": (pins.MOST_PINS, pins.PIN_SECONDS / 86400),
    "tags of a digest that are tried at a pull": (known.MOST_TAGS,),
    "policies of a namespace that are compiled": (compiled.MOST_OF_A_NAMESPACE,),
    "what may be pulled by digest after what named it": (
        pulls._MOST_PULLS,
        pulls._MOST_CHILDREN,
        pulls.PULL_SECONDS / 60,
    ),
    "a page of a list of the API server": (objects._PAGE_BYTES >> 20, objects._FIRST_PAGE),
    "series of decisions in the metrics": (metrics.MOST_DECISION_SERIES,),
    "records that wait to be written": (trail.MOST_WAITING,),
    "pulls and pushes being gathered": (
        transfers._MOST,
        transfers._MOST_OF_A_CALLER,
        transfers._LONGEST_SECONDS,
    ),
    "different refusals of a user at one source, or of strangers there": (aggregator.MOST, aggregator.REFUSALS),
    "different requests of one user at one source, or of strangers there, that were allowed": (
        aggregator.MOST,
        aggregator.ALLOWED,
    ),
    "different reviews of a client": (aggregator.MOST, aggregator.REVIEWS),
    "members of an object in a review": (review.MOST_MEMBERS,),
    "entries of a list in an object": (pods.MOST_ENTRIES,),
    "groups in a record": (record.MOST_IN_A_LIST, record.GROUPS_BYTES, record.SAID_GROUPS_BYTES),
    "a text in a record": (events.LONGEST_TEXT, events.LONGEST_SENTENCE),
    "a page of a search": (queries.MOST_RECORDS, queries._LONGEST_SECONDS),
    "lines about TLS handshakes that failed": (repeated.MOST_COUNTED, repeated.REPEATED_SECONDS),
    "lines about a failure that goes on, such as a server that is away": (failures.SECONDS_BETWEEN_REASONS,),
    "lines of a log that wait": (lines.MOST_WAITING_BYTES,),
    "a check of `trow doctor`": (doctor_place.SECONDS, doctor_place.CONNECT_SECONDS),
    "nodes whose ports `trow doctor` tries": (doctor_nodes._MOST_NODES,),
    "Secrets that `trow doctor` reads": (doctor_pulls._MOST_SECRETS,),
}
# Settings that bound what others can make grow, by the words in their names.
BOUNDING: Final = re.compile(
    r"^limits\.|max_|_expiry$|tag_history|audit\.(retention|max_size)|tokens\.lifetime|deadline"
)
# What bounds nothing that others can make grow.
OTHER: Final = {"limits.page_size"}


def rows() -> Iterator[tuple[str, str]]:
    for line in PAGE.splitlines():
        if line.startswith("| ") and not line.startswith(("| What", "|---")):
            first, rest = line.strip("| ").split(" | ", 1)
            yield first, rest


@pytest.mark.parametrize("row", FIXED)
def test_numbers_are_those_of_the_code(row: str) -> None:
    shown = [float(number) for number in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.]*`)", dict(rows())[row])]
    for number in FIXED[row]:
        assert float(number) in shown, (row, number)


def test_every_setting_has_its_default() -> None:
    shown = re.findall(r"`([a-z0-9_]+\.[a-z_]+)`(?:, null| \(([^),]+))?", PAGE)
    assert shown
    for key, default in shown:
        assert key in SETTINGS, key
        if default:
            assert yaml_text(SETTINGS[key].default).strip("'") == default, key


def test_every_setting_that_is_a_limit_is_on_the_page() -> None:
    limits = {key for key in SETTINGS if BOUNDING.search(key)} - OTHER
    assert limits <= set(re.findall(r"`([a-z0-9_]+\.[a-z_]+)`", PAGE))


def test_a_row_is_on_the_page_once() -> None:
    names = [name for name, _ in rows()]
    assert len(set(names)) == len(names)
    assert set(FIXED) <= set(names)
