"""A visitor of the page, in a real browser."""

from typing import Any

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Visit:
    """A visitor with a window of their own, and all that their browser requests for."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(url)
        self.page.wait_for_selector("html[data-ready] #age input")

    def _console(self, message: Any) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def fill(self, **patient: Any) -> None:
        for name, value in patient.items():
            if isinstance(value, str) and value != "":
                self.page.check(f"#{name} input[value={value}]")
            else:
                self.page.fill(f"#{name} input", str(value))

    def assess(self) -> float:
        self.page.click("#predict")
        return self.risk()

    def risk(self) -> float:
        return float(self.page.wait_for_selector("data.risk").get_attribute("value"))

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name).click()

    def text(self, selector: str) -> str:
        return str(self.page.inner_text(selector))

    def background(self, selector: str) -> str:
        element = self.page.locator(selector).first
        return str(element.evaluate("element => getComputedStyle(element).backgroundColor"))
