"""The settings of the receiver: environment variables HEART_RETRAIN_... or a file .env."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from heart.http.hosts import HostNames
from heart.settings import COMMON, Secret, Variables

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class RetrainerSettings(Variables):
    """Relative paths are relative to the working directory."""

    model_config = SettingsConfigDict(**COMMON, env_prefix="HEART_RETRAIN_")

    token: Secret = Field(
        description="Bearer token of the receiver: at least 16 ASCII characters without spaces.",
    )
    secret: Secret = Field(
        description="Key with which Grafana signs its alerts: at least 16 ASCII characters without "
        "spaces.",
    )
    host: str = Field("127.0.0.1", description="Address on which the receiver listens.")
    port: int = Field(
        8001,
        ge=0,
        le=65535,
        description="Port on which the receiver listens; 0 takes any free port.",
    )
    allowed_hosts: HostNames = Field(
        (),
        description="Host names by which the receiver is called, beside localhost, "
        "HEART_RETRAIN_HOST and every IP address; as HEART_ALLOWED_HOSTS.",
        json_schema_extra={"default": ""},
    )
    command: str = Field(
        default_factory=lambda: shlex.join([sys.executable, "-m", "monitoring.retraining.run"]),
        description="Command that retrains, run without a shell; --trigger and a text are appended.",
        json_schema_extra={"default": "python -m monitoring.retraining.run"},
    )
    folder: Path = Field(
        Path("registry/retrain"),
        description="Folder of the run history (runs.db) and of the logs of retrainings.",
    )
    time_limit_seconds: Seconds = Field(
        3600, description="Seconds after which a retraining and all its processes are ended."
    )
    cooldown_seconds: float = Field(
        3600,
        ge=0,
        allow_inf_nan=False,
        description="Seconds after the end of a retraining during which no alert starts another.",
    )
    kept_logs: int = Field(20, ge=1, description="Number of logs of retrainings that are kept.")
    max_body_bytes: int = Field(
        256 * 1024,
        ge=1,
        description="Maximum size of an alert in bytes. One of 14 features has 20,000.",
    )

    @field_validator("command")
    @classmethod
    def _is_a_command(cls, value: str) -> str:
        try:
            words = shlex.split(value)
        except ValueError as error:
            raise ValueError(f"expected a command line: {error}") from None
        if not words:
            raise ValueError("expected a command line")
        return value

    @field_validator("folder")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.absolute()
