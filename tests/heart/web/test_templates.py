"""HTML from templates: values are escaped, and none may be missing."""

from pathlib import Path

import pytest
from jinja2 import UndefinedError

from heart.web.templates import environment, render


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "part.html").write_text("<b>{{ text }}</b>\n")
    return tmp_path


def test_value_is_escaped_and_html_of_a_template_is_not(folder: Path) -> None:
    templates = environment(folder)

    html = render(templates, "part.html", "en", text="<script>")

    assert html == "<b>&lt;script&gt;</b>"
    assert render(templates, "part.html", "en", text=html) == f"<b>{html}</b>"


def test_missing_value_is_an_error(folder: Path) -> None:
    with pytest.raises(UndefinedError, match="text"):
        render(environment(folder), "part.html", "en")


def test_templates_of_a_package_import_the_common_ones(folder: Path) -> None:
    (folder / "page.html").write_text(
        '{% from "macros.html" import message with context %}{{ message("<i>", "bad") }}'
    )

    html = render(environment(folder), "page.html", "id")

    assert 'role="alert" lang="id">&lt;i&gt;</p>' in html
