"""docs/architecture.md says what the code is: the graph of dvc.yaml, paths, names, who imports what."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.imports import ROOT, imported, names, needed

PAGE = (ROOT / "docs/architecture.md").read_text()
STAGES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
MODULES = sorted(
    path.relative_to(ROOT)
    for path in (*ROOT.glob("*.py"), *ROOT.glob("[a-z]*/**/*.py"))
    if not path.is_relative_to(ROOT / "tests")
)
Table = dict[tuple[str, ...], list[str]]


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def table(title: str) -> Table:
    """The first column of a section's table, and the last one: what stands there as code."""
    rows = [line.strip("|").split("|") for line in section(title).splitlines() if line[:2] == "| "]
    return {tuple(code(row[0])): code(row[-1]) for row in rows if code(row[0])}


def code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


# The pipeline


def listed(stage: dict[str, Any], *kinds: str) -> list[str]:
    entries = [entry for kind in kinds for entry in stage.get(kind, [])]
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


def holds(dependency: str, output: str) -> bool:
    return output == dependency or Path(dependency) in Path(output).parents


def edges(name: str) -> Iterator[str]:
    """What a stage reads: tables and models by name, figures and plots of another stage as dots."""
    unknown = {d for d in STAGES[name]["deps"] if not d.endswith(".py")}
    for other, stage in STAGES.items():
        made, told = listed(stage, "outs"), listed(stage, "metrics", "plots")
        given = [o for d in STAGES[name]["deps"] for o in made if holds(d, o)]
        read = {d for d in STAGES[name]["deps"] for o in (*made, *told) if holds(d, o)}
        if read:
            yield f'{other} -->|"{"<br>".join(given)}"| {name}' if given else f"{other} -.-> {name}"
        unknown -= read
    for source in sorted(unknown):
        label = re.sub("[^a-z]", "_", source)
        yield f'{label}["{source}"] --> {name}'


def graph() -> str:
    """dvc.yaml as a Mermaid diagram."""
    return "\n".join(["flowchart TD", *(f"    {edge}" for name in STAGES for edge in edges(name))])


def test_the_pipeline_is_that_of_dvc_yaml() -> None:
    assert f"```mermaid\n{graph()}\n```" in section("The pipeline"), graph()


# Names


def test_every_path_exists() -> None:
    roots = "stages|serve|monitoring|demo|deploy|benchmarks|tests|docs|data|models|requirements"
    named = set(re.findall(rf"\b((?:{roots})/[\w./-]*\w/?|[\w-]+\.(?:py|yaml|md|lock))", PAGE))
    made = {output for stage in STAGES.values() for output in listed(stage, "outs")}

    assert len(named) > 40
    for path in named - made:
        beside = ROOT / "docs" / path  # a link
        assert (ROOT / path).exists() or beside.exists(), path


def test_every_metric_route_and_setting_exists() -> None:
    texts = [(ROOT / path).read_text() for path in MODULES]
    texts += [path.read_text() for path in (ROOT / "monitoring").rglob("*.yml")]
    texts.append((ROOT / ".env.example").read_text())
    everything = "\n".join(texts)
    named = re.findall(r"heart[_:][a-z_:0-9]+|HEART_[A-Z_]+|/hooks/\w+|/feedback|/drift\b", PAGE)

    assert len(set(named)) >= 6
    for name in named:
        assert name in everything, name


def test_every_decision_says_where_it_stands() -> None:
    decisions = re.split(r"\n- ", section("Decisions"))[1:]

    assert len(decisions) >= 12
    for decision in decisions:
        assert decision.startswith("**")
        assert re.search(r"`[\w/]+\.(?:py|yaml|yml)`|`\w+/`", decision), decision


def test_the_page_is_of_a_readable_length() -> None:
    assert len(PAGE.splitlines()) <= 130
    assert max(len(line) for line in PAGE.splitlines() if not line.startswith("|")) <= 110


# Who imports what

ROOMS = table("Rooms")
LIBRARIES = table("Libraries")


def dotted(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def within(path: Path, place: str) -> bool:
    return str(path) == place or (place.endswith("/") and str(path).startswith(place))


def room(path: Path, folders_only: bool = False) -> tuple[str, ...]:
    """The row of the table that names a module, or else the folder that is nearest to it."""
    places = [(place, row) for row in ROOMS for place in row if within(path, place)]
    places = [found for found in places if not folders_only or found[0].endswith("/")]
    assert places or folders_only, f"{path} is in no room"
    return max(places, key=lambda found: len(found[0]), default=("", ()))[1]


def foreign(path: Path) -> set[str]:
    """What a module imports that is not of its own room; a folder may have rows for some of its files."""
    own = room(path)
    return {
        dotted(other)
        for other in imported(path)
        if own not in (room(other), room(other, folders_only=True))
    }


def allowed(name: str, listed_names: list[str]) -> list[str]:
    return [one for one in listed_names if name == one or name.startswith(f"{one}.")]


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_a_module_imports_what_its_room_may(path: Path) -> None:
    for name in foreign(path):
        assert allowed(name, ROOMS[room(path)]), f"{path} imports {name}"


@pytest.mark.parametrize("row", [row for row in ROOMS if row != ("tests/",)], ids=" ".join)
def test_what_a_room_may_import_is_imported(row: tuple[str, ...]) -> None:
    used = {
        one
        for path in MODULES
        if room(path) == row
        for name in foreign(path)
        for one in allowed(name, ROOMS[row])
    }

    assert used == set(ROOMS[row])


def test_nothing_outside_of_the_tests_imports_them() -> None:
    assert ROOMS["tests/",] == []
    assert not [p for p in MODULES for name in names(p) if name.split(".")[0] == "tests"]


@pytest.mark.parametrize("library", [name for row in LIBRARIES for name in row])
def test_a_library_is_imported_only_where_the_page_says(library: str) -> None:
    [places] = [places for row, places in LIBRARIES.items() if library in row]
    users = [p for p in MODULES if library in {name.split(".")[0] for name in names(p)}]

    assert [p for p in users if not any(within(p, place) for place in places)] == []
    assert users


@pytest.mark.parametrize("places", LIBRARIES.values(), ids=" ".join)
def test_each_place_of_a_library_needs_it(places: list[str]) -> None:
    [libraries] = [row for row, found in LIBRARIES.items() if found == places]

    for place in places:
        imports = {name.split(".")[0] for p in MODULES if within(p, place) for name in names(p)}
        assert imports & set(libraries), place


@pytest.mark.parametrize("package", ["serve", "serve/score", "monitoring", "monitoring/retrainer"])
def test_what_is_served_loads_no_stage_and_nothing_that_fits_or_unpickles(package: str) -> None:
    loaded = needed(Path(package, "__main__.py"))

    libraries = {name.split(".")[0] for path in loaded for name in names(path)}
    assert not [path for path in loaded if path.parts[0] == "stages"]
    assert not libraries & {
        "torch",
        "ctgan",
        "sklearn",
        "joblib",
        "pickle",
        "cloudpickle",
        "pandas",
    }
    assert not libraries & {"dvc", "skops", "skl2onnx", "onnx", "matplotlib"}
