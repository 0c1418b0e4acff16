"""The short table at the end of `make repro`."""

import json
import os
from collections.abc import Mapping
from typing import Any

from heart import files
from heart.errors import run_main, without_password
from heart.governance.answers import with_interval
from heart.registry import tracking
from heart.registry.model_card import SHOWN

Figures = Mapping[str, Any]


def summary(evaluated: Figures, trained: Figures, registered: Figures, server: str) -> str:
    """The table as text; `server` is the URI of MLflow's, empty for the project's own registry."""
    lines = [
        "",
        f"{evaluated['rows']} real held-out patients, 95 % intervals",
        *(f"  {label:<18} {with_interval(evaluated, name)}" for name, label in SHOWN.items()),
        "",
        f"  model              {trained['model']}, synthetic weight {trained['synthetic_weight']:g}",
        f"  registered         {registered['model']} version {registered.get('version', '-')}, "
        f"{'; '.join([registered['verdict'], *registered['reasons']])}",
        "",
        "Next:",
        "  make serve     the web page and the API with this version",
        "  make plots     ROC, calibration, decision curve and others",
        f"  {_registry(server)}",
    ]
    return "\n".join(lines)


def _registry(server: str) -> str:
    if server:
        return f"{without_password(server)} has the run and the version"
    return "make mlflow    the registry in MLflow's page"


def main() -> None:
    names = ("evaluate", "train", "register")
    evaluated, trained, registered = (
        json.loads((files.METRICS / f"{name}.json").read_text()) for name in names
    )
    print(summary(evaluated, trained, registered, os.environ.get(tracking.URI, "")))


if __name__ == "__main__":
    run_main(main)
