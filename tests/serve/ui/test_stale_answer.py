"""An answer beside other inputs than its own is marked, in a real browser."""

import time
from typing import Any

import pytest

from heart.locale.language import form_texts
from heart.schema import MEASUREMENTS, Measurement
from serve.ui.examples import EXAMPLES
from tests.serve.ui.page_fixture import ID, PATIENT
from tests.serve.ui.visiting import Visit

STALE = "#answer .stale"
FRESH = "#answer [data-inputs]:not(.stale)"
COMPLETE = EXAMPLES["example_high"]


def is_marked(visitor: Visit, answer: str = "#answer") -> bool:
    """Whether the answer is marked, which is the case if and only if there is a text that says so."""
    note = "".join(visitor.page.locator(f"{answer} [data-note]").all_inner_texts())
    marked = bool(visitor.page.locator(f"{answer} .stale").count())
    assert marked == bool(note)
    return marked


def assessed(visit: Any, patient: dict[str, Any], **options: Any) -> Visit:
    visitor: Visit = visit(**options)
    visitor.fill(**patient)
    visitor.assess()
    assert not is_marked(visitor)
    return visitor


def another(measurement: Measurement) -> Any:
    """A value that the complete patient does not have."""
    value = COMPLETE[measurement.name]
    if measurement.choices:
        return next(c.name for c in measurement.choices if c.name != value)
    return "" if measurement.name == "resting_bp" else value + 1


def test_every_edit_marks_the_answer_at_once_and_its_undoing_unmarks_it(visit: Any) -> None:
    visitor = assessed(visit, COMPLETE)
    visitor.context.set_offline(True)

    for measurement in MEASUREMENTS:
        visitor.fill(**{measurement.name: another(measurement)})
        assert is_marked(visitor), measurement.name
        visitor.fill(**{measurement.name: COMPLETE[measurement.name]})
        assert not is_marked(visitor), measurement.name


def test_a_number_that_is_not_finished_marks_the_answer(visit: Any) -> None:
    visitor = assessed(visit, {"age": 61, "sex": "female"})
    visitor.page.focus("#st_depression input")
    visitor.page.keyboard.type("1e")

    assert is_marked(visitor)


@pytest.mark.parametrize("button", ["example_little", "clear"])
def test_filling_the_form_marks_the_answer_without_the_server(visit: Any, button: str) -> None:
    visitor = assessed(visit, PATIENT)
    visitor.context.set_offline(True)
    visitor.page.get_by_role("button", name=form_texts("en")[button]).click()
    visitor.page.wait_for_selector(STALE)

    assert visitor.page.input_value("#cholesterol input") == ""


def test_the_next_answer_is_not_marked(visit: Any) -> None:
    visitor = assessed(visit, PATIENT)
    visitor.page.get_by_role("button", name=form_texts("en")["example_little"]).click()
    visitor.page.wait_for_selector(STALE)
    visitor.page.click("#predict")
    visitor.page.wait_for_selector(FRESH)

    assert not is_marked(visitor)


@pytest.mark.parametrize("edited", [False, True])
def test_the_language_switch_keeps_the_mark_and_makes_none(visit: Any, edited: bool) -> None:
    visitor = assessed(visit, COMPLETE)
    if edited:
        visitor.fill(age=50)
    english = visitor.text("#answer [data-note]")
    visitor.page.check("#language input[value=id]")
    visitor.page.wait_for_selector("#answer section[lang=id]")

    assert is_marked(visitor) == edited
    assert visitor.text("#answer [data-note]") != english or not edited


# Counts the frames in which an answer is shown without the mark.
COUNT_UNMARKED = """() => {
  window.unmarked = 0;
  const look = () => {
    if (document.querySelector("#answer [data-inputs]:not(.stale)")) window.unmarked += 1;
    requestAnimationFrame(look);
  };
  look();
}"""


