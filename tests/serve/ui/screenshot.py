"""Renew the picture of the documentation: `python -m tests.serve.ui.screenshot docs/images/answer.png`.

It shows the answer for one patient, at a width of 1280 pixels, on the real page with a model of the
303 real patients.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.serve.ui.page_fixture import PATIENT, running

WIDTH, HEIGHT = 1280, 858


def take(path: Path) -> None:
    """Fill in a patient, assess the risk, and save the window: the form beside the answer."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Path(folder)) as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--headless", "--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, locale="en-US")
        page.goto(server.url)
        page.wait_for_selector("html[data-ready] #age input")
        for name, value in PATIENT.items():
            if isinstance(value, str):
                page.check(f"#{name} input[value={value}]")
            else:
                page.fill(f"#{name} input", f"{value:g}")
        page.click("#predict")
        page.wait_for_selector("#answer .prediction-id")
        page.screenshot(path=path, animations="disabled")
        browser.close()


if __name__ == "__main__":
    take(Path(sys.argv[1]))
