"""The texts of each language, read from the YAML files beside this module: one file a language."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field

DEFAULT = "en"


class Catalog(BaseModel):
    """All texts of one language, and how it writes numbers.

    Measurements, categories, units and sources have the names of the schema and of the prediction log.
    `form` is sent to the browser as it is; `messages` may have placeholders, and their keys are
    "section.name".
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    tags: tuple[str, ...]
    decimal: Annotated[str, Field(min_length=1, max_length=1)]
    thousands: Annotated[str, Field(min_length=1, max_length=1)]
    measurements: dict[str, str]
    categories: dict[str, dict[str, str]]
    units: dict[str, str]
    measurement_groups: dict[str, str]
    sources: dict[str, str]
    figures: dict[str, str]
    patient_groups: dict[str, str]
    form: dict[str, str]
    messages: dict[str, dict[str, str]]

    @cached_property
    def texts(self) -> Mapping[str, str]:
        """The form's texts and the messages, by key."""
        messages = {
            f"{section}.{name}": text
            for section, texts in self.messages.items()
            for name, text in texts.items()
        }
        return {**self.form, **messages}


def read_catalogs(folder: Path) -> Mapping[str, Catalog]:
    """The catalogs of a folder by language, the default language first."""
    files = sorted(folder.glob("*.yaml"), key=lambda file: (file.stem != DEFAULT, file.stem))
    return {
        file.stem: Catalog.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
        for file in files
    }


CATALOGS = read_catalogs(Path(__file__).parent)
