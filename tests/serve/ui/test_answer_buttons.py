"""What can be done with an answer, in a real browser: copy, record, print."""

from typing import Any

from heart.locale.language import form_texts
from tests.serve.ui.page_fixture import PATIENT, Running
from tests.serve.ui.visiting import Visit

CANARY = "Room-12-canary"


def assessed(visit: Any, **options: Any) -> Visit:
    visitor: Visit = visit(**options)
    visitor.fill(**PATIENT)
    visitor.assess()
    return visitor


def test_the_prediction_id_is_copied(visit: Any) -> None:
    visitor = assessed(visit, permissions=["clipboard-read", "clipboard-write"])
    button = visitor.page.locator("[data-copy]")
    before = button.inner_text()
    button.click()
    visitor.page.wait_for_function(
        f"document.querySelector('[data-copy]').textContent !== {before!r}"
    )

    copied = visitor.page.evaluate("navigator.clipboard.readText()")
    assert copied == visitor.text(".prediction-id")


def test_a_reference_is_that_of_one_patient(visit: Any) -> None:
    visitor = assessed(visit, permissions=["clipboard-read", "clipboard-write"])
    button = visitor.page.locator("[data-copy]")
    before, key = button.inner_text(), visitor.text(".prediction-id")
    visitor.page.fill("[data-reference]", CANARY)
    button.click()
    visitor.page.wait_for_function(
        f"document.querySelector('[data-copy]').textContent !== {before!r}"
    )
    visitor.fill(age=70)
    visitor.page.click("#predict")
    visitor.page.wait_for_function(
        f"(document.querySelector('#answer .prediction-id')?.textContent ?? {key!r}) !== {key!r}"
    )

    assert visitor.page.input_value("[data-reference]") == ""
    assert button.inner_text() == before


def test_an_outcome_is_recorded_from_the_answer(visit: Any, server: Running) -> None:
    visitor = assessed(visit)
    key = visitor.text(".prediction-id")
    visitor.page.click("[data-record]")
    visitor.page.wait_for_function("document.activeElement.closest('#outcome') !== null")

    assert visitor.page.input_value("#prediction_id :is(input, textarea)") == key
    visitor.page.check("#outcome input[value=absence]")
    visitor.page.check("#source input[value=clinician]")
    visitor.page.click("#record")
    visitor.page.wait_for_selector("#recorded .message.good")
    row = server.service.log.get(key)
    assert row is not None
    assert (row["outcome"], row["source"]) == ("absence", "clinician")
    # Back beside the form, the answer is still that of its inputs.
    visitor.tab(form_texts("en")["tab_patient"])
    assert visitor.page.locator("#answer .stale").count() == 0


def test_the_printout_has_the_answer_its_date_and_version_and_no_form(visit: Any) -> None:
    visitor = assessed(visit, color_scheme="dark", timezone_id="Asia/Jakarta")
    visitor.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    visitor.page.emulate_media(media="print")

    for hidden in ("#form-side", "#top", "[role=tablist]", "#note", "[data-print]"):
        assert not visitor.page.locator(hidden).first.is_visible(), hidden
    year = visitor.page.evaluate("String(new Date().getFullYear())")
    assert year in visitor.text("[data-printed]")
    assert "heart-disease 7" in visitor.text("#answer")
    bar = visitor.page.locator("#answer .bars .raises").first
    assert bar.evaluate("bar => getComputedStyle(bar).printColorAdjust") == "exact"
    assert visitor.background("#answer .bars .raises") == "rgb(180, 83, 9)"
    risk = visitor.page.locator("data.risk")
    assert risk.evaluate("risk => getComputedStyle(risk).color") == "rgb(185, 28, 28)"
    # An empty line is not printed.
    assert not visitor.page.locator("[data-reference]").is_visible()


def test_a_printout_of_a_stale_answer_says_so(visit: Any) -> None:
    visitor = assessed(visit)
    visitor.fill(age=70)
    visitor.page.emulate_media(media="print")

    assert visitor.page.locator("#answer [data-note]").is_visible()


def test_the_reference_of_a_printout_leaves_the_window_in_no_way(visit: Any) -> None:
    visitor = assessed(visit)
    sent: list[str] = []
    visitor.page.on("request", lambda request: sent.append(request.post_data or ""))
    visitor.page.fill("[data-reference]", CANARY)
    visitor.page.check("#language input[value=id]")
    visitor.page.wait_for_selector("#answer section[lang=id]")

    assert visitor.page.input_value("[data-reference]") == CANARY
    visitor.page.emulate_media(media="print")
    assert visitor.page.locator("[data-reference]").is_visible()
    visitor.page.emulate_media(media="screen")
    with visitor.page.expect_response("**/gradio_api/run/**"):
        visitor.page.click("#predict")
    assert sent
    assert not [text for text in (*sent, *visitor.requests) if CANARY in text]
    kept = (
        "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])"
    )
    assert CANARY not in visitor.page.evaluate(kept)
