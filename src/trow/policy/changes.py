"""What is written into a Pod in place of the names of its images, where policies ask for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trow.policy import images
from trow.policy.images import InvalidImage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trow.oci.digest import Digest
    from trow.policy.images import ImageReference


def prefixes_of(pull_through: Mapping[str, str]) -> dict[str, str]:
    """`admission.pull_through` by registries as they are compared.

    Raises:
        InvalidImage: it names something that is not a registry.
    """
    return {images.registry_of(registry): prefix for registry, prefix in pull_through.items()}


def renamed(text: str, prefixes: Mapping[str, str]) -> str:
    """The name by which an image of another registry is pulled through this one; the same where there is none.

    Args:
        text: a name, as somebody wrote it.
        prefixes: what names here begin with, by registry.
    """
    image = reference_of(text)
    prefix = prefixes.get(image.registry) if image else None
    if image is None or prefix is None:
        return text
    tag = f":{image.tag}" if image.tag else ""
    digest = f"@{image.digest}" if image.digest else ""
    return f"{prefix}/{image.repository}{tag}{digest}"


def pinned(text: str, image: ImageReference, digest: Digest) -> str:
    """The name with a digest; its tag is written out, and stays for people and for tools that compare."""
    tagged = text if text.endswith(f":{image.tag}") else f"{text}:{image.tag}"
    return f"{tagged}@{digest}"


def reference_of(text: str) -> ImageReference | None:
    """How an image's name is read; None if it cannot be."""
    try:
        return images.parse(text)
    except InvalidImage:
        return None
