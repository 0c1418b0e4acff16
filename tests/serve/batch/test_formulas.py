"""What tables say is text to whoever opens the scores in a spreadsheet."""

import csv
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from serve.batch.errors import ScoreError
from tests.heart.spreadsheet_reader import FORMULAS, NO_FORMULAS, formulas
from tests.serve.batch.conftest import Score
from tests.serve.batch.test_run import Dies

# A quoted line break is no part of a table that can be scored.
TEXTS = [text for text in (*FORMULAS, *NO_FORMULAS) if "\r" not in text]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Patients with all kinds of text: of their id, a column that is kept, and a bad measurement."""
    path = tmp_path / "=in.csv"
    with path.open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["patient_id", "=ward", "age", "sex"])
        for text in TEXTS:
            out.writerow([text, f"{text}", 50, "male"])
            out.writerow(["0", "x", 50, text])
    return path


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_kept_text_and_reasons_are_no_formulas(source: Path, tmp_path: Path, score: Score) -> None:
    score(source, tmp_path / "out.csv", keep=["=ward"], coding="words")

    for name in ("out.csv", "out.csv.bad_rows.csv"):
        assert formulas((tmp_path / name).read_text()) == set(), name
    rows = read(tmp_path / "out.csv")[::2]
    assert [row["patient_id"] for row in rows if row["patient_id"] in NO_FORMULAS] == NO_FORMULAS
    assert [row["'=ward"].replace("'", "") for row in rows] == [t.replace("'", "") for t in TEXTS]
    bad = read(tmp_path / "out.csv.bad_rows.csv")
    assert {row["file"] for row in bad} == {"'=in.csv"}
    assert len(bad) == sum(text not in ("0", "1") for text in TEXTS)


def test_a_program_gets_the_text_as_it_is(source: Path, tmp_path: Path, score: Score) -> None:
    score(source, tmp_path / "raw.csv", keep=["=ward"], coding="words", raw_text=True)
    score(source, tmp_path / "out.parquet", keep=["=ward"], coding="words")

    kept = [row["=ward"] for row in read(tmp_path / "raw.csv")[::2]]
    assert kept == TEXTS
    assert pq.read_table(tmp_path / "out.parquet")["=ward"].to_pylist()[::2] == TEXTS


def test_a_stopped_run_does_not_go_on_with_other_text(
    source: Path, tmp_path: Path, score: Score
) -> None:
    with pytest.raises(KeyboardInterrupt):
        score(source, tmp_path / "out.csv", keep=["=ward"], coding="words", engine=Dies(0))

    with pytest.raises(ScoreError, match="an unfinished run of another raw text is there"):
        score(source, tmp_path / "out.csv", keep=["=ward"], coding="words", raw_text=True)
