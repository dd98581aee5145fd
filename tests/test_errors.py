"""What holds for every exception that this library raises on purpose."""

from __future__ import annotations

import importlib
import inspect
import pickle
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType

import pytest

import etl.errors
import sinks
import sinks.errors

MODULES = (etl.errors, sinks.errors)

ERRORS = [
    error
    for module in MODULES
    for _, error in inspect.getmembers(module, inspect.isclass)
    if issubclass(error, Exception) and error.__module__ == module.__name__
]


def drawn(text: str) -> dict[str, str | None]:
    """Read a tree out of a docstring: each name and the name above it."""
    parents: dict[str, str | None] = {}
    above: dict[int, str] = {}
    root = re.search(r"^( *)\w+Error\b.*\n *├── ", text, re.MULTILINE)
    assert root is not None
    for line in text[root.start() :].splitlines():
        match = re.match(r"((?:│   |    |├── |└── )*)([A-Z]\w+)(?: {2,}\S|$)", line.removeprefix(root[1]))
        if match is None:
            continue
        depth = len(match[1]) // 4
        parents[match[2]] = above.get(depth - 1)
        above[depth] = match[2]
    return parents


def kinds(error: type[Exception]) -> Iterator[type[Exception]]:
    """Yield an error of this library and all below it that it defines."""
    if error.__module__.partition(".")[0] in ("etl", "sinks"):
        yield error
    for below in error.__subclasses__():
        yield from kinds(below)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_an_error_survives_pickling(error: type[Exception]) -> None:
    copy = pickle.loads(pickle.dumps(error("what happened, where, and what to do")))
    assert type(copy) is error
    assert str(copy) == "what happened, where, and what to do"


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_an_error_says_in_its_docstring_what_it_means(error: type[Exception]) -> None:
    assert error.__doc__


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_the_tree_in_the_docstring_is_the_tree_of_the_classes(module: object) -> None:
    own = [error for error in ERRORS if error.__module__ == module.__name__]  # type: ignore[attr-defined]  # a module
    expected = {
        error.__name__: base.__name__ if (base := error.__base__) in own else None  # type: ignore[union-attr]  # a class
        for error in own
    }
    assert drawn(module.__doc__ or "") == expected


@pytest.mark.parametrize("error", [error for error in ERRORS if error.__module__ == "sinks.errors"])
def test_an_error_of_sinks_is_exported(error: type[Exception]) -> None:
    assert getattr(sinks, error.__name__) is error
    assert error.__name__ in sinks.__all__


def test_the_errors_of_etl_are_within_reach() -> None:
    assert etl.EtlError is etl.errors.EtlError
    assert "errors" in etl.__all__


def test_every_error_of_etl_has_one_root() -> None:
    assert all(issubclass(error, etl.EtlError) for error in ERRORS if error.__module__ == "etl.errors")


@pytest.mark.parametrize("package", [etl, sinks], ids=lambda package: package.__name__)
def test_no_error_stands_outside_of_the_trees(package: ModuleType) -> None:
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    assert set(kinds(etl.EtlError)) | set(kinds(sinks.SinkError)) == set(ERRORS)
