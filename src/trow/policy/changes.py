"""New names for the images of Pods, where policies ask for them: pull-through names, and names with a digest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trow.policy import images
from trow.policy.images import InvalidImage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trow.oci.digest import Digest
    from trow.policy.images import ImageReference


def prefixes_of(pull_through: Mapping[str, str]) -> dict[str, str]:
    """`admission.pull_through`, by the canonical names of the registries.

    Raises:
        InvalidImage: a name is not that of a registry.
    """
    return {images.registry_of(registry): prefix for registry, prefix in pull_through.items()}


def renamed(text: str, prefixes: Mapping[str, str]) -> str:
    """The name under which this registry pulls an image through from another one; the same name if it does not.

    Args:
        text: the name of an image, as it was written.
        prefixes: the first part of the new names, by registry.
    """
    image = reference_of(text)
    prefix = prefixes.get(image.registry) if image else None
    if image is None or prefix is None:
        return text
    tag = f":{image.tag}" if image.tag else ""
    digest = f"@{image.digest}" if image.digest else ""
    return f"{prefix}/{image.repository}{tag}{digest}"


def pinned(text: str, image: ImageReference, digest: Digest) -> str:
    """The name with a digest. It keeps its tag, or gets the default one, for people and tools that compare tags."""
    tagged = text if text.endswith(f":{image.tag}") else f"{text}:{image.tag}"
    return f"{tagged}@{digest}"


def reference_of(text: str) -> ImageReference | None:
    """The parsed name of an image; None if it is not valid."""
    try:
        return images.parse(text)
    except InvalidImage:
        return None
