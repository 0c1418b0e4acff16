"""What the tests of the service share: a real PostgreSQL, and what to do where it is not installed."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.serve.logs import Postgres

Require = Callable[[str | Path | None, str], Path]


@pytest.fixture(scope="session")
def require() -> Require:
    """The path of a program; a skip where it is not, which is a failure if programs are required."""

    def found(program: str | Path | None, package: str) -> Path:
        if program:
            return Path(program)
        reason = f"a program is not installed: apt-get install {package}"
        if os.environ.get("HEART_TEST_REQUIRE_PROGRAMS"):
            pytest.fail(reason)
        pytest.skip(reason)

    return found


@pytest.fixture(scope="session")
def postgres(require: Require) -> Iterator[Postgres]:
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    server = Postgres(require(programs[-1] if programs else None, "postgresql").parent)
    server.start()
    yield server
    server.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/log.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.database()
