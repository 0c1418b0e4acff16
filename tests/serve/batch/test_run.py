import errno
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from heart.dataset.codings import NUMBERED, named
from heart.registry.model_version import BESIDE, REFERENCE
from heart.registry.onnx_model import OnnxModel
from heart.schema import NAMES, encode
from serve.batch import csv_files, local, parquet_files
from serve.batch.errors import ScoreError
from serve.batch.outcome import Report
from serve.batch.storage import Place
from serve.batch.tables import Part
from serve.batch.work import Job
from tests.serve.batch.conftest import ROWS, Score, table
from tests.serve.batch.test_drift import reference
from tests.serve.small_service import model

IDS = [f"{number:04}" for number in range(len(ROWS))]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part is 80 rows or so."""
    monkeypatch.setattr(csv_files, "PART_BYTES", 8192)
    monkeypatch.setattr(parquet_files, "PART_ROWS", 80)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The patients as Parquet."""
    path = tmp_path / "in.parquet"
    pq.write_table(table().append_column("patient_id", [IDS]), path, row_group_size=40)
    return path


def probabilities(path: Path) -> list[float | None]:
    result = csv.read_csv(path) if path.suffix == ".csv" else pq.read_table(path)
    values: list[float | None] = result["probability"].to_pylist()
    return values


def test_scores_are_the_models_in_the_order_of_the_rows(
    source: Path, tmp_path: Path, score: Score, onnx: bytes
) -> None:
    report = score(source, tmp_path / "out")

    result = pq.read_table(tmp_path / "out")
    expected = OnnxModel(onnx)(ROWS)
    assert len(list((tmp_path / "out").glob("part-*"))) == 7
    assert result.column_names == ["patient_id", "probability", "prediction"]
    assert result["patient_id"].to_pylist() == IDS
    assert np.allclose(result["probability"], expected, atol=1e-6)
    positive = ["presence" if p >= 0.5 else "absence" for p in result["probability"].to_pylist()]
    assert result["prediction"].to_pylist() == positive
    assert (report.rows, report.bad_rows, report.tables) == (500, 0, 1)
    assert json.loads((tmp_path / "out" / "_report.json").read_text())["rows"] == 500
    assert not list(tmp_path.glob("*unfinished*"))
    assert not (tmp_path / "out" / "_work").exists()


def test_the_prediction_is_the_services_at_the_threshold_itself(
    source: Path, tmp_path: Path, score: Score
) -> None:
    score(source, tmp_path / "first")
    known = pq.read_table(tmp_path / "first")["probability"].to_pylist()
    above = np.nextafter(known[7], 1)  # nearer to it than any other float32

    score(source, tmp_path / "second", tags={**model().tags, "threshold": repr(float(above))})

    result = pq.read_table(tmp_path / "second")["prediction"].to_pylist()
    assert result == ["presence" if p >= above else "absence" for p in known]
    assert result[7] == "absence"


@pytest.mark.parametrize("name", ["out", "out.csv", "out.parquet"])
def test_text_and_parquet_give_the_same_scores_wherever_they_go(
    name: str, source: Path, tmp_path: Path, score: Score, onnx: bytes
) -> None:
    csv.write_csv(table(), tmp_path / "in.csv")

    for given in (source, tmp_path / "in.csv"):
        target = tmp_path / given.suffix / name
        target.parent.mkdir()
        score(given, target)

        assert np.allclose(np.array(probabilities(target)), OnnxModel(onnx)(ROWS), atol=1e-6)


def test_a_folder_is_scored_by_the_names_of_its_files(
    tmp_path: Path, score: Score, onnx: bytes
) -> None:
    folder = tmp_path / "in"
    (folder / "b").mkdir(parents=True)
    (folder / "_SUCCESS").touch()
    pq.write_table(table(ROWS[:100]), folder / "a.parquet")
    csv.write_csv(table(ROWS[100:200]), folder / "b" / "x.csv")
    pq.write_table(table(ROWS[200:]), folder / "c.parquet")
    (folder / "empty.csv").write_text("age,sex\n")

    report = score(folder, tmp_path / "out.parquet")

    assert (report.rows, report.tables) == (500, 4)
    result = np.array(probabilities(tmp_path / "out.parquet"))
    assert np.allclose(result, OnnxModel(onnx)(ROWS), atol=1e-6)


