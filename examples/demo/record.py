"""What a run of the demo has shown: its steps with their lines, and the figures of the report."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from examples.demo.processes import DemoFailed
from heart.errors import explain


@dataclass
class Step:
    """One step: when it began and how long it took, in seconds, and what it showed."""

    title: str
    start: float
    seconds: float = 0.0
    lines: list[str] = field(default_factory=list)


@dataclass
class Record:
    """The steps so far, printed as they come. `figures` are values for JSON, by step."""

    steps: list[Step] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    _start: float = field(default_factory=time.monotonic)

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """A step. An error in it becomes DemoFailed with the number and the title of the step."""
        step = Step(title, self.elapsed())
        self.steps.append(step)
        self._print(f"{len(self.steps)}. {title}")
        try:
            yield
        except Exception as error:
            raise DemoFailed(f"step {len(self.steps)} ({title}): {explain(error)}") from error
        step.seconds = self.elapsed() - step.start

    def say(self, text: str) -> None:
        """A line of the current step."""
        self.steps[-1].lines.append(text)
        self._print(f"   {text}")

    def progress(self, text: str) -> None:
        """A line that is printed only."""
        self._print(f"     {text}")

    def document(self) -> dict[str, Any]:
        """All of it as values for JSON."""
        steps = [asdict(step) for step in self.steps]
        return {"seconds": self.elapsed(), "steps": steps, "figures": self.figures}

    def _print(self, text: str) -> None:
        minutes, seconds = divmod(int(self.elapsed()), 60)
        print(f"{minutes:2}:{seconds:02}  {text}", flush=True)
