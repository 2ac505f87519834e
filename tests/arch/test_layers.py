"""Who knows whom: dependencies point inward, adapters know nobody beside them, and nothing calls out."""

from __future__ import annotations

import ast
import functools
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

import trow
from support.memory import MemoryBlobs, MemoryMetadata, MemoryStaged
from trow.access import ports as access
from trow.admission import ports as admission
from trow.audit.trail import AuditTrail
from trow.identity.authenticator import AuthenticatorChain
from trow.identity.authorizer import AuthorizerChain
from trow.identity.rbac import RbacAuthorizer
from trow.identity.tokens import RegistryTokens
from trow.metadata.inventory import SqliteInventory
from trow.metadata.store import SqlMetadata
from trow.metadata.uploads import LocalUploads
from trow.registry import events, ports
from trow.sql.engine import Engine
from trow.sql.sqlite import SqliteEngine
from trow.storage.filesystem import FileStaged, FilesystemBlobs

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE: Final = Path(inspect.getfile(trow)).parent
MODULES: Final = sorted(SOURCE.rglob("*.py"))
# From the inside out.
LAYERS: Final = (
    {"oci"},
    {"lib"},
    {"access", "policy"},
    {"registry"},
    {"admission"},
    {"sql", "tls"},
    {"storage", "metadata", "identity", "audit", "kube"},
    {"controllers"},
    {"http", "policytools", "doctor", "config"},
    {"app"},
    {"cli", "__main__"},
)
ADAPTERS: Final = {"storage", "metadata", "identity", "audit", "kube"}
# Modules beside the packages that their neighbours may use.
SHARED: Final = {
    # They have commands of their own: a person works on the users file, the keys and the audit trail.
    ("cli", "identity"),
    ("cli", "audit"),
    ("controllers", "kube"),
    ("policytools", "kube"),
    ("doctor", "kube"),
}
# Who may open connections to other machines, and only to those that the configuration names.
# The second through a library of its own.
CALLERS: Final = {"lib/http_client.py", "storage/bucket.py"}
# Who may open one that sends no request: it looks at a port and at a certificate.
PROBING: Final = "lib/handshake.py"
DATABASES: Final = {"sql", "metadata", "audit"}
STORES: Final = {"metadata", "sql", "storage"}
# The one place that says which stores there are.
OPENING: Final = "app/stores.py"
MOST_WIRING: Final = 1500
CALLING_OUT: Final = {
    "aiobotocore",
    "aiohttp",
    "ftplib",
    "http.client",
    "httpx",
    "requests",
    "smtplib",
    "urllib.request",
    "urllib3",
}


def name(module: Path) -> str:
    return str(module.relative_to(SOURCE))


def part(module: Path) -> str:
    """The package below ``trow`` that a module is in, or its own name."""
    return module.relative_to(SOURCE).parts[0].removesuffix(".py")


@functools.cache
def tree(module: Path) -> ast.Module:
    return ast.parse(module.read_text("utf-8"))


def imports(module: Path) -> Iterator[str]:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parts_known(module: Path) -> set[str]:
    own = {path.stem if path.suffix else path.name for path in SOURCE.iterdir()}
    known = {imported.split(".")[1] for imported in imports(module) if imported.startswith("trow.")}
    return (known & own) - {part(module)}


def level(of: str) -> int:
    return next(number for number, layer in enumerate(LAYERS) if of in layer)


def test_modules_are_found() -> None:
    assert len(MODULES) > 40
    assert {part(module) for module in MODULES} - {"__init__"} <= set().union(*LAYERS)


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_dependencies_point_inward(module: Path) -> None:
    if module != SOURCE / "__init__.py":
        outward = {known for known in parts_known(module) if level(known) > level(part(module))}
        assert outward == set()


@pytest.mark.parametrize("module", [module for module in MODULES if part(module) in ADAPTERS], ids=name)
def test_adapter_does_not_know_another(module: Path) -> None:
    assert parts_known(module) & ADAPTERS == set()


