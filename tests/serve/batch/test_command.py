"""`python -m serve.batch` as people call it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyarrow import csv, fs

from serve.batch import local
from serve.batch.__main__ import main
from tests.heart.registry.registry_fixture import NAME, Shelf
from tests.s3 import CREDENTIALS, s3_server
from tests.serve.batch.conftest import ROWS, table
from tests.serve.batch.test_drift import reference

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")
ROOT = Path(__file__).parents[3]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "patients.csv"
    csv.write_csv(table(), path)
    return path


@pytest.fixture
def registry(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """A registry that the settings name."""
    monkeypatch.chdir(tmp_path)  # there is no .env
    monkeypatch.setenv("HEART_TRACKING_URI", shelf.settings().tracking_uri)
    monkeypatch.setenv("HEART_CACHE_DIR", str(tmp_path / "cache"))
    return shelf


@pytest.mark.usefixtures("registry")
def test_tables_are_scored_by_the_requested_version(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(source), str(tmp_path / "champion.csv")])
    main([str(source), str(tmp_path / "2.csv"), "--model", f"models:/{NAME}/2"])

    out = capsys.readouterr().out.splitlines()
    assert out[0] == out[2] == "patients.csv: commas; coding words"
    assert out[1].endswith(f"champion.csv: 500 of 500 rows scored by {NAME} version 1, 0 bad")
    assert out[3].endswith(f"2.csv: 500 of 500 rows scored by {NAME} version 2, 0 bad")
    assert (tmp_path / "champion.csv").read_bytes() != (tmp_path / "2.csv").read_bytes()


@pytest.mark.usefixtures("registry")
def test_a_table_of_bad_rows_alone_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("age,sex\n7,male\n8,male\n")

    with pytest.raises(SystemExit) as end:
        main([str(tmp_path / "bad.csv"), str(tmp_path / "out.csv")])

    assert end.value.code
    assert (tmp_path / "out.csv.bad_rows.csv").exists()


@pytest.fixture
def watched(registry: Shelf, onnx: bytes) -> None:
    """The champion has a drift baseline."""
    text = reference(onnx).to_json()
    registry.set_challenger(lambda folder: _write(folder / "extra_files" / "reference.json", text))


def _write(path: Path, text: str) -> None:
    path.write_text(text)


@pytest.mark.usefixtures("watched")
def test_drift_is_reported_with_and_without_scores(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(source), str(tmp_path / "out"), "--drift"])
    main([str(source), "--drift"])

    out = capsys.readouterr().out.splitlines()
    message = [line for line in out if " in 500 rows" in line]
    assert len(message) == out.count("patients.csv: commas; coding words") == 2
    assert message[0].replace(", score", "") == message[1]


@pytest.mark.usefixtures("watched")
def test_drift_alone_allows_the_columns_that_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wards = table().append_column("ward", [["a"] * len(ROWS)])
    csv.write_csv(wards, tmp_path / "wards.csv")

    main([str(tmp_path / "wards.csv"), "--drift", "--keep", "ward"])

    assert " in 500 rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options", [["--engine", "spark"], ["--master", "local[2]"], ["--master", "local[*]"]]
)
def test_drift_alone_is_not_for_spark(
    options: list[str], source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([str(source), "--drift", *options])

    assert "error: --engine spark and --master need an output" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("output", "message"),
    [(["out"], "the same command goes on"), ([], "nothing is kept of a count")],
)
@pytest.mark.usefixtures("watched")
def test_only_what_goes_on_says_so_when_it_is_stopped(
    output: list[str], message: str, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "each", stopped)

    with pytest.raises(SystemExit, match=f"^stopped; {message}$"):
        main([str(source), *output, "--drift"])


@pytest.mark.usefixtures("registry")
def test_a_cache_that_cannot_be_written_to_is_named(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()  # not a folder without rights: root has them all
    monkeypatch.setenv("HEART_CACHE_DIR", str(tmp_path / "file" / "cache"))

    with pytest.raises(SystemExit, match=r"^error: HEART_CACHE_DIR: .*/file/cache: Not a dir.*"):
        main([str(source), str(tmp_path / "out")])


def test_without_an_output_or_drift_there_is_nothing_to_do(source: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([str(source)])


def test_a_model_whose_hash_is_not_its_tag_scores_nothing(
    registry: Shelf, source: Path, tmp_path: Path
) -> None:
    registry.set_challenger(model_sha256="0" * 64)

    with pytest.raises(SystemExit, match=r"^error: model.onnx has the hash .*, its tag says 000"):
        main([str(source), str(tmp_path / "out")])

    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["no.csv", "out"], "error: .*no.csv: no such file or folder"),
        (["patients.csv", "out", "--model", "x"], "error: .*HEART_MODEL: expected models:/NAME@"),
        (["patients.csv", "out", "--model", f"models:/{NAME}/9"], "error: .*version=9.* not found"),
        (
            ["patients.csv", "out", "--keep", "mrn"],
            "error: .*: column 'mrn', named in --keep, is missing",
        ),
        (["nfs://a/b", "out"], "error: nfs://a/b: .*, expected a path or s3://BUCKET/KEY"),
    ],
)
@pytest.mark.usefixtures("registry", "source")
def test_an_unusable_input_is_an_error_of_one_line(arguments: list[str], reason: str) -> None:
    with pytest.raises(SystemExit, match=f"(?s)^{reason}"):
        main(arguments)


# The command, which is killed while it works on a part, as soon as 20 others are done.
KILLED = """
import os, signal
from serve.batch import __main__ as command, local

