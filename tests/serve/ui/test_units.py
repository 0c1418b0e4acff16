"""Cholesterol in mmol/l: converted once, to the unit of the API."""

import asyncio
import json
import re
from html import unescape
from typing import Any

import pytest

from heart.schema import MEASUREMENTS, NAMES
from serve.service import Service
from serve.ui.callbacks import Callbacks
from serve.ui.table import INPUTS, read_form
from serve.ui.units import CHOLESTEROL, MG_DL, MMOL_L, entered, in_schema_unit
from tests.serve.ui.page_fixture import PATIENT


def form(cholesterol: Any, unit: Any) -> list[Any]:
    values = {**PATIENT, "cholesterol": cholesterol, "cholesterol_unit": unit}
    return [values.get(name) for name in INPUTS]


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (240, MG_DL, 240),
        (240, None, 240),
        (240, "grain", 240),
        (6.21, MMOL_L, 240),
        ("6.21", MMOL_L, 240),
        (2.07, MMOL_L, 80),
        (18.1, MMOL_L, 700),
        (None, MMOL_L, None),
        ("", MMOL_L, None),
    ],
)
def test_the_patient_has_mg_dl(value: Any, unit: Any, expected: Any) -> None:
    patient, problems = read_form(form(value, unit), "en")

    assert problems == []
    assert patient == {**dict.fromkeys(NAMES), **PATIENT, "cholesterol": expected}


@pytest.mark.parametrize(("value", "unit"), [(6.2, MG_DL), (240, MMOL_L), (True, MMOL_L)])
def test_a_value_of_the_other_unit_is_an_error_in_the_chosen_one(value: Any, unit: str) -> None:
    patient, (problem,) = read_form(form(value, unit), "en")

    assert patient["cholesterol"] is None
    assert (problem.name, problem.invalid) == ("cholesterol", True)
    assert unit in problem.text


def test_every_mg_dl_survives_the_way_through_mmol_l() -> None:
    in_mmol = CHOLESTEROL[MMOL_L]
    low, high = (int(bound) for bound in (CHOLESTEROL[MG_DL].low, CHOLESTEROL[MG_DL].high))

    for mg_dl in range(low, high + 1):
        shown = round(mg_dl / 38.67, 2)  # as static/convert_unit.js
        assert in_mmol.low <= shown <= in_mmol.high
        assert in_schema_unit(in_mmol, shown) == mg_dl


def test_only_cholesterol_has_a_second_unit() -> None:
    assert [m.name for m in MEASUREMENTS if entered(m, MMOL_L) is not m] == ["cholesterol"]


def test_another_language_writes_the_same_answer_for_mmol_l(service: Service) -> None:
    handlers = Callbacks(service)
    first, state = asyncio.run(handlers.predict("en", *form(6.21, MMOL_L)))
    second = asyncio.run(handlers.rewrite("id", state))

    risks = [re.findall(r'class="risk" value="([^"]+)"', html) for html in (first, second)]
    inputs = [
        json.loads(unescape(re.findall(r'data-inputs="([^"]*)"', html)[0]))
        for html in (first, second)
    ]
    assert risks[0] == risks[1] != []
    assert inputs[0] == inputs[1]
    assert (inputs[0]["cholesterol"], inputs[0]["cholesterol_unit"]) == (6.21, MMOL_L)
    row = service.log.get(json.loads(str(state))["prediction_id"])
    assert row is not None
    assert row["cholesterol"] == 240
