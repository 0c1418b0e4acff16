"""Write what the documentation takes from the code and from files of figures.

`python -m docs.generate` fills the text between `<!-- generated: NAME ARGUMENTS -->` and
`<!-- end -->` in the Markdown pages, the settings in `.env.example`, and the pictures. With `--check`
it changes nothing and fails if a file is out of date.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from docs import (
    diagrams,
    fhir_tables,
    figure_tables,
    performance_tables,
    quality_tables,
    reference_tables,
)
from heart.errors import run_main
from heart.settings import lines

ENV_EXAMPLE = Path(".env.example")
STACK = "\n# The stack "  # begins what is written by hand
PAGES = ("README.md", "docs/*.md")
BLOCKS: dict[str, Callable[..., str]] = {
    **fhir_tables.BLOCKS,
    **figure_tables.BLOCKS,
    **performance_tables.BLOCKS,
    **quality_tables.BLOCKS,
    **reference_tables.BLOCKS,
}
MARKED = re.compile(r"(<!-- generated: ([^>]+) -->)\n(.*?)(<!-- end -->)", re.DOTALL)


def filled(page: str, name: str) -> str:
    """A page with its marked parts filled again; `name` is for messages."""

    def write(match: re.Match[str]) -> str:
        start, words, _, end = match.groups()
        block, *arguments = words.split()
        if block not in BLOCKS:
            sys.exit(
                f"error: {name}: no generated part is named {block!r}; there are {', '.join(BLOCKS)}"
            )
        return f"{start}\n{BLOCKS[block](*arguments)}\n{end}"

    text, count = MARKED.subn(write, page)
    if count != page.count("<!-- generated:"):
        sys.exit(f"error: {name}: a generated part has no line <!-- end -->")
    return text


def env_example() -> str:
    """The beginning of `.env.example`: every setting, explained and commented out at its default."""
    title = "# Copy to .env and uncomment what you change. Written by `python -m docs.generate`."
    settings = (line for kind in reference_tables.SETTINGS.values() for line in lines(kind))
    return "\n".join([title, *settings]) + "\n"


def env_file(text: str) -> str:
    """`.env.example` with its beginning written anew; the rest, about the stack, stays."""
    _, start, stack = text.partition(STACK)
    if not start:
        sys.exit(f"error: {ENV_EXAMPLE} has no line {STACK.strip()!r}: git checkout {ENV_EXAMPLE}")
    return env_example() + start + stack


def pages() -> Iterable[Path]:
    """The Markdown pages that may have marked parts."""
    return (path for pattern in PAGES for path in sorted(Path().glob(pattern)))


def generated() -> dict[Path, str]:
    """The text of each file that is generated, in whole or in part."""
    texts = {path: filled(path.read_text(), str(path)) for path in pages()}
    texts[ENV_EXAMPLE] = env_file(ENV_EXAMPLE.read_text())
    return texts | {path: draw() for path, draw in diagrams.PICTURES.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m docs.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail if out of date")
    check = parser.parse_args().check
    stale = {
        path: text
        for path, text in generated().items()
        if not path.exists() or path.read_text() != text
    }
    if check and stale:
        sys.exit(f"error: out of date: {', '.join(map(str, stale))}; run `python -m docs.generate`")
    for path, text in stale.items():
        path.write_text(text)


if __name__ == "__main__":
    run_main(main)
