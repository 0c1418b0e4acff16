"""What the documents name exists, and what exists is named."""

import json
import re
from pathlib import Path

import pytest
import yaml

from heart.registry.model_card import SHOWN, with_interval
from stages.params import SECTIONS

ROOT = Path(__file__).parents[2]
DOCS = sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md"))
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE))


def made_paths() -> set[str]:
    """What DVC makes: it exists in no fresh clone."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    entries = [e for stage in stages for kind in ("outs", "plots") for e in stage.get(kind, [])]
    return {e if isinstance(e, str) else next(iter(e)) for e in entries}


def test_every_target_in_the_readme_exists_and_every_target_has_help() -> None:
    named = set(re.findall(r"make ([a-z][a-z-]+)", README))

    rules = set(re.findall(r"^([a-z][a-z-]+):", MAKEFILE, re.MULTILINE))

    assert named <= TARGETS
    assert rules == TARGETS
    assert {"repro", "test", "help", "register", "serve", "bench-model", "bench-pipeline"} <= named


def test_every_path_in_the_readme_exists() -> None:
    folders = "stages|data|models|metrics|benchmarks|requirements|tests|plots|serve|monitoring"
    named = set(re.findall(rf"`((?:{folders})/[\w./-]*|[\w-]+\.(?:py|yaml|md|lock))`", README))
    here_after_repro = made_paths() | {"plots/", "models/"}

    for path in named:
        assert (ROOT / path).exists() or path in here_after_repro, path


def test_every_stage_is_named() -> None:
    picture = README.split("## The way of the data")[1].split("## The model")[0]

    for stage in SECTIONS:
        assert stage in picture


def test_every_parameter_in_the_readme_exists() -> None:
    parameters = yaml.safe_load((ROOT / "params.yaml").read_text())
    named = re.findall(rf"\b({'|'.join(SECTIONS)})\.([a-z_]+)\b", README)

    for section, name in named:
        assert name in {*parameters[section], "modell", "json", "csv", "yaml", "onnx"}, name


def test_the_figures_are_those_of_the_metrics() -> None:
    evaluated = json.loads((ROOT / "metrics/evaluate.json").read_text())
    trained = json.loads((ROOT / "metrics/train.json").read_text())
    synthesized = json.loads((ROOT / "metrics/synthesize.json").read_text())

    for name, label in SHOWN.items():
        assert f"  {label:<18} {with_interval(evaluated, name)}\n" in README
    second_exam = "ROC AUC {:.3f} against {:.3f}, Brier score {:.3f} against {:.3f}".format(
        *(
            trained[f"{model}_{score}_without_second_exam"]
            for score in ("roc_auc", "brier")
            for model in ("cv", "reference")
        )
    )
    assert second_exam in " ".join(README.split())
    assert (
        f"ROC AUC {synthesized['tstr_auc']:.3f}, on real ones {synthesized['trtr_auc']:.3f}"
        in README
    )


def test_the_benchmark_figures_are_those_that_were_printed() -> None:
    model = json.loads((ROOT / "benchmarks/model.json").read_text())
    words = " ".join(README.split())

    low, high = model["nested_roc_auc_low"], model["nested_roc_auc_high"]
    assert f"ROC AUC {model['nested_roc_auc']:.3f} ({low:.3f} to {high:.3f})" in words
    assert (
        f"accuracy {model['nested_accuracy']:.3f}, Brier score {model['nested_brier']:.3f}" in words
    )
    for name in ("logistic_regression_c_0.1", "random_forest_500"):
        auc, accuracy, brier = (model[f"{name}_{s}"] for s in ("roc_auc", "accuracy", "brier"))
        assert f"{auc:.3f}, {accuracy:.3f} and {brier:.3f}" in words


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "benchmarks/README.md", *DOCS])
def test_every_link_leads_somewhere(name: str) -> None:
    page = ROOT / name

    for target in re.findall(r"\]\(([^):]+)\)", page.read_text()):
        path, _, heading = target.partition("#")
        assert (page.parent / path).exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)", (page.parent / path).read_text(), re.MULTILINE)
            assert heading in [title.lower().replace(" ", "-") for title in titles], target


def test_contributing_names_what_there_is() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"`((?:[\w.]+/)+[\w.]*|[\w.]+\.(?:py|yaml|md|txt|example))`", text))

    assert len(text.splitlines()) <= 45
    assert set(re.findall(r"make ([a-z][a-z-]+)", text)) <= TARGETS
    assert len(named) > 10
    for path in named:
        assert (ROOT / path.replace("NAME", "train")).exists(), path


def test_no_line_of_text_is_too_long_to_read() -> None:
    text = [line for line in README.splitlines() if not line.startswith("|")]

    assert max(map(len, text)) <= 110


def test_the_readme_is_of_a_readable_length() -> None:
    assert 90 <= len(README.splitlines()) <= 180
