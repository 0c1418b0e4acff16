"""The plots of the pipeline as one page that needs no network: `make plots`.

`dvc plots show` and `dvc plots diff` write a page that loads Vega, the library that draws, from the internet.
This one asks DVC for the same plots as data and puts Vega, as the package vl-convert brings it, into the page.
"""

import argparse
import base64
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from heart import files
from heart.errors import UserError, run_main
from heart.web.templates import environment

PATH = Path("reports/plots.html")

Plots = Mapping[str, Sequence[Mapping[str, Any]]]


def read(revisions: Sequence[str]) -> Plots:
    """The plots of the working tree, or of revisions side by side, as DVC defines them.

    Raises UserError if DVC cannot draw one of them, with its reason.
    """
    command = ["plots", "diff", *revisions] if revisions else ["plots", "show"]
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *command, "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    if done.returncode:
        reason = lines[-1].removeprefix("ERROR: ") if lines else f"exit code {done.returncode}"
        raise UserError(f"dvc {' '.join(command)}: {reason}")
    document = json.loads(done.stdout)
    if errors := document.get("errors"):
        failed = ", ".join(sorted({f"{e['name']} of {e.get('rev', '')}" for e in errors}))
        raise UserError(
            f"dvc {' '.join(command)} has no data for {failed}: `dvc repro`, or `dvc pull` for a revision"
        )
    return dict(document["data"])


def page(plots: Plots) -> str:
    """The page with its plots and the library that draws them."""
    import vl_convert

    charts = [
        (name, _image(part) if part["type"] == "image" else "", part.get("content"), _label(part))
        for name, parts in plots.items()
        for part in parts
    ]
    script = Markup(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed"))  # noqa: S704 - a library, not data
    return environment().get_template("plots.html").render(charts=charts, script=script)


def _label(plot: Mapping[str, Any]) -> str:
    return ", ".join(plot.get("revisions", []))


def _image(plot: Mapping[str, Any]) -> str:
    """A picture as a data URI."""
    path = Path(plot["url"])
    kind = path.suffix.removeprefix(".").lower()
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m heart.web.plots", description=__doc__)
    parser.add_argument("revisions", nargs="*", help="default: the working tree")
    revisions = parser.parse_args().revisions
    text = page(read(revisions))
    with files.replacing(PATH) as part:
        part.write_text(text, encoding="utf-8")
    print(PATH)


if __name__ == "__main__":
    run_main(main)
