"""Paths of SQLite files in database URLs."""

from pathlib import Path
from urllib.parse import unquote

SQLITE = "sqlite:///"


def check_path(path: Path) -> None:
    """Raises ValueError for a path that SQLAlchemy would read as another one in a SQLite URL."""
    if "?" in str(path) or unquote(str(path)) != str(path):
        raise ValueError(
            f"{path}: in its path a SQLite file can have no '?', and no '%' before two hexadecimal "
            "digits: rename that folder"
        )
