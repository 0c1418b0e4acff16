"""What is drawn and written as HTML: the answer, scores, and the tab about the model."""

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import astuple, fields, replace
from html import unescape

import numpy as np
import pytest

from heart.errors import UserError
from heart.locale.language import LANGUAGES, Language, translate
from serve.explain import Assessment, assess
from serve.ui.about import about_html, counts_of
from serve.ui.answer import answer_html
from serve.ui.scores import scored_html, table_problems_html, unreadable_table_html
from serve.ui.table import read_table
from tests.heart.registry.registry_fixture import ROOT
from tests.serve.ui.page_fixture import (
    FIGURES,
    ID,
    PATIENT,
    a_table,
    an_answer,
    random_patient,
    tiny_model,
)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_answer_is_well_formed(language: Language) -> None:
    random = np.random.default_rng(1)
    for _ in range(10):
        assessment = assess(tiny_model(), random_patient(random))
        html = str(answer_html(assessment, "<b>&", language, tiny_model()))
        ET.fromstring(html.replace("<br>", "<br/>"))  # noqa: S314


def test_the_answer_holds_the_number_itself() -> None:
    assessment = assess(tiny_model(), PATIENT)
    html = answer_html(assessment, ID, "en", tiny_model())

    assert f'value="{assessment.risk:.6f}"' in html
    assert translate("answer.frequency", "en", count=assessment.frequency) in html
    assert translate("answer.entered", "en", entered=7, all=13) in html
    assert ID in html


