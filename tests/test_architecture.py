"""The import rules of ARCHITECTURE.md, executed."""

import ast
import graphlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("lattice", "host", "providers")

KERNEL = "lattice.errors lattice.names lattice.subjects lattice.limits lattice.aio lattice.log"
SHARED = f"{KERNEL} lattice.wire lattice.identity"

PROVIDERS = sorted(
    path.name
    for path in (ROOT / "providers").iterdir()
    if (path / "__init__.py").exists() and path.name != "sdk"
)

# What each package may import from the other packages. Anything absent is forbidden.
MAY_IMPORT = {
    "lattice.errors": "",
    "lattice.limits": "",
    "lattice.log": "",
    "lattice.names": "lattice.errors",
    "lattice.subjects": "lattice.errors lattice.names",
    "lattice.aio": "lattice.errors lattice.limits",
    "lattice.wire": KERNEL,
    "lattice.identity": KERNEL,
    "lattice.manifest": f"{KERNEL} lattice.wire",
    "lattice.project": KERNEL,
    "lattice.binaries": SHARED,
    "lattice.guests": f"{SHARED} lattice.binaries lattice.project",
    "lattice.workbench": f"{KERNEL} lattice.wire lattice.installed lattice.project",
    "lattice.bus": SHARED,
    "lattice.archives": SHARED,
    "lattice.artefacts": f"{SHARED} lattice.bus",
    "lattice.cancellation": f"{SHARED} lattice.bus",
    "lattice.departures": f"{SHARED} lattice.bus",
    "lattice.idempotency": f"{SHARED} lattice.bus",
    "lattice.streams": f"{SHARED} lattice.bus",
    "lattice.payloads": f"{SHARED} lattice.bus",
    "lattice.rpc": f"{SHARED} lattice.bus lattice.cancellation lattice.departures lattice.streams"
    " lattice.payloads lattice.idempotency",
    "lattice.settings": f"{KERNEL} lattice.bus",
    "lattice.state": f"{SHARED} lattice.bus",
    "lattice.control": f"{SHARED} lattice.bus lattice.state",
    "lattice.cli": f"{SHARED} lattice.bus lattice.archives lattice.artefacts lattice.binaries"
    " lattice.guests lattice.registry lattice.rpc lattice.state lattice.control lattice.manifest"
    " lattice.project lattice.reconcile lattice.installed lattice.workbench",
    "lattice.reconcile": f"{SHARED} lattice.bus lattice.settings lattice.state lattice.manifest"
    " lattice.control",
    "lattice.installed": "",
    "lattice.registry": f"{SHARED} lattice.archives",
    "host": f"{SHARED} lattice.bus lattice.settings lattice.archives lattice.artefacts"
    " lattice.installed lattice.registry lattice.rpc lattice.state lattice.manifest lattice.control"
    " lattice.reconcile",
    # What users' tests import: on top of everything, and nobody imports it.
    "lattice.testing": f"{SHARED} lattice.bus lattice.artefacts lattice.binaries lattice.control"
    " lattice.guests lattice.installed lattice.project lattice.rpc lattice.workbench host",
    "lattice.pytest_plugin": "lattice.log lattice.project lattice.testing",
    "providers.sdk": f"{SHARED} lattice.bus lattice.installed lattice.rpc",
} | {f"providers.{name}": f"{SHARED} lattice.bus providers.sdk" for name in PROVIDERS}

# One third-party library, one home, or as few as can be.
HOMES = {
    "aiobotocore": "providers.blobstore.stores.s3",
    "botocore": "providers.blobstore.stores.s3",
    "cbor2": "lattice.wire.cbor",
    "h11": "providers.http_client.connection",
    "httpx": "lattice.registry.client lattice.testing",
    "httptools": "providers.http_server.listener lattice.cli.http_load",
    "msgpack": "lattice.wire",
    "nacl": "lattice.identity",
    "nats": "lattice.bus",
    "nkeys": "lattice.bus.credentials",
    "pytest": "lattice.pytest_plugin",
    "redis": "providers.keyvalue.stores.redis",
    "rich": "lattice.cli",
    "typer": "lattice.cli host.__main__",
    "uvicorn": "providers.http_server.listener",
    "uvloop": "host.__main__ providers.sdk.__main__",
    "wasmtime": "host.engine.ffi host.engine.component_ffi",
    "watchfiles": "lattice.cli.watching",
    "yaml": "lattice.manifest",
}

