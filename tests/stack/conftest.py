"""The images, once, and a stack that runs with a champion."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Require, small_source
from tests.heart.predictions.logs import until
from tests.stack.drive import ready
from tests.stack.engine import Stack, available, build_images

REPLICAS = 3


@pytest.fixture(scope="session")
def stand_ins(require: Require) -> bool:
    """The images are built; whether services need stand-ins."""
    require("docker" if available() else None, "docker.io docker-compose debootstrap, and start it")
    return build_images()


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory, command: Callable[..., Any]) -> Path:
    """What the operator has checked out: the project, with small parameters."""
    folder = tmp_path_factory.mktemp("operator") / "heart"
    small_source(folder, command)
    return folder


@pytest.fixture(scope="session")
def stack(
    stand_ins: bool, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """The stack, with three replicas of the app and the model that the pipeline registered."""
    stack = Stack(tmp_path_factory.mktemp("stack"), repository, stand_ins)
    try:
        stack.compose("up", "-d", "--scale", f"app={REPLICAS}", seconds=600)
        stack.compose("run", "--rm", "-T", "pipeline", seconds=1800)
        until(lambda: all(map(ready, stack.containers("app"))), 120)
        yield stack
    except BaseException:
        print(stack.logs())
        raise
    finally:
        stack.remove()
