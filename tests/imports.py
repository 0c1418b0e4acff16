"""Which modules a module of the project imports, read from its text."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]


@cache
def names(path: Path) -> frozenset[str]:
    """All that a module imports anywhere in its text, for the type checker too, as dotted names."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)


@cache
def imported(path: Path) -> frozenset[Path]:
    """The project's modules that a module imports; of packages those that hold more than a docstring."""
    return frozenset(found for name in names(path) for found in _modules(name))


def _modules(name: str) -> Iterator[Path]:
    module, package = (
        Path(*name.split(".")).with_suffix(".py"),
        Path(*name.split("."), "__init__.py"),
    )
    if (ROOT / module).is_file():
        yield module
    elif (ROOT / package).is_file() and len(ast.parse((ROOT / package).read_text()).body) > 1:
        yield package


def needed(path: Path) -> set[Path]:
    """The project's modules that run when a script runs, with the script."""
    found: set[Path] = set()
    waiting = {path}
    while waiting:
        found |= waiting
        waiting = {other for one in waiting for other in imported(one)} - found
    return found
