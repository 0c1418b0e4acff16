"""Two models by their names: revisions, experiments, versions and the working tree."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from heart import files
from heart.errors import UserError
from heart.ml.difference import BETTER, NO_EVIDENCE, WORSE
from heart.registry.compare import Candidate, as_json, as_markdown, as_text, compare
from heart.schema import OUTCOME

COMMAND = f"{sys.executable} -m heart.registry.compare"


@pytest.fixture(scope="module")
def candidate(patients: pd.DataFrame, model_of: Callable[..., bytes]) -> Candidate:
    """A good model; every third patient is held out."""
    rows = patients.assign(patient_id=[f"p{n}" for n in patients.index])
    rows = rows.set_index("patient_id", drop=False)
    test = rows[patients.index.to_numpy() % 3 == 0]
    train = rows.drop(test.index)
    return Candidate("good", model_of(), 0.5, test, train, None)


@pytest.fixture(scope="module")
def useless(candidate: Candidate, model_of: Callable[..., bytes]) -> Candidate:
    """The same data, a model of shuffled outcomes."""
    return replace(candidate, name="useless", model=model_of(shuffled=True))


def test_a_useless_model_is_worse_and_the_other_way_around_better(
    candidate: Candidate, useless: Candidate
) -> None:
    assert compare(candidate, useless).verdict == WORSE
    assert compare(useless, candidate).verdict == BETTER
    assert compare(candidate, candidate).verdict == NO_EVIDENCE


def test_patients_that_one_model_was_trained_on_do_not_count(candidate: Candidate) -> None:
    seen = candidate.test.index[:40]
    other = replace(candidate, train=pd.concat([candidate.train, candidate.test.loc[seen]]))

    assert compare(candidate, other).held_out.patients == len(candidate.test) - 40


def test_patients_whose_data_differ_are_left_out_and_counted(candidate: Candidate) -> None:
    changed = candidate.test.copy()
    changed.loc[changed.index[:3], "cholesterol"] = "301"
    missing = changed.iloc[5:]

    held_out = compare(candidate, replace(candidate, test=changed)).held_out
    fewer = compare(candidate, replace(candidate, test=missing)).held_out

    assert (held_out.patients, held_out.left_out) == (len(changed) - 3, 3)
    assert (fewer.patients, fewer.left_out) == (len(missing), 0)


def test_models_without_enough_common_patients_are_refused(candidate: Candidate) -> None:
    ill = candidate.test[candidate.test[OUTCOME.name] == "presence"]

    with pytest.raises(UserError, match="in common, 4 with disease"):
        compare(candidate, replace(candidate, test=ill.iloc[:4]))


def test_cross_validation_needs_predictions_of_both(candidate: Candidate) -> None:
    ill = candidate.train[OUTCOME.name] == "presence"
    made = [
        pd.DataFrame({"patient_id": candidate.train.index, "probability": risks}).set_index(
            "patient_id", drop=False
        )
        for risks in (ill.map({True: "0.9", False: "0.1"}).to_numpy(), ["0.5"] * len(ill))
    ]
    sure, idle = (replace(candidate, out_of_fold=table) for table in made)

    part = compare(idle, sure).cross_validation

    assert part is not None
    assert (part.patients, part.figures["roc_auc"].b) == (len(ill), 1.0)
    assert part.figures["brier"].verdict == BETTER
    assert compare(candidate, sure).cross_validation is None


def test_every_form_has_the_same_figures(candidate: Candidate, useless: Candidate) -> None:
    comparison = compare(candidate, useless)
    auc = comparison.held_out.figures["roc_auc"]

    document = json.loads(as_json(comparison))

    assert document["held_out"]["figures"]["roc_auc"]["difference"] == auc.difference
    assert document["cross_validation"] is None
    for text in (as_text(comparison), as_markdown(comparison)):
        assert f"{auc.difference:+.3f} ({auc.low:+.3f} to {auc.high:+.3f})" in text
    widths = {line.count("|") for line in as_markdown(comparison).splitlines() if "|" in line}
    assert widths == {6}


@pytest.mark.integration
def test_models_are_named_by_revision_experiment_version_and_working_tree(
    project: Path, command: Callable[..., Any]
) -> None:
    command("dvc exp run -S train.logistic_c=[0.0001] -n strong", project)
    command("git checkout --quiet .", project)
    command("dvc checkout", project)

    same = json.loads(command(f"{COMMAND} HEAD version:champion --format json", project).stdout)
    changed = json.loads(
        command(f"{COMMAND} workspace strong --format json", project, code=None).stdout
    )

    assert {d["difference"] for d in same["held_out"]["figures"].values()} == {0.0}
    assert same["cross_validation"]["patients"] > same["held_out"]["patients"]
    assert changed["held_out"]["figures"]["brier"]["difference"] != 0.0


@pytest.mark.integration
def test_a_worse_model_has_an_exit_code_of_its_own(
    project: Path, command: Callable[..., Any], model_of: Callable[..., bytes]
) -> None:
    (project / files.ONNX).unlink()  # a link into the cache
    (project / files.ONNX).write_bytes(model_of(shuffled=True))

    command(f"{COMMAND} HEAD workspace", project, code=3)


@pytest.mark.integration
@pytest.mark.parametrize("name", ["nonsense", "version:99", "version:nobody"])
def test_an_unknown_name_is_an_error_of_one_line(
    project: Path, command: Callable[..., Any], name: str
) -> None:
    output = command(f"{COMMAND} workspace {name}", project, code=1).stdout

    assert output.startswith(f"error: {name}: ")
    assert output.count("\n") == 1
