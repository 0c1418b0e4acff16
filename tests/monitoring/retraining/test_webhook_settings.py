"""The settings of the receiver."""

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from heart.settings import reasons
from monitoring.retraining.webhook.settings import RetrainerSettings
from serve.settings import Settings
from tests.monitoring.retraining.webhook import SECRET, TOKEN


@pytest.fixture(autouse=True)
def own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder and none of the caller's settings."""
    for name in os.environ:
        if name.upper().startswith("HEART_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def rejection(**values: Any) -> str:
    with pytest.raises(ValidationError) as error:
        RetrainerSettings(**{"token": TOKEN, "secret": SECRET, **values})
    (reason,) = reasons(RetrainerSettings, error.value)
    return reason


def test_only_the_secrets_must_be_set(tmp_path: Path) -> None:
    settings = RetrainerSettings(token=TOKEN, secret=SECRET)

    assert (settings.host, settings.port) == ("127.0.0.1", 8001)
    assert settings.folder == tmp_path / "registry" / "retrain"
    assert shlex.split(settings.command) == [sys.executable, "-m", "monitoring.retraining.run"]
    assert TOKEN not in repr(settings)
    assert SECRET not in repr(settings)


def test_all_programs_share_one_settings_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(
        f"HEART_PORT=81\nHEART_RETRAIN_TOKEN={TOKEN}\nHEART_RETRAIN_SECRET={SECRET}\n"
    )
    monkeypatch.setenv("HEART_RETRAIN_PORT", "82")

    assert (Settings().port, RetrainerSettings().port) == (81, 82)


def test_a_misspelled_setting_is_rejected_with_the_known_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HEART_RETRAIN_PROT", "82")

    assert rejection().startswith(
        "HEART_RETRAIN_PROT is not a setting: expected one of HEART_RETRAIN_TOKEN, HEART_RETRAIN_SECRET, "
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("token", "fifteen-letters"),
        ("secret", "fifteen-letters sixteen"),
        ("port", 65536),
        ("command", ""),
        ("command", "python 'retrain"),
        ("time_limit_seconds", 0),
        ("time_limit_seconds", "inf"),
        ("cooldown_seconds", -1),
        ("cooldown_seconds", "nan"),
        ("kept_logs", 0),
        ("max_body_bytes", 0),
    ],
)
def test_values_have_bounds(name: str, value: object) -> None:
    assert rejection(**{name: value}).startswith(f"HEART_RETRAIN_{name.upper()}: ")
