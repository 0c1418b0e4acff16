"""The report on a data set: all problems at once, what to do, and whether the file can be used."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from heart import files
from heart.errors import ParamsError, UserError
from monitoring import check_data
from stages import params

ROOT = Path(__file__).parents[2]
LINES = (ROOT / files.RAW).read_text().splitlines()
SHORT = "age,sex,cp,trestbps,chol,fbs,restecg,thalach,exang,oldpeak,slope,ca,thal"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text((ROOT / "params.yaml").read_text())


def report(content: str | bytes, *arguments: str, code: int = 0) -> dict[str, Any]:
    """The JSON report on a file."""
    Path("in.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    if code:
        with pytest.raises(SystemExit) as end:
            check_data.main(["in.csv", *arguments])
        assert end.value.code == code
    else:
        check_data.main(["in.csv", *arguments])
    result: dict[str, Any] = json.loads(check_data.JSON.read_text())
    return result


def problems(result: dict[str, Any]) -> str:
    return "\n".join(problem["text"] for problem in result["problems"])


def test_a_good_file_can_be_used(capsys: pytest.CaptureFixture[str]) -> None:
    result = report("\n".join(LINES))

    assert (result["can_train"], result["can_score"], result["problems"]) == (True, True, [])
    assert (result["rows"], result["bad_rows"], result["duplicates"]) == (303, 0, 0)
    assert result["measurements"]["thallium"]["missing"] == 2
    assert result["measurements"]["age"]["min"] == 29
    assert sum(result["measurements"]["sex"]["shares"].values()) == pytest.approx(1)
    assert result["outcome"] == {"absence": 164, "presence": 139}
    assert all(z > 3 for z in result["clinical_signs_z"].values())
    assert "make repro" in result["drift"]
    assert "to train   yes" in capsys.readouterr().out


def test_all_problems_of_a_file_are_named_at_once() -> None:
    flipped = [
        line.replace("absence", "X").replace("presence", "absence").replace("X", "presence")
        for line in LINES[1:]
    ]
    bad = ["7" + LINES[1][2:], "1,2"]

    result = report("\n".join([LINES[0], *flipped, *LINES[1:20], *bad]))

    assert result["contradicted_p"]["thallium"] < 1e-4
    text = problems(result)
    assert "2 of 324 rows are bad" in text
    assert "looks inverted" in text
    assert "prepare.invert_label: true" in text
    assert "both outcomes" in text
    assert (result["can_train"], result["can_score"]) == (False, True)
    assert result["bad_cells_by_column"] == {"age": 1}


def test_a_file_without_an_outcome_can_be_scored() -> None:
    result = report("\n".join(line.rpartition(",")[0] for line in LINES))

    assert (result["can_train"], result["can_score"]) == (False, True)


def test_a_bad_outcome_is_in_the_way_of_training_alone() -> None:
    result = report("age,sex,heart_disease\n50,male,unclear\n40,female,pending\n")

    assert (result["can_train"], result["can_score"]) == (False, True)


def test_too_few_patients_of_an_outcome_cannot_train() -> None:
    result = report("\n".join(LINES[:30]))

    assert "split.folds" in problems(result)
    assert (result["can_train"], result["can_score"]) == (False, True)


def test_a_few_conflicts_are_counted() -> None:
    other = [line.replace("absence", "presence") for line in LINES[1:60] if "absence" in line][:2]

    result = report("\n".join([*LINES, *other]))

    assert result["conflicting_outcomes"] == 2
    assert result["can_train"]


@pytest.mark.parametrize(
    "section",
    [{"bad_rows": "skip"}, {"format": "foo"}, {"codings": {"thalium": "uci"}}, {"keep": "a"}],
    ids=str,
)
def test_invalid_parameters_are_rejected_as_in_stage_prepare(section: dict[str, Any]) -> None:
    document = yaml.safe_load((ROOT / "params.yaml").read_text())
    document["prepare"] |= section
    Path("params.yaml").write_text(yaml.safe_dump(document))

    for kind in (check_data.Prepare, params.Prepare):
        with pytest.raises(ParamsError):
            kind.load()


def test_a_reference_of_another_format_is_reported() -> None:
    files.REFERENCE.parent.mkdir()
    files.REFERENCE.write_text("{}")

    assert "not compared" in report("\n".join(LINES))["drift"]


def test_a_report_that_cannot_be_written_is_an_error() -> None:
    Path("in.csv").write_text("\n".join(LINES))
    Path("reports").write_text("")

    with pytest.raises(UserError, match="cannot be written"):
        check_data.main(["in.csv"])


def test_a_doubtful_coding_is_explained_and_can_be_set() -> None:
    doubtful = f"{SHORT}\n61,1,3,141,251,0,2,121,1,2.1,1,2,2\n49,0,0,127,219,1,0,171,0,0.3,0,0,0\n"

    refused = report(doubtful, code=1)
    chosen = report(doubtful, "--coding", "uci_from_0")

    assert "prepare.format" in problems(refused)
    assert chosen["coding"] == "uci_from_0"
    assert chosen["can_score"]


@pytest.mark.parametrize(
    "content", [b"", b"\x00\x01\x02", b"age,sex\n", b"PK\x03\x04", b"<html></html>"], ids=range(5)
)
def test_a_file_without_a_table_is_reported_as_unusable(content: bytes) -> None:
    result = report(content, code=1)

    assert result["problems"]
    assert result["rows"] == 0


def test_an_extra_column_is_ignored_on_request() -> None:
    lines = [f"{LINES[0]},ward", *(f"{line},3" for line in LINES[1:])]

    refused = report("\n".join(lines), code=1)
    ignored = report("\n".join(lines), "--ignore", "ward")

    assert "'ward' is unknown" in problems(refused)
    assert ignored["columns_ignored"] == ["ward"]
    assert ignored["can_train"]


def test_the_page_escapes_what_comes_from_the_file() -> None:
    report(f"{LINES[0]},<b>x\n{LINES[1]},1\n", code=1)
    heading = check_data.HTML.read_text()
    report("age,sex\n<script>alert(1)</script>,male\n50,male\n", code=0)
    cell = check_data.HTML.read_text()

    assert "<b>x" not in heading
    assert "&lt;b&gt;x" in heading
    assert "<script>" not in cell
    assert "&lt;script&gt;" in cell


def test_reports_are_for_their_owner() -> None:
    report("\n".join(LINES))

    for path in (check_data.HTML, check_data.JSON):
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_not_there_is_an_error() -> None:
    with pytest.raises(UserError, match=r"none\.csv"):
        check_data.main(["none.csv"])
