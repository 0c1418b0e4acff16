"""The benchmark of serving: sections do not depend on each other, and baselines do what they say."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import nothing, serve
from benchmarks.servers import server
from heart.errors import UserError


def test_a_failed_section_does_not_lose_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    kept: list[dict[str, Any]] = []

    def fail() -> dict[str, Any]:
        raise OSError("port taken")

    sections = {"one": lambda: {"a": 1}, "two": fail, "three": lambda: {"b": 2}}
    failed = serve.run_sections(sections, {}, lambda report: kept.append(dict(report)))

    assert failed == ["two"]
    assert kept == [{"a": 1}, {"a": 1}, {"a": 1, "b": 2}]
    assert "port taken" in capsys.readouterr().err


@pytest.mark.parametrize("names", [[], ["nothing", "batches"]])
def test_only_a_complete_run_changes_the_figures(
    names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "serve.json"
    out.write_text('{"old": 1}')
    plotted: list[Any] = []

    def measure(chosen: Any, keep: Any) -> Any:
        keep({"sections": list(chosen)})
        return {"sections": list(chosen)}, ["overload"]

    monkeypatch.setattr(serve, "OUT", out)
    monkeypatch.setattr(serve, "measure", measure)
    monkeypatch.setattr(serve, "plot", lambda report, _: plotted.append(report))
    monkeypatch.setattr(sys, "argv", ["serve", *names])

    with pytest.raises(UserError, match="overload"):
        serve.main()

    complete = {"sections": list(serve.SECTIONS)}
    assert json.loads(out.read_text()) == ({"old": 1} if names else complete)
    assert plotted == ([] if names else [complete])


def test_the_floor_writes_and_syncs_before_it_responds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    nothing.open_file(str(tmp_path / "file"))
    size = (tmp_path / "file").stat().st_size

    from fastapi.testclient import TestClient

    from serve.api.models import EXAMPLE

    client = TestClient(nothing.app)
    plain = client.post("/predict", json=EXAMPLE)
    before = list(synced)
    durable = client.post("/durable", json=EXAMPLE)

    assert (plain.status_code, durable.json()) == (200, plain.json())
    assert (before, len(synced)) == ([], 1)
    assert (tmp_path / "file").stat().st_size == size
    assert (tmp_path / "file").read_bytes().startswith(b"x" * nothing.PAGE)
    os.close(synced[0])


@pytest.mark.integration
def test_servers_find_the_programs_of_this_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    program = "import os, pathlib; pathlib.Path('path').write_text(os.environ['PATH'])"
    with (
        pytest.raises(UserError, match="did not start"),
        server([sys.executable, "-c", program], 1, "/", {}, folder=tmp_path),
    ):
        pass

    folders = (tmp_path / "path").read_text().split(os.pathsep)
    assert folders == [str(Path(sys.executable).parent), "/nowhere"]
