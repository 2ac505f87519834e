"""What an administrator can do so that somebody may: a rule, a robot token or a binding, ready to be copied.

It depends on who asks for what alone, never on what there is: a denial must not tell whether a repository exists.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

import msgspec

from trow.access.permissions import Permission

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trow.access.identity import Identity
    from trow.oci.names import Repository

_SERVICE_ACCOUNT: Final = "system:serviceaccount:"
# YAML takes these as they are, also in brackets; names that programs choose may hold anything.
_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9._@/-]*(?::[A-Za-z0-9._@/-]+)*")
_WORDS_OF_YAML: Final = frozenset({"true", "false", "yes", "no", "on", "off", "y", "n", "null"})
_NOT_IN_NAMES: Final = re.compile(r"[^a-z0-9.]+")
_LONGEST_NAME: Final = 40
_ACTIONS: Final[Mapping[Permission, str]] = {Permission.ATTACH: Permission.PUSH.value}
# What allows nothing without another action; a new token does not add to those that there are, as a rule does.
_ACTIONS_OF_A_TOKEN: Final[Mapping[Permission, str]] = {
    Permission.TAG_OVERWRITE: "push,tag-overwrite",
    Permission.LIST: "pull,list",
}
_ROLES: Final[Mapping[Permission, str]] = {
    Permission.PULL: "trow-image-puller",
    Permission.LIST: "trow-image-puller",
    Permission.PUSH: "trow-image-pusher",
    Permission.ATTACH: "trow-image-pusher",
    Permission.TAG_OVERWRITE: "trow-image-admin",
    Permission.DELETE: "trow-image-admin",
    Permission.AUDIT: "trow-image-auditor",
}


def rule_text(identity: Identity, permission: Permission, repository: Repository) -> str:
    """The rule of `access.rules` that would allow it."""
    where = repository or "**"
    return f"{{users: [{_yaml(identity.name)}], repositories: [{_yaml(where)}], actions: [{_action(permission)}]}}"


def robot_token_command(identity: Identity, permission: Permission, repository: Repository) -> str:
    """The command that makes a token which may."""
    name = shlex.quote(identity.name.removeprefix("robot:"))
    actions = _ACTIONS_OF_A_TOKEN.get(permission, _action(permission))
    return f"trow token create --name {name} --repository {shlex.quote(repository or '**')} --action {actions}"


def binding_command(identity: Identity, permission: Permission, namespace: str) -> str:
    """The command that binds a role of `deploy/kubernetes/rbac.yaml`; "" where none of these is for this alone."""
    role = _ROLES.get(permission)
    if role is None or (not namespace and permission is not Permission.AUDIT):
        return ""
    name = f"{_NOT_IN_NAMES.sub('-', _short(identity).lower()).strip('-.')[:_LONGEST_NAME]}-{role}"
    if not namespace:
        return f"kubectl create clusterrolebinding {name} --clusterrole {role} {_subject(identity)}"
    return f"kubectl create rolebinding {name} --namespace {namespace} --clusterrole {role} {_subject(identity)}"


def _action(permission: Permission) -> str:
    return _ACTIONS.get(permission, permission.value)


def _short(identity: Identity) -> str:
    return identity.name.removeprefix(_SERVICE_ACCOUNT)


def _subject(identity: Identity) -> str:
    account = _short(identity)
    if account != identity.name:
        return f"--serviceaccount {account}"
    return f"--user {shlex.quote(identity.name)}"


def _yaml(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS_OF_YAML:
        return text
    return msgspec.json.encode(text).decode()
