from pathlib import Path
from types import SimpleNamespace

import pytest

from heart.schema import SchemaError
from heart.settings import SharedSettings
from monitoring import report
from monitoring.settings import DriftSettings
from tests.heart.drift.snapshots import reference


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
