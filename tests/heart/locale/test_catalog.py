"""The texts of all languages: complete, with the same values to fill in, and all of them used."""

import re
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from heart.locale.catalog import CATALOGS, DEFAULT, Catalog, read_catalogs
from heart.locale.language import LANGUAGES, browser_texts
from heart.predictions.tables import SOURCES
from heart.schema import MEASUREMENTS, OUTCOME
from serve.ui.examples import EXAMPLES
from serve.ui.units import CHOLESTEROL
from tests.heart.registry.registry_fixture import ROOT

COLUMNS = (*MEASUREMENTS, OUTCOME)
FOLDER = ROOT / "heart" / "locale"


def leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every text of a catalog with the path of its keys."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, (*path, key))
    elif isinstance(node, str):
        yield path, node


def texts(language: str) -> dict[tuple[str, ...], str]:
    return dict(leaves(CATALOGS[language].model_dump()))


def placeholders(text: str) -> list[str]:
    return sorted(name for _, name, _, _ in string.Formatter().parse(text) if name is not None)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_the_same_keys_and_placeholders(language: str) -> None:
    default, other = texts(DEFAULT), texts(language)

    assert other.keys() == default.keys()
    assert all(text.strip() for text in other.values())
    for key, text in other.items():
        if key[0] == "messages":
            assert placeholders(text) == placeholders(default[key]), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_chosen_by_the_browser_takes_no_format_values(language: str) -> None:
    for key, text in browser_texts(language).items():
        assert not re.search(r"[{}<>&]", text), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_are_those_of_the_schema(language: str) -> None:
    catalog = CATALOGS[language]

    assert list(catalog.measurements) == [m.name for m in COLUMNS]
    assert {name: list(labels) for name, labels in catalog.categories.items()} == {
        m.name: [choice.name for choice in m.choices] for m in COLUMNS if m.choices
    }
    entered = (*MEASUREMENTS, *CHOLESTEROL.values())
    assert set(catalog.units) == {m.unit for m in entered if m.unit}
    assert set(catalog.measurement_groups) == {m.group for m in MEASUREMENTS}
    assert set(catalog.sources) == set(SOURCES)
    for labels in (catalog.measurements, *catalog.categories.values()):
        assert len(set(labels.values())) == len(labels)


def test_no_language_has_the_tag_of_another() -> None:
    tags = [tag for catalog in CATALOGS.values() for tag in catalog.tags]

    assert len(tags) == len(set(tags))


def sources() -> str:
    files = [
        path
        for folder in ("heart/locale", "heart/web", "serve/ui")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".html")
    ]
    return "".join(path.read_text() for path in files)


def test_every_text_is_used_and_every_key_has_a_text() -> None:
    catalog, source = CATALOGS[DEFAULT], sources()
    keys = set(catalog.texts)
    sections = "|".join(catalog.messages)

    named = set(re.findall(r"""["']([a-z_.]+)["']""", source))
    messages = {key for key in named if re.fullmatch(rf"(?:{sections})\.(?!html$)[a-z_]+", key)}
    assert keys - named - set(EXAMPLES) == set()
    assert messages - keys == set()


def test_a_language_is_one_file(tmp_path: Path) -> None:
    for language in ("id", "en"):
        text = (FOLDER / f"{language}.yaml").read_text()
        (tmp_path / f"{language}.yaml").write_text(text)
    content = yaml.safe_load((FOLDER / "en.yaml").read_text())
    (tmp_path / "de.yaml").write_text(yaml.safe_dump(content | {"name": "Deutsch", "tags": ["de"]}))

    catalogs = read_catalogs(tmp_path)

    assert list(catalogs) == ["en", "de", "id"]
    assert catalogs["de"].name == "Deutsch"


def test_a_catalog_with_an_unknown_section_is_rejected() -> None:
    content = yaml.safe_load((FOLDER / "en.yaml").read_text())

    with pytest.raises(ValidationError, match="extra"):
        Catalog.model_validate(content | {"extra": {}})
