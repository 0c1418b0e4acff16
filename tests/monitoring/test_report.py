import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from heart.drift.baseline import COLUMNS
from heart.drift.snapshot import take_snapshot
from heart.schema import SchemaError
from heart.settings import SharedSettings
from heart.web.markup import STYLE
from monitoring import report
from monitoring.settings import DriftSettings
from serve.encoding import rows_of
from tests.heart.drift.snapshots import measured, reference, watched_model


def test_report_on_a_log_with_invalid_values_quotes_none_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def last_patients(*_: object) -> None:
        raise SchemaError("age is 647")

    model = SimpleNamespace(version="1", reference=reference())
    monkeypatch.setattr(report, "load", lambda _: (model, b""))
    monkeypatch.setattr(report, "last_patients", last_patients)
    settings = SharedSettings(_env_file=None, log_url=f"sqlite:///{tmp_path}/log.db")

    with pytest.raises(report.ReportError) as error:
        report.check(settings, DriftSettings(_env_file=None))

    assert "647" not in str(error.value)
    assert error.value.__cause__ is None


def test_report_without_a_log_names_its_file_and_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = SimpleNamespace(version="1", reference=reference())
    monkeypatch.setattr(report, "load", lambda _: (model, b""))
    settings = SharedSettings(_env_file=None, log_url=f"sqlite:///{tmp_path}/log.db")

    with pytest.raises(report.ReportError, match="HEART_LOG_URL") as error:
        report.check(settings, DriftSettings(_env_file=None))

    assert f"{tmp_path}/log.db" in str(error.value)


def test_report_holds_its_style_as_it_is_and_loads_nothing() -> None:
    rows = rows_of(measured(40, thallium=None))
    snapshot = take_snapshot("7", rows, watched_model().predict(rows), reference())

    html = report.html(snapshot, "en")

    assert STYLE.strip() in html
    assert html.count("<section") == 1 + len(COLUMNS)
    assert not re.findall(r"""(?:src|href)=|url\(|@import""", html)
