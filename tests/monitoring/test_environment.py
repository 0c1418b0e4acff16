"""Variables of Grafana's environment: values arrive unchanged, and without them Grafana starts."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.monitoring.configuration import (
    ROOT,
    alert_rules,
    documents,
    interpolate,
    provisioned,
    texts,
)

VARIABLE = re.compile(r"\$([A-Z_]+)")
# Grafana does not replace variables in these; newer versions replace names in braces in annotations.
AS_THEY_ARE = {"annotations", "model", "templates"}


def interpolated(document: Any) -> Iterator[tuple[tuple[str, ...], str]]:
    """The texts in which Grafana puts the environment's values."""
    return ((place, text) for place, text in texts(document) if AS_THEY_ARE.isdisjoint(place))


def variables() -> set[str]:
    """Every variable that the files take from the environment."""
    matches = [
        VARIABLE.fullmatch(text)
        for document in documents().values()
        for _, text in interpolated(document)
    ]
    return {match[1] for match in matches if match}


def documented() -> dict[str, str]:
    """The variables that docs/drift.md lists, with their values if they are not used."""
    rows = re.findall(
        r"^\| `([A-Z_]+)` \| *(.*?) *\|", (ROOT / "docs/drift.md").read_text(), re.MULTILINE
    )
    return {name: default.strip("`") for name, default in rows}


def without_url(environment: Mapping[str, str]) -> set[str]:
    """The receivers because of which Grafana would not start: their URL is empty."""
    return {
        receiver["uid"]
        for point in provisioned("contactPoints")
        for receiver in point["receivers"]
        if not interpolate(receiver["settings"]["url"], environment)
    }


def test_a_dollar_sign_stands_only_before_a_variable_that_is_a_whole_value() -> None:
    for name, document in documents().items():
        for place, text in interpolated(document):
            assert "$" not in text or VARIABLE.fullmatch(text), (name, place)


def test_texts_without_variables_are_the_same_in_every_version() -> None:
    for rule in alert_rules().values():
        for text in rule["annotations"].values():
            assert "${" not in text
            assert "$$" not in text


@pytest.mark.parametrize("value", ["https://example.org/x", "p$HOME${HOME}$$", "a: 'b' \"c\"", ""])
def test_a_value_arrives_unchanged(value: str) -> None:
    environment = dict.fromkeys(variables(), value)

    for document in documents().values():
        for _, text in interpolated(document):
            expected = value if VARIABLE.fullmatch(text) else text
            assert interpolate(text, environment) == expected


def test_the_form_with_braces_changes_a_secret() -> None:
    environment = {"SECRET": "a$HOME"}

    assert interpolate("$SECRET", environment) == "a$HOME"
    assert interpolate("${SECRET}", environment) == "a"
    assert interpolate("${SECRET:-x}", environment) == ""
    assert interpolate("{{ $labels.feature }}", environment) == "{{ .feature }}"
    assert interpolate("{{ $$labels.feature }}", environment) == "{{ $labels.feature }}"


def test_the_documented_defaults_let_grafana_start() -> None:
    assert set(documented()) == variables()

    assert without_url({}) == {
        "heart-slack",
        "heart-slack-news",
        "heart-retraining",
        "heart-github",
    }
    assert without_url(documented()) == set()
    assert without_url(dict.fromkeys(variables(), "http://example.org")) == set()
