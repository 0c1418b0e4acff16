"""What the tests of the page share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.service import Service
from tests.serve.ui.page_fixture import a_service


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with a_service(tmp_path) as made:
        yield made
