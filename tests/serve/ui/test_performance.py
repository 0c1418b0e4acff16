"""The estimated performance on the page."""

import numpy as np
import pytest

from heart.locale.language import LANGUAGES, translate
from heart.ml.label_free import Estimate
from monitoring.estimated import EstimatedPerformance
from serve.estimate_check import EstimateCheck
from serve.ui.performance import performance_html

ESTIMATE = EstimatedPerformance(
    "1",
    400,
    {"accuracy": Estimate(0.87, 0.83, 0.9), "brier": Estimate(0.1, 0.08, 0.12), "roc_auc": None},
    np.zeros(400, dtype=np.float32),
)
LABELED = {"labels": 40.0, "accuracy": 0.55, "roc_auc": 0.61}


def test_without_an_estimate_there_is_nothing() -> None:
    assert performance_html(None, LABELED, None, "en") == ""


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_figure_has_its_interval_beside_the_one_on_outcomes(language: str) -> None:
    check = EstimateCheck(40, 0.31, 0.12, 1.7)

    html = performance_html(ESTIMATE, LABELED, check, language)

    expected = {"0.87", "0.83", "0.90", "0.10", "0.31", "0.55", "0.61"}
    separator = "." if language == "en" else ","
    assert all(text.replace(".", separator) in html for text in expected)
    assert "message bad" in html


def test_the_verdict_depends_on_the_outcomes() -> None:
    agreeing = EstimateCheck(40, 0.11, 0.12, 0.2)

    assert "message bad" not in performance_html(ESTIMATE, LABELED, agreeing, "en")
    unchecked = translate("estimate.unchecked", "en", minimum=11)
    assert unchecked in performance_html(ESTIMATE, None, None, "en")
