"""The report of a run: one HTML file that loads nothing from elsewhere, and its figures as JSON beside it."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from examples.demo import pictures
from examples.demo.patient_steps import NAMES
from heart import files
from heart.locale.catalog import DEFAULT
from heart.ml.updating import INTERCEPT, KEEP, SLOPE
from heart.web.markup import STYLE
from heart.web.templates import environment, render

HTML = Path("reports/demo.html")
TEMPLATES = environment(Path(__file__).parent / "templates")
GROUPS = {
    "source_production": "recent patients", "source_raw": "hold-out", "sex_female": "women",
    "sex_male": "men", "age_under_50": "under 50", "age_50_to_59": "50 to 59", "age_60_and_over": "60 and over",
}  # fmt: skip


def write(path: Path, document: Mapping[str, Any]) -> None:
    """Write the HTML file and the JSON file of a record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for target, text in (
        (path, html(document)),
        (path.with_suffix(".json"), json.dumps(document, indent=2) + "\n"),
    ):
        with files.replacing(target) as part:
            part.write_text(text, encoding="utf-8")


def html(document: Mapping[str, Any]) -> str:
    """The report as one page."""
    figures, now = document["figures"], datetime.now(UTC)
    fresh, gate = figures["fresh"], figures["gate"]
    brier = fresh["scores"]["brier"]
    return render(
        TEMPLATES,
        "report.html",
        DEFAULT,
        style=STYLE,
        date=now.strftime("%Y-%m-%d %H:%M UTC"),
        minutes=f"{document['seconds'] / 60:.1f}",
        headline=(
            f"Update of the model: {figures['ladder']['rung']}. Brier score on new patients of the other hospital: "
            f"{brier['champion']:.3f} before, {brier['challenger']:.3f} after."
        ),
        short=_short(figures),
        steps=[{**step, "time": _time(step)} for step in document["steps"]],
        drift=pictures.drift(figures["drift"]),
        estimate=pictures.estimate(figures["estimate"], NAMES),
        recorded=figures["outcomes"]["recorded"]["outcomes"],
        calibration=pictures.calibration(fresh["calibration"]),
        fresh=fresh["patients"],
        gate_picture=_gate_picture(gate, figures["confidence"]),
        fresh_picture=pictures.changes(
            "Change of the scores on new patients",
            [(NAMES[name], scores) for name, scores in fresh["scores"].items()],
        ),
        same_ranks=figures["ladder"]["rung"] in (INTERCEPT, SLOPE),
        passed=sum(check["passed"] for check in gate["checks"]),
        ladder=_ladder(figures["ladder"]),
        checks=[
            [check["name"], f"{check['limit']:g}", f"{round(check['value'], 3) + 0:.3f}", "passed" if check["passed"] else "failed"]
            for check in gate["checks"]
        ],
    )  # fmt: skip


def _short(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    brier = figures["fresh"]["scores"]["brier"]
    score = figures["estimate"]["scores"]["brier"]
    return [
        ("Patients until drift is detected", str(figures["drift"]["detected_after"])),
        ("Brier score, estimated", f"{score['value']:.2f}"),
        ("Brier score, true", f"{score['true']:.2f}"),
        ("Outcomes for the update", str(figures["outcomes"]["recorded"]["outcomes"])),
        ("Brier score, before and after", f"{brier['champion']:.2f} → {brier['challenger']:.2f}"),
    ]


def _time(step: Mapping[str, Any]) -> str:
    minutes, seconds = divmod(int(step["start"]), 60)
    return f"{minutes}:{seconds:02}, {step['seconds']:.0f} s"


def _gate_picture(gate: Mapping[str, Any], confidence: str) -> pictures.Picture | None:
    groups = gate["against_champion"]
    rows = [
        (f"{title}, {groups[name]['rows']}", groups[name]["brier"])
        for name, title in GROUPS.items()
        if name in groups
    ]
    return pictures.changes(f"Change of the Brier score, {confidence} paired intervals", rows)


def _ladder(update: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for rung in update["evidence"]:
        ratio = rung["likelihood_ratio"]
        side = "lower" if rung["gain"] > 0 else "higher"
        change = f"{side} by {abs(rung['gain']):.3f} ± {rung['error']:.3f}"
        taken = "taken" if rung["taken"] else ""
        rows.append(
            [rung["name"], f"{rung['log_loss']:.3f}", "" if rung["name"] == KEEP else change, "" if ratio is None else f"{ratio:.1f}", taken]
        )  # fmt: skip
    return rows
