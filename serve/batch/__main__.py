"""`python -m serve.batch IN OUT`: score tables; HEART_MODEL and MLFLOW_TRACKING_URI say by which model."""

import argparse
import sys
from functools import partial

from heart.dataset.codings import AUTO, NAMES
from heart.drift.detector import Report
from heart.errors import run_main
from heart.registry import loading as models
from heart.registry.errors import RegistryUnavailable, VersionRejected
from heart.registry.health import SETTINGS, require_response, unavailable
from heart.registry.model_version import Model
from heart.settings import read
from serve.batch import count, local, spark
from serve.batch.errors import ScoreError
from serve.batch.layout import Choice
from serve.batch.run import Engine, Options, run
from serve.batch.storage import Place
from serve.settings import Settings

MASTER = "local[*]"


def main(arguments: list[str] | None = None) -> None:
    given = _given(arguments)
    settings = read(Settings, **({"model": given.model} if given.model else {}))
    require_response(settings.tracking_uri, SETTINGS)
    try:
        model, onnx = models.load(settings)
        source = Place.of(given.input)
        choice = Choice(given.keep, given.ignore, given.coding)
        if not given.output:
            _say(count.run(source, choice, model, given.threads))
            return
        target = Place.of(given.output)
        options = Options(source, target, choice, given.drift, given.raw_text)
        report = run(options, model, onnx, _engine(given, model))
    except RegistryUnavailable as error:
        sys.exit(f"error: {unavailable(settings.tracking_uri, error)}")
    except (ScoreError, VersionRejected) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        kept = "the same command goes on" if given.output else "nothing is kept of a count"
        sys.exit(f"stopped; {kept}")
    print(
        f"{given.output}: {report.rows - report.bad_rows} of {report.rows} rows scored by "
        f"{report.model} version {report.version}, {report.bad_rows} bad"
    )
    if report.drift:
        _say(report.drift)
    if report.rows and report.bad_rows == report.rows:
        sys.exit("error: no row has a score: the bad rows are listed beside the scores")


def _say(report: Report) -> None:
    """The verdict on drift, and a line for each measurement that drifted."""
    print(report.summary)
    for finding in report.features.values():
        if finding.drifted:
            print(f"  {finding.summary}")


def _given(arguments: list[str] | None) -> argparse.Namespace:
    """The arguments, or the end of the program with what is wrong with them."""
    parser = command_line()
    given = parser.parse_args(arguments)
    if not (given.output or given.drift):
        parser.error("an output is missing, or --drift")
    if not given.output and (given.engine == "spark" or given.master):
        parser.error("--engine spark and --master need an output: without one this machine counts")
    return given


def command_line() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m serve.batch", description=__doc__)
    parser.add_argument("input", help="a .csv or .parquet file, a folder of them, or s3://...")
    parser.add_argument("output", nargs="?", help="a folder, a .csv or .parquet file, or s3://...")
    parser.add_argument("--keep", type=_names, default=(), metavar="COLUMN,...",
                        help="columns to write beside the score; patient_id always is")  # fmt: skip
    parser.add_argument("--ignore", type=_names, default=(), metavar="COLUMN,...",
                        help="further columns that are no measurements")  # fmt: skip
    parser.add_argument("--coding", default=AUTO, metavar="CODING,COLUMN=CODING,...",
                        help=f"of categories, recognized if not set: {', '.join(NAMES)}")  # fmt: skip
    parser.add_argument("--model", help="instead of HEART_MODEL, such as models:/heart-disease/3")
    parser.add_argument("--drift", action="store_true",
                        help="report drift too; without an output, of the measurements alone")  # fmt: skip
    parser.add_argument("--raw-text", action="store_true",
                        help="write what is kept into CSV as it is, formulas of spreadsheets too")  # fmt: skip
    parser.add_argument("--engine", choices=("local", "spark"), default="local")
    parser.add_argument("--threads", type=_count, default=local.cores(),
                        help="of the local engine; all cores if not set")  # fmt: skip
    parser.add_argument("--master", help="of the Spark engine, such as spark://HOST:7077; "
                        f"{MASTER} if not set")  # fmt: skip
    return parser


def _engine(given: argparse.Namespace, model: Model) -> Engine:
    if given.engine == "spark":
        return partial(spark.run, master=given.master or MASTER, sha256=model.sha256)
    return partial(local.run, threads=given.threads)


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _count(text: str) -> int:
    if not (text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of threads")
    return int(text)


if __name__ == "__main__":
    run_main(main)
