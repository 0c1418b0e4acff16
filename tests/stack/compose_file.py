"""docker-compose.yml as Compose reads it: with the variables of an environment put in."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
VARIABLE = re.compile(r"\$\{(?P<name>[A-Z_0-9]+)(?P<kind>:[-?])(?P<rest>[^}]*)\}")


class Missing(Exception):
    """A variable that must be set is not; the message is the one that the file gives."""


def occurrences() -> set[tuple[str, str | None]]:
    """Every variable of the file and what stands for it where it is not set; None if it must be."""
    result = VARIABLE.finditer(COMPOSE.read_text())
    return {(v["name"], v["rest"] if v["kind"] == ":-" else None) for v in result}


def variables() -> dict[str, str | None]:
    return dict(occurrences())


def required() -> set[str]:
    return {name for name, default in variables().items() if default is None}


def interpolated(environment: Mapping[str, str]) -> str:
    """The file with the values of an environment. Raises Missing."""

    def value(match: re.Match[str]) -> str:
        if result := environment.get(match["name"]):
            return result
        if match["kind"] == ":?":
            raise Missing(match["rest"])
        return match["rest"]

    return VARIABLE.sub(value, COMPOSE.read_text()).replace("$$", "$")


def document(environment: Mapping[str, str] | None = None) -> Any:
    """What the file says, by default with every required variable set to `given`."""
    given = dict.fromkeys(required(), "given") if environment is None else environment
    return yaml.safe_load(interpolated(given))


def services() -> dict[str, Any]:
    result: dict[str, Any] = document()["services"]
    return result
