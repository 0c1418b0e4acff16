"""`make synthetic-data`: a file to hand on, and what stands beside it."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from heart import files
from heart.dataset.reader import read
from heart.errors import UserError
from heart.schema import NAMES, OUTCOME
from heart.synthesis import share
from tests.heart.test_marginals import patients

ROOT = Path(__file__).parents[2]
OUT = Path("out/patients.csv")


@pytest.fixture(autouse=True)
def _pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in which the pipeline has run."""
    monkeypatch.chdir(tmp_path)
    files.RAW.parent.mkdir(parents=True)
    files.RAW.write_bytes((ROOT / files.RAW).read_bytes())
    table = patients(60).assign(fold=[str(row % 3) for row in range(60)])
    files.write_table(files.TRAIN, table)
    synthetic = table.drop(columns="patient_id")
    files.write_table(
        files.SYNTHETIC, pd.concat([synthetic, synthetic.head(20).assign(fold=files.ALL)])
    )
    files.write_metrics("synthesize", {"column_shapes": 0.5, "pair_trends": 0.25})
    section = yaml.safe_load((ROOT / "params.yaml").read_text())["synthesize"]
    Path("params.yaml").write_text(json.dumps({"synthesize": section}))


def shared(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> pd.DataFrame:
    monkeypatch.setattr(sys, "argv", ["share", f"--out={OUT}", *arguments])
    share.main()
    return files.read_table(OUT)


@pytest.mark.parametrize("model", ["ctgan", "dp"])
def test_a_file_has_rows_of_one_generator_without_ids_and_marked(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = shared(monkeypatch, "--rows=15", f"--model={model}")

    assert list(table) == ["source", *NAMES, OUTCOME.name]
    assert set(table["source"]) == {files.SYNTHETIC_SOURCE}
    assert len(table) == 15
    assert len(read(OUT).lines) == 15
    assert all(path.is_file() for path in share.beside(OUT))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # rdflib's, of mlcroissant
@pytest.mark.parametrize("model", ["ctgan", "dp"])
def test_its_metadata_are_valid_croissant(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlcroissant

    table = shared(monkeypatch, "--rows=5", f"--model={model}")

    dataset = mlcroissant.Dataset(jsonld=str(share.beside(OUT)[1]))
    rows = [
        {name: cell.decode() if isinstance(cell, bytes) else cell for name, cell in row.items()}
        for row in dataset.records("patients")
    ]
    assert [row["patients/sex"] for row in rows] == table["sex"].tolist()
    assert [row["patients/age"] for row in rows] == table["age"].astype(float).tolist()


def test_nothing_is_overwritten_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    OUT.parent.mkdir()
    share.beside(OUT)[0].write_text("of somebody")

    with pytest.raises(UserError, match="FORCE=1"):
        shared(monkeypatch, "--rows=5")
    assert not OUT.exists()

    shared(monkeypatch, "--rows=5", "--force")
    assert "of somebody" not in share.beside(OUT)[0].read_text()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--rows=21"], "at most 20"),
        (["--rows=5", "--model=tvae"], "tvae"),
        (["--rows=5", "--epsilon=1"], "MODEL=dp"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    arguments: list[str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=named):
        shared(monkeypatch, *arguments)
    assert not OUT.exists()


def test_the_stage_and_the_file_of_private_rows_state_the_same_guarantee(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from stages import params, synthesize

    section: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())["synthesize"]
    section |= {"model": "dp", "epsilon": 2.0, "rows": 30}
    Path("params.yaml").write_text(json.dumps({"synthesize": section}))
    train = files.read_table(files.TRAIN)

    synthetic, guarantee = synthesize.generate_private(train, params.Synthesize.load())

    assert synthetic["fold"].value_counts().to_dict() == dict.fromkeys(("all", *"012"), 30)
    # Each patient has been seen by the generators of two of three folds, and by that of all.
    assert guarantee["dp_generators_with_a_patient"] == 3
    assert guarantee["dp_epsilon"] == 2.0 < guarantee["dp_epsilon_of_all_generators"]
    with pytest.raises(UserError, match="make repro"):
        shared(monkeypatch, "--rows=5")  # the rows here are still those of another model
    files.write_metrics("synthesize", guarantee)
    files.write_table(files.SYNTHETIC, synthetic)
    expected = synthetic[synthetic["fold"] == files.ALL].head(5)[list(NAMES)]
    assert np.array_equal(shared(monkeypatch, "--rows=5")[list(NAMES)], expected)


def test_the_license_of_patients_of_ones_own_is_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    shared(monkeypatch, "--rows=5")
    assert "creativecommons" in json.loads(share.beside(OUT)[1].read_text())["license"]

    files.RAW.write_text("another table")
    shared(monkeypatch, "--rows=5", "--force")

    assert "license" not in json.loads(share.beside(OUT)[1].read_text())
