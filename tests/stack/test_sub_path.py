"""The service below a sub-path of the stack's nginx: page, login, assets, documentation, in a real browser."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from serve.app import create_app
from tests.conftest import Require
from tests.serve.small_service import parts
from tests.serve.ui.page_fixture import PATIENT, TOKEN, serving
from tests.serve.ui.visiting import ARGUMENTS
from tests.stack.nginx import installed, running

pytestmark = pytest.mark.integration

LOCATION = "    location / {\n      proxy_pass"
# A proxy that passes the path on, as the stack's does, and one that removes the sub-path and names it.
PROXIES: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "passes the path on": ({"root_path": "/heart"}, {}),
    "removes the sub-path": (
        {"trust_forwarded_prefix": True},
        {
            LOCATION: "    location / {\n      rewrite ^/heart(/.*)$ $1 break;\n      proxy_pass",
            'proxy_set_header X-Forwarded-Prefix "";': "proxy_set_header X-Forwarded-Prefix /heart;",
        },
    ),
}


@pytest.fixture(params=PROXIES)
def url(request: Any, require: Require, tmp_path: Path) -> Iterator[str]:
    """The address of the page behind nginx."""
    settings, changes = PROXIES[request.param]
    program = require(installed(), "nginx")
    app = create_app(*parts(tmp_path, api_token=TOKEN, **settings))
    path = f"{settings.get('root_path', '')}/"
    (tmp_path / "nginx").mkdir()
    with (
        serving(app, path) as backend,
        running(program, tmp_path / "nginx", urlsplit(backend).port or 0, changes) as port,
    ):
        yield f"http://127.0.0.1:{port}/heart"


@pytest.fixture
def page(require: Require) -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    program = require(shutil.which("chromium"), "chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser.new_page(locale="en-GB")
        browser.close()


def test_the_whole_service_works_below_a_sub_path(page: Any, url: str) -> None:
    requests: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))

    page.goto(url)  # without the slash at the end
    page.wait_for_selector("input[type=password]")
    page.fill("input >> nth=0", "anyone")
    page.fill("input[type=password]", TOKEN)
    page.press("input[type=password]", "Enter")
    page.wait_for_selector("html[data-ready] #age input")
    page.fill("#age input", str(PATIENT["age"]))
    page.check("#sex input[value=male]")
    page.click("#predict")

    assert 0 < float(page.wait_for_selector("data.risk").get_attribute("value")) < 1
    page.goto(f"{url}/docs")
    page.wait_for_selector('[data-path="/v1/predict/batch"]')
    page.goto(f"{url}/logout")
    page.wait_for_selector("input[type=password]")
    assert page.url.rstrip("/") == url
    links = page.eval_on_selector_all("link[href]", "all => all.map(one => one.href)")
    assert not [link for link in links if not link.startswith(f"{url}/")]
    outside = [one for one in requests if not one.startswith((url, "data:", "blob:"))]
    assert (outside, errors) == ([], [])
    assert httpx.get(f"{url}/metrics").status_code == 404
