"""The composition root: the only package that knows every adapter."""

from trow.app.identity import can_i
from trow.app.serve import serve
from trow.app.stores import fsck, offline_metadata, recover
from trow.identity.impersonation import Impersonated
from trow.lib.errors import StartError

__all__ = ["Impersonated", "StartError", "can_i", "fsck", "offline_metadata", "recover", "serve"]
