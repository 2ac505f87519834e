"""The credential provider gives the kubelet the Pod's own token, for the registries it is for, and nothing else."""

from __future__ import annotations

import json
import subprocess
from typing import Any, Final

import pytest

from nodes.scratch import SCRIPTS, SHELLS, shell

REGISTRIES: Final = ("localhost:30500", "trow.trow.svc")
TOKEN: Final = "eyJhbGciOi.eyJpc3MiOi-_.c2lnbmF0dXJl"
REQUEST: Final = {
    "kind": "CredentialProviderRequest",
    "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
    "image": "localhost:30500/team-a/app:v1",
    "serviceAccountToken": TOKEN,
}


def ask(name: str, text: str) -> subprocess.CompletedProcess[str]:
    # The shell alone: there is no other program in its reach.
    argv = [*shell(name), str(SCRIPTS / "trow-credential-provider"), *REGISTRIES]
    return subprocess.run(
        argv, input=text, env={"PATH": "/nowhere"}, capture_output=True, text=True, check=False, timeout=30
    )


def compact(request: dict[str, Any]) -> str:
    """As the kubelet writes it."""
    return json.dumps(request, separators=(",", ":")) + "\n"


@pytest.mark.parametrize("name", SHELLS)
@pytest.mark.parametrize("image", ["localhost:30500/team-a/app:v1", f"trow.trow.svc/a@sha256:{64 * 'a'}"])
def test_the_password_is_the_token_of_the_pod(name: str, image: str) -> None:
    done = ask(name, compact(REQUEST | {"image": image}))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "kind": "CredentialProviderResponse",
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        "cacheKeyType": "Registry",
        "cacheDuration": "0s",
        "auth": {image.partition("/")[0]: {"username": "serviceaccount", "password": TOKEN}},
    }


@pytest.mark.parametrize("name", SHELLS)
def test_annotations_are_no_part_of_the_answer(name: str) -> None:
    annotations = {"a": 'x","serviceAccountToken":"e.v.il'}
    done = ask(name, compact(REQUEST | {"serviceAccountAnnotations": annotations}))
    assert json.loads(done.stdout)["auth"]["localhost:30500"]["password"] == TOKEN


BAD: Final[dict[str, tuple[str, str]]] = {
    "nothing": ("", "no request"),
    "no object": ("hello\n", "no CredentialProviderRequest"),
    "another kind": (compact(REQUEST | {"kind": "Pod"}), "no CredentialProviderRequest"),
    "several lines": (json.dumps(REQUEST, indent=1), "no CredentialProviderRequest"),
    "an older version": (
        compact(REQUEST | {"apiVersion": "credentialprovider.kubelet.k8s.io/v1beta1"}),
        "another version than v1",
    ),
    "no token": (
        compact({key: REQUEST[key] for key in REQUEST if key != "serviceAccountToken"}),
        "has no serviceAccountToken",
    ),
    "an empty token": (compact(REQUEST | {"serviceAccountToken": ""}), "no token of a ServiceAccount"),
    "a token that is none": (compact(REQUEST | {"serviceAccountToken": "abc"}), "no token of a ServiceAccount"),
    "a token with quotes": (compact(REQUEST | {"serviceAccountToken": 'a.b.c"},"x'}), "no token of a ServiceAccount"),
    "a token with a command": (compact(REQUEST | {"serviceAccountToken": "a.b.$(id)"}), "no token of a ServiceAccount"),
    "two tokens": (compact(REQUEST).replace("}", ',"serviceAccountToken":"a.b.c"}'), "has serviceAccountToken twice"),
    "a key of annotations": (
        compact(REQUEST | {"serviceAccountAnnotations": {"serviceAccountToken": "a.b.c"}}),
        "has serviceAccountToken twice",
    ),
    "another registry": (compact(REQUEST | {"image": "evil.example/app"}), "no registry of this provider"),
    "a longer name": (compact(REQUEST | {"image": "localhost:30500.evil.example/app"}), "no registry of this provider"),
    "a pattern": (compact(REQUEST | {"image": "*/app"}), "no valid name"),
    "a very long request": (compact(REQUEST | {"padding": "x" * 200_000}), "longer than"),
}


@pytest.mark.parametrize("name", SHELLS)
@pytest.mark.parametrize("case", BAD)
def test_anything_else_is_refused_with_the_reason_and_without_the_token(name: str, case: str) -> None:
    text, reason = BAD[case]
    done = ask(name, text)
    assert done.returncode == 1
    assert done.stdout == ""
    assert reason in done.stderr
    assert TOKEN not in done.stderr
