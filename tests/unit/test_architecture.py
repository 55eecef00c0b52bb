"""Imports run one way: flows -> tasks -> hazard_store, and the library stands without Prefect and Dask."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "hazard_store").rglob("*.py"))

# What the library imports where sources on S3 are read, and nowhere else.
ONLY_FOR_S3 = {"fsspec", "s3fs"}

WITHOUT_PREFECT_AND_DASK = """
import importlib, pkgutil, sys

HIDDEN = {"prefect", "prefect_dask", "prefect_aws", "dask", "distributed", "flows", "tasks"}

class Hiding:
    # As if they were not installed: xarray, for one, uses Dask where it finds it and does without where not.
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in HIDDEN else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
import hazard_store
for module in pkgutil.walk_packages(hazard_store.__path__, "hazard_store."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print("imported")
"""


def imported_roots(path: Path) -> set[str]:
    roots: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            roots.add(node.module.split(".")[0])
    return roots


def test_every_module_of_the_library_imports_without_prefect_and_dask() -> None:
    command = [sys.executable, "-c", WITHOUT_PREFECT_AND_DASK]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert run.stdout.strip() == "imported", run.stderr


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_library_imports_nothing_above_it(path: Path) -> None:
    assert not imported_roots(path) & {"prefect", "prefect_dask", "dask", "distributed", "flows", "tasks", "openquake"}


def test_tasks_do_not_import_flows() -> None:
    for path in (ROOT / "tasks").rglob("*.py"):
        assert "flows" not in imported_roots(path), path


def test_nothing_but_what_starts_commands_imports_the_command_line() -> None:
    rooms = [*MODULES, *(ROOT / "tasks").rglob("*.py"), *(ROOT / "flows").rglob("*.py")]
    outside = [path for path in rooms if path.parent.name != "cli" and path.name != "__main__.py"]
    assert len(outside) > 100
    for path in outside:
        named = {
            node.module or "" for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)
        }
        assert not [module for module in named if module.startswith("hazard_store.cli")], path


def declared(extra: str | None = None) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = project["dependencies"] if extra is None else project["optional-dependencies"][extra]
    return {re.split(r"[^A-Za-z0-9_-]", requirement)[0].replace("-", "_") for requirement in requirements}


def test_what_is_imported_is_declared() -> None:
    own = {"hazard_store", "flows", "tasks", "typing_extensions", "_typeshed"}  # the last two for mypy alone
    library = {root for path in MODULES for root in imported_roots(path)} - own - sys.stdlib_module_names
    assert library - declared() <= ONLY_FOR_S3 & declared("aws")
    above = {
        root for room in ("flows", "tasks") for path in (ROOT / room).rglob("*.py") for root in imported_roots(path)
    }
    assert above - own - sys.stdlib_module_names <= declared() | declared("prefect") | declared("aws")
