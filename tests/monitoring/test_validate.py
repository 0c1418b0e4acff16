"""External validation of a file: which patients count, the verdict, and the reports."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from heart import files
from heart.errors import UserError
from heart.governance import answers
from heart.registry.errors import RegistryUnavailable
from heart.registry.runs import Entry
from heart.schema import NAMES, OUTCOME
from monitoring import validate
from monitoring.check_data import Prepare
from tests.heart.drift.snapshots import watched_model
from tests.heart.governance.documents import TABLES, names

ROOT = Path(__file__).parents[2]
LOGGED: list[Entry] = []
REAL = files.read_table(ROOT / files.RAW)


def _keep(_: str, __: str, entry: Entry) -> str:
    LOGGED.append(entry)
    return "run"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.setattr(validate, "load", lambda _: (watched_model(), b""))
    LOGGED.clear()
    monkeypatch.setattr(validate, "log_run", _keep)


def written(table: pd.DataFrame, name: str = "clinic.csv") -> Path:
    table[[*NAMES, OUTCOME.name]].to_csv(name, index=False)
    return Path(name)


def report(path: Path) -> dict[str, Any]:
    validate.main([str(path)])
    result: dict[str, Any] = json.loads(validate.JSON.read_text())
    return result


def sicker(table: pd.DataFrame) -> pd.DataFrame:
    """The same patients, of whom half of the healthy are ill."""
    healthy = table[OUTCOME.name] == "absence"
    chosen = healthy & (np.random.default_rng(0).random(len(table)) < 0.5)
    return table.assign(**{OUTCOME.name: table[OUTCOME.name].mask(chosen, "presence")})


def test_the_report_has_a_verdict_and_the_figures_of_every_group(
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = report(written(sicker(REAL)))

    assert result["validation"]["verdict"] == "recalibrate first"
    assert result["validation"]["intercept"]["low"] > 0
    assert {"all", "sex_female", "age_60_and_over"} <= set(result["groups"])
    assert result["groups"]["all"]["patients"] == len(REAL)
    assert result["missing"]["thallium"]["here"] == pytest.approx(2 / 303)
    assert "verdict     recalibrate first" in capsys.readouterr().out
    (entry,) = LOGGED
    assert entry.tags["model_version"] == result["version"]
    assert entry.metrics["roc_auc"] == pytest.approx(result["validation"]["roc_auc"]["value"])


def test_a_report_has_every_figure_that_the_governance_documents_name() -> None:
    documents = {"validation": report(written(REAL))}
    named = {
        name for t in TABLES for name in names(answers.table(t)) if name.startswith("validation.")
    }

    assert named
    for name in named:
        answers.look_up(name, documents)
    sizes = answers.answer("{validation.groups:sizes} {validation.groups:roc_auc}", documents).text
    assert f"all {len(REAL)}, " in sizes


def test_the_page_loads_nothing_and_shows_the_plots() -> None:
    report(written(REAL))

    html = validate.HTML.read_text()

    assert html.count("<svg") == 3
    assert not re.findall(r"""(?:src|href)="?http|@import""", html)


def test_copies_bad_rows_and_training_patients_do_not_count() -> None:
    document = Path("params.yaml")
    document.write_text(document.read_text().replace("bad_rows: refuse", "bad_rows: drop"))
    files.TRAIN.parent.mkdir()
    REAL.iloc[:50].to_csv(files.TRAIN, index=False)
    bad = REAL.iloc[[60]].assign(age="1000")

    result = report(written(pd.concat([REAL, REAL.iloc[-20:], bad])))

    counts = (result["bad_rows"], result["duplicates"], result["of_training"])
    assert counts == (1, 20, 50)
    assert result["validation"]["patients"] == len(REAL) - 50


def test_a_file_that_training_would_refuse_is_refused() -> None:
    inverted = REAL.assign(
        **{OUTCOME.name: REAL[OUTCOME.name].map({"absence": "presence", "presence": "absence"})}
    )
    options = Prepare.load()

    for table, reason in (
        (inverted, "invert_label: true"),
        (REAL.assign(age="1000"), "age"),
        (REAL[REAL[OUTCOME.name] == "presence"], "outcome"),
    ):
        with pytest.raises(UserError, match=reason):
            validate.patients_of(written(table), options)
    with pytest.raises(UserError, match="no such file"):
        validate.patients_of(Path("nothing.csv"), options)


def test_too_few_patients_have_figures_but_no_verdict() -> None:
    small = pd.concat([REAL[REAL[OUTCOME.name] == "presence"].head(5),
                       REAL[REAL[OUTCOME.name] == "absence"].head(40)])  # fmt: skip

    result = report(written(small))

    assert result["validation"]["verdict"] == "too few patients"
    assert result["groups"]["all"]["with_disease"] == 5


def test_without_a_registry_to_write_to_the_report_is_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> str:
        raise RegistryUnavailable("MLflow does not answer")

    monkeypatch.setattr(validate, "log_run", refuse)

    report(written(REAL))

    assert "MLflow does not answer" in capsys.readouterr().err
    assert validate.HTML.exists()


def test_the_reports_hold_no_patient() -> None:
    patient = REAL.iloc[[0]].assign(cholesterol="417", resting_bp="187", max_heart_rate="163")

    report(written(pd.concat([REAL, patient])))

    for value in ("417", "187", "163"):
        number = re.compile(rf"(?<![\w.]){value}(\.0)?(?![\w.])")
        assert not number.search(validate.JSON.read_text())
        assert not number.search(
            re.sub(r"<svg.*?</svg>", "", validate.HTML.read_text(), flags=re.DOTALL)
        )
