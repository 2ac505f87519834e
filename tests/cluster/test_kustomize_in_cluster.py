"""An overlay comes up in a real cluster, and goes with everything that Trow wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trow
from support.installed import answers
from support.waiting import until

if TYPE_CHECKING:
    from support.nodes import NodeCluster

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
WEBHOOKS: Final = ("get", "validatingwebhookconfigurations,mutatingwebhookconfigurations", "--output=json")


def webhooks(cluster: NodeCluster) -> list[str]:
    return [each["metadata"]["name"] for each in json.loads(cluster.kubectl(*WEBHOOKS))["items"]]


def test_the_overlay_for_development_comes_up_and_goes(node_cluster: NodeCluster, own_image: Path) -> None:
    node_cluster.import_image(own_image, f"docker.io/library/trow:{trow.__version__}")
    node_cluster.kubectl("apply", f"--filename={DEPLOY / 'kubernetes' / 'account.yaml'}")
    secret = ("create", "secret", "generic", "trow-admin", "--namespace=trow", "--from-literal=password=correct-horse")
    node_cluster.kubectl(*secret)
    overlay = f"--kustomize={DEPLOY / 'kustomize' / 'overlays' / 'dev'}"
    try:
        node_cluster.kubectl("apply", "--server-side", "--force-conflicts", overlay)
        node_cluster.wait_ready("trow", "statefulset/trow")
        until(lambda: answers(f"http://{node_cluster.address}:30500/v2/"))
        until(lambda: "trow" in webhooks(node_cluster))
    finally:
        node_cluster.kubectl("delete", "--ignore-not-found", "--wait=false", overlay)
    until(lambda: "trow" not in webhooks(node_cluster), 60)
    node_cluster.kubectl("wait", "namespace/trow", "--for=delete", "--timeout=50s")
