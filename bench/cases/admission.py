"""Reviews of Pods that static rules decide: how many a second, how slow the slowest, and what many rules cost."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import TYPE_CHECKING

from bench import servers
from bench.cases.manifest_get import wrk
from bench.clients import in_processes
from bench.contenders import folder
from bench.measure import Case, Goal, Result, Setting, interleaved
from bench.wire import Connection

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

METHOD = """\
`POST /admission/validate` with an AdmissionReview of 5 kB: a Pod of three containers as the API server has it with all
defaults, its images in 64 versions in turn. The policy denies by default; one Trow has 10 entries that allow, the other
1 000, of which one covers the Pod. Each review is counted, answered and put on record. The rate is that of `wrk` over
32 connections for 4 s a round; a round's slowness is the 99th percentile of 200 reviews a second for 10 s, from two
clients, counted from when each was due."""
PATH = "/admission/validate"
CLIENTS = 2
REVIEWS_A_SECOND = 100
VERSIONS = 64
SCRIPT = """\
local bodies = {BODIES}
local number = 0
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
request = function()
  number = number % #bodies + 1
  return wrk.format(nil, nil, nil, bodies[number])
end
"""


def run(setting: Setting) -> list[Result]:
    with folder(setting, "admission") as home:
        few, many = servers.Trow(home / "few"), servers.Trow(home / "many")
        few.flags, many.flags = ["--config", str(_settings(home, 10))], ["--config", str(_settings(home, 1000))]
        script = home / "reviews.lua"
        script.write_text(SCRIPT.replace("BODIES", ", ".join(f"[==[{body.decode()}]==]" for body in BODIES)))
        with few, many:
            seconds = setting.sizes.seconds
            with_many, with_few = interleaved(
                setting,
                "reviews/s",
                {
                    "Trow, 1 000 rules": partial(_rate, many, seconds, script),
                    "Trow, 10 rules": partial(_rate, few, seconds, script),
                },
            )
            (slowest,) = interleaved(setting, "ms", {"Trow": partial(_slowest, many, setting.sizes.reviews)})
    return [
        Result("reviews, 1 000 rules", "reviews/s", with_many, must=Goal("≥", 2000, "reviews/s")),
        Result("1 000 rules beside 10", "reviews/s", with_many, with_few, must=Goal("≥", 0.5)),
        Result("200 reviews a second, p99", "ms", slowest, must=Goal("≤", 5, "ms")),
    ]


def _settings(home: Path, rules: int) -> Path:
    allow = [f"registry-{number}.example.com/team-{number}/" for number in range(rules // 2 - 1)]
    allow += [f"registry.example.com/team-{number}/app/" for number in range(rules // 2)]
    allow.append("registry.example.com/shop/")
    path = home / f"{rules}.yaml"
    settings = {
        "image_validation": {"default": "Deny", "allow": allow},
        "admission": {"on_registry_addresses": True},
    }
    path.write_text(json.dumps(settings))
    return path


def _container(name: str, image: str) -> dict[str, object]:
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": f"SETTING_{number}", "value": "a value of some length"} for number in range(12)],
        "ports": [{"containerPort": 8080, "protocol": "TCP"}],
        "resources": {"limits": {"cpu": "1", "memory": "512Mi"}, "requests": {"cpu": "100m", "memory": "128Mi"}},
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": 8080, "scheme": "HTTP"}, "periodSeconds": 10},
        "volumeMounts": [{"name": "api-access", "mountPath": "/var/run/secrets/tokens", "readOnly": True}],
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
    }


def _body(version: int) -> bytes:
    images = [f"registry.example.com/shop/{name}:1.{version}" for name in ("web", "proxy", "metrics")]
    spec = {
        "containers": [_container(f"c{number}", image) for number, image in enumerate(images)],
        "volumes": [{"name": "api-access", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}],
        "restartPolicy": "Always",
        "serviceAccountName": "web",
        "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}],
    }
    metadata = {"name": f"web-{version}", "namespace": "shop", "labels": {"app": "web", "pod-template-hash": "5d4f8c"}}
    request = {
        "uid": f"00000000-0000-4000-8000-{version:012}",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "operation": "CREATE",
        "namespace": "shop",
        "userInfo": {
            "username": "system:serviceaccount:kube-system:replicaset-controller",
            "groups": ["system:serviceaccounts", "system:authenticated"],
        },
        "object": {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec},
        "dryRun": False,
    }
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    return json.dumps(review, separators=(",", ":")).encode()


BODIES = [_body(version) for version in range(VERSIONS)]


def _rate(server: servers.Server, seconds: float, script: Path, _: int) -> float:
    with Connection(server.address) as connection:
        _ask(connection, 0)
    return wrk(f"http://{server.address[0]}:{server.address[1]}{PATH}", seconds, ["-s", str(script)])


def _ask(connection: Connection, number: int) -> None:
    body = BODIES[number % VERSIONS]
    answer = connection.request("POST", PATH, {"content-type": "application/json"}, body).expect(200)
    if not json.loads(answer.body)["response"]["allowed"]:
        raise RuntimeError(f"not allowed: {answer.body!r}")


def _slowest(server: servers.Server, reviews: int, number: int) -> float:
    """Milliseconds: the 99th percentile of all reviews of a round."""
    times_of = server.home / f"times-{number}"
    times_of.mkdir()

    def client(index: int, ready: Callable[[], object]) -> float:
        with Connection(server.address) as connection:
            ready()
            times = _ask_steadily(connection, reviews // CLIENTS)
        (times_of / str(index)).write_text(json.dumps(times))
        return len(times)

    in_processes(CLIENTS, client)
    times = sorted(each for path in times_of.iterdir() for each in json.loads(path.read_text()))
    return float(times[int(len(times) * 0.99)]) * 1e3


def _ask_steadily(connection: Connection, reviews: int) -> list[float]:
    began, times = time.perf_counter(), []
    for number in range(reviews):
        due = began + number / REVIEWS_A_SECOND
        time.sleep(max(0.0, due - time.perf_counter()))
        _ask(connection, number)
        times.append(time.perf_counter() - due)
    return times


CASE = Case("admission", METHOD, run)