# Used for what they are, wherever that is: values checked where they come in, and log lines.
EVERYWHERE = {"pydantic", "pydantic_core", "pydantic_settings", "structlog"}

TASKS = "lattice.aio.tasks"


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Every module of ours by name."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield name.removesuffix(".__init__"), ast.parse(path.read_text())


SOURCES = dict(sources())


def within(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


def package_of(module: str) -> str | None:
    return max((p for p in MAY_IMPORT if within(module, p)), key=len, default=None)


def imports() -> Iterator[tuple[str, str]]:
    for source, tree in SOURCES.items():
        for node in ast.walk(tree):
            match node:
                case ast.Import(names=aliases):
                    yield from ((source, alias.name) for alias in aliases)
                case ast.ImportFrom(module=str(module), names=aliases, level=0):
                    yield from ((source, f"{module}.{alias.name}") for alias in aliases)
                case ast.ImportFrom():
                    yield source, "a relative module"


IMPORTS = sorted(set(imports()))


def test_allowed_imports_form_no_cycle() -> None:
    graphlib.TopologicalSorter(
        {package: allowed.split() for package, allowed in MAY_IMPORT.items()}
    ).prepare()


def test_every_module_belongs_to_a_package_with_rules() -> None:
    bare = {"lattice", "providers"}

    assert {source for source in SOURCES if package_of(source) is None} == bare


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_a_package_imports_only_what_it_may(package: str) -> None:
    allowed = {package, *MAY_IMPORT[package].split()}
    # Its version and charter stand in lattice itself.
    wrong = [
        f"{source} imports {target}"
        for source, target in IMPORTS
        if package_of(source) == package
        and target.partition(".")[0] in PACKAGES
        and target not in {"lattice", "lattice.__version__"}
        and package_of(target) not in allowed
    ]

    assert wrong == []


def test_a_library_is_imported_only_where_it_is_at_home() -> None:
    wrong = [
        f"{source} imports {target}"
        for source, target in IMPORTS
        if (library := target.partition(".")[0]) not in {*PACKAGES, *sys.stdlib_module_names}
        and library not in EVERYWHERE
        and not any(within(source, home) for home in HOMES.get(library, "").split())
    ]

    assert wrong == []


def test_every_library_at_home_is_one_we_depend_on() -> None:
    declared = importlib.metadata.requires("lattice-runtime") or []
    known = " ".join(declared).replace("-", "_").lower()

    assert [library for library in HOMES if library not in known] == []


def test_imports_are_absolute() -> None:
    assert [source for source, target in IMPORTS if target == "a relative module"] == []


def test_tasks_are_made_in_one_place_only() -> None:
    makers = {
        source
        for source, tree in SOURCES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute | ast.Name)
        and (node.attr if isinstance(node, ast.Attribute) else node.id)
        in {"create_task", "ensure_future"}
    }

    assert makers == {TASKS}


def test_the_environment_is_read_where_a_process_starts() -> None:
    readers = {
        source
        for source, tree in SOURCES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in {"environ", "getenv"}
        and not source.endswith((".__main__", ".settings"))
    }

    # pytest's process starts ours there.
    starts = {"lattice.cli", "lattice.pytest_plugin"}
    assert {one for one in readers if not any(within(one, start) for start in starts)} == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_our_package_names_resolve_to_this_repository(package: str) -> None:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).is_relative_to(ROOT)

    owners = importlib.metadata.packages_distributions().get(package, [])
    assert set(owners) <= {"lattice-runtime"}


@pytest.mark.parametrize("package", PACKAGES)
def test_our_packages_are_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").exists()
