"""Take the screenshots of the documentation, 1280 pixels wide.

`python -m tests.serve.ui.screenshot docs/images/answer.png` shows the answer for one patient, on the
real page with a model of the 303 real patients. `... docs/images/drift-quiet.png URL` shows the drift
tab of a running service: docs/drift.md has the commands that bring it into either state.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from tests.serve.ui.page_fixture import PATIENT, running

WIDTH, HEIGHT = 1280, 858


@contextmanager
def visit(url: str) -> Iterator[Any]:
    """The page in a browser, once it can be used."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--headless", "--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, locale="en-US")
        page.goto(url)
        page.wait_for_selector("html[data-ready] #age input")
        yield page
        browser.close()


def take_answer(path: Path) -> None:
    """Fill in a patient, estimate the risk, and save the window: the form beside the answer."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Path(folder)) as server,
        visit(server.url) as page,
    ):
        for name, value in PATIENT.items():
            if isinstance(value, str):
                page.check(f"#{name} input[value={value}]")
            else:
                page.fill(f"#{name} input", f"{value:g}")
        page.click("#predict")
        page.wait_for_selector("#answer .prediction-id")
        page.mouse.move(0, 0)  # no field looks as if it were pointed at
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=path, animations="disabled")


def take_drift(path: Path, url: str) -> None:
    """Save the drift tab of a running service."""
    with visit(url) as page:
        page.get_by_role("tab", name="Drift").click()
        page.wait_for_selector("#comparison h2:visible")
        page.locator("[role=tabpanel]:visible").screenshot(path=path, animations="disabled")


if __name__ == "__main__":
    target, *urls = sys.argv[1:]
    if urls:
        take_drift(Path(target), urls[0])
    else:
        take_answer(Path(target))
