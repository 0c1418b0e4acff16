"""Settings from environment variables or a file .env, and the messages about invalid ones."""

import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from heart.env_file import check_lines, read_text
from heart.sqlite_path import absolute, registry_uri

ENV_FILE = ".env"
COMMON = SettingsConfigDict(
    env_file=ENV_FILE,
    env_ignore_empty=True,
    dotenv_filtering="match_prefix",
    extra="forbid",
    frozen=True,
    hide_input_in_errors=True,  # the token and passwords in URLs are input too
    validate_default=True,
)


class Variables(BaseSettings):
    """Base class of settings whose variables have a prefix.

    Variables of other classes may have the same prefix: those whose name begins with one of
    `other_prefixes`, and those in `other_names`. HEART_DEBUG (`heart/errors.py`) is none of a class, since it
    must work while settings are invalid.
    """

    other_prefixes: ClassVar[tuple[str, ...]] = ()
    other_names: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _reject_unknown(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Reject misspelled variables; pydantic ignores those of the environment."""
        start = variable(cls, "")
        environment = {
            name[len(start) :].lower() for name in os.environ if name.upper().startswith(start)
        }
        names = environment | values.keys()
        if start == "HEART_" and "debug" in values:
            raise ValueError(f"HEART_DEBUG is read from the environment only, not from {ENV_FILE}")
        others = {name for name in names if name.startswith(cls.other_prefixes)}
        others |= cls.other_names | {"debug"}
        unknown = sorted(names - others - cls.model_fields.keys())
        if unknown:
            names_of_class = ", ".join(variable(cls, name) for name in cls.model_fields)
            raise ValueError(
                f"{variable(cls, unknown[0])} is not a setting: expected one of {names_of_class}"
            )
        return {name: value for name, value in values.items() if name not in others}


def _strong(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[!-~]{16,}", value.get_secret_value()):
        raise ValueError("expected at least 16 ASCII characters without spaces")
    return value


Secret = Annotated[SecretStr, AfterValidator(_strong)]  # hard to guess, and valid in a header


# The name of a model is also that of a folder of the cache, so it has no separators and no leading dot.
MODEL = re.compile(
    r"models:/(?P<name>[A-Za-z0-9_][A-Za-z0-9_. -]*)(@(?P<alias>[\w-]+)|/(?P<number>[0-9]+|newest))"
)
REGISTRY = "sqlite:///registry/mlflow.db"


def _paths(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(Path(part.strip()).absolute() for part in value.split(",") if part.strip())


def _readable(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    for path in paths:
        if not path.is_file():
            raise ValueError(f"{path} does not exist, expected a public key as PEM")
    return paths


PublicKeys = Annotated[
    tuple[Path, ...], NoDecode, BeforeValidator(_paths), AfterValidator(_readable)
]


class SharedSettings(Variables):
    """Settings of the service that other programs read too.

    Relative paths, also in SQLite URLs, start at the working directory.
    """

    model_config = SettingsConfigDict(**COMMON, env_prefix="HEART_")
    other_prefixes: ClassVar = ("drift_", "retrain_", "test_")
    # Settings of the service only, listed so that a misspelled name is an error in every program.
    other_names: ClassVar = frozenset(
        {
            "host",
            "port",
            "allowed_hosts",
            "root_path",
            "trust_forwarded_prefix",
            "poll_seconds",
            "log_retention_days",
            "log_clock_confirmed",
            "log_queue_max_rows",
            "max_body_bytes",
            "max_concurrent",
            "log_format",
            "access_log",
            "guard_labels",
            "guard_confidence",
            "guard_rollback",
            "guard_senders",
            "tokens",
            "outcomes_per_minute",
            "fhir",
            "cds_hooks",
            "cds_url",
            "cds_public_keys",
            "cds_issuers",
            "cds_origins",
        }
    )

    api_token: Secret | None = Field(
        None,
        description="Bearer token of the API and password of the page: at least 16 ASCII characters "
        "without spaces. It has the name default and all scopes of HEART_TOKENS. Without either, anyone "
        "who reaches the service may use it.",
    )
    model: str = Field(
        "models:/heart-disease@champion",
        description="Model version to serve: models:/NAME@ALIAS, models:/NAME/3 (a version) or "
        "models:/NAME/newest (the highest version, even if the promotion gate rejected it).",
    )
    tracking_uri: str = Field(
        default_factory=lambda: os.environ.get("MLFLOW_TRACKING_URI") or REGISTRY,
        repr=False,
        description="URI of the MLflow registry. If not set, that of MLFLOW_TRACKING_URI.",
        json_schema_extra={"default": REGISTRY},
    )
    cache_dir: Path = Field(
        Path("registry/cache"),
        description="Folder of the last good versions, for a start while the registry is down. "
        "Replicas may share it if HEART_MODEL is the same for all.",
    )
    signing_public_keys: PublicKeys = Field(
        (),
        description="Files of public keys (PEM), separated by commas. If set, only versions that one of "
        "them signed are served.",
        json_schema_extra={"default": ""},
    )
    minimum_version: int = Field(
        0,
        ge=0,
        description="Lowest version that may be served, so that none goes back to an older one.",
    )
    log_url: str = Field(
        "sqlite:///registry/predictions.db",
        repr=False,
        description="Prediction log: sqlite:///PATH, or "
        "postgresql+psycopg://USER:PASSWORD@HOST/DATABASE, required for more than one process.",
    )

    @field_validator("model")
    @classmethod
    def _is_model(cls, value: str) -> str:
        if not MODEL.fullmatch(value):
            raise ValueError(
                "expected models:/NAME@ALIAS, models:/NAME/VERSION or models:/NAME/newest"
            )
        return value

    @field_validator("tracking_uri")
    @classmethod
    def _absolute_registry(cls, value: str) -> str:
        return registry_uri(value, Path.cwd())

    @field_validator("log_url")
    @classmethod
    def _absolute_log(cls, value: str) -> str:
        return absolute(value, Path.cwd())

    @field_validator("cache_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.absolute()


T = TypeVar("T", bound=Variables)


def read(kind: type[T], **values: Any) -> T:
    """The settings, with some values given. If they are invalid, end the program with the reasons."""
    _check_env_file(Path(ENV_FILE))
    try:
        return kind(**values)
    except ValidationError as error:
        lines = reasons(kind, error)
        sys.exit(
            f"error: {lines[0]}"
            if len(lines) == 1
            else "\n".join(["error: invalid settings:", *lines])
        )


def _check_env_file(path: Path) -> None:
    """End the program if the file cannot be read, or one of its lines: its settings would be left out."""
    if not path.is_file():
        return
    try:
        check_lines(read_text(path.absolute()), path.absolute())
    except ValueError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {path.absolute()}: {error.strerror}: make it readable, or move it away")


def reasons(kind: type[Variables], error: ValidationError) -> list[str]:
    """Why settings are invalid, one line for each; without values, except those in own messages."""
    return [
        ": ".join(
            [
                *(variable(kind, str(name)) for name in problem["loc"][:1]),
                problem["msg"].removeprefix("Value error, "),
            ]
        )
        for problem in error.errors(include_url=False, include_input=False)
    ]


def lines(kind: type[Variables]) -> list[str]:
    """Every setting for a file .env, explained, commented out, with its default."""
    text = []
    for name, field in kind.model_fields.items():
        extra = field.json_schema_extra
        default = extra["default"] if isinstance(extra, dict) else field.get_default()
        text += ["", *_wrapped(str(field.description))]
        text.append(
            f"#{variable(kind, name)}={'' if default is None or field.is_required() else default}"
        )
    return text


def variable(kind: type[Variables], name: str) -> str:
    """The environment variable of a setting."""
    return f"{kind.model_config['env_prefix']}{name}".upper()


def _wrapped(text: str, width: int = 98) -> list[str]:
    wrapped = ["#"]
    for word in text.split():
        if len(wrapped[-1]) + 1 + len(word) > width:
            wrapped.append("#")
        wrapped[-1] += f" {word}"
    return wrapped
