"""A copy of the project in an empty directory, with what the pipeline of this checkout has computed."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from examples.demo.processes import DemoFailed

ROOT = Path(__file__).parents[2]
CACHE = Path(".dvc/cache/files/md5")
# Without the checkout's remotes, to which a retraining would push, and without a look for newer versions of DVC.
DVC_CONFIG = "[core]\n    analytics = false\n    autostage = false\n    check_update = false\n"
# Of a retraining in the demo: no update uses synthetic rows, and fewer epochs save minutes.
EPOCHS = 30


def copy(folder: Path, changes: Mapping[str, str]) -> None:
    """Copy the files of this checkout that git does not ignore, change parameters, and commit.

    Outcomes of the checkout's own service are left out.
    """
    for name in _names():
        if (ROOT / name).is_file() and not name.startswith("data/production/labelled"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".dvc" / "config").write_text(DVC_CONFIG)
    set_parameters(folder, changes)
    _copy_results(folder)
    options = ("-c", "user.name=demo", "-c", "user.email=demo@example.org", "-c", "commit.gpgsign=false")  # fmt: skip
    for words in (("init", "--quiet"), ("add", "--all"), (*options, "commit", "-qm", "demo")):
        subprocess.run(["git", *words], cwd=folder, check=True)


def _names() -> list[str]:
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT, check=False, capture_output=True, text=True,
    )  # fmt: skip
    if listing.returncode:
        raise DemoFailed(
            f"{ROOT}: the demo copies the files that git knows, and git says: {listing.stderr.strip()}; "
            "expected a clone of the repository"
        )
    return listing.stdout.splitlines()


def _copy_results(folder: Path) -> None:
    """Copy the outputs that dvc.lock names, as far as this checkout's DVC cache has them."""
    lock = yaml.safe_load((folder / "dvc.lock").read_text())
    for stage in lock["stages"].values():
        for out in stage.get("outs", ()):
            part = CACHE / out["md5"][:2] / out["md5"][2:]
            if (ROOT / part).is_file():
                (folder / part).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / part, folder / part)


def set_parameters(folder: Path, changes: Mapping[str, str]) -> None:
    """Change parameters in params.yaml of the copy. Raises DemoFailed for an unknown one."""
    if not changes:
        return
    path = folder / "params.yaml"
    params = yaml.safe_load(path.read_text())
    for name, value in changes.items():
        change(params, name, value)
    path.write_text(yaml.safe_dump(params, sort_keys=False))


def fewer_epochs(folder: Path) -> int:
    """Shorten the training of the generator in later runs of the pipeline; the number of epochs."""
    before = yaml.safe_load((folder / "params.yaml").read_text())["synthesize"]["epochs"]
    epochs = min(int(before), EPOCHS)
    set_parameters(folder, {"synthesize.epochs": str(epochs)})
    return epochs


def change(params: dict[str, Any], name: str, value: str) -> None:
    """Set a parameter, SECTION.NAME or deeper, to a value in YAML. Raises DemoFailed."""
    *sections, last = name.split(".")
    place: Any = params
    for key in (*sections, last):
        known = place if isinstance(place, dict) else {}
        if key not in known:
            raise DemoFailed(f"-S {name}: {key} is unknown, known are {', '.join(known) or 'none'}")
        holder, place = place, place[key]
    try:
        holder[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise DemoFailed(f"-S {name}: {value!r} is not valid YAML") from error
