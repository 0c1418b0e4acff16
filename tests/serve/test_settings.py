import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from docs.generate import env_example
from docs.reference_tables import SETTINGS
from heart.predictions.log import PredictionLog
from heart.schema import MEASUREMENTS
from heart.settings import REGISTRY, SharedSettings, Variables, read, reasons, variable
from monitoring.settings import DriftSettings
from serve.settings import MAX_BATCH, Settings

ROOT = Path(__file__).parents[2]
TOKEN = "sixteen-letters!"


@pytest.fixture(autouse=True)
def own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder and none of the caller's settings."""
    for name in os.environ:
        if name.upper().startswith(("HEART_", "MLFLOW_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def refusal(kind: type[Variables] = Settings, /, **given: Any) -> str:
    with pytest.raises(ValidationError) as error:
        kind(**given)
    (reason,) = reasons(kind, error.value)
    assert TOKEN[:-1] not in f"{reason} {error.value}"
    return reason


# Where settings come from


def test_defaults_are_local_and_embedded(tmp_path: Path) -> None:
    settings = Settings()

    assert (settings.host, settings.port, settings.api_token) == ("127.0.0.1", 8000, None)
    assert settings.model == "models:/heart-disease@champion"
    assert settings.tracking_uri == f"sqlite:///{tmp_path}/registry/mlflow.db"
    assert settings.cache_dir == tmp_path / "registry" / "cache"
    assert settings.log_url == f"sqlite:///{tmp_path}/registry/predictions.db"
    assert settings.log_retention_days is None
    assert (settings.poll_seconds, settings.log_queue_max_rows) == (30, 50_000)


@pytest.mark.parametrize("name", ["a%41b", "why?"])
def test_folder_that_a_sqlite_url_cannot_name_is_rejected(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)

    with pytest.raises(ValidationError) as error:
        Settings()

    assert [result["loc"] for result in error.value.errors()] == [("tracking_uri",), ("log_url",)]
    assert name in str(error.value)
    server, database = "http://mlflow", "postgresql+psycopg://heart@db/heart"
    assert Settings(tracking_uri=server, log_url=database).tracking_uri == server


def test_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("HEART_PORT=81\nheart_poll_seconds=5\nPOSTGRES_PASSWORD=x\n")
    monkeypatch.setenv("HEART_PORT", "82")

    settings = Settings()

    assert (settings.port, settings.poll_seconds) == (82, 5)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_byte_order_mark_hides_no_setting(
    encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("HEART_PORT=81\n", encoding)
    monkeypatch.chdir(tmp_path)

    assert read(Settings).port == 81


@pytest.mark.parametrize(
    "line",
    [
        "HEART_API_TOKEN: secret-secret-secret",
        "HEART_API_TOKEN secret-secret-secret",
        "HEART_API_TOKEN",
        "HEART_API_TOKEN:",
        'HEART_API_TOKEN="secret-secret-secret',
        "HEART_API_TOKEN='secret-secret-secret",
        "=secret-secret-secret",
        "\u200bHEART_API_TOKEN=secret-secret-secret",
        "\ufeffHEART_API_TOKEN=secret-secret-secret",
        "HEART_API\u200b_TOKEN=secret-secret-secret",
    ],
)
def test_a_line_that_gives_no_setting_is_an_error_without_its_value(
    line: str, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(f"# the service\n\n{line}\nHEART_PORT=81\n")

    with pytest.raises(SystemExit) as end:
        read(Settings)

    message = str(end.value.code)
    assert message.startswith(f"error: {tmp_path}/.env, line 3: ")
    assert "secret" not in message.partition(": expected")[2]
    assert "\n" not in message


def test_lines_that_give_settings_or_nothing_are_accepted(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "# a comment\n\n  HEART_PORT = 81  # inline\nexport HEART_POLL_SECONDS='5'\r\n"
        'OTHER.NAME="two\nlines"\nEMPTY=\nHEART_MODEL="models:/heart-disease/1"'
    )

    settings = read(Settings)

    assert (settings.port, settings.poll_seconds) == (81, 5)


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "latin-1"]
)
def test_a_file_that_is_not_utf_8_is_an_error(
    encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("HEART_MODEL=models:/herzkrank-ä@champion\n", encoding)
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SystemExit) as end:
        read(Settings)

    assert str(end.value.code).startswith(f"error: {tmp_path}/.env is not in UTF-8")
    assert "\n" not in str(end.value.code)


def test_the_debug_switch_is_no_setting_but_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEART_DEBUG", "1")
    assert read(Settings) == Settings(_env_file=None)

    (tmp_path / ".env").write_text("HEART_DEBUG=1\n")

    with pytest.raises(SystemExit, match="environment only"):
        read(Settings)


@pytest.mark.parametrize("uri", ["mlruns", "./mlruns", "file:///tmp/mlruns"])
def test_a_folder_is_no_registry(uri: str) -> None:
    with pytest.raises(ValidationError, match="sqlite:///PATH"):
        Settings(tracking_uri=uri, _env_file=None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tracking_uri", "http://"),
        ("tracking_uri", "http://127.0.0.1:99999"),
        ("tracking_uri", "sqlite://registry/mlflow.db"),
        ("log_url", "postgresql+psycopg://heart@db:port/heart"),
        ("log_url", "sqlite://registry/predictions.db"),
        ("cds_url", "https://heart.example.org:99999"),
        ("cds_public_keys", "https://"),
    ],
)
def test_an_impossible_address_is_an_invalid_setting(name: str, value: str) -> None:
    assert refusal(**{name: value}).startswith(f"HEART_{name.upper()}: ")


def test_a_variable_that_is_set_to_nothing_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEART_API_TOKEN", "")
    monkeypatch.setenv("HEART_LOG_RETENTION_DAYS", "")

    assert Settings() == Settings(_env_file=None)
    assert Settings().api_token is None


def test_allowed_hosts_are_names_separated_by_commas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Settings().allowed_hosts == ()

    (tmp_path / ".env").write_text("HEART_ALLOWED_HOSTS=heart.example.org, *.example.net\n")
    assert Settings().allowed_hosts == ("heart.example.org", "*.example.net")

    monkeypatch.setenv("HEART_ALLOWED_HOSTS", "app")
    assert Settings().allowed_hosts == ("app",)
    reason = refusal(allowed_hosts="app,http://heart.example.org")
    assert reason.startswith("HEART_ALLOWED_HOSTS: 'http://heart.example.org' is not a host: ")


def test_the_registry_is_the_one_of_mlflow_unless_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert Settings().tracking_uri == "http://mlflow:5000"

    monkeypatch.setenv("HEART_TRACKING_URI", "sqlite:////srv/mlflow.db")
    assert Settings().tracking_uri == "sqlite:////srv/mlflow.db"

    monkeypatch.delenv("HEART_TRACKING_URI")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert Settings().tracking_uri.endswith("/registry/mlflow.db")


@pytest.mark.parametrize("name", ["a%20b", "why?", "x.db?mode=ro"])
@pytest.mark.parametrize("setting", ["log_url", "tracking_uri"])
def test_no_file_is_written_at_another_place_than_its_path_says(setting: str, name: str) -> None:
    for url in (f"sqlite:////data/{name}/x.db", f"sqlite:///{name}"):
        assert name in refusal(**{setting: url, "_env_file": None})


@pytest.mark.parametrize("name", ["a b", "50% off", "ä#1"])
def test_other_signs_in_a_path_are_kept(name: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/{name}/log.db"
    (tmp_path / name).mkdir()

    with contextlib.closing(PredictionLog(Settings(log_url=url, _env_file=None).log_url)) as log:
        log.start()

    assert (tmp_path / name / "log.db").is_file()


def test_a_url_of_another_database_is_left_as_it_is() -> None:
    url = "postgresql+psycopg://heart:secret@db/heart"

    assert Settings(log_url=url).log_url == url


def test_importing_reads_nothing() -> None:
    wrong = {"HEART_PROT": "1", "HEART_PORT": "http"}

    subprocess.run(
        [sys.executable, "-c", "import serve.settings"],
        cwd=ROOT, check=True, env=os.environ | wrong,
    )  # fmt: skip


# What is refused


@pytest.mark.parametrize("where", ["environment", "file", "argument"])
def test_misspelled_setting_is_rejected_with_the_valid_names(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {}
    if where == "environment":
        monkeypatch.setenv("HEART_PROT", "80")
    elif where == "file":
        (tmp_path / ".env").write_text("HEART_PROT=80\n")
    else:
        given["prot"] = 80

    reason = refusal(**given)

    assert reason.startswith("HEART_PROT is not a setting: expected one of ")
    assert "HEART_HOST, HEART_PORT, " in reason


def test_settings_of_other_programs_are_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("HEART_DRIFT_WINDOW=300\nHEART_PORT=81\n")
    monkeypatch.setenv("HEART_TEST_REQUIRE_PROGRAMS", "1")
    monkeypatch.setenv("HEART_DRIFT_INTERVAL_SECONDS", "5")

    assert Settings().port == 81
    assert (DriftSettings().window, DriftSettings().interval_seconds) == (300, 5)


def test_misspelled_setting_of_the_drift_monitor_is_rejected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HEART_DRIFT_ROWS", "1")

    reason = refusal(DriftSettings)

    assert reason.startswith(
        "HEART_DRIFT_ROWS is not a setting: expected one of HEART_DRIFT_WINDOW, "
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("window", 10), ("interval_seconds", 0), ("model_version", "champion")],
)
def test_the_drift_monitors_settings_have_bounds(name: str, value: object) -> None:
    assert refusal(DriftSettings, **{name: value}).startswith(f"HEART_DRIFT_{name.upper()}: ")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_address_needs_no_token(host: str) -> None:
    assert Settings(host=host).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", "localhost.lan"])  # noqa: S104
def test_non_loopback_address_requires_a_token(host: str) -> None:
    reason = refusal(host=host)

    assert reason.startswith("HEART_API_TOKEN ")
    assert f"HEART_HOST={host}, " in reason
    assert Settings(host=host, api_token=TOKEN).host == host


@pytest.mark.parametrize(
    "token", [TOKEN[:-1], "fifteen-letters sixteen", "sechzehn-Zeichen-ä", TOKEN + "\n"]
)
def test_weak_token_is_rejected(token: str) -> None:
    reason = refusal(api_token=token)

    assert reason == "HEART_API_TOKEN: expected at least 16 ASCII characters without spaces"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", 65536),
        ("port", "http"),
        ("poll_seconds", 0),
        ("poll_seconds", "nan"),
        ("poll_seconds", "inf"),
        ("log_retention_days", 0),
        ("log_queue_max_rows", MAX_BATCH - 1),
        ("max_body_bytes", 0),
        ("max_concurrent", 0),
    ],
)
def test_numbers_have_bounds(name: str, value: object) -> None:
    assert f"HEART_{name.upper()}" in refusal(**{name: value})


