"""The composition root: the only package that knows every adapter."""

from trow.app.access import Who, can_i
from trow.app.check import FsckReport, fsck
from trow.app.robots import add_robot_token, revoke_robot_token, robot_tokens
from trow.app.serve import serve
from trow.lib.errors import StartError

__all__ = [
    "FsckReport",
    "StartError",
    "Who",
    "add_robot_token",
    "can_i",
    "fsck",
    "revoke_robot_token",
    "robot_tokens",
    "serve",
]
