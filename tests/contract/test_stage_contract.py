"""dvc.yaml against the scripts: names, and that a stage declares all that it reads and writes."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.retraining.run import Retrain
from stages.params import SECTIONS
from tests.imports import needed

ROOT = Path(__file__).parents[2]
STAGES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMS: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())

# The only stage that acts on something outside of its outputs, and where.
OUTSIDE = {"register": Path("registry")}


def listed(entries: list[Any]) -> list[Path]:
    """The paths of outs, metrics or plots, whose entries may carry options."""
    return [Path(next(iter(entry)) if isinstance(entry, dict) else entry) for entry in entries]


def outputs(name: str) -> list[Path]:
    return [
        path for kind in ("outs", "metrics", "plots") for path in listed(STAGES[name].get(kind, []))
    ]


# Names


def test_the_sections_of_params_are_the_stages_classes() -> None:
    assert list(SECTIONS) == list(STAGES)
    assert list(PARAMS) == [*STAGES, "retrain"]
    assert Retrain.load(ROOT / "params.yaml").model_dump(mode="json") == PARAMS["retrain"]


@pytest.mark.parametrize("name", STAGES)
def test_one_name_in_four_places(name: str) -> None:
    stage = STAGES[name]

    assert stage["cmd"] == f"python -m stages.{name}"
    assert f"stages/{name}.py" in stage["deps"]
    assert (ROOT / "stages" / f"{name}.py").is_file()
    assert name in stage["params"]
    assert Path("metrics") / f"{name}.json" in outputs(name)


@pytest.mark.parametrize("name", STAGES)
def test_the_example_values_are_valid(name: str) -> None:
    assert SECTIONS[name].load(ROOT / "params.yaml").model_dump(mode="json") == PARAMS[name]


def test_a_changed_parameter_of_an_experiment_leaves_the_other_lines(tmp_path: Path) -> None:
    from dvc.utils.hydra import apply_overrides

    path = Path(shutil.copy(ROOT / "params.yaml", tmp_path))

    apply_overrides(str(path), ["train.trees=7", "reference.step=5"])

    before, after = ((f / "params.yaml").read_text().splitlines() for f in (ROOT, tmp_path))
    changed = [new for old, new in zip(before, after, strict=True) if old != new]
    assert [line.split("#")[0].split() for line in changed] == [["trees:", "7"], ["step:", "5"]]


def test_experiments_are_compared_by_a_small_number_of_figures() -> None:
    metrics = [path for stage in STAGES.values() for path in listed(stage.get("metrics", []))]

    assert metrics == [Path("metrics/headline.json")]


def test_no_file_is_the_output_of_two_stages() -> None:
    every = [path for name in STAGES for path in outputs(name)]

    assert len(every) == len(set(every))


@pytest.mark.parametrize("name", STAGES)
def test_every_input_is_in_the_repository_or_an_output(
    name: str, command: Callable[..., Any]
) -> None:
    tracked = command("git ls-files -co --exclude-standard", ROOT).stdout.splitlines()
    known = [*map(Path, tracked), *(path for other in STAGES for path in outputs(other))]

    for dependency in map(Path, STAGES[name]["deps"]):
        assert any(path == dependency or dependency in path.parents for path in known), dependency


# Modules


@pytest.mark.parametrize("name", STAGES)
def test_stage_declares_every_module_that_it_imports(name: str) -> None:
    declared = [Path(dependency) for dependency in STAGES[name]["deps"]]

    for module in needed(Path("stages") / f"{name}.py"):
        assert any(path == module or path in module.parents for path in declared), module


@pytest.mark.parametrize("name", STAGES)
def test_stage_imports_every_package_that_it_declares(name: str) -> None:
    modules = needed(Path("stages") / f"{name}.py")
    declared = [Path(d) for d in STAGES[name]["deps"] if d.startswith(("heart/", "stages/"))]

    for path in declared:
        assert any(path == module or path in module.parents for module in modules), path
    assert len(declared) == len(set(declared))


def test_change_to_the_model_does_not_refit_the_generators() -> None:
    assert not any(
        d.startswith(("heart/ml", "heart/registry")) for d in STAGES["synthesize"]["deps"]
    )


# Files: each stage runs where nothing lies but what it declares


def content(folder: Path) -> dict[Path, bytes]:
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_needs_and_makes_only_what_it_declares(
    name: str,
    small_pipeline: Path,
    tmp_path: Path,
    command: Callable[..., Any],
) -> None:
    for dependency in STAGES[name]["deps"]:
        source, target = small_pipeline / dependency, tmp_path / dependency
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    document = yaml.safe_load((small_pipeline / "params.yaml").read_text())
    declared = {section: document[section] for section in STAGES[name]["params"]}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(declared))
    before = content(tmp_path)

    # No git above the folder either.
    command(STAGES[name]["cmd"], tmp_path, GIT_CEILING_DIRECTORIES=str(tmp_path.parent))

    after = content(tmp_path)
    written = {path for path in after if after[path] != before.get(path)}
    allowed = [*outputs(name), *([OUTSIDE[name]] if name in OUTSIDE else [])]
    unexpected = {p for p in written if not any(p == a or a in p.parents for a in allowed)}
    assert unexpected == set()
    assert set(before) <= set(after)
    assert set(outputs(name)) <= written
    # And what it makes has the same bytes as the first time.
    once = {path: (small_pipeline / path).read_bytes() for path in outputs(name)}
    assert {path for path in once if after[path] != once[path]} == set()