def test_an_answer_that_comes_after_an_edit_is_never_shown_unmarked(visit: Any) -> None:
    visitor: Visit = visit()
    visitor.fill(**PATIENT)
    sent: list[Any] = []
    visitor.page.route("**/gradio_api/run/**", lambda route: sent.append(route))  # noqa: PLW0108
    with visitor.page.expect_request("**/gradio_api/run/**"):
        visitor.page.click("#predict")
    visitor.fill(age=50)
    visitor.page.evaluate(COUNT_UNMARKED)
    deadline = time.monotonic() + 10
    while not sent and time.monotonic() < deadline:
        visitor.page.wait_for_timeout(10)
    sent[0].continue_()
    visitor.risk()

    assert is_marked(visitor)
    assert visitor.page.evaluate("window.unmarked") == 0
    visitor.fill(age=57)
    assert not is_marked(visitor)


def test_values_that_a_browser_restores_mark_the_answer(visit: Any) -> None:
    visitor = assessed(visit, PATIENT)
    # As it does without telling the page: no event of the input.
    visitor.page.evaluate(
        """() => {
          document.querySelector("#age input").value = 61;
          dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }));
        }"""
    )

    assert is_marked(visitor)


def test_back_and_forward_show_no_answer_beside_other_inputs(visit: Any) -> None:
    visitor = assessed(visit, PATIENT)
    visitor.page.goto("about:blank")
    visitor.page.go_back()
    visitor.page.wait_for_selector("html[data-ready] #age input")

    same = float(visitor.page.input_value("#age input") or 0) == PATIENT["age"]
    assert same or not visitor.page.locator(FRESH).count()


def test_form_errors_are_marked_stale_after_an_edit(visit: Any) -> None:
    visitor: Visit = visit()
    visitor.fill(age=300, sex="male")
    visitor.page.click("#predict")
    visitor.page.wait_for_selector("#answer [role=alert]")
    assert not is_marked(visitor)

    visitor.fill(age=30)
    assert is_marked(visitor)


def test_the_mark_is_announced_and_needs_neither_color_nor_width(visit: Any) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    visitor = assessed(visit, PATIENT, **phone)
    visitor.fill(age=50)

    note = visitor.page.locator("#answer [data-note]")
    box = note.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    assert note.evaluate("note => note.closest('[aria-live]').ariaLive") == "polite"
    risk = visitor.page.locator("data.risk")
    assert risk.evaluate("risk => getComputedStyle(risk).textDecorationLine") == "line-through"


def test_message_about_an_outcome_is_marked_beside_other_entries(visit: Any) -> None:
    visitor: Visit = visit()
    visitor.tab("Record an outcome")
    key = "#prediction_id input, #prediction_id textarea"
    visitor.page.fill(key, ID)
    visitor.page.check("#outcome input[value=presence]")
    visitor.page.check("#source input[value=angiography]")
    visitor.page.click("#record")
    visitor.page.wait_for_selector("#recorded [role=alert]")
    assert not is_marked(visitor, "#recorded")

    changes: list[Any] = [
        lambda on: visitor.page.fill(key, ID[:-1] if on else ID),
        lambda on: visitor.page.check(f"#outcome input[value={'absence' if on else 'presence'}]"),
        lambda on: visitor.page.check(
            f"#source input[value={'registry' if on else 'angiography'}]"
        ),
        lambda on: visitor.page.set_checked("#replace input", on),
    ]
    for change in changes:
        change(True)
        assert is_marked(visitor, "#recorded")
        change(False)
        assert not is_marked(visitor, "#recorded")


PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.mark.parametrize("options", [{}, PHONE], ids=["desktop", "phone"])
def test_a_changed_input_is_said_beside_the_button_and_the_next_answer_comes_into_view(
    visit: Any, options: dict[str, Any]
) -> None:
    visitor = assessed(visit, PATIENT, **options)
    note, button = visitor.page.locator("#changed"), visitor.page.locator("#predict")
    assert not note.is_visible()

    visitor.fill(age=70)
    assert note.is_visible()
    assert note.get_attribute("id") == button.get_attribute("aria-describedby")
    places = [box.bounding_box() for box in (note, button)]
    assert abs(places[0]["y"] - places[1]["y"]) < 100

    button.focus()
    visitor.page.keyboard.press("Enter")
    visitor.page.wait_for_selector(FRESH)
    visitor.page.wait_for_function(
        "(() => { const { top } = document.querySelector('data.risk').getBoundingClientRect();"
        " return top >= 0 && top < innerHeight; })()"
    )
    assert not note.is_visible()
    assert visitor.page.evaluate("document.activeElement.id") == "predict"
