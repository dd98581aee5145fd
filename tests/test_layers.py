"""What may import what, read out of the source; and what `import etl` must not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

HEAVY = {
    "click",
    "duckdb",
    "fsspec",
    "gcsfs",
    "google",
    "ijson",
    "isal",
    "matplotlib",
    "oauthlib",
    "paramiko",
    "pyarrow",
    "requests",
    "rich",
    "tenacity",
    "urllib3",
    "zstandard",
}

# Each layer may import itself and those below it. The pipeline builds what its tables name, so it stands
# above the registry.
LAYERS = [
    {"etl.__main__"},
    {"etl.cli"},
    {"etl.commands"},
    {"etl.lab", "etl.config"},
    {"etl"},  # the package itself: it re-exports
    {"etl.pipeline"},
    {"etl.takeover", "etl.verification", "etl.definition"},
    {"etl.registry", "etl.engine", "etl.display"},
    {"etl.ending", "etl.writing", "etl.committing"},
    {"etl.part_sizes", "etl.open_part"},
    {"etl.loading"},
    {"etl.refreshes", "etl.admission", "etl.judging"},
    {"etl.drift", "etl.declared_gate"},
    {"etl.undoing"},
    {"etl.rejects"},
    {"etl.following"},
    {"etl.job", "etl.housekeeping", "etl.clearing", "etl.publishing", "etl.interrupts", "etl.own_output"},
    {"etl.sources", "etl.warehouses", "etl.stores"},
    {"etl.reshaping"},
    {"etl.casts"},
    {"etl.schemas"},
    {"etl.advice"},
    {"etl.dead_letters", "etl.words", "etl.tables", "etl.places", "etl.moves", "etl.needs"},
    {
        "etl.columns",
        "etl.arrow_arrays",
        "etl.arrow_fitting",
        "etl.arrow_kinds",
        "etl.arrow_schemas",
        "etl.arrow_types",
        "etl.formats",
        "etl.gathering",
        "etl.parquet",
        "etl.row_groups",
        "etl.shapes",
        "etl.snapshots",
        "etl.transforms",
        "etl.checkpoint",
        "etl.lease",
        "etl.memory",
        "etl.progress",
        "etl.governor",
        "etl.repeating",
        "etl.quota",
    },
    {"etl.nesting"},
    {"etl.reader"},
    {"etl.records"},
    {"etl.field_types", "etl.partitions"},
    {
        "etl.errors",
        "etl.escaping",
        "etl.masking",
        "etl.secret_rules",
        "etl.secret_writing",
        "etl.secret_values",
        "etl.shown",
    },
    {"sinks"},
]

# Public tools for tests: they may use everything, and nothing may use them.
APART = {"etl.testing"}


def modules(package: str) -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = [*modules("etl"), *modules("sinks")]
NAMES = {name for name, _ in MODULES}


def layer(module: str) -> int:
    """Return the number of the layer that a module stands in, counted from the top."""
    for number, names in enumerate(LAYERS):
        for name in names:
            if module == name or (name != "etl" and module.startswith(f"{name}.")):
                return number
    pytest.fail(f"{module} stands in no layer: add it to LAYERS, and to ARCHITECTURE.md")


def imports(module: str, path: Path, *, at_import_time: bool = False) -> Iterator[str]:
    """Yield the modules that a file imports, without those that only type checkers see."""

    def walk(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if at_import_time and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                continue
            if isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{module}: imports are absolute"
                for alias in child.names:
                    full = f"{child.module}.{alias.name}"
                    yield full if full in NAMES else child.module or ""
            yield from walk(child)

    yield from walk(parsed(path))


@cache
def parsed(path: Path) -> ast.Module:
    """Parse a file, once for all tests."""
    return ast.parse(path.read_text())


@pytest.mark.parametrize(("module", "path"), MODULES, ids=[name for name, _ in MODULES])
def test_imports_run_one_way(module: str, path: Path) -> None:
    if any(module.startswith(name) for name in APART):
        return
    for imported in imports(module, path):
        if imported.split(".")[0] not in ("etl", "sinks"):
            continue
        assert not any(imported.startswith(name) for name in APART), f"{module} imports {imported}"
        assert layer(imported) >= layer(module), f"{module} imports {imported}, which stands above it"


@pytest.mark.parametrize(
    ("module", "path"), list(modules("sinks")), ids=[name for name, _ in modules("sinks")]
)
def test_sinks_know_nothing_of_etl(module: str, path: Path) -> None:
    assert not [name for name in imports(module, path) if name.split(".")[0] == "etl"]


@pytest.mark.parametrize(("module", "path"), MODULES, ids=[name for name, _ in MODULES])
def test_what_is_heavy_is_imported_where_it_is_used(module: str, path: Path) -> None:
    allowed = {"click"} if layer_of_commands(module) else set()
    if module == "sinks.connections":  # its classes are urllib3's, and it is itself imported where it is used
        allowed = {"urllib3"}
    found = {name.split(".")[0] for name in imports(module, path, at_import_time=True)}
    assert not found & HEAVY - allowed


def layer_of_commands(module: str) -> bool:
    return module == "etl.cli" or module.startswith("etl.commands")


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("import etl", set()),
        ("import sinks", set()),
        (
            "import etl.cli, etl.commands.run, etl.commands.status, etl.commands.check, etl.commands.doctor, "
            "etl.commands.lab, etl.commands.verify",
            {"click"},
        ),
    ],
)
def test_importing_loads_nothing_heavy(statement: str, allowed: set[str]) -> None:
    script = f"import sys; before = set(sys.modules); {statement}; print(*sys.modules.keys() - before)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & (HEAVY - allowed)


def test_importing_sinks_does_not_load_etl() -> None:
    script = "import sys, sinks; print('etl' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
