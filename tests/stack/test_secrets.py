"""`make secrets`: every secret of the stack, nothing overwritten, readable by the owner alone."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.make_secrets import COMPOSE, EXAMPLE, REQUIRED

ROOT = Path(__file__).parents[2]
SECRETS = "python -m deploy.make_secrets"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    modules = map(Path, ("deploy/make_secrets.py", "heart/__init__.py", "heart/env_file.py"))
    for path in (COMPOSE, EXAMPLE, *modules):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    return tmp_path


def values(folder: Path) -> dict[str, str]:
    lines = re.findall(r"(?m)^([A-Z0-9_]+)=(.*)$", (folder / ".env").read_text())
    assert len(lines) == len(dict(lines))
    return dict(lines)


def test_every_required_secret_has_a_value_of_its_own(
    checkout: Path, command: Callable[..., Any]
) -> None:
    command(SECRETS, checkout)

    required = set(REQUIRED.findall((ROOT / COMPOSE).read_text()))
    written = values(checkout)
    assert set(written) == required
    assert len(set(written.values())) == len(required)
    assert all(re.fullmatch("[0-9a-f]{48}", value) for value in written.values())
    assert (checkout / ".env").stat().st_mode & 0o777 == 0o600


def test_what_is_set_stays_and_what_is_missing_is_added(
    checkout: Path, command: Callable[..., Any]
) -> None:
    own = "# mine\nHEART_API_TOKEN=chosen-by-hand-1234\nGRAFANA_ADMIN_PASSWORD=\n"
    (checkout / ".env").write_text(own)

    command(SECRETS, checkout)
    first = (checkout / ".env").read_text()
    command(SECRETS, checkout)

    assert first.startswith("# mine\nHEART_API_TOKEN=chosen-by-hand-1234\nGRAFANA_ADMIN_PASSWORD=")
    assert len(values(checkout)["GRAFANA_ADMIN_PASSWORD"]) == 48
    assert (checkout / ".env").read_text() == first


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "latin-1"]
)
def test_a_file_in_another_encoding_is_left_alone(
    encoding: str, checkout: Path, command: Callable[..., Any]
) -> None:
    content = "# für uns\nHEART_API_TOKEN=chosen-by-hand-1234\n".encode(encoding)
    (checkout / ".env").write_bytes(content)

    output = command(SECRETS, checkout, code=1).stdout

    assert output.startswith("error: .env is not in UTF-8")
    if encoding.startswith("utf"):
        assert f"iconv -f {encoding.upper().replace('-LE', 'LE').replace('-BE', 'BE')} " in output
    assert (checkout / ".env").read_bytes() == content


@pytest.mark.parametrize("line", ["NAME: own", "\u200bNAME=own"])
def test_a_secret_that_only_another_program_could_read_gets_no_second_value(
    line: str, checkout: Path, command: Callable[..., Any]
) -> None:
    name = min(REQUIRED.findall((ROOT / COMPOSE).read_text()))
    text = f"# mine\n{line.replace('NAME', name)}\n"
    (checkout / ".env").write_text(text)

    output = command(SECRETS, checkout, code=1).stdout

    assert output.startswith("error: .env, line 2: ")
    assert "own" not in output
    assert (checkout / ".env").read_text() == text
