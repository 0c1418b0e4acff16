"""The stages on a table larger than their limits of rows: they use and report a subsample."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from benchmarks.million import UsageMonitor, patients, write_patients
from heart import files
from heart.schema import NAMES, decode, encode
from stages import evaluate, merge, prepare, reference, split, synthesize, train
from tests.conftest import ROOT, SMALL
from tests.heart.predictions.logs import until

ROWS = 3000
LIMITS = {"synthesize": 300, "train": 400, "reference": 500}


def figures(stage: str) -> dict[str, Any]:
    return dict(json.loads((files.METRICS / f"{stage}.json").read_text()))


def run(folder: Path, model: str) -> None:
    """The parameters of a small pipeline and small limits, in a folder with a large table."""
    document = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section, values in SMALL.items():
        document[section] |= values
    for section, rows in LIMITS.items():
        document[section]["max_rows"] = rows
    document["train"]["model"] = model
    (folder / "params.yaml").write_text(yaml.safe_dump(document))
    train.main()
    reference.main()


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with many patients, prepared and split, and with rows of the raw file as synthetic ones."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/raw").mkdir(parents=True)
    write_patients(files.RAW, ROWS)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    prepare.main()
    split.main()
    train = files.read_table(files.TRAIN)
    tags = [*sorted(train["fold"].unique()), files.ALL]
    synthetic = train.sample(len(tags) * 60, random_state=0)
    files.write_table(files.SYNTHETIC, synthetic.assign(fold=np.repeat(tags, 60)))
    files.write_table(files.MERGED, merge.merge(train, files.read_table(files.SYNTHETIC), 60))
    return tmp_path


def test_a_subsample_is_used_for_the_choice_and_all_patients_for_the_fit(large: Path) -> None:
    run(large, "logistic_regression")
    evaluate.main()

    rows = len(files.read_table(files.TRAIN))
    trained, watched = figures("train"), figures("reference")
    assert trained["real_rows"] == trained["real_rows_fitted"] == rows > 2000
    assert trained["real_rows_used"] == LIMITS["train"]
    assert (watched["real_rows"], watched["rows"]) == (rows, LIMITS["reference"])
    assert len(files.read_table(files.OUT_OF_FOLD)) == rows
    assert figures("evaluate")["roc_auc"] == pytest.approx(0.89, abs=0.04)


def test_trees_are_fitted_on_the_subsample_and_score_all_patients(large: Path) -> None:
    run(large, "random_forest")

    trained = figures("train")
    assert trained["real_rows_fitted"] == trained["real_rows_used"] == LIMITS["train"]
    scored = files.read_table(files.OUT_OF_FOLD)["probability"].astype(float)
    assert len(scored) == trained["real_rows"]
    assert scored.between(0, 1).all()


@pytest.mark.integration
def test_generators_are_fitted_on_the_subsample(large: Path) -> None:
    document = yaml.safe_load((ROOT / "params.yaml").read_text())
    document["synthesize"] |= {**SMALL["synthesize"], "max_rows": LIMITS["synthesize"]}
    (large / "params.yaml").write_text(yaml.safe_dump(document))

    synthesize.main()

    metrics = figures("synthesize")
    rows = len(files.read_table(files.TRAIN))
    assert (metrics["real_rows"], metrics["real_rows_used"]) == (rows, LIMITS["synthesize"])
    assert metrics["device"] == "cpu"
    assert set(files.read_table(files.SYNTHETIC)["fold"]) == {*"01234", files.ALL}


# The patients and the measurements of the benchmark


def test_simulated_patients_are_valid_similar_to_real_ones_and_not_copies() -> None:
    real, _ = files.encoded(files.read_table(ROOT / files.RAW))

    drawn = patients(real, 5000, np.random.default_rng(0))

    assert np.array_equal(encode(decode(drawn)), drawn.round(1), equal_nan=True)
    assert len(np.unique(drawn, axis=0)) > 0.99 * len(drawn)
    assert np.isnan(drawn).mean(axis=0) == pytest.approx(np.isnan(real).mean(axis=0), abs=0.01)
    for column in range(len(NAMES)):
        spread = np.nanstd(real[:, column])
        gap = np.nanmean(drawn[:, column]) - np.nanmean(real[:, column])
        assert abs(gap) < 0.2 * spread


def test_memory_and_processor_time_are_those_of_the_started_processes() -> None:
    work = (
        "import time; block = b'1' * (200 << 20); [n * n for n in range(3_000_000)]; time.sleep(1)"
    )
    waits = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {work!r}]); input()"

    start = time.time()
    with (
        UsageMonitor() as monitor,
        subprocess.Popen([sys.executable, "-c", waits], stdin=-1) as process,
    ):
        until(lambda: monitor.samples[-1].cpu_seconds > 0, 60)
        process.communicate(b"\n")
    end = time.time()

    assert 200 < monitor.peak(start, end) < 400
    assert 0.05 < monitor.cpu_seconds(start, end) < end - start
    assert monitor.peak(end + 1, end + 2) == monitor.cpu_seconds(end, end + 2) == 0