UCI = "63,1,1,145,233,1,2,150,0,2.3,3,0,6,0"


def test_a_bad_row_has_no_score_but_a_line_and_a_reason(tmp_path: Path, score: Score) -> None:
    lines = [UCI] * 1000
    lines[3] = lines[3].replace("63", "630")
    lines[700] = "63,1"
    lines[999] = lines[999].replace("63,1", "?,x")
    (tmp_path / "first.data.csv").write_text("\n".join(lines) + "\n")

    report = score(tmp_path / "first.data.csv", tmp_path / "out.csv")

    assert (report.rows, report.bad_rows) == (1000, 3)
    bad = csv.read_csv(tmp_path / "out.csv.bad_rows.csv").to_pylist()
    expected = "expected a whole number from 18 to 110 years"
    assert [(row["file"], row["line"], row["reason"]) for row in bad] == [
        ("first.data.csv", 4, f"age is 630, {expected}"),
        ("first.data.csv", 701, "2 columns, expected 14"),
        (
            "first.data.csv",
            1000,
            f"age is missing, {expected}; sex is 'x', expected one of 0 (female), 1 (male), female, male",
        ),
    ]
    empty = [row for row, p in enumerate(probabilities(tmp_path / "out.csv")) if p is None]
    assert empty == [3, 700, 999]


def test_lines_are_counted_with_the_heading_and_parquet_rows_from_1(
    tmp_path: Path, score: Score
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    bad = pa.table({"age": [50] * 299 + [5], "sex": ["male"] * 300})
    csv.write_csv(bad, folder / "a.csv")
    pq.write_table(bad, folder / "b.parquet", row_group_size=100)

    score(folder, tmp_path / "out")

    result = csv.read_csv(tmp_path / "out" / "_bad_rows.csv").to_pylist()
    assert [(row["file"], row["line"]) for row in result] == [("a.csv", 301), ("b.parquet", 300)]


def test_columns_are_kept_as_text(tmp_path: Path, score: Score) -> None:
    kept = {"ward": ["a", None], "mrn": [7, 8], "seen": pa.array([0, 1], pa.date32())}
    pq.write_table(pa.table({"age": [50, 51], "sex": ["male"] * 2, **kept}), tmp_path / "a.parquet")

    score(tmp_path / "a.parquet", tmp_path / "out.parquet", keep=["ward", "mrn", "seen"])

    result = pq.read_table(tmp_path / "out.parquet")
    assert result["ward"].to_pylist() == ["a", None]
    assert result["mrn"].to_pylist() == ["7", "8"]
    assert result["seen"].to_pylist() == ["1970-01-01", "1970-01-02"]


@pytest.mark.parametrize(
    ("keep", "reason"),
    [
        (
            ["ward", "probability"],
            "--keep probability: the output has a column of that name itself, expected another",
        ),
        (["prediction"], "--keep prediction: the output has a column of that name itself"),
        (["ward", "mrn", "ward"], "--keep ward: named 2 times, expected once"),
    ],
)
def test_no_two_columns_of_the_output_have_one_name(
    keep: list[str], reason: str, tmp_path: Path, score: Score
) -> None:
    names = ",".join(dict.fromkeys(keep))
    (tmp_path / "a.csv").write_text(f"age,sex,{names}\n50,male{',' * len(set(keep))}\n")

    with pytest.raises(ScoreError, match=f"^{reason}"):
        score(tmp_path / "a.csv", tmp_path / "out", keep=keep)

    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("none.csv", None, "none.csv: no such file or folder"),
        ("a.csv", "", "the file is empty, expected a table"),
        ("a.json", "age,sex\n", "expected a file in .csv, "),
        ("a.csv", "sex,cp\n0,1\n", "column age is missing"),
        ("a.csv", "age,sex,cholestrol\n", "column 'cholestrol' is unknown"),
        ("a.csv", "age,sex,Sex\n", "column sex occurs more than once"),
        ("a.csv", "age:sex\n", "no heading of a measurement"),
        (
            "a.csv",
            "age,sex,cp,thal\n50,1,2,1\n",
            "set --coding to one of uci, uci_from_0, uci_from_0_thall",
        ),
        ("a.parquet", "PAR1", "not a Parquet file"),
        ("in", "", "no file in this folder"),
    ],
)
def test_an_input_that_cannot_be_scored_is_an_error_and_leaves_no_output(
    name: str, text: str | None, reason: str, tmp_path: Path, score: Score
) -> None:
    if name == "in":
        (tmp_path / name).mkdir()
    elif text is not None:
        (tmp_path / name).write_text(text)

    with pytest.raises(ScoreError, match=reason):
        score(tmp_path / name, tmp_path / "out")

    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("out")] == []


