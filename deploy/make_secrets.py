"""Write `.env` for the Compose stack with a random value for every secret that it requires: `make secrets`.

What is set already stays as it is. Needs nothing but Python and this checkout, since it runs before anything is
installed.
"""

import os
import re
import secrets
import sys
from pathlib import Path

from heart.env_file import read_text

ENV, EXAMPLE, COMPOSE = Path(".env"), Path(".env.example"), Path("docker-compose.yml")
REQUIRED = re.compile(r"\$\{([A-Z0-9_]+):\?")


def filled(text: str, names: list[str]) -> tuple[str, list[str]]:
    """The text of `.env` with a value for each name that has none, and those names."""
    added = []
    for name in names:
        if re.search(rf"(?m)^\s*(export\s+)?{name}\s*=\s*\S", text):
            continue
        line = f"{name}={secrets.token_hex(24)}"
        text, places = re.subn(rf"(?m)^#?{name}=\s*$", line, text, count=1)
        if not places:
            text = f"{text.rstrip()}\n{line}\n" if text.strip() else f"{line}\n"
        added.append(name)
    return text, added


def unreadable_line(text: str, names: list[str]) -> int:
    """The number of the first line that begins with one of the names, but gives it no value; 0 if there is none."""
    name = rf"(export\s+)?({'|'.join(names)})\b"
    for number, line in enumerate(text.splitlines(), start=1):
        # Not a comment. A character that is not shown may stand before the name.
        named = not line.lstrip().startswith("#") and re.match(rf"\W*{name}", line)
        if named and not re.match(rf"\s*{name}\s*=", line):
            return number
    return 0


def write(text: str) -> None:
    """Replace `.env`, which only its owner may read, whole or not at all."""
    part = ENV.with_name(".env.part")
    part.unlink(missing_ok=True)
    with os.fdopen(
        os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
    ) as file:
        file.write(text)
    part.replace(ENV)


def main() -> None:
    names = sorted(set(REQUIRED.findall(COMPOSE.read_text(encoding="utf-8"))))
    source = ENV if ENV.exists() else EXAMPLE
    try:
        before = read_text(source)
    except ValueError as error:
        sys.exit(f"error: {error}, then run `make secrets` again")
    if line := unreadable_line(before, names):
        sys.exit(
            f"error: {source}, line {line}: expected NAME=VALUE; then run `make secrets` again"
        )
    text, added = filled(before, names)
    if not added:
        print(f"{ENV} has all {len(names)} secrets already; nothing was changed")
        return
    write(text)
    print(f"{ENV}: wrote {', '.join(added)}")
    print(
        "Keep a copy in a safe place: the databases of the stack are created with these passwords."
    )


if __name__ == "__main__":
    main()
