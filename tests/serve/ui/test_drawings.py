"""What is drawn and written as HTML: the answer, scores, and the tab about the model."""

import re
import xml.etree.ElementTree as ET
from dataclasses import fields, replace

import numpy as np
import pytest

from heart.errors import UserError
from heart.locale.language import LANGUAGES, Language, translate
from serve.explain import Assessment, assess
from serve.ui.about import about_html
from serve.ui.answer import answer_html
from serve.ui.scores import scored_html, table_problems_html, unreadable_table_html
from serve.ui.table import read_table
from tests.serve.ui.page_fixture import ID, PATIENT, a_table, an_answer, random_patient, tiny_model


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_answer_is_well_formed(language: Language) -> None:
    random = np.random.default_rng(1)
    for _ in range(10):
        assessment = assess(tiny_model(), random_patient(random))
        html = str(answer_html(assessment, "<b>&", language))
        ET.fromstring(html.replace("<br>", "<br/>"))  # noqa: S314


def test_the_answer_holds_the_number_itself() -> None:
    assessment = assess(tiny_model(), PATIENT)
    html = answer_html(assessment, ID, "en")

    assert f'value="{assessment.risk:.6f}"' in html
    assert translate("answer.frequency", "en", count=assessment.frequency) in html
    assert translate("answer.entered", "en", entered=7, all=13) in html
    assert ID in html


def test_as_many_circles_are_filled_as_people_are_sick() -> None:
    assessment = replace(assess(tiny_model(), PATIENT), risk=0.28)
    html = answer_html(assessment, ID, "en")

    assert (html.count('class="filled"'), html.count('class="empty"')) == (28, 72)


def test_drawings_are_described() -> None:
    html = answer_html(assess(tiny_model(), PATIENT), ID, "en") + about_html(tiny_model(), "en")

    assert html.count('role="img"') == 3
    assert len(re.findall(r'role="img">\s*<title>[^<]', html)) == 3


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


def test_about_tab_reports_missing_figures() -> None:
    html = about_html(replace(tiny_model(), figures={}, calibration=[]), "en")

    assert translate("model.no_figures", "en") in html


def test_the_answer_has_all_that_the_assessment_has() -> None:
    # Whoever adds a field decides here whether it is shown.
    assert {field.name for field in fields(Assessment)} == {
        "patient", "threshold", "risk", "low", "high", "average", "start",
        "contributions", "risk_ranges", "warnings",
    }  # fmt: skip
