"""The configuration: every setting, where its value comes from, and the errors that stop a start.

``schema`` has the structs: names, types, defaults and descriptions. Values come, by rising precedence, from these
defaults, the YAML file, ``TROW_`` environment variables and command line flags (``sources``); ``check`` looks for what
contradicts itself.
"""

from trow.config.check import read_password
from trow.config.errors import DEFAULT, ConfigError, Problem, Source
from trow.config.schema import S3, AccessRule, Audit, Auth, Config, Kubernetes, OidcIssuer, Postgres
from trow.config.settings import SECTIONS, SETTINGS, Setting, yaml_text
from trow.config.sources import Given, Resolved, load, resolve
from trow.config.values import (
    DEFAULT_PORT,
    LARGEST_PORT,
    Bind,
    Duration,
    ExactUrl,
    Network,
    PostgresUrl,
    Size,
    WebOrigin,
    WebUrl,
)

__all__ = [
    "DEFAULT",
    "DEFAULT_PORT",
    "LARGEST_PORT",
    "S3",
    "SECTIONS",
    "SETTINGS",
    "AccessRule",
    "Audit",
    "Auth",
    "Bind",
    "Config",
    "ConfigError",
    "Duration",
    "ExactUrl",
    "Given",
    "Kubernetes",
    "Network",
    "OidcIssuer",
    "Postgres",
    "PostgresUrl",
    "Problem",
    "Resolved",
    "Setting",
    "Size",
    "Source",
    "WebOrigin",
    "WebUrl",
    "load",
    "read_password",
    "resolve",
    "yaml_text",
]
