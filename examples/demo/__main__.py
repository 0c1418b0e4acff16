"""`python -m examples.demo`: from the registered champion to a better one, and back, in eight steps.

The champion serves; patients like those of the training arrive, then patients of another hospital; drift is detected;
the performance is estimated without outcomes; outcomes are recorded; an alert in Grafana's format starts a
retraining; the promotion gate passes the new version, which is compared on new patients; a rollback. All of it
happens in a copy of the checkout. The report is one HTML file.
"""

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from examples.demo import context, model_steps, patient_steps, report
from examples.demo.context import Demo, Running
from examples.demo.patients import Hospitals
from examples.demo.processes import DemoFailed
from examples.demo.project import ROOT
from examples.demo.record import Record
from heart.errors import run_main

NEXT = """
Next:
  make serve                          the web page and the API with your champion
  make simulate SHIFT=other-hospital  the same patients for your own service, drift included
  make validate IN=labelled.csv       how well the champion fits patients of your hospital"""


def run_demo(demo: Demo, changes: dict[str, str], tables: Path | None) -> None:
    """All steps. Raises DemoFailed."""
    step = demo.record.step
    with step("The pipeline's model is registered"):
        model_steps.first_model(demo, changes)
        hospitals = Hospitals.of(tables or demo.folder)
    with context.service(demo) as service, context.receiver(demo) as receiver:
        running = Running(demo, service, receiver, hospitals, demo.model())
        with step("Patients like those of the training arrive"):
            demo.record.progress(f"version {service.version()} answers on {demo.url}")
            normal = patient_steps.normal_patients(running)
        with step("Patients of another hospital arrive"):
            seen, ratios = patient_steps.other_hospital(running, normal)
        with step("Performance without outcomes"):
            patient_steps.without_outcomes(running, seen)
        with step("Outcomes are recorded"):
            patient_steps.outcomes(running, seen)
        with step("An alert starts a retraining"):
            model_steps.retraining(running, ratios)
        with step("The new version on new patients"):
            patient_steps.fresh_patients(running)
        with step("Rollback"):
            model_steps.roll_back(running)


def _change(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form SECTION.NAME=VALUE")
    return name, value


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="do not delete the copy")
    parser.add_argument("--patients", type=Path, help="folder with other tables of patients")
    parser.add_argument(
        "--report", type=Path, default=ROOT / report.HTML, help=f"default: {report.HTML}"
    )
    parser.add_argument(
        "-S", "--set-param", action="append", default=[], metavar="SECTION.NAME=VALUE", type=_change,
        help="a parameter of the pipeline, as in dvc exp run",
    )  # fmt: skip
    return parser.parse_args()


def main() -> None:
    options = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what was started ends
    folder = Path(tempfile.mkdtemp(prefix="heart-demo-"))
    record = Record()
    print(f"A copy of this checkout in {folder}; the checkout stays as it is.")
    try:
        run_demo(context.prepare(folder, record), dict(options.set_param), options.patients)
        report.write(options.report, record.document())
    except DemoFailed as error:
        sys.exit(f"error: {error}; the copy is kept, with logs/: {folder}")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    if not options.keep:
        shutil.rmtree(folder)
    print(f"\nReport: {options.report}\n{NEXT}")


if __name__ == "__main__":
    run_main(main)
