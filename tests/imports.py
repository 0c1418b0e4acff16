"""The modules that a module of the project imports, from its source."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]


@cache
def names(path: Path) -> frozenset[str]:
    """The dotted names that a module imports anywhere, for the type checker too."""
    imports = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            imports |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            imports |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(imports)


@cache
def imported(path: Path) -> frozenset[Path]:
    """The modules of the project that a module imports; packages only if they have more than a docstring."""
    return frozenset(module for name in names(path) for module in _modules(name))


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
    """The modules of the project that run with a script, and the script."""
    modules: set[Path] = set()
    queue = {path}
    while queue:
        modules |= queue
        queue = {other for module in queue for other in imported(module)} - modules
    return modules