FROM_0 = "age,sex,cp,trestbps,chol,fbs,restecg,thalach,exang,oldpeak,slope,ca,thal"
TWO = "61,1,3,141,251,0,2,121,1,2.1,1,2,3\n49,1,0,127,219,0,0,171,0,0.3,0,0,1\n"


def test_a_small_table_that_two_codings_fit_is_scored_once_the_coding_is_named(
    tmp_path: Path, score: Score, onnx: bytes
) -> None:
    source = tmp_path / "a.csv"
    source.write_text(f"{FROM_0}\n{TWO}")
    positive = [61, 1, 3, 141, 251, 0, 2, 121, 1, 2.1, 1, 2, 2]
    well = [49, 1, 0, 127, 219, 0, 0, 171, 0, 0.3, 0, 0, 0]

    with pytest.raises(ScoreError, match=r"a\.csv: cannot tell .*: uci_from_0_.*, heart_csv fit"):
        score(source, tmp_path / "out.csv")
    report = score(source, tmp_path / "out.csv", coding="uci_from_0_thallium_from_1")

    expected = OnnxModel(onnx)(np.array([positive, well], dtype=np.float32))
    assert np.allclose(np.array(probabilities(tmp_path / "out.csv")), expected, atol=1e-6)
    assert list(report.read_as) == ["commas; coding uci_from_0_thallium_from_1"]


@pytest.mark.parametrize("coding", NUMBERED)
@pytest.mark.parametrize("kind", ["csv", "parquet with text", "parquet with numbers"])
def test_patients_in_any_coding_have_the_same_scores(
    kind: str,
    coding: str,
    tmp_path: Path,
    score: Score,
    onnx: bytes,
    patients: pd.DataFrame,
    capsys: pytest.CaptureFixture[str],
) -> None:
    coded = patients[[*NAMES]].copy()
    for name, codes in named(coding).codes.items():
        if name in NAMES:
            code = {text: code for code, text in codes.items()}
            coded[name] = coded[name].map(lambda text, code=code: code.get(text, text))
    source = tmp_path / f"in.{kind[:7].strip()}"
    if kind == "csv":
        coded.to_csv(source, index=False)
    else:
        numbers = coded.apply(pd.to_numeric) if kind.endswith("numbers") else coded
        numbers.to_parquet(source)

    report = score(source, tmp_path / "out.csv")

    expected = OnnxModel(onnx)(encode({name: patients[name].tolist() for name in NAMES}))
    assert np.allclose(np.array(probabilities(tmp_path / "out.csv")), expected, atol=1e-6)
    read_as = f"{'commas' if kind == 'csv' else 'Parquet'}; coding {coding}"
    assert (list(report.read_as), report.bad_rows) == ([read_as], 0)
    assert capsys.readouterr().out.startswith(f"{source.name}: {read_as}\n  evidence, log10 odds: ")


