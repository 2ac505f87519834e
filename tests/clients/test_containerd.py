from __future__ import annotations

from typing import TYPE_CHECKING

from clients.image import TAG, image, index

if TYPE_CHECKING:
    from clients.daemons import Containerd
    from clients.registry import Registry


def test_what_was_pushed_is_what_is_pulled(plain: Registry, containerd: Containerd, repository: str) -> None:
    made = image(repository)
    name = f"{plain.host}/{repository}"
    containerd.load(made, name)
    containerd.run("images", "push", "--plain-http", f"{name}:{TAG}")
    assert plain.complete(repository, TAG).manifest == made.raw
    containerd.forget()
    containerd.pull(f"{name}:{TAG}", "--plain-http")
    assert made.content.items() <= containerd.content(f"{name}:{TAG}").items()


def test_an_index_is_pulled_whole(plain: Registry, containerd: Containerd, repository: str) -> None:
    made = index(repository)
    plain.push(repository, made, TAG)
    reference = f"{plain.host}/{repository}:{TAG}"
    containerd.pull(reference, "--plain-http")
    assert made.content.items() <= containerd.content(reference).items()


def test_a_mirror_serves_names_of_another_host(plain: Registry, containerd: Containerd, repository: str) -> None:
    """What a node does: the image is named after its origin, hosts.toml sends the request here with `ns=`."""
    made = image(repository)
    plain.push(repository, made, TAG)
    containerd.know("origin.example", plain.trow.url, capabilities=["pull", "resolve"])
    containerd.pull(f"origin.example/{repository}:{TAG}")
    assert made.content.items() <= containerd.content(f"origin.example/{repository}:{TAG}").items()


def test_tls_is_trusted_with_the_authority_only(secure: Registry, containerd: Containerd, repository: str) -> None:
    made = image(repository)
    name = f"{secure.host}/{repository}"
    containerd.load(made, name)
    push = ("images", "push", f"--hosts-dir={containerd.hosts}", f"{name}:{TAG}")
    abilities = ["pull", "resolve", "push"]
    containerd.know(secure.host, secure.trow.url, capabilities=abilities)
    assert "certificate signed by unknown authority" in containerd.refused(*push)
    containerd.know(secure.host, secure.trow.url, capabilities=abilities, ca=str(secure.trow.ca))
    containerd.run(*push)
    assert secure.complete(repository, TAG).manifest == made.raw
    other = image(f"{repository} pulled")
    secure.push(repository, other, "pulled")
    containerd.pull(f"{name}:pulled")
    assert other.content.items() <= containerd.content(f"{name}:pulled").items()
