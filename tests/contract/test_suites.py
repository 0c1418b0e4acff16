"""The suites of the tests: every test is in one, and continuous integration runs what must pass."""

import re
import shlex
import tomllib
from itertools import product
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MARKERS = ("integration", "heavy", "stack")
MAKEFILE = (ROOT / "Makefile").read_text()


def expression(line: str) -> str:
    """The marker expression of a command line."""
    words = shlex.split(line)
    return words[words.index("-m") + 1]


def selections() -> dict[str, str]:
    """The marker expression of each suite of the Makefile; `test-security` runs tests of the others."""
    configured = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]
    default = expression(configured["ini_options"]["addopts"])
    lines = re.findall(r"(?m)^(test[a-z-]*):.*\n(?:\t.*\n)*?\t(pytest.*)$", MAKEFILE)
    return {
        target: expression(line) if " -m " in line else default
        for target, line in lines
        if target != "test-security"
    }


def suites(markers: dict[str, bool]) -> list[str]:
    """The targets that run a test with these markers."""
    return [target for target, selected in selections().items() if eval(selected, markers.copy())]  # noqa: S307


@pytest.mark.parametrize("values", [*product([False, True], repeat=len(MARKERS))], ids=str)
def test_every_test_is_in_a_suite(values: tuple[bool, ...]) -> None:
    markers = dict(zip(MARKERS, values, strict=True))

    assert suites(markers)


def test_a_test_without_markers_is_in_the_fast_suite_alone() -> None:
    assert suites(dict.fromkeys(MARKERS, False)) == ["test"]


def test_an_integration_test_is_in_that_suite_alone() -> None:
    assert suites({**dict.fromkeys(MARKERS, False), "integration": True}) == ["test-integration"]


def test_continuous_integration_runs_both() -> None:
    targets = re.findall(r"(?m)^make (\S+)$", (ROOT / ".ci" / "run").read_text())

    assert targets == ["test", "test-integration"]
