"""Spark as an engine, and MLflow's own way to score by Spark."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from heart.registry.errors import VersionRejected
from heart.registry.model_version import ONNX
from heart.registry.onnx_model import OnnxModel
from serve.batch import spark
from serve.batch.errors import ScoreError
from tests.conftest import Require
from tests.heart.registry.registry_fixture import NAME, Shelf
from tests.serve.batch.conftest import ROWS, Score, table
from tests.serve.batch.test_drift import reference

MASTER = "local[2]"


@pytest.fixture
def installed(require: Require, monkeypatch: pytest.MonkeyPatch) -> None:
    """Java and pyspark, or a skip; the environment is left as it was."""
    require(shutil.which("java"), "openjdk-17-jre-headless")
    pytest.importorskip("pyspark")
    for name in list(os.environ):
        if name.startswith(("PYSPARK_", "SPARK_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PYSPARK_PYTHON", "")
    monkeypatch.delenv("PYSPARK_PYTHON")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    pq.write_table(table(), folder / "a.parquet")
    csv.write_csv(table(ROWS[::-1]), folder / "b.csv")
    with (folder / "b.csv").open("a") as file:
        file.write("17" + "," * 12 + "\n")
    return folder


def test_a_worker_refuses_a_model_that_is_not_the_one_that_was_sent(onnx: bytes) -> None:
    spark.check_model(onnx, hashlib.sha256(onnx).hexdigest())

    with pytest.raises(
        VersionRejected, match=r"the model has the hash .* on a worker, its tag says abc"
    ):
        spark.check_model(onnx, "abc")


@pytest.mark.heavy
@pytest.mark.usefixtures("installed")
@pytest.mark.filterwarnings("default")
def test_spark_writes_what_the_local_engine_writes(
    source: Path, tmp_path: Path, score: Score, onnx: bytes
) -> None:
    known = reference(onnx)
    engine = partial(spark.run, master=MASTER, sha256=hashlib.sha256(onnx).hexdigest())

    here = score(source, tmp_path / "here", drift=True, reference=known)
    there = score(source, tmp_path / "there", drift=True, reference=known, engine=engine)

    assert there == here
    assert (there.rows, there.bad_rows) == (1001, 1)
    names = sorted(path.name for path in (tmp_path / "here").iterdir())
    assert names == ["_bad_rows.csv", "_report.json", "part-000000.parquet", "part-000001.parquet"]
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == names
    for name in names:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()


@pytest.mark.heavy
@pytest.mark.usefixtures("installed")
@pytest.mark.filterwarnings("default")
def test_an_error_on_a_worker_is_reported_by_the_driver(
    source: Path, tmp_path: Path, score: Score
) -> None:
    engine = partial(spark.run, master=MASTER, sha256="abc")

    with pytest.raises(ScoreError, match="on a worker, its tag says abc"):
        score(source, tmp_path / "out", engine=engine)

    assert not (tmp_path / "out").exists()


@pytest.fixture
def session(request: pytest.FixtureRequest) -> Iterator[Any]:
    request.getfixturevalue("installed")
    result = spark.start_session(MASTER)
    yield result
    result.stop()


@pytest.mark.heavy
@pytest.mark.filterwarnings("default")
def test_mlflow_scores_the_registered_version_by_spark(
    shelf: Shelf, session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", shelf.settings().tracking_uri)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", shelf.settings().tracking_uri)
    data = [(number, row.tolist()) for number, row in enumerate(ROWS)]
    frame = session.createDataFrame(data, "number long, measurements array<float>")

    predict = mlflow.pyfunc.spark_udf(
        session,
        f"models:/{NAME}/1",
        result_type="struct<probability: array<float>>",
        env_manager="local",
    )
    scored = frame.select("number", predict("measurements").probability[0].alias("p")).collect()

    result = [row.p for row in sorted(scored, key=lambda row: row.number)]
    expected = OnnxModel((shelf.files_of("1") / ONNX).read_bytes())(ROWS)
    assert np.allclose(result, expected, atol=1e-6)