@pytest.mark.parametrize(
    "model",
    ["models:/heart-disease@champion", "models:/a.b_c 1/3", "models:/heart-disease/newest"],
)
def test_a_model_is_an_alias_a_number_or_the_newest(model: str) -> None:
    assert Settings(model=model).model == model


@pytest.mark.parametrize(
    "model",
    ["heart-disease", "models:/heart-disease", "models:/heart-disease/", "models:/../3",
     "models:/a/b/3", "models:/a@", "models:/a@b/3", "models:/a/latest", "runs:/1/model"],
)  # fmt: skip
def test_other_model_uris_are_rejected(model: str) -> None:
    assert refusal(model=model) == (
        "HEART_MODEL: expected models:/NAME@ALIAS, models:/NAME/VERSION or models:/NAME/newest"
    )


def test_several_errors_are_reported_together() -> None:
    with pytest.raises(ValidationError) as error:
        Settings(port=-1, max_concurrent=0)

    assert [reason.partition(":")[0] for reason in reasons(Settings, error.value)] == [
        "HEART_PORT",
        "HEART_MAX_CONCURRENT",
    ]


def test_secrets_are_not_printed() -> None:
    settings = Settings(
        api_token=TOKEN,
        log_url="postgresql+psycopg://u:hunter2@db/x",
        tracking_uri="http://u:hunter2@mlflow",
    )

    assert TOKEN not in repr(settings)
    assert "hunter2" not in repr(settings)


