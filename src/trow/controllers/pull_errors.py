"""What kubelets say when an image does not come, and what that means: one table for `trow nodes` and `trow doctor`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class Cause:
    """What a part of a message of kubelet, containerd or CRI-O means.

    Args:
        signs: texts, with | between them, of which one is in the message, whatever its case. Numbers are none: the
            digests of images have them too.
        means: a sentence that begins with the node. It and the fixes may use the words of `words_of`.
        fix: for whoever has such a Pod.
        agent_fix: where the node agent prepares the node, and can do it; "" is the same.
        credentials: whether the registry was reached, and asked for other credentials.
    """

    def __init__(self, signs: str, means: str, fix: str, agent_fix: str = "", *, credentials: bool = False) -> None:
        self._signs = signs.lower().split("|")
        self.means = means
        self.fix = fix
        self.agent_fix = agent_fix or fix
        self.credentials = credentials

    def found_in(self, message: str) -> bool:
        lower = message.lower()
        return any(sign in lower for sign in self._signs)


_HOSTS_TOML: Final = "/etc/containerd/certs.d/{host}/hosts.toml"
# The first that is found counts: what is said of names and certificates is more exact than what it leads to.
CAUSES: Final = (
    Cause(
        "signed by unknown authority|unable to get local issuer",
        "the node does not trust the authority of the registry's certificate",
        f"write `ca` to {_HOSTS_TOML} on each node, or let the node agent do it (nodes.enabled of the chart)",
        "set nodes.caSecret to a Secret with the registry's authority",
    ),
    Cause(
        "certificate is valid for|certificate is not valid for|any ip sans|cannot validate certificate for",
        "the name by which the node pulls is not in the certificate",
        "add {host} to it (tls.dnsNames of the chart), or name images by a name that is in it",
    ),
    Cause(
        "certificate has expired|is not yet valid",
        "the certificate has expired, or the clock of the node is wrong",
        "trow doctor --host {host} says which; on the node: timedatectl status",
    ),
    Cause(
        "gave HTTP response to HTTPS client",
        "the registry speaks plain HTTP, and the node was not told so",
        f'write server = "http://{{host}}" to {_HOSTS_TOML} on each node, or give Trow a certificate (tls.source)',
        "set nodes.endpoint to the http:// URL of the registry",
    ),
    Cause(
        "sent an HTTP request to an HTTPS server|malformed HTTP response",
        "the node asks for plain HTTP, and the registry speaks TLS",
        f"write https:// in {_HOSTS_TOML} on each node",
        "set nodes.endpoint to the https:// URL of the registry",
    ),
    Cause(
        "no such host|name resolution|server misbehaving|dial tcp: lookup",
        "the node finds no address for {host}: it asks its own DNS, not that of the cluster",
        "add {host} to the DNS of the nodes, or name images by the NodePort",
        "set nodes.endpoint to a URL that nodes reach, or add {host} to their DNS",
    ),
    Cause(
        "connection refused",
        "nobody listens at {host} as seen from the node",
        "see that Trow is ready and its ports: kubectl get pods,services --namespace trow",
    ),
    Cause(
        "i/o timeout|deadline exceeded|no route to host|network is unreachable",
        "the node does not reach {host}",
        "open the port between node and registry (firewall, security group), from the node: curl -v https://{host}/v2/",
    ),
    Cause(
        "short-name|short name",
        "the name has no host, and CRI-O does not guess one",
        "write the whole name of the image, such as {host}/{image}",
    ),
    Cause(
        "no match for platform|no image found in|exec format",
        "the image is not there for the platform of node {node}",
        "push it for that platform too: docker buildx build --platform linux/amd64,linux/arm64 --push",
    ),
    Cause(
        "not allowed by any rule|ImagePolicy|image_validation",
        "a policy refuses the image at the registry",
        "trow policy explain shows the rule; kubectl get clusterimagepolicies,imagepolicies --all-namespaces",
    ),
    Cause(
        "denied|forbidden",
        "ServiceAccount {account} of {namespace} may not pull from {owner}",
        "kubectl create rolebinding {account}-of-{namespace}-pulls --namespace {owner} --clusterrole trow-image-puller"
        " --serviceaccount {namespace}:{account}",
        credentials=True,
    ),
    Cause(
        "unauthorized|authentication required|no basic auth",
        "the node sends no credentials, or wrong ones",
        "let nodes pull with the Pod's ServiceAccount (the node agent installs the credential provider), or make a"
        " Secret for imagePullSecrets: kubectl create secret docker-registry registry --docker-server {host}"
        " --docker-username NAME --namespace {namespace}",
        "see whether the kubelet has the credential provider, and may ask for tokens (system:nodes)",
        credentials=True,
    ),
    Cause(
        "not found|manifest unknown|name unknown",
        "the registry has no such image, or {account} may not know of it",
        "docker push {image}",
        "set registry.pull_check, so that Trow publishes the image",
    ),
    Cause(
        "too many requests|toomanyrequests|unavailable",
        "the registry has too much to do, or is not ready",
        "see its log and limits: kubectl logs trow-0 --namespace trow",
    ),
    Cause(
        "InvalidImageName|invalid reference format|couldn't parse image",
        "this cannot be the name of an image",
        "correct the name: lower case, HOST/NAME:TAG",
    ),
)


def cause_of(message: str) -> Cause | None:
    """What a message means; None where it says nothing but that the image does not come."""
    return next((each for each in CAUSES if each.found_in(message)), None)


def words_of(image: str, namespace: str, account: str, node: str) -> Mapping[str, str]:
    """What the texts of a cause may use: of a Pod with this ServiceAccount, and who owns the image's repository.

    Each is quoted as a shell needs it: a Pod may name anything as its image, and people copy the commands.
    """
    host, _, repository = image.partition("/")
    words = {
        "host": host, "image": image, "namespace": namespace, "account": account, "node": node,
        "owner": repository.partition("/")[0],
    }  # fmt: skip
    return {key: shlex.quote(word) if word else "" for key, word in words.items()}