@pytest.mark.parametrize("module", [module for module in MODULES if part(module) not in {"app", *ADAPTERS}], ids=name)
def test_adapters_are_known_to_the_composition_root_alone(module: Path) -> None:
    known = {(part(module), adapter) for adapter in parts_known(module) & ADAPTERS}
    assert known <= SHARED


@pytest.mark.parametrize(
    "module",
    [module for module in MODULES if part(module) not in {*STORES, "audit"} and name(module) != OPENING],
    ids=name,
)
def test_stores_are_known_to_one_module_alone(module: Path) -> None:
    assert parts_known(module) & STORES == set()


def test_the_module_that_opens_stores_knows_them_all() -> None:
    assert parts_known(SOURCE / OPENING) >= STORES


@pytest.mark.parametrize("module", [module for module in MODULES if name(module) not in CALLERS], ids=name)
def test_nothing_else_calls_another_machine(module: Path) -> None:
    assert not [each for each in imports(module) if any(f"{each}.".startswith(f"{other}.") for other in CALLING_OUT)]


@pytest.mark.parametrize("module", [module for module in MODULES if name(module) != PROBING], ids=name)
def test_nothing_else_opens_a_connection(module: Path) -> None:
    called = {node.attr for node in ast.walk(tree(module)) if isinstance(node, ast.Attribute)}
    assert not called & {"open_connection", "create_connection"}


@pytest.mark.parametrize("module", [module for module in MODULES if part(module) not in DATABASES], ids=name)
def test_statements_are_with_their_databases_alone(module: Path) -> None:
    texts = [node.value for node in ast.walk(tree(module)) if isinstance(node, ast.Constant)]
    assert not [text for text in texts if re.match(r"\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM) ", str(text))]


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_no_docstring_only_names_the_port_that_it_implements(module: Path) -> None:
    assert not re.findall(r'"""See `[A-Z]\w*\.\w+`', module.read_text("utf-8"))


def test_the_composition_root_is_wiring() -> None:
    """A contract of `make lint` names what it may not import; this is how much of it there may be."""
    assert sum(map(lines_of_code, (module for module in MODULES if part(module) == "app"))) <= MOST_WIRING


def lines_of_code(module: Path) -> int:
    """Lines that are not empty and import nothing."""
    importing = [node for node in ast.walk(tree(module)) if isinstance(node, (ast.Import, ast.ImportFrom))]
    numbers = {number for node in importing for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
    lines = enumerate(module.read_text("utf-8").splitlines(), 1)
    return sum(bool(line.strip()) and number not in numbers for number, line in lines)


@pytest.mark.parametrize(
    ("port", "adapter"),
    [
        (ports.Blobs, MemoryBlobs),
        (ports.Blobs, FilesystemBlobs),
        (ports.Staged, MemoryStaged),
        (ports.Staged, FileStaged),
        (ports.Metadata, SqlMetadata),
        (ports.Metadata, MemoryMetadata),
        (ports.Inventory, SqliteInventory),
        (admission.Pins, SqlMetadata),
        (admission.Pins, MemoryMetadata),
        (access.RobotTokens, MemoryMetadata),
        (ports.Outbox, MemoryMetadata),
        (access.RobotTokens, SqlMetadata),
        (ports.Outbox, SqlMetadata),
        (ports.Uploads, LocalUploads),
        (Engine, SqliteEngine),
        (access.Authenticator, AuthenticatorChain),
        (access.Authorizer, AuthorizerChain),
        (access.Authorizer, RbacAuthorizer),
        (access.TokenIssuer, RegistryTokens),
        (events.AuditLog, AuditTrail),
    ],
)
def test_adapter_has_the_methods_of_its_port_as_they_are_written_there(port: type, adapter: type) -> None:
    methods = {name: method for name, method in vars(port).items() if inspect.isfunction(method) and name[0] != "_"}
    assert methods
    for method_name, wanted in methods.items():
        found = getattr(adapter, method_name)
        assert list(inspect.signature(found).parameters) == list(inspect.signature(wanted).parameters)
        assert inspect.iscoroutinefunction(found) == inspect.iscoroutinefunction(wanted)
