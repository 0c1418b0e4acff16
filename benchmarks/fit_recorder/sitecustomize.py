"""Write the start and the end of each outermost fit of an estimator or a generator to the file FIT_LOG.

Python imports a module of this name at its start: with this folder in PYTHONPATH the fits of the stages, and
of the processes that they start, are recorded without changes to the stages.
"""

import functools
import importlib.util
import os
import sys
import threading
import time
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

LOG = Path(os.environ["FIT_LOG"])
FITS = {
    "heart.synthesis.stacked": ["StackedCTGAN"],
    "ctgan.synthesizers.tvae": ["TVAE"],
    "heart.ml.estimators": ["ChainedLogisticRegression", "CalibratedTrees"],
}
running = threading.local()


def record(owner: Any) -> None:
    """Wrap `owner.fit`; a fit inside another fit is part of it."""
    fit = owner.fit

    @functools.wraps(fit)
    def timed(*args: Any, **kwargs: Any) -> Any:
        if getattr(running, "fit", False):
            return fit(*args, **kwargs)
        running.fit, start = True, time.time()
        try:
            return fit(*args, **kwargs)
        finally:
            running.fit = False
            with LOG.open("a") as log:
                log.write(f"{start} {time.time()}\n")

    owner.fit = timed


class Finder:
    """Wraps the fits of a module of FITS after it has been executed."""

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> ModuleSpec | None:
        if name not in FITS:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        sys.meta_path.insert(0, self)
        loader: Any = spec.loader if spec else None
        execute = loader.exec_module

        def execute_and_record(module: Any) -> None:
            execute(module)
            for owner in FITS[name]:
                record(getattr(module, owner))

        loader.exec_module = execute_and_record
        return spec


sys.meta_path.insert(0, Finder())
