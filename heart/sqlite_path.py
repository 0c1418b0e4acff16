"""Paths of SQLite files in database URLs."""

import re
from pathlib import Path
from urllib.parse import unquote

from heart.addresses import check_url

SQLITE = "sqlite:///"
SCHEME = re.compile(r"(?!file:)[a-z][a-z0-9+.-]*://|databricks|uc:")


def check_path(path: Path) -> None:
    """Raises ValueError for a path that SQLAlchemy would read as another one in a SQLite URL."""
    if "?" in str(path) or unquote(str(path)) != str(path):
        raise ValueError(
            f"{path}: in its path a SQLite file can have no '?', and no '%' before two hexadecimal "
            "digits: rename it"
        )


def absolute(url: str, folder: Path) -> str:
    """A database URL; the path of a SQLite file starts at `folder`. Raises ValueError."""
    scheme, separator, rest = url.partition("://")
    if scheme.partition("+")[0] != "sqlite":
        if separator:
            check_url(url)
        return url
    if not rest.startswith("/"):
        raise ValueError(
            f"{url}: expected sqlite:///PATH, with three slashes before a relative path and four before an "
            "absolute one"
        )
    path = url.removeprefix(SQLITE)
    if path in (url, "", ":memory:"):
        return url
    check_path(folder / path)
    return f"{SQLITE}{folder / path}"


def registry_uri(uri: str, folder: Path) -> str:
    """The URI of an MLflow registry; the path of a SQLite file starts at `folder`. Raises ValueError.

    MLflow takes a folder too, but no longer writes to one.
    """
    if not SCHEME.match(uri):
        raise ValueError(
            f"{uri} is no registry: expected sqlite:///PATH or the address of an MLflow server; "
            "`mlflow migrate-filestore` copies the runs of a folder into a database"
        )
    return absolute(uri, folder)
