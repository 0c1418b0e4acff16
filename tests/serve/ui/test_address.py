"""The language and the tab in the page's address, and the login page, in a real browser."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from heart.locale.language import LANGUAGES, form_texts, translate
from tests.serve.ui.page_fixture import PATIENT, TOKEN, a_service, an_app, serving
from tests.serve.ui.visiting import Visit


def place(visitor: Visit) -> dict[str, list[str]]:
    return parse_qs(urlsplit(visitor.page.url).fragment)


def reload(visitor: Visit) -> None:
    visitor.page.reload()
    visitor.page.wait_for_selector("html[data-ready]")


def selected(visitor: Visit) -> str:
    return str(visitor.page.locator("[role=tab][aria-selected=true]").inner_text())


def test_language_and_tab_are_kept_on_reload(visit: Any) -> None:
    visitor: Visit = visit()
    assert place(visitor) == {}

    visitor.page.check("#language input[value=id]")
    visitor.page.wait_for_selector("#answer [lang=id]")
    visitor.tab(form_texts("id")["tab_about"])
    assert place(visitor) == {"lang": ["id"], "tab": ["about"]}
    reload(visitor)
    visitor.page.wait_for_selector("svg.plot:visible")

    assert selected(visitor) == form_texts("id")["tab_about"]
    assert visitor.page.is_checked("#language input[value=id]")
    assert visitor.page.get_attribute("html", "lang") == "id"


@pytest.mark.parametrize("fragment", ["tab=nothing&lang=xx", "tab=", "%%%", "lang=<script>"])
def test_an_address_that_names_nothing_is_the_first_tab_in_the_browsers_language(
    visit: Any, fragment: str
) -> None:
    visitor: Visit = visit()
    visitor.page.goto(visitor.page.url + "#" + fragment)
    reload(visitor)

    assert selected(visitor) == form_texts("en")["tab_patient"]


def test_no_measurement_is_in_the_address(visit: Any) -> None:
    visitor: Visit = visit()
    visitor.fill(**PATIENT)
    visitor.assess()
    visitor.page.click("[data-record]")
    visitor.page.wait_for_function("document.activeElement.closest('#outcome') !== null")

    assert place(visitor) == {"tab": ["outcome"]}


def test_the_login_page_has_the_name_of_the_product(browser: Any, tmp_path: Path) -> None:
    with (
        a_service(tmp_path) as service,
        serving(an_app(service, api_token=TOKEN)[0]) as url,
    ):
        context = browser.new_context(viewport={"width": 390, "height": 844}, locale="en-GB")
        page = context.new_page()
        page.goto(f"{url}#tab=about&lang=id")
        heading = page.get_by_role("heading", level=1)
        heading.wait_for()
        for language in LANGUAGES:
            assert form_texts(language)["title"] in heading.inner_text()
            assert translate("page.note", language) in page.inner_text("body")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390

        page.fill("input[type=text]", "anyone")
        page.fill("input[type=password]", TOKEN)
        page.get_by_role("button").click()
        page.wait_for_selector("svg.plot:visible")
        assert page.is_checked("#language input[value=id]")
        context.close()
