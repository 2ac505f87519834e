from __future__ import annotations

import json
from typing import TYPE_CHECKING

from clients.image import TAG, image

if TYPE_CHECKING:
    from clients.box import Box
    from clients.registry import Registry

ARTIFACT = "application/vnd.example.notes"
SIGNATURE = "application/vnd.example.signature"


def test_an_artifact_comes_back_as_the_files_it_was(plain: Registry, box: Box, repository: str) -> None:
    (box.home / "notes.txt").write_text("written down\n", encoding="utf-8")
    (box.home / "large.bin").write_bytes(image(repository).blobs[-1].content)
    remote = f"{plain.host}/{repository}:{TAG},{TAG}.0"
    files = ("notes.txt:text/plain", "large.bin:application/octet-stream")
    box.run("oras", "push", "--plain-http", f"--artifact-type={ARTIFACT}", remote, *files)
    stored = plain.complete(repository, TAG)
    assert stored.document["artifactType"] == ARTIFACT
    assert plain.manifest(repository, f"{TAG}.0").digest == stored.digest
    resolved = box.run("oras", "resolve", "--plain-http", f"{plain.host}/{repository}:{TAG}").strip()
    assert resolved == stored.digest
    box.run("oras", "pull", "--plain-http", "--output=out", f"{plain.host}/{repository}:{TAG}")
    for name in ("notes.txt", "large.bin"):
        assert (box.home / "out" / name).read_bytes() == (box.home / name).read_bytes()


def test_what_is_attached_is_discovered(plain: Registry, box: Box, repository: str) -> None:
    made = image(repository)
    plain.push(repository, made, TAG)
    remote = f"{plain.host}/{repository}:{TAG}"
    for kind in (ARTIFACT, SIGNATURE):
        (box.home / "a.txt").write_text(kind, encoding="utf-8")
        box.run("oras", "attach", "--plain-http", f"--artifact-type={kind}", remote, "a.txt:text/plain")
    assert plain.tags(repository) == [TAG]  # no fallback tag: the registry has the referrers API
    found = json.loads(box.run("oras", "discover", "--plain-http", "--format=json", remote))
    assert {referrer["artifactType"] for referrer in found["referrers"]} == {ARTIFACT, SIGNATURE}
    only = ("discover", "--plain-http", "--format=json", f"--artifact-type={SIGNATURE}", remote)
    (signature,) = json.loads(box.run("oras", *only))["referrers"]
    assert plain.complete(repository, signature["digest"]).document["subject"]["digest"] == made.digest
    box.run("oras", "pull", "--plain-http", "--output=out", f"{plain.host}/{repository}@{signature['digest']}")
    assert (box.home / "out" / "a.txt").read_text(encoding="utf-8") == SIGNATURE


def test_a_recursive_copy_takes_the_referrers_along(plain: Registry, box: Box, repository: str) -> None:
    made = image(repository)
    plain.push(f"{repository}/from", made, TAG)
    (box.home / "a.txt").write_text("signed", encoding="utf-8")
    source, target = f"{plain.host}/{repository}/from:{TAG}", f"{plain.host}/{repository}/to:{TAG}"
    box.run("oras", "attach", "--plain-http", f"--artifact-type={SIGNATURE}", source, "a.txt:text/plain")
    box.run("oras", "copy", "--recursive", "--from-plain-http", "--to-plain-http", source, target)
    assert plain.complete(f"{repository}/to", TAG).manifest == made.raw
    found = json.loads(box.run("oras", "discover", "--plain-http", "--format=json", target))
    assert [referrer["artifactType"] for referrer in found["referrers"]] == [SIGNATURE]


def test_repositories_tags_and_deletes(plain: Registry, box: Box, repository: str) -> None:
    made = image(repository)
    plain.push(repository, made, TAG)
    remote = f"{plain.host}/{repository}"
    assert repository in box.run("oras", "repo", "ls", "--plain-http", plain.host).split()
    box.run("oras", "tag", "--plain-http", f"{remote}:{TAG}", "second")
    assert box.run("oras", "repo", "tags", "--plain-http", remote).split() == [TAG, "second"]
    box.run("oras", "manifest", "delete", "--plain-http", "--force", f"{remote}@{made.digest}")
    assert not plain.has(repository, TAG)
    assert not plain.has(repository, "second")


def test_tls_is_trusted_with_the_authority_only(secure: Registry, box: Box, repository: str) -> None:
    (box.home / "notes.txt").write_text("over TLS\n", encoding="utf-8")
    remote = f"{secure.host}/{repository}:{TAG}"
    assert "certificate" in box.refused("oras", "push", remote, "notes.txt:text/plain")
    trust = f"--ca-file={secure.trow.ca}"
    box.run("oras", "push", trust, remote, "notes.txt:text/plain")
    secure.complete(repository, TAG)
    box.run("oras", "pull", trust, "--output=out", remote)
    assert (box.home / "out" / "notes.txt").read_text(encoding="utf-8") == "over TLS\n"
