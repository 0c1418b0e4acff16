"""Settings that are read from environment variables or a file .env, and what is said of wrong ones."""

import os
import re
import sys
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AfterValidator, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

COMMON = SettingsConfigDict(
    env_file=".env",
    env_ignore_empty=True,
    dotenv_filtering="match_prefix",
    extra="forbid",
    frozen=True,
    hide_input_in_errors=True,  # the token and passwords in URLs are input too
    validate_default=True,
)


class Variables(BaseSettings):
    """Settings with a prefix. Variables with the prefix and then one of `others` are read elsewhere."""

    others: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _only_known(cls, given: dict[str, Any]) -> dict[str, Any]:
        """A misspelt variable is refused; pydantic itself overlooks those of the environment."""
        start = variable(cls, "")
        environment = {
            name[len(start) :].lower() for name in os.environ if name.upper().startswith(start)
        }
        others = {name for name in environment | given.keys() if name.startswith(cls.others)}
        unknown = sorted((environment | given.keys()) - others - cls.model_fields.keys())
        if unknown:
            known = ", ".join(variable(cls, name) for name in cls.model_fields)
            raise ValueError(f"{variable(cls, unknown[0])} is no setting; there are {known}")
        return {name: value for name, value in given.items() if name not in others}


def _strong(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[!-~]{16,}", value.get_secret_value()):
        raise ValueError("expected at least 16 ASCII characters without spaces")
    return value


Secret = Annotated[SecretStr, AfterValidator(_strong)]  # hard to guess, and fit for a header

T = TypeVar("T", bound=Variables)


def read(kind: type[T]) -> T:
    """The settings, or the end of the program with what is wrong with them."""
    try:
        return kind()
    except ValidationError as error:
        sys.exit("\n".join(["error: the settings do not fit:", *reasons(kind, error)]))


def reasons(kind: type[Variables], error: ValidationError) -> list[str]:
    """Why settings were refused: a line for each, no value of any in it but the host."""
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
    """Every setting for a file .env, explained, commented out at its default."""
    found = []
    for name, field in kind.model_fields.items():
        extra = field.json_schema_extra
        default = extra["default"] if isinstance(extra, dict) else field.get_default()
        found += ["", *_wrapped(str(field.description))]
        found.append(
            f"#{variable(kind, name)}={'' if default is None or field.is_required() else default}"
        )
    return found


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
