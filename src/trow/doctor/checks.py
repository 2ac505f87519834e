"""The table of checks. A new one is a row here; its function gathers facts and says what is so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from trow.doctor import client, cluster, endpoint, nodes, pulls, server, webhooks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from trow.doctor.findings import Diagnosis
    from trow.doctor.place import Place

    Run: TypeAlias = Callable[[Place], AsyncIterator[Diagnosis]]


@dataclass(frozen=True, slots=True)
class Check:
    """A row; ``about`` is the question that it answers, for people."""

    name: str
    about: str
    run: Run


CHECKS: Final = (
    Check("dns", "has the registry's name an address, also for nodes?", endpoint.check_name),
    Check("connection", "does it answer, by the scheme that it is asked with?", endpoint.check_connection),
    Check("tls", "is its certificate trusted here, for this name, and for how long?", endpoint.check_trust),
    Check("api", "is it a registry, and can clients get a token?", endpoint.check_api),
    Check("clock", "has the registry the time of this machine?", endpoint.check_clock),
    Check("docker", "has docker credentials for it, and the program that keeps them?", client.check_docker),
    Check("podman", "have podman, buildah and skopeo credentials for it?", client.check_podman),
    Check("config-path", "does containerd read `hosts.toml`, and has it one for the registry?", nodes.check_containerd),
    Check("short-names", "does a name without a host mean one image (CRI-O, podman)?", nodes.check_short_names),
    Check("trow", "are Trow's Pods ready?", server.check_pods),
    Check("ready", "is Trow ready: stores, policies, webhooks, certificate?", server.check_ready),
    Check("space", "are bytes and inodes left on the volume?", server.check_space),
    Check("audit", "is everything on record, and when was the last record written?", server.check_record),
    Check("kinds", "are the kinds of policies there, and as new as this Trow?", cluster.check_kinds),
    Check("exceptions", "does the API server make sure that two people are behind an exception?", cluster.check_guard),
    Check("policies", "is each policy in force, and compiled as far as it can be?", cluster.check_policies),
    Check(
        "webhooks",
        "whom do they call, what stops while nobody answers, and are they of another installation?",
        webhooks.check_webhooks,
    ),
    Check("reach", "does the API server reach Trow, and trust it?", webhooks.check_reach),
    Check("pods", "which Pods wait for an image of the registry, and why?", pulls.check_stuck),
    Check("pull-secrets", "do image pull secrets stand in the way of the ServiceAccount?", pulls.check_pull_secrets),
    Check("audience", "may nodes ask for tokens that Trow takes (credential provider)?", cluster.check_audience),
    Check("nodes", "can each node pull, as its agent and the kubelet say?", nodes.check_agents),
    Check("node-port", "does the registry answer at the port of each node?", nodes.check_node_ports),
    Check("cluster-clock", "have the API server and the nodes the same time?", nodes.check_clocks),
)
