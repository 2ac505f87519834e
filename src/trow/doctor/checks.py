"""The table of checks. A new one is a row here, beside the functions that gather and judge its facts."""

from __future__ import annotations

import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from trow.doctor import client, cluster, nodes, pulls, server, webhooks
from trow.doctor.endpoint import (
    clock,
    endpoint,
    judge_api,
    judge_clock,
    judge_connection,
    judge_name,
    judge_trust,
)
from trow.doctor.findings import NotCheckedError, lacking, unchecked
from trow.kube.errors import Forbidden
from trow.lib.urls import is_loopback

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from trow.doctor.findings import Diagnosis
    from trow.doctor.place import Place

    Run: TypeAlias = Callable[[Place], Awaitable[Iterable[Diagnosis]]]

_Facts = TypeVar("_Facts")


@dataclass(frozen=True, slots=True)
class Check:
    """A row; ``about`` is the question that it answers, for people."""

    name: str
    about: str
    run: Run


def of(gather: Callable[[Place], Awaitable[_Facts]], judge: Callable[[_Facts], Iterable[Diagnosis]]) -> Run:
    """Judge what is gathered, where nothing else bears on it."""

    async def run(place: Place) -> Iterable[Diagnosis]:
        return judge(await gather(place))

    return run


async def _docker(place: Place) -> Iterable[Diagnosis]:
    hosts = [*dict.fromkeys([(at := await endpoint(place)).host_port, *await place.hosts()])]
    anonymous = at.answer is not None and at.answer.status == HTTPStatus.OK
    return client.judge_docker(await client.docker_config(place), hosts, anonymous=anonymous)


async def _containerd(place: Place) -> Iterable[Diagnosis]:
    found = await nodes.containerd(place)
    try:
        at = await endpoint(place)
        needed = bool(at.distrusted or at.plain) and not is_loopback(at.host)
        hosts = list(await place.hosts())
    except NotCheckedError:
        hosts, needed = [], False
    return nodes.judge_containerd(found, hosts, needed=needed)


async def _trow(place: Place) -> Iterable[Diagnosis]:
    return server.judge_pods(await place.trows(), await place.namespace())


async def _ready(place: Place) -> Iterable[Diagnosis]:
    return server.judge_ready(await server.said(place), time.time())


async def _kinds(place: Place) -> Iterable[Diagnosis]:
    return cluster.judge_kinds(await cluster.kinds(place), wanted=(await place.setup()).policies)


async def _exceptions(place: Place) -> Iterable[Diagnosis]:
    return cluster.judge_guard(await cluster.guard(place), wanted=(await place.setup()).policies)


async def _webhooks(place: Place) -> Iterable[Diagnosis]:
    return webhooks.judge_webhooks(await webhooks.asked(place), time.time())


async def _reach(place: Place) -> Iterable[Diagnosis]:
    return webhooks.judge_probe(await webhooks.probe(place), await place.setup())


async def _pods(place: Place) -> Iterable[Diagnosis]:
    return pulls.judge_stuck(await pulls.stuck(place))


async def _pull_secrets(place: Place) -> Iterable[Diagnosis]:
    found, hosts = await pulls.pull_secrets(place), await place.hosts()
    try:
        tokens = any((await cluster.audience(place)).allowed.values())
    except NotCheckedError:
        tokens = False
    return pulls.judge_pull_secrets(found, hosts, time.time(), tokens=tokens)


async def _node_ports(place: Place) -> Iterable[Diagnosis]:
    found, setup = await nodes.node_ports(place), await place.setup()
    return nodes.judge_node_ports(found, [place.options.host, *setup.hosts], in_cluster=place.in_cluster)


async def _cluster_clock(place: Place) -> Iterable[Diagnosis]:
    now = await cluster.api_server_time(place)
    server_clock = clock("the API server", place.cluster.url, now - time.time(), "this machine")
    try:
        return [server_clock, *nodes.judge_node_clocks(await nodes.node_clocks(place, now))]
    except Forbidden as error:
        return [server_clock, unchecked(lacking(error), "nodes")]


CHECKS: Final = (
    Check("dns", "has the registry's name an address, also for nodes?", of(endpoint, judge_name)),
    Check("connection", "does it answer, by the scheme that it is asked with?", of(endpoint, judge_connection)),
    Check("tls", "is its certificate trusted here, for this name, and for how long?", of(endpoint, judge_trust)),
    Check("api", "is it a registry, and can clients get a token?", of(endpoint, judge_api)),
    Check("clock", "has the registry the time of this machine?", of(endpoint, judge_clock)),
    Check("docker", "has docker credentials for it, and the program that keeps them?", _docker),
    Check("config-path", "does containerd read `hosts.toml`, and has it one for the registry?", _containerd),
    Check(
        "short-names",
        "does a name without a host mean one image (CRI-O, podman)?",
        of(nodes.short_names, nodes.judge_short_names),
    ),
    Check("trow", "are Trow's Pods ready?", _trow),
    Check("ready", "is Trow content: stores, policies, webhooks, certificate?", _ready),
    Check("space", "are bytes and inodes left on the volume?", of(server.space, server.judge_space)),
    Check(
        "audit",
        "is everything on record, and when was the last record written?",
        of(server.record, server.judge_record),
    ),
    Check("kinds", "are the kinds of policies there, and as new as this Trow?", _kinds),
    Check("exceptions", "does the API server make sure that two people are behind an exception?", _exceptions),
    Check(
        "policies",
        "is each policy in force, and compiled as far as it can be?",
        of(cluster.policies, cluster.judge_policies),
    ),
    Check(
        "webhooks",
        "whom do they call, what stops while nobody answers, and are they of another installation?",
        _webhooks,
    ),
    Check("reach", "does the API server reach Trow, and trust it?", _reach),
    Check("pods", "which Pods wait for an image of the registry, and why?", _pods),
    Check("pull-secrets", "do image pull secrets stand in the way of the ServiceAccount?", _pull_secrets),
    Check(
        "audience",
        "may nodes ask for tokens that Trow takes (credential provider)?",
        of(cluster.audience, cluster.judge_audience),
    ),
    Check("nodes", "can each node pull, as its agent and the kubelet say?", of(nodes.agents, nodes.judge_agents)),
    Check("node-port", "does the registry answer at the port of each node?", _node_ports),
    Check("cluster-clock", "have the API server and the nodes the same time?", _cluster_clock),
)
