"""Facts about an image, which policies need where the name of the image does not decide."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trow.oci.digest import Digest


class Need(Enum):
    """One fact. It is looked up only where a verdict depends on it.

    Attributes:
        EXISTENCE: whether the image is in this registry.
        DIGEST: the digest at which its tag points now.
        TAG: whether its tag points at the digest beside it, or once did.
        CONFIG: the configuration of the image.
    """

    EXISTENCE = "existence"
    DIGEST = "digest"
    TAG = "tag"
    CONFIG = "config"


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What the configuration of an image says, which its builder has written.

    Attributes:
        created: seconds of Unix time; None if it does not say.
        platforms: where it can run, such as ``linux/amd64`` or ``linux/arm/v7``.
    """

    created: float | None = None
    platforms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What this registry knows of an image.

    Attributes:
        exists: whether it is in this registry.
        digest: the digest at which the reference points now.
        tag_verified: whether the tag points at the digest beside it, or once did; False if that was not looked up.
        config: None if it was not looked up.
    """

    exists: bool
    digest: Digest | None = None
    tag_verified: bool = False
    config: ImageConfig | None = None