@pytest.mark.parametrize(("risk", "quarter"), [(0.02, 1), (0.3, 2), (0.5, 3), (0.93, 4), (1.0, 4)])
def test_the_risk_is_marked_on_the_scale_without_color(risk: float, quarter: int) -> None:
    assessment = replace(assess(tiny_model(), PATIENT), risk=risk)
    html = answer_html(assessment, ID, "en", tiny_model())

    assert f'class="answer level-{quarter}"' in html
    assert re.findall(r'class="quarter level-(\d) here"', html) == [str(quarter)]
    assert re.findall(r">(\d+)%</text>", html) == ["0", "25", "50", "75", "100"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_answer_says_for_whom_it_holds_and_that_it_is_no_medical_device(
    language: Language,
) -> None:
    html = unescape(answer_html(assess(tiny_model(), PATIENT), ID, language, tiny_model()))

    for key in ("answer.risk", "answer.use", "answer.no_use", "answer.no_attack", "page.note"):
        assert translate(key, language) in html


def test_having_no_chest_pain_is_explained_only_where_it_contributes_most() -> None:
    assessment = assess(tiny_model(), PATIENT)
    others = {**assessment.contributions, "chest_pain_type": 0.2, "age": -0.3}
    typical = assess(tiny_model(), {**PATIENT, "chest_pain_type": "typical_angina"})

    def explains(result: Assessment) -> bool:
        return 'class="referral"' in answer_html(result, ID, "en", tiny_model())

    assert explains(replace(assessment, contributions={"chest_pain_type": 0.2, "age": 0.1}))
    assert not explains(replace(assessment, contributions=others))
    assert not explains(replace(assessment, contributions={"chest_pain_type": -0.2}))
    assert not explains(replace(typical, contributions={"chest_pain_type": 0.2}))
    assert not explains(replace(assessment, contributions={}))


def test_as_many_circles_are_filled_as_people_are_sick() -> None:
    assessment = replace(assess(tiny_model(), PATIENT), risk=0.28)
    html = answer_html(assessment, ID, "en", tiny_model())

    assert (html.count('class="filled"'), html.count('class="empty"')) == (28, 72)


def test_drawings_are_described() -> None:
    html = answer_html(assess(tiny_model(), PATIENT), ID, "en", tiny_model()) + about_html(
        tiny_model(), "en"
    )

    assert html.count('role="img"') == 5
    assert len(re.findall(r'role="img">\s*<title>[^<]', html)) == 5


def test_user_input_is_escaped() -> None:
    table, _ = a_table("patient_id,age,sex\n<script>alert(1)</script>,57,male\n")
    _, problems = read_table(b"age,sex,cp\n57,male,<script>\n", "auto", "en")
    with pytest.raises(UserError) as error:
        read_table(b"age,sex,<script>\n57,male,1\n", "auto", "en")

    for html in (
        scored_html(table, [an_answer()], "en"),
        table_problems_html(problems, "en"),
        unreadable_table_html(str(error.value), "en"),
        about_html(tiny_model(), "en"),
    ):
        assert "<script>" not in html
        assert "source_<b>" not in html


def test_about_the_model_shows_figures_with_intervals() -> None:
    html = about_html(tiny_model(), "id")

    assert "0,93 (0,86–0,98)" in html  # noqa: RUF001 - as written there
    assert "73 pasien uji" in html
    assert re.search(r"\b32\b", html)  # of them with the disease


def test_specificity_and_npv_follow_from_the_stored_figures() -> None:
    figures = json.loads((ROOT / "metrics" / "evaluate.json").read_text())
    for name in ("specificity", "npv"):  # as of a version that was registered without them
        del figures[name], figures[f"{name}_low"], figures[f"{name}_high"]
    counts = counts_of(figures)
    assert counts is not None
    rows = about_html(replace(tiny_model(), figures=figures), "en")

    tp, fp, fn, tn = astuple(counts)
    assert (tp + fn, tp + fp + fn + tn) == (figures["presence"], figures["rows"])
    for name in ("accuracy", "recall", "precision"):
        part, whole = counts.parts[name]
        assert part / whole == pytest.approx(figures[name], abs=1e-6)
    assert re.search(rf"Specificity</td>\s.*>{tn / (tn + fp):.2f}<", rows)
    assert re.search(rf"Negative predictive value</td>\s.*>{tn / (tn + fn):.2f}<", rows)
    for group in figures["groups"].values():
        part_counts = counts_of(group)
        assert part_counts is not None
        assert min(astuple(part_counts)) >= 0
        cells = rf"\D>{group['presence']}<\D+>{group['rows'] - group['presence']}<"
        assert re.search(cells, rows)


def test_a_stored_specificity_is_shown_with_its_interval() -> None:
    stored = {"specificity": 0.9, "specificity_low": 0.8, "specificity_high": 0.95}
    html = about_html(replace(tiny_model(), figures={**FIGURES, **stored}), "en")

    assert re.search(r"Specificity</td>\s.*>0\.90 \(0\.80.0\.95\)<", html)


def test_hashes_come_after_what_a_user_needs() -> None:
    html = about_html(tiny_model(), "en")
    keys = (
        "model.use",
        "model.groups",
        "model.roc",
        "model.decision",
        "model.citation",
        "model.origin",
    )
    places = [html.index(translate(key, "en")) for key in keys]

    assert places == sorted(places)
    assert html.index(tiny_model().sha256) > places[-1]


def test_about_tab_reports_missing_figures() -> None:
    html = about_html(replace(tiny_model(), figures={}, calibration=[]), "en")

    assert translate("model.no_figures", "en") in html


def test_the_answer_has_all_that_the_assessment_has() -> None:
    # Whoever adds a field decides here whether it is shown.
    assert {field.name for field in fields(Assessment)} == {
        "patient", "threshold", "risk", "low", "high", "hospital_low", "hospital_high", "average", "start",
        "contributions", "risk_ranges", "warnings",
    }  # fmt: skip


def test_the_answer_shows_the_interval_at_another_hospital() -> None:
    assessment = replace(
        assess(tiny_model(), PATIENT), low=0.5, high=0.6, hospital_low=0.31, hospital_high=0.79
    )

    html = answer_html(assessment, ID, "en", tiny_model())
    without = answer_html(replace(assessment, hospital_low=None), ID, "en", tiny_model())

    shown = translate("answer.hospital_interval", "en", low="31%", high="79%")
    assert shown in html
    assert shown not in without
