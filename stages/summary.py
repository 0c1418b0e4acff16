"""The short table at the end of `make repro`."""

import json

from stages import files
from stages.card import SHOWN, with_interval
from stages.errors import main_of


def summary(evaluated: dict, trained: dict, registered: dict) -> str:  # type: ignore[type-arg]
    """The table as text."""
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
        "  mlflow ui --backend-store-uri sqlite:///registry/mlflow.db",
    ]
    return "\n".join(lines)


def main() -> None:
    names = ("evaluate", "train", "register")
    print(summary(*(json.loads((files.METRICS / f"{name}.json").read_text()) for name in names)))


if __name__ == "__main__":
    main_of(main)