run = local.run

def killed(job, parts, threads):
    for done, _ in enumerate(run(job, parts, threads), 1):
        if done == 20:
            os.kill(os.getpid(), signal.SIGKILL)
        yield 1

local.run = killed
command.main()
"""


@pytest.mark.integration
@pytest.mark.usefixtures("registry")
def test_a_killed_run_goes_on_and_does_no_part_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    for number in range(400):
        pq.write_table(table(ROWS[: number + 1]), tmp_path / "in" / f"{number:03}.parquet")
    out, unfinished = tmp_path / "out", tmp_path / "out.unfinished"
    arguments = [str(tmp_path / "in"), str(out), "--threads", "1"]

    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not out.exists()
    records = [path.stem.removeprefix("done-") for path in unfinished.glob("_work/done-*.json")]
    done = {f"part-{number}.parquet" for number in records}
    before = {name: (unfinished / name).stat().st_mtime_ns for name in done}
    main(arguments)

    assert 20 <= len(done) < 400
    assert f"{len(done)}/400" in capsys.readouterr().err
    assert {name: (out / name).stat().st_mtime_ns for name in done} == before
    assert pq.read_table(out).num_rows == sum(range(1, 401))


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[fs.FileSystem]:
    with s3_server() as address:
        for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": address}.items():
            monkeypatch.setenv(name, value)
        yield fs.FileSystem.from_uri("s3://heart")[0]


@pytest.mark.usefixtures("registry")
def test_tables_in_s3_are_scored_into_s3(s3: fs.FileSystem, source: Path) -> None:
    for name in ("in/a.csv", "in/b.csv"):
        with s3.open_output_stream(f"heart/{name}") as stream:
            stream.write(source.read_bytes())

    main(["s3://heart/in", "s3://heart/out"])
    main(["s3://heart/in", "s3://heart/all.parquet"])

    result = pq.read_table("heart/out", filesystem=s3)
    assert np.array_equal(result["probability"][:500], result["probability"][500:])
    assert pq.read_table("heart/all.parquet", filesystem=s3)["probability"] == result["probability"]
    names = [
        i.path for i in s3.get_file_info(fs.FileSelector("heart", recursive=True)) if i.is_file
    ]
    assert sorted(names) == [
        "heart/all.parquet",
        "heart/all.parquet.report.json",
        "heart/in/a.csv",
        "heart/in/b.csv",
        "heart/out/_report.json",
        "heart/out/part-000000.parquet",
        "heart/out/part-000001.parquet",
    ]
    with pytest.raises(SystemExit, match="s3://heart/out: there already"):
        main(["s3://heart/in", "s3://heart/out"])
    s3.delete_file("heart/out/_report.json")
    s3.delete_file("heart/all.parquet")
    with pytest.raises(SystemExit, match="s3://heart/out: there already"):
        main(["s3://heart/in/a.csv", "s3://heart/out"])
    with pytest.raises(SystemExit, match=r"s3://heart/all.parquet.report.json: there already"):
        main(["s3://heart/in", "s3://heart/all.parquet"])
