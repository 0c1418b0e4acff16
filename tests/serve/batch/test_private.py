"""Scores, bad rows and what a stopped run leaves are for their owner."""

from pathlib import Path

import pytest

from tests.private import not_private, open_to_all
from tests.serve.batch.conftest import Score
from tests.serve.batch.test_run import Dies

ROWS = "patient_id,age,sex\na,57,male\nb,5,male\n"


@pytest.mark.parametrize("name", ["out", "out.csv", "out.parquet"])
def test_output_files_are_readable_by_their_owner_alone(
    name: str, tmp_path: Path, score: Score
) -> None:
    (tmp_path / "in.csv").write_text(ROWS)
    (tmp_path / "to").mkdir(mode=0o700)
    with open_to_all():
        with pytest.raises(KeyboardInterrupt):
            score(tmp_path / "in.csv", tmp_path / "to" / name, coding="words", engine=Dies(0))
        assert not_private(tmp_path / "to") == {}

        score(tmp_path / "in.csv", tmp_path / "to" / name, coding="words")

    assert (tmp_path / "to" / name).exists()
    assert not_private(tmp_path / "to") == {}
