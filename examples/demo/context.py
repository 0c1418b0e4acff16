"""What the steps of a run share: the folder of the copy, the programs that run in it, patients, and the record."""

import json
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from examples.demo.clients import Receiver, Service
from examples.demo.patients import Hospitals
from examples.demo.processes import environment, free_port, run, serving
from examples.demo.record import Record
from heart import files

CLINIC, IMPORT = "clinic", "import"  # the tokens that send outcomes


@dataclass(frozen=True)
class Demo:
    """The copy of the project with its settings, and the record."""

    folder: Path
    record: Record
    variables: Mapping[str, str]
    tokens: Mapping[str, str]
    url: str
    receiver_url: str

    def run(
        self,
        name: str,
        module: str,
        *words: str,
        on_line: Callable[[str], None] = lambda _: None,
        code: int = 0,
    ) -> list[str]:
        """The output of a module of the project that runs in the copy. Raises DemoFailed."""
        command = [sys.executable, "-m", module, *words]
        return run(name, command, self.folder, self.variables, on_line, code)

    def show_stage(self, line: str) -> None:
        """Print the name of a stage that DVC starts."""
        if line.startswith("Running stage"):
            self.record.progress(f"stage {line.split(chr(39))[1]}")

    def metrics(self, stage: str) -> Any:
        """The figures of a stage."""
        return json.loads((self.folder / files.METRICS / f"{stage}.json").read_text())

    def parameters(self) -> Any:
        """The parameters of the pipeline."""
        return yaml.safe_load((self.folder / "params.yaml").read_text())

    def model(self) -> bytes:
        """The model of the last run of the pipeline."""
        return (self.folder / files.ONNX).read_bytes()


@dataclass(frozen=True)
class Running:
    """A demo whose service and receiver run, and the simulated patients."""

    demo: Demo
    service: Service
    receiver: Receiver
    hospitals: Hospitals
    first_model: bytes

    @property
    def record(self) -> Record:
        """The record of the demo."""
        return self.demo.record


def prepare(folder: Path, record: Record) -> Demo:
    """The settings of the programs in a folder."""
    names = ("default", CLINIC, IMPORT, "receiver", "signature")
    tokens = {name: secrets.token_hex(16) for name in names}
    port, hooks = free_port(), free_port()
    variables = environment(
        folder,
        HEART_PORT=str(port),
        HEART_POLL_SECONDS="1",
        HEART_API_TOKEN=tokens["default"],
        HEART_TOKENS=";".join(f"{name} feedback {tokens[name]}" for name in (CLINIC, IMPORT)),
        HEART_DRIFT_INTERVAL_SECONDS="0.2",
        HEART_RETRAIN_PORT=str(hooks),
        HEART_RETRAIN_TOKEN=tokens["receiver"],
        HEART_RETRAIN_SECRET=tokens["signature"],
    )
    address = "http://127.0.0.1:{}"
    return Demo(folder, record, variables, tokens, address.format(port), address.format(hooks))


@contextmanager
def service(demo: Demo) -> Iterator[Service]:
    """The service of the champion."""
    with serving("serve", demo.folder, demo.variables, demo.url, "/health/ready"):
        yield Service(demo.url, demo.tokens)


@contextmanager
def receiver(demo: Demo) -> Iterator[Receiver]:
    """The receiver of alerts."""
    module, url = "monitoring.retraining.webhook", demo.receiver_url
    with serving(module, demo.folder, demo.variables, url, "/health/live"):
        yield Receiver(url, demo.tokens["receiver"], demo.tokens["signature"])