def test_the_codings_of_a_folder_are_printed_and_stand_in_the_report(
    tmp_path: Path, score: Score, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in "ab":
        csv.write_csv(table(ROWS[:20]), folder / f"{name}.csv")
    (folder / "c.csv").write_text(f"{UCI}\n")

    score(folder, tmp_path / "out")

    out = capsys.readouterr().out.splitlines()
    assert out[0] == "a.csv and 1 more: commas; coding words"
    assert out[1].startswith("c.csv: ")
    assert out[1].endswith("; coding uci")
    report = json.loads((tmp_path / "out" / "_report.json").read_text())
    assert [way["tables"] for way in report["read_as"].values()] == [2, 1]


def test_a_column_of_another_type_is_refused(tmp_path: Path, score: Score) -> None:
    pq.write_table(pa.table({"age": [[1]], "sex": ["male"]}), tmp_path / "a.parquet")

    with pytest.raises(
        ScoreError, match="column age is list<element: int64>, expected text or num"
    ):
        score(tmp_path / "a.parquet", tmp_path / "out")


def test_nothing_is_overwritten(source: Path, tmp_path: Path, score: Score) -> None:
    (tmp_path / "out").mkdir()

    with pytest.raises(ScoreError, match="out: there already; nothing is overwritten"):
        score(source, tmp_path / "out")


def with_a_bad_row(path: Path) -> Path:
    """The patients in 7 parts, of which number 1 has a bad row."""
    ages = table()["age"].to_pylist()
    ages[100] = 500
    bad = table().set_column(0, "age", [ages])
    pq.write_table(bad, path, row_group_size=40)
    return path


@pytest.mark.parametrize("left", [["bad_rows.csv"], ["bad_rows.csv", "report.json"]])
def test_nothing_beside_the_output_is_overwritten_or_outlives_it(
    left: list[str], source: Path, tmp_path: Path, score: Score
) -> None:
    target = tmp_path / "out.csv"
    score(with_a_bad_row(tmp_path / "bad.parquet"), target)
    for path in {*tmp_path.glob("out*")} - {tmp_path / f"out.csv.{name}" for name in left}:
        path.unlink()
    before = {path: path.read_bytes() for path in tmp_path.glob("out*")}

    with pytest.raises(ScoreError, match=f"{'.* and .*'.join(left)}: there already; nothing"):
        score(source, target)

    assert {path: path.read_bytes() for path in tmp_path.glob("out*")} == before


def test_a_run_that_was_killed_at_its_end_goes_on(
    tmp_path: Path, score: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target, move = with_a_bad_row(tmp_path / "in.parquet"), tmp_path / "out.csv", Place.move

    def killed(place: Place, to: Place) -> None:
        if to.path == str(target):
            raise KeyboardInterrupt
        move(place, to)

    with monkeypatch.context() as patch:
        patch.setattr(Place, "move", killed)
        with pytest.raises(KeyboardInterrupt):
            score(source, target)
    assert (tmp_path / "out.csv.report.json").exists()
    assert score(source, target).bad_rows == 1

    names = {path.name for path in tmp_path.glob("out*")}
    assert names == {"out.csv", "out.csv.bad_rows.csv", "out.csv.report.json"}


class Dies:
    """An engine that ends after some parts, as if its machine had been switched off."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.numbers: list[int] = []

    def __call__(self, job: Job, parts: Sequence[Part]) -> Iterator[int]:
        self.numbers = [part.number for part in parts]
        yield from local.run(job, parts[: self.after], 1)
        if self.after < len(parts):
            job.scores(parts[self.after]).write_whole(b"half")
            raise KeyboardInterrupt


def test_a_stopped_run_goes_on_where_it_was(source: Path, tmp_path: Path, score: Score) -> None:
    score(source, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        score(source, tmp_path / "out", engine=Dies(3))
    assert not (tmp_path / "out").exists()
    # As a power cut leaves it: a record, and scores that never reached the disk.
    os.truncate(tmp_path / "out.unfinished" / "part-000001.parquet", 0)

    second = Dies(1000)
    score(source, tmp_path / "out", engine=second)

    assert second.numbers == [1, 3, 4, 5, 6]
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes()


@pytest.mark.parametrize("name", ["done-000001.json", "bad-000001.parquet"])
@pytest.mark.parametrize("share", [0, 0.5])
def test_a_part_file_cut_short_by_a_power_failure_is_written_again(
    name: str, share: float, tmp_path: Path, score: Score
) -> None:
    source = with_a_bad_row(tmp_path / "in.parquet")
    score(source, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        score(source, tmp_path / "out", engine=Dies(3))
    cut(tmp_path / "out.unfinished" / "_work" / name, share)

    second = Dies(1000)
    score(source, tmp_path / "out", engine=second)

    assert second.numbers == [1, 3, 4, 5, 6]
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes()


def cut(path: Path, share: float) -> None:
    os.truncate(path, int(path.stat().st_size * share))


def test_a_run_that_no_longer_says_of_what_it_is_does_not_go_on(
    source: Path, tmp_path: Path, score: Score
) -> None:
    with pytest.raises(KeyboardInterrupt):
        score(source, tmp_path / "out", engine=Dies(1))
    cut(tmp_path / "out.unfinished" / "_work" / "manifest.json", 0.5)

    with pytest.raises(ScoreError, match=r"out.unfinished: its manifest.json is no JSON; delete"):
        score(source, tmp_path / "out")


def test_a_stopped_run_does_not_go_on_with_another_drift_reference(
    source: Path, tmp_path: Path, score: Score, onnx: bytes
) -> None:
    def run(sha256: str, after: int = 1000, drift: bool = True) -> Report:
        tags = {**model().tags, BESIDE[REFERENCE]: sha256}
        return score(
            source,
            tmp_path / "out",
            drift=drift,
            engine=Dies(after),
            tags=tags,
            reference=reference(onnx),
        )

    with pytest.raises(KeyboardInterrupt):
        run("abc", after=1)
    for change in ({"sha256": "def"}, {"sha256": "abc", "drift": False}):
        with pytest.raises(ScoreError, match="an unfinished run of another drift baseline is"):
            run(**change)

    assert run("abc").drift


def test_a_stopped_run_does_not_go_on_with_another_input_or_model(
    source: Path, tmp_path: Path, score: Score
) -> None:
    with pytest.raises(KeyboardInterrupt):
        score(source, tmp_path / "out", engine=Dies(1))

    with pytest.raises(ScoreError, match="an unfinished run of another model is there; delete"):
        score(source, tmp_path / "out", sha256="other")
    with pytest.raises(ScoreError, match="an unfinished run of another kept is there"):
        score(source, tmp_path / "out", keep=["sex"])
    os.utime(source)
    with pytest.raises(ScoreError, match="an unfinished run of another input is there"):
        score(source, tmp_path / "out")


def test_a_table_that_is_changed_meanwhile_is_not_scored(
    source: Path, tmp_path: Path, score: Score
) -> None:
    def meddle(job: Job, parts: Sequence[Part]) -> Iterator[int]:
        yield from local.run(job, parts, 1)
        os.utime(source, (time.time(), time.time() + 1))

    with pytest.raises(ScoreError, match=r"in.parquet: was changed while it was scored"):
        score(source, tmp_path / "out", engine=meddle)

    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_that_cannot_be_read_is_named(kind: str, tmp_path: Path, score: Score) -> None:
    path = tmp_path / f"in.{kind}"
    path.symlink_to("/proc/self/mem")  # opens, and then has no byte to read

    with pytest.raises(ScoreError, match=rf"in.{kind}: "):
        score(path, tmp_path / "out")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_that_can_no_longer_be_read_is_named_not_the_output(
    kind: str, tmp_path: Path, score: Score
) -> None:
    path = tmp_path / f"in.{kind}"
    (csv.write_csv if kind == "csv" else pq.write_table)(table(), path)

    def breaks(job: Job, parts: Sequence[Part]) -> Iterator[int]:
        path.unlink()
        path.symlink_to("/proc/self/mem")
        yield from local.run(job, parts, 1)

    with pytest.raises(ScoreError, match=rf"/in.{kind}: "):
        score(path, tmp_path / "out", engine=breaks)


def test_an_output_that_cannot_be_written_is_named_not_its_parts(
    source: Path, tmp_path: Path, score: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pq.ParquetWriter, "write_batch", full)

    with pytest.raises(ScoreError, match=r"/_work/whole: No space left on device"):
        score(source, tmp_path / "out.parquet")


def test_a_system_that_knows_no_affinity_gives_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")

    assert local.cores() == os.cpu_count()


def test_two_runs_do_not_write_the_same_output(source: Path, tmp_path: Path, score: Score) -> None:
    def another(job: Job, parts: Sequence[Part]) -> Iterator[int]:
        with pytest.raises(ScoreError, match="another run is using it"):
            score(source, tmp_path / "out")
        yield from local.run(job, parts, 1)

    score(source, tmp_path / "out", engine=another)

    assert (tmp_path / "out").exists()
