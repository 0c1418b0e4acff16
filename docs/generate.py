"""`python -m docs.generate` writes what documentation takes from code; with `--check` it only compares.

It writes the settings to the beginning of `.env.example`; the rest of that file is about
docker-compose.yml and stays as it is.
"""

import argparse
import sys
from pathlib import Path

from heart.settings import lines
from monitoring.retraining.webhook.settings import RetrainerSettings
from monitoring.settings import DriftSettings
from serve.settings import Settings

SETTINGS = (Settings, DriftSettings, RetrainerSettings)
ENV_EXAMPLE = Path(".env.example")
STACK = "\n# The stack "  # begins what is written by hand


def env_example() -> str:
    """The beginning of `.env.example`: every setting, explained, commented out at its default."""
    title = "# Copy to .env, take the # away before what you change. Made by `make docs`."
    return "\n".join([title, *(line for kind in SETTINGS for line in lines(kind))]) + "\n"


def generated() -> dict[Path, str]:
    """The text of each generated file."""
    _, start, stack = ENV_EXAMPLE.read_text().partition(STACK)
    if not start:
        sys.exit(f"error: {ENV_EXAMPLE} has no line {STACK.strip()!r}: git checkout {ENV_EXAMPLE}")
    return {ENV_EXAMPLE: env_example() + start + stack}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m docs.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail if out of date")
    check = parser.parse_args().check
    stale = {path: text for path, text in generated().items() if path.read_text() != text}
    if check and stale:
        sys.exit(f"error: out of date: {', '.join(map(str, stale))}; run `make docs`")
    for path, text in stale.items():
        path.write_text(text)


if __name__ == "__main__":
    main()
