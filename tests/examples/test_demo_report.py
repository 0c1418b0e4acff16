"""The report of the demo: from the figures of a run to one page."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from examples.demo import pictures, report
from examples.demo.pictures import WIDTH, Picture

LONG = "x" * 200


def paired(difference: float | None) -> dict[str, float | None]:
    """A paired comparison; without a difference it cannot be computed."""
    if difference is None:
        return dict.fromkeys(("champion", "challenger", "difference", "low", "high"))
    ends = {"low": difference - 0.02, "high": difference + 0.02}
    return {"champion": 0.2, "challenger": 0.2 + difference, "difference": difference, **ends}


def document(rung: str = "intercept") -> dict[str, Any]:
    """The record of a run."""
    group = {"predicted": 0.4, "observed": 0.6, "low": 0.5, "high": 0.7, "patients": 80}
    score = {"value": 0.8, "low": 0.7, "high": 0.9, "true": 0.6}
    step = {"name": rung, "log_loss": 0.3, "gain": 0.2, "error": 0.1, "likelihood_ratio": 20.0}
    check = {"name": "brier at most", "limit": 0.02, "value": -0.0001, "passed": True}
    return {
        "seconds": 200.0,
        "steps": [{"title": "A <step>", "start": 61.0, "seconds": 3.2, "lines": ["a & b", LONG]}],
        "figures": {
            "confidence": "90 %",
            "drift": {"normal": 40, "detected_after": 10, "features": ["age"],
                      "curve": [[20, 0.4], [30, 0.5], [40, 0.6], [50, 1.2], [60, 7.5]]},
            "estimate": {"patients": 400, "scores": dict.fromkeys(("accuracy", "brier"), score)},
            "outcomes": {"recorded": {"outcomes": 60}},
            "ladder": {"rung": rung, "evidence": [
                {"name": "keep", "log_loss": 0.5, "gain": 0.0, "error": 0.0, "likelihood_ratio": None, "taken": False},
                {**step, "taken": True}]},
            "gate": {"checks": [check], "against_champion": {
                "source_production": {"rows": 57, "brier": paired(-0.1)},
                "sex_male": {"rows": 3, "brier": paired(None)}}},
            "fresh": {"patients": 500, "scores": {"roc_auc": paired(0.0), "brier": paired(-0.07)},
                      "calibration": {"1": [group, group], "2": [group, group]}},
        },
    }  # fmt: skip


class Loaded(HTMLParser):
    """What a page loads, and its elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_report_is_one_page_that_loads_nothing() -> None:
    text = report.html(document())

    page = Loaded(text)
    assert page.addresses == []
    assert not re.search(r"@import|url\(", text)
    assert page.elements.count("figure") == 5
    assert not {"script", "link", "img", "step"} & set(page.elements)
    assert "a &amp; b" in text.lower()


def test_groups_without_a_difference_have_no_row() -> None:
    record = document()
    record["figures"]["gate"]["against_champion"] = {"sex_male": {"rows": 3, "brier": paired(None)}}

    assert Loaded(report.html(record)).elements.count("figure") == 4


def places(picture: Picture) -> Iterator[tuple[float, float]]:
    """Every place of a picture at which something is drawn."""
    for line in picture.lines:
        yield from line.points
    yield from ((dot.x, dot.y) for dot in picture.dots)
    yield from ((text.x, text.y) for text in picture.texts)


@pytest.mark.parametrize("last", [0.2, 1.1, 40.0])
def test_everything_is_drawn_inside_of_its_picture(last: float) -> None:
    figures = document()["figures"]
    figures["drift"]["curve"][-1][1] = last
    drawn = [
        pictures.drift(figures["drift"]),
        pictures.estimate(figures["estimate"], {"accuracy": "accuracy", "brier": "Brier score"}),
        pictures.calibration(figures["fresh"]["calibration"]),
        pictures.changes("title", [("a", paired(-last)), ("b", paired(last))]),
        pictures.changes("title", [("a", {"difference": 0.0, "low": 0.0, "high": 0.0})]),
    ]

    for picture in filter(None, drawn):
        assert all(0 <= x <= WIDTH and 0 <= y <= picture.height for x, y in places(picture))


def test_checks_over_the_threshold_are_marked_as_drift() -> None:
    picture = pictures.drift(document()["figures"]["drift"])

    assert [dot.style for dot in picture.dots] == ["quiet"] * 3 + ["alarm"] * 2


@pytest.mark.parametrize(
    ("low", "high", "values"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-0.09, 0.008, [-0.08, -0.06, -0.04, -0.02, 0]),
        (-0.13, 0.22, [-0.1, 0, 0.1, 0.2]),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, values: list[float]) -> None:
    assert pictures.ticks(low, high) == pytest.approx(values)


def test_the_figures_are_beside_the_report(tmp_path: Path) -> None:
    report.write(tmp_path / "new" / "demo.html", document())

    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["demo.html", "demo.json"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_report_fits_a_phone_and_a_screen(
    width: int, scheme: str, browser: Any, tmp_path: Path
) -> None:
    report.write(tmp_path / "demo.html", document())
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)

    page.goto((tmp_path / "demo.html").as_uri())

    assert page.evaluate("document.documentElement.scrollWidth") == width
    background, color = page.evaluate(
        "[document.body, document.querySelector('.steps p')].map((e, i) => "
        "getComputedStyle(e)[['backgroundColor', 'color'][i]])"
    )
    assert brightness(background) > brightness(color) if scheme == "light" else brightness(background) < brightness(color)  # fmt: skip
    page.close()


def brightness(color: str) -> float:
    """The mean of red, green and blue; a transparent background is white."""
    numbers = [float(part) for part in re.findall(r"[\d.]+", color)]
    return 255.0 if numbers[3:] == [0] else sum(numbers[:3]) / 3