# Limits that must agree


def test_the_largest_batch_fits_into_the_largest_body() -> None:
    patient = {
        m.name: max((choice.name for choice in m.choices), key=len) if m.choices else m.high - 0.1
        for m in MEASUREMENTS
    }
    settings = Settings()

    body = json.dumps({"patients": [patient] * MAX_BATCH}, indent=4)

    assert len(body) < settings.max_body_bytes < 2 * len(body)


def test_the_logs_queue_holds_the_largest_batch() -> None:
    assert Settings(log_queue_max_rows=MAX_BATCH).log_queue_max_rows == MAX_BATCH


# Documentation


def test_the_committed_example_begins_with_what_is_made_from_the_classes() -> None:
    assert (ROOT / ".env.example").read_text().startswith(f"{env_example()}\n# The stack ")


def test_the_example_explains_each_setting_and_names_its_default(tmp_path: Path) -> None:
    assigned = re.findall(r"(?m)^#(HEART_\w+)=(.*)$", env_example())
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in assigned))

    assert [name for name, _ in assigned] == [
        variable(kind, name) for kind in SETTINGS.values() for name in kind.model_fields
    ]
    assert Settings() == Settings(_env_file=None)
    assert DriftSettings() == DriftSettings(_env_file=None)
    for kind in SETTINGS.values():
        assert all(field.description for field in kind.model_fields.values())
    assert ("HEART_TRACKING_URI", REGISTRY) in assigned


def test_shared_settings_know_the_names_of_the_services_own_settings() -> None:
    own = Settings.model_fields.keys() - SharedSettings.model_fields.keys()

    assert SharedSettings.other_names == own
