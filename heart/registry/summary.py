"""The short table at the end of `make repro`."""

import json
import os
from collections.abc import Mapping
from typing import Any

from heart import files
from heart.errors import run_main, without_password
from heart.registry import tracking
from heart.registry.model_card import SHOWN, with_interval

Figures = Mapping[str, Any]
# Without the second option, artifacts of experiments that the server creates lie in ./mlartifacts.
OWN_REGISTRY = (
    "mlflow ui --backend-store-uri sqlite:///registry/mlflow.db "
    '--default-artifact-root "file://$PWD/registry/artifacts"'
)


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
        "Look next: metrics/, `dvc metrics show`, `dvc plots show`, and the registry:",
        f"  {without_password(server) or OWN_REGISTRY}",
    ]
    return "\n".join(lines)


def main() -> None:
    names = ("evaluate", "train", "register")
    evaluated, trained, registered = (
        json.loads((files.METRICS / f"{name}.json").read_text()) for name in names
    )
    print(summary(evaluated, trained, registered, os.environ.get(tracking.URI, "")))


if __name__ == "__main__":
    run_main(main)
