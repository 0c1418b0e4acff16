"""`python -m serve.score IN OUT`: score tables; HEART_MODEL and MLFLOW_TRACKING_URI say by which model."""

import argparse
import sys
from functools import partial

from pydantic import ValidationError

from serve.errors import Refused, Unavailable
from serve.score import local
from serve.score import model as models
from serve.score.errors import ScoreError
from serve.score.layout import AUTO, CODINGS
from serve.score.run import Engine, Options, run
from serve.score.storage import Place
from serve.settings import Settings, reasons


def main(arguments: list[str] | None = None) -> None:
    given = _parser().parse_args(arguments)
    try:
        model, onnx = models.load(Settings(**({"model": given.model} if given.model else {})))
        options = Options(Place.of(given.input), Place.of(given.output), given.keep, given.coding)
        report = run(options, model, onnx, _engine(given))
    except ValidationError as error:
        sys.exit("\n".join(["error: the settings do not fit:", *reasons(error)]))
    except (ScoreError, Refused, Unavailable) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on")
    print(
        f"{given.output}: {report.rows - report.bad_rows} of {report.rows} rows scored by "
        f"{report.model} version {report.version}, {report.bad_rows} bad"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serve.score", description=__doc__)
    parser.add_argument("input", help="a .csv or .parquet file, a folder of them, or s3://...")
    parser.add_argument("output", help="a folder, a .csv or .parquet file, or s3://...")
    parser.add_argument("--keep", type=_names, default=(), metavar="COLUMN,...",
                        help="columns to write beside the score; patient_id always is")  # fmt: skip
    parser.add_argument("--coding", choices=CODINGS, default=AUTO,
                        help="of categories in the tables; told from the codes if not set")  # fmt: skip
    parser.add_argument("--model", help="instead of HEART_MODEL, such as models:/heart-disease/3")
    parser.add_argument("--engine", choices=("local",), default="local")
    parser.add_argument("--threads", type=_count, default=local.cores(),
                        help="of the local engine; all cores if not set")  # fmt: skip
    return parser


def _engine(given: argparse.Namespace) -> Engine:
    return partial(local.run, threads=given.threads)


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _count(text: str) -> int:
    if not (text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of threads")
    return int(text)


if __name__ == "__main__":
    main()
