"""What can be set, in environment variables HEART_... or a file .env.

`python -m serve.settings` writes these, and those of the drift monitor and the receiver, to the
beginning of `.env.example`; the rest is of docker-compose.yml, and stays as it is.
"""

import ipaddress
import os
import re
import sys
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from monitoring.reference import FEWEST_PATIENTS
from monitoring.retrainer.settings import RetrainerSettings
from monitoring.settings import DriftSettings
from monitoring.variables import COMMON, Secret, Variables, lines
from serve.patients import MAX_BATCH

# A name is also a folder's in the cache, hence no separators and no dot in front.
MODEL = re.compile(
    r"models:/(?P<name>[A-Za-z0-9_][A-Za-z0-9_. -]*)(@(?P<alias>[\w-]+)|/(?P<number>[0-9]+|newest))"
)
REGISTRY = "sqlite:///registry/mlflow.db"
SQLITE = "sqlite:///"

Count = Annotated[int, Field(ge=1)]


class Settings(Variables):
    """Read when it is made, which only `main` does; whoever needs a setting is given it.

    Relative paths, those of SQLite URLs too, start at the working directory.
    """

    model_config = SettingsConfigDict(**COMMON, env_prefix="HEART_")
    others: ClassVar = ("drift_", "retrain_", "test_")

    host: str = Field(
        "127.0.0.1",
        description="Address to listen on. One that other machines can reach needs HEART_API_TOKEN.",
    )
    port: int = Field(
        8000, ge=0, le=65535, description="Port to listen on; 0 lets the system choose a free one."
    )
    api_token: Secret | None = Field(
        None,
        description="Bearer token of the API and password of the page: at least 16 characters, "
        "ASCII, no spaces. Without it the service answers everyone who reaches it.",
    )
    model: str = Field(
        "models:/heart-disease@champion",
        description="What is served: models:/NAME@ALIAS, models:/NAME/3 (a version) or "
        "models:/NAME/newest (the highest version, whether or not it passed its gate).",
    )
    tracking_uri: str = Field(
        default_factory=lambda: os.environ.get("MLFLOW_TRACKING_URI") or REGISTRY,
        repr=False,
        description="The MLflow registry. MLFLOW_TRACKING_URI counts if this is not set.",
        json_schema_extra={"default": REGISTRY},
    )
    poll_seconds: float = Field(
        30, gt=0, le=86400, description="Seconds between two looks into the registry."
    )
    cache_dir: Path = Field(
        Path("registry/cache"),
        description="Folder of the last good models, for a start while the registry is down. "
        "Replicas may share it if HEART_MODEL is the same for all.",
    )
    log_url: str = Field(
        "sqlite:///registry/predictions.db",
        repr=False,
        description="The prediction log: sqlite:///PATH, or "
        "postgresql+psycopg://USER:PASSWORD@HOST/DATABASE, which more than one process needs.",
    )
    log_retention_days: float | None = Field(
        None, gt=0, description="Age in days at which predictions are deleted; never, if not set."
    )
    log_queue: int = Field(
        50_000,
        ge=MAX_BATCH,
        description="Rows that may wait for the prediction log before requests are answered 503; "
        f"at least {MAX_BATCH:,}, the largest batch.",
    )
    max_body_bytes: Count = Field(
        8 * 1024 * 1024,
        description="Bytes of a request's body. 10,000 patients, every measurement given, "
        "take 5.2 million as indented JSON.",
    )
    max_concurrent: Count = Field(
        128, description="Requests in work at the same time before others are answered 503."
    )

    guard_labels: int = Field(
        50,
        ge=FEWEST_PATIENTS,
        description="Answers with an outcome before the champion is compared with the version "
        "before it on the same patients.",
    )
    guard_confidence: float = Field(
        0.99,
        gt=0.5,
        lt=1,
        description="1 minus the probability that a champion that is no worse is ever called worse.",
    )
    guard_rollback: bool = Field(
        False,
        description="true: a champion that is called worse is taken back, as by make rollback. "
        "Otherwise only a metric says so.",
    )

    @field_validator("model")
    @classmethod
    def _is_model(cls, value: str) -> str:
        if not MODEL.fullmatch(value):
            raise ValueError(
                "expected models:/NAME@ALIAS, models:/NAME/VERSION or models:/NAME/newest"
            )
        return value

    @field_validator("tracking_uri", "log_url")
    @classmethod
    def _from_here(cls, value: str) -> str:
        path = value.removeprefix(SQLITE)
        return value if path in (value, "", ":memory:") else f"{SQLITE}{Path(path).absolute()}"

    @field_validator("cache_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.absolute()

    @model_validator(mode="after")
    def _is_closed(self) -> Self:
        if self.api_token is None and not _is_loopback(self.host):
            raise ValueError(
                f"HEART_HOST={self.host} can be reached from other machines, and whoever reaches "
                "it reads and writes patients: set HEART_API_TOKEN (at least 16 characters)"
            )
        return self


KINDS = (Settings, DriftSettings, RetrainerSettings)
ENV_EXAMPLE = Path(".env.example")
STACK = "\n# The stack "  # begins what is written by hand


def env_example() -> str:
    """The beginning of `.env.example`: every setting, explained, commented out at its default."""
    title = "# Copy to .env, take the # away before what you change. Made by serve/settings.py."
    return "\n".join([title, *(line for kind in KINDS for line in lines(kind))]) + "\n"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def main() -> None:
    _, start, stack = ENV_EXAMPLE.read_text().partition(STACK)
    if not start:
        sys.exit(f"error: {ENV_EXAMPLE} has no line {STACK.strip()!r}: git checkout {ENV_EXAMPLE}")
    ENV_EXAMPLE.write_text(env_example() + start + stack)


if __name__ == "__main__":
    main()
