"""The two pictures of the documentation, as SVG: the pipeline of dvc.yaml, and the loop around it.

The places of the boxes are given here, the arrows of the pipeline come from dvc.yaml.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import yaml


class Box(NamedTuple):
    """A box: column and row of its center, title and a line below it."""

    column: float
    row: float
    title: str
    note: str


WIDTH, HEIGHT, COLUMN, ROW, EDGE = 190, 52, 220, 88, 12
STYLE = """
  svg { background: #ffffff; }
  rect { fill: #f4f7fb; stroke: #4a6785; stroke-width: 1.2; rx: 8px; }
  text { font: 15px sans-serif; fill: #14202b; text-anchor: middle; }
  .note { font-size: 12px; fill: #44566a; }
  path { fill: none; stroke: #6b7f94; stroke-width: 1.4; marker-end: url(#arrow); }
  .dashed { stroke-dasharray: 5 4; }
"""

STAGES = {
    "data/raw/heart.csv": Box(0, 0, "data/raw/heart.csv", "303 Cleveland patients"),
    "data/production": Box(1, 0, "data/production", "recorded outcomes, if any"),
    "prepare": Box(0.5, 1, "prepare", "one coding, checked labels"),
    "split": Box(0.5, 2, "split", "by a hash of the patient"),
    "synthesize": Box(0, 3, "synthesize", "CTGAN, one a fold"),
    "merge": Box(0.5, 4, "merge", "real and synthetic rows"),
    "train": Box(0.5, 5, "train", "cross-validation, ONNX"),
    "reference": Box(1.75, 6, "reference", "drift baseline"),
    "evaluate": Box(2.75, 6, "evaluate", "held-out patients"),
    "register": Box(0.5, 7, "register", "promotion gate, MLflow"),
}
# Stage register reads the figures of all stages; an arrow from each would hide the others.
MAIN_INPUTS = ("train", "reference", "evaluate")

LOOP = {
    "service": Box(0, 0, "service", "API, page, batch scoring"),
    "log": Box(1, 0, "prediction log", "SQLite or PostgreSQL"),
    "monitor": Box(2, 0, "drift monitor", "compares with the baseline"),
    "prometheus": Box(3, 0, "Prometheus", "metrics, recording rules"),
    "grafana": Box(3, 1, "Grafana", "dashboards, alerts"),
    "receiver": Box(3, 2, "receiver", "starts one retraining"),
    "retraining": Box(2, 2, "retraining", "make collect, dvc repro"),
    "gate": Box(1, 2, "promotion gate", "against the champion"),
    "registry": Box(0, 2, "MLflow registry", "alias champion"),
}
LOOP_ARROWS = (
    ("service", "log", ""),
    ("log", "monitor", ""),
    ("monitor", "prometheus", ""),
    ("prometheus", "grafana", ""),
    ("grafana", "receiver", ""),
    ("receiver", "retraining", ""),
    ("log", "retraining", "dashed"),  # recorded outcomes
    ("retraining", "gate", ""),
    ("gate", "registry", ""),
    ("registry", "service", ""),
)


def pipeline() -> str:
    """The stages of dvc.yaml and what flows between them."""
    stages = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]
    if missing := stages.keys() - STAGES.keys():
        sys.exit(f"error: docs/diagrams.py: STAGES has no place for {', '.join(sorted(missing))}")
    return svg(STAGES, [(source, target, "") for source, target in arrows(stages)])


def loop() -> str:
    """From a prediction to the next champion."""
    return svg(LOOP, LOOP_ARROWS)


def arrows(stages: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Source and target of each flow of data; files that no stage writes are sources too."""
    writer = {output: name for name, stage in stages.items() for output in _paths(stage)}
    for name, stage in stages.items():
        sources = {writer.get(path, path) for path in stage["deps"]}
        known = MAIN_INPUTS if name == "register" else STAGES
        yield from ((source, name) for source in known if source in sources)


def _paths(stage: Mapping[str, Any]) -> list[str]:
    entries = [*stage.get("outs", []), *stage.get("metrics", [])]
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


def svg(boxes: Mapping[str, Box], edges: Iterable[tuple[str, str, str]]) -> str:
    """Boxes and arrows as an SVG document."""
    right = max(box.column for box in boxes.values()) * COLUMN + WIDTH + 2 * EDGE
    bottom = max(box.row for box in boxes.values()) * ROW + HEIGHT + 2 * EDGE
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {right:g} {bottom:g}">',
        f"<style>{STYLE}</style>",
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0 0 8 4 0 8z" '
        'style="fill:#6b7f94;stroke:none"/></marker></defs>',
        *(_arrow(boxes[source], boxes[target], kind) for source, target, kind in edges),
        *(_box(box) for box in boxes.values()),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _center(box: Box) -> tuple[float, float]:
    return EDGE + WIDTH / 2 + box.column * COLUMN, EDGE + HEIGHT / 2 + box.row * ROW


def _box(box: Box) -> str:
    x, y = _center(box)
    return (
        f'<rect x="{x - WIDTH / 2:g}" y="{y - HEIGHT / 2:g}" width="{WIDTH}" height="{HEIGHT}"/>'
        f'<text x="{x:g}" y="{y - 3:g}">{escape(box.title)}</text>'
        f'<text class="note" x="{x:g}" y="{y + 16:g}">{escape(box.note)}</text>'
    )


def _arrow(source: Box, target: Box, kind: str) -> str:
    """A curve from side to side in a row, else from bottom to top, or back up."""
    (x, y), (to_x, to_y) = _center(source), _center(target)
    if source.row == target.row:
        side = WIDTH / 2 if to_x > x else -WIDTH / 2
        curve = f"M{x + side:g} {y:g} L{to_x - side:g} {to_y:g}"
    else:
        side = HEIGHT / 2 if to_y > y else -HEIGHT / 2
        bend = 0.3 * (to_y - y)
        start, end = y + side, to_y - side
        curve = f"M{x:g} {start:g} C{x:g} {start + bend:g} {to_x:g} {end - bend:g} {to_x:g} {end:g}"
    return f'<path class="{kind}" d="{curve}"/>' if kind else f'<path d="{curve}"/>'


PICTURES = {Path("docs/images/pipeline.svg"): pipeline, Path("docs/images/loop.svg"): loop}
