"""What the tests of the page share."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serve.service import Service
from tests.conftest import Require
from tests.serve.ui.page_fixture import TOKEN, GradioPage, Running, a_service, gradio_page, running
from tests.serve.ui.visiting import Visit


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with a_service(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, require: Require) -> Iterator[Running]:
    require(shutil.which("chromium"), "chromium")
    with running(tmp_path_factory.mktemp("page")) as started:
        yield started


@pytest.fixture
def visit(browser: Any, server: Running) -> Iterator[Any]:
    """Open the page; afterwards nothing went to another host and nothing went wrong in the browser."""
    opened = []

    def open_page(**options: Any) -> Visit:
        opened.append(Visit(browser, server.url, **{"locale": "en-GB", **options}))
        return opened[-1]

    yield open_page
    for one in opened:
        one.context.close()
        assert [
            url for url in one.requests if not url.startswith((server.url, "data:", "blob:"))
        ] == []
        assert one.errors == []


@pytest.fixture(scope="session")
def closed_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GradioPage]:
    """The page of a service with a token."""
    with gradio_page(tmp_path_factory.mktemp("closed"), api_token=TOKEN) as made:
        yield made


@pytest.fixture(scope="session")
def open_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GradioPage]:
    """The page of a service without a token."""
    with gradio_page(tmp_path_factory.mktemp("open")) as made:
        yield made
