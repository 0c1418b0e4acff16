import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from heart.drift import detector as drift
from heart.drift.baseline import Policy, Reference
from heart.drift.whole_table import evaluate_table
from heart.registry.onnx_model import OnnxModel
from heart.registry.publishing import fictional_rows
from heart.schema import Floats
from serve.batch import count
from serve.batch import drift as score_drift
from serve.batch.errors import ScoreError
from serve.batch.layout import Choice
from serve.batch.storage import Place
from tests.serve.batch.conftest import ROWS, Score, table
from tests.serve.small_service import model

POLICY = Policy((20, 100), 10, 200, 0.01, 10, 200, 1)


@cache
def reference(onnx: bytes) -> Reference:
    rows = fictional_rows(300, seed=9)
    return drift.fit(rows, OnnxModel(onnx)(rows), POLICY)


def holes() -> Floats:
    """Rows with missing and unusual values."""
    rows: Floats = ROWS.copy()
    rows[::7, 2:] = np.nan
    rows[1, 0], rows[2, 3], rows[3, 9] = 110, 260, 0.05
    return rows


def test_counts_are_those_of_the_drift_check(onnx: bytes) -> None:
    rows = holes()
    scores = OnnxModel(onnx)(rows)

    result = score_drift.count(np.ascontiguousarray(rows.T), scores, reference(onnx))

    assert np.array_equal(result, drift.count(rows, scores, reference(onnx)))


def test_a_table_has_the_drift_of_its_good_rows(tmp_path: Path, score: Score, onnx: bytes) -> None:
    rows = holes()
    rows[:, 0] = np.minimum(rows[:, 0] + 15, 105)
    bad = rows[:50].copy()
    bad[:, 0] = 17
    source, known = tmp_path / "in", reference(onnx)
    source.mkdir()
    for number, part in enumerate((rows[:250], bad, rows[250:])):
        pq.write_table(table(part), source / f"{number}.parquet")

    report = score(source, tmp_path / "out", drift=True, reference=known).drift
    alone = count.run(Place.of(str(source)), Choice(), replace(model(), reference=known), 2)

    assert report == evaluate_table(drift.count(rows, OnnxModel(onnx)(rows), known), known)
    assert report is not None
    assert report.features["age"].drifted
    assert "% of 500 patients, " in report.features["age"].summary
    assert report.summary == (
        f"drift of {', '.join(n for n, f in report.features.items() if f.drifted)} in 500 rows"
    )
    assert alone.features == {n: f for n, f in report.features.items() if n != "score"}
    written = json.loads((tmp_path / "out" / "_report.json").read_text())
    assert written["drift"]["summary"] == report.summary


def test_a_table_like_the_training_patients_has_no_drift(onnx: bytes) -> None:
    rows = fictional_rows(4000, seed=9)[-2000:]
    known = drift.fit(rows, OnnxModel(onnx)(rows), POLICY)
    counts = drift.count(rows, OnnxModel(onnx)(rows), known)

    report = evaluate_table(counts, known)

    assert report.summary == "no drift in 2000 rows"
    assert len(report.features) == 14


@pytest.mark.parametrize(("rows", "view"), [(50, 2), (100, 1), (500, 1)])
def test_the_limits_are_the_longest_windows_or_those_of_fewer_patients(
    rows: int, view: int, onnx: bytes
) -> None:
    known = reference(onnx)
    counts = drift.count(ROWS[:rows], OnnxModel(onnx)(ROWS[:rows]), known)

    result = evaluate_table(counts, known)

    for column in known.columns:
        kinds = (column.limits.shift, column.limits.share, column.limits.rare)
        assert result.features[column.name].limit in {kind[view] for kind in kinds}


def test_a_small_table_has_no_verdict(onnx: bytes) -> None:
    rows = ROWS[:19]
    counts = drift.count(rows, OnnxModel(onnx)(rows), reference(onnx))

    report = evaluate_table(counts, reference(onnx))

    assert report.drifted is None
    assert report.summary == "19 patients, 20 are needed: no verdict"


def test_a_version_without_a_reference_cannot_tell(tmp_path: Path, score: Score) -> None:
    pq.write_table(table(), tmp_path / "in.parquet")

    with pytest.raises(ScoreError, match="version 1 of heart-disease has no drift baseline"):
        score(tmp_path / "in.parquet", tmp_path / "out", drift=True, reference=None)
