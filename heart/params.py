"""Reading params.yaml: a section is a class, validated, and unknown keys are rejected."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from heart.errors import ParamsError


class Section(BaseModel):
    """One section of params.yaml: that of the stage of the same name."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    stage: ClassVar[str]

    @classmethod
    def load(cls, path: Path = Path("params.yaml")) -> Self:
        """Read and validate this section. Raises ParamsError."""
        try:
            document = yaml.safe_load(path.read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ParamsError(f"{path} cannot be read: {error}") from error
        section = document.get(cls.stage) if isinstance(document, dict) else None
        if not isinstance(section, dict):
            raise ParamsError(f"{path} has no section {cls.stage!r}")
        try:
            return cls.model_validate(section)
        except ValidationError as error:
            raise ParamsError(cls._explain(path, error)) from None

    @classmethod
    def _explain(cls, path: Path, error: ValidationError) -> str:
        lines = []
        for item in error.errors():
            key = ".".join(map(str, (cls.stage, *item["loc"])))
            if item["type"] == "extra_forbidden":
                known = cls._known(item["loc"][:-1])
                lines.append(f"{key} is unknown, known are {', '.join(known)}")
            elif item["type"] == "missing":
                lines.append(f"{key} is missing: it is required")
            else:
                lines.append(f"{key} is {item['input']!r}: {item['msg']}")
        return f"{path}: " + "; ".join(lines)

    @classmethod
    def _known(cls, place: tuple[int | str, ...]) -> Iterable[str]:
        """The keys that a section, or a section within it, may have."""
        model: Any = cls
        for key in place:
            model = model.model_fields[key].annotation
        return list(model.model_fields)


class Registered(Section):
    """What others than stage `register` need of its section."""

    model_config = ConfigDict(extra="ignore")
    stage = "register"
    model_name: str
