"""Texts with placeholders are filled with figures, and every placeholder has its source."""

import pytest

from heart import files
from heart.governance import answers
from heart.governance.answers import NOT_AVAILABLE, answer, look_up, table
from tests.heart.governance.documents import ROOT, TABLES, UCI, complete, names

DOCUMENTS = {
    "evaluate": {"roc_auc": 0.9, "roc_auc_low": 0.8, "roc_auc_high": 1.0, "ece": None},
    "facts": {"fit": "A fit of {evaluate.roc_auc:.1f}.", "unknown": "{evaluate.nothing} it is"},
}


@pytest.mark.parametrize("name", TABLES)
def test_every_placeholder_of_a_table_has_its_source(name: str) -> None:
    documents = complete()

    for placeholder in set(names(table(name))):
        look_up(placeholder, documents)
        assert answers.source(placeholder)


def test_every_text_of_a_table_can_be_filled() -> None:
    documents = complete()

    for text in (*table("facts").values(), *table("data_sets")[UCI].values()):
        assert text is None or answer(text, documents).available


def test_a_source_is_a_file_of_the_checkout_or_what_a_command_writes() -> None:
    others = {answers.FILES[name] for name in ("version", "validation")}

    assert [p for p in answers.FILES.values() if p not in others and not (ROOT / p).exists()] == []


def test_the_origin_of_the_table_in_the_checkout_is_known() -> None:
    assert files.md5(ROOT / files.RAW) in table("data_sets")


@pytest.mark.parametrize(
    ("text", "filled", "sources"),
    [
        ("A fixed sentence.", "A fixed sentence.", ()),
        (
            "{evaluate.roc_auc:interval}",
            "0.900 (0.800 to 1.000)",
            ("metrics/evaluate.json: roc_auc",),
        ),
        (
            "{facts.fit} {evaluate.ece}",
            f"A fit of 0.9. {NOT_AVAILABLE}",
            ("heart/governance/facts.yaml: fit", "metrics/evaluate.json: roc_auc"),
        ),
    ],
)
def test_a_text_is_filled_and_names_its_sources(
    text: str, filled: str, sources: tuple[str, ...]
) -> None:
    given = answer(text, DOCUMENTS)

    assert (given.text, given.sources, given.available) == (filled, sources, True)


@pytest.mark.parametrize(
    "text", [None, "{evaluate.ece}", "{train.cv_roc_auc}", "x {facts.unknown}"]
)
def test_what_has_no_figure_at_all_is_not_available(text: str | None) -> None:
    given = answer(text, DOCUMENTS)

    assert (given.text, given.sources, given.available) == (NOT_AVAILABLE, (), False)


def test_of_another_table_nothing_is_said_that_holds_for_the_project_s_only() -> None:
    documents = complete("0" * 32)
    origin = {str(text) for text in table("data_sets")[UCI].values()}

    assert not answer("{data.population}", documents).available
    for text in table("facts").values():
        assert not any(sentence in answer(text, documents).text for sentence in origin)
