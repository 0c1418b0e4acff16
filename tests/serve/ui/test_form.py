"""The form in a real browser: errors at their fields, units, and buttons in reach."""

from typing import Any

import pytest

from heart.locale.language import form_texts
from heart.schema import MEASUREMENTS
from tests.serve.ui.page_fixture import PATIENT, Running
from tests.serve.ui.visiting import Visit

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
FOCUSED = "document.activeElement.closest('.block[id]')?.id"


def choose_unit(visitor: Visit, unit: str) -> None:
    visitor.page.check(f"#cholesterol_unit input[value='{unit}']")


def test_errors_stand_at_their_fields_until_these_are_edited(visit: Any) -> None:
    visitor: Visit = visit()
    visitor.fill(sex="male", age=300, cholesterol=9)
    visitor.page.focus("#cholesterol input")
    visitor.page.keyboard.press("Enter")
    visitor.page.wait_for_selector("#age .field-error")

    assert visitor.page.evaluate(FOCUSED) == "age"
    for name in ("age", "cholesterol"):
        field = visitor.page.locator(f"#{name} input")
        assert field.get_attribute("aria-invalid") == "true"
        message = visitor.page.locator(f"#{field.get_attribute('aria-describedby')}")
        assert message.is_visible()
    assert visitor.page.locator("[aria-invalid]").count() == 2

    visitor.fill(age=57)
    assert visitor.page.locator("#age .field-error").count() == 0
    assert visitor.page.locator("#cholesterol .field-error").count() == 1
    visitor.fill(cholesterol=240)
    visitor.assess()
    assert visitor.page.locator("[aria-invalid], .field-error").count() == 0


def test_a_choice_that_is_required_is_marked_and_focused(visit: Any) -> None:
    visitor: Visit = visit(**PHONE)
    visitor.fill(age=57)
    visitor.page.click("#predict")
    visitor.page.wait_for_selector("#sex .field-error")

    assert visitor.page.evaluate(FOCUSED) == "sex"
    group = visitor.page.locator("#sex")
    assert (group.get_attribute("role"), group.get_attribute("aria-invalid")) == (
        "radiogroup",
        "true",
    )
    box, bar = group.bounding_box(), visitor.page.locator("#submit").bounding_box()
    assert box["y"] >= 0
    assert box["y"] + box["height"] <= bar["y"]


def test_the_same_error_twice_takes_the_focus_twice(visit: Any) -> None:
    visitor: Visit = visit()
    visitor.fill(age=300, sex="male")
    for _ in range(2):
        visitor.page.focus("#predict")
        visitor.page.keyboard.press("Enter")
        visitor.page.wait_for_function(f"{FOCUSED} === 'age'")


def test_numbers_have_their_ranges(visit: Any) -> None:
    visitor: Visit = visit()

    for m in (m for m in MEASUREMENTS if not m.choices):
        field = visitor.page.locator(f"#{m.name} input")
        bounds = [float(field.get_attribute(name) or "nan") for name in ("min", "max", "step")]
        assert bounds == [m.low, m.high, m.step], m.name


def test_cholesterol_is_converted_once(visit: Any, server: Running) -> None:
    visitor: Visit = visit()
    visitor.fill(**PATIENT)
    risk = visitor.assess()

    def shown() -> str:
        return str(visitor.page.input_value("#cholesterol input"))

    choose_unit(visitor, "mmol/l")
    visitor.page.wait_for_function("document.querySelector('#cholesterol input').value === '6.21'")
    assert visitor.page.get_attribute("#cholesterol input", "max") == "18.1"
    assert visitor.page.locator("#answer .stale").count() == 1
    visitor.page.click("#predict")
    visitor.page.wait_for_selector("#answer [data-inputs]:not(.stale)")
    assert visitor.risk() == risk
    row = server.service.log.get(visitor.text(".prediction-id"))
    assert row is not None
    assert row["cholesterol"] == 240

    choose_unit(visitor, "mg/dl")
    visitor.page.wait_for_function("document.querySelector('#cholesterol input').value === '240'")
    # A number that was typed for the unit that is chosen afterwards stays.
    visitor.fill(cholesterol=5.5)
    choose_unit(visitor, "mmol/l")
    visitor.page.wait_for_function("document.querySelector('#cholesterol input').max === '18.1'")
    assert shown() == "5.5"


def test_an_example_is_in_the_unit_of_the_schema(visit: Any) -> None:
    visitor: Visit = visit()
    choose_unit(visitor, "mmol/l")
    visitor.page.get_by_role("button", name=form_texts("en")["example_high"]).click()
    visitor.page.wait_for_function("document.querySelector('#cholesterol input').value === '286'")

    assert visitor.page.is_checked("#cholesterol_unit input[value='mg/dl']")


@pytest.mark.parametrize("options", [{}, PHONE], ids=["desktop", "phone"])
def test_the_button_is_in_reach_wherever_the_form_is(visit: Any, options: dict[str, Any]) -> None:
    visitor: Visit = visit(**options)
    height = visitor.page.evaluate("innerHeight")

    for name in ("age", "exercise_angina", "thallium"):
        visitor.page.locator(f"#{name}").scroll_into_view_if_needed()
        box = visitor.page.locator("#predict").bounding_box()
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= height


def test_the_form_is_short(visit: Any) -> None:
    """Without the answer, at most one and a quarter windows of a notebook."""
    visitor: Visit = visit(viewport={"width": 1280, "height": 858})

    assert visitor.page.locator("#form-side").bounding_box()["height"] < 1100
