"""ONNX Runtime as the service uses it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.heart.registry.registry_fixture import ROOT

SCRIPT = """
import sys
from pathlib import Path
from heart.registry.onnx_model import OnnxModel
from tests.heart.registry import hostile
OnnxModel(hostile.half([hostile.sums("x")], "sum", columns=hostile.COLUMNS))
print(*[path.readlink() for path in Path("/proc/self/fd").iterdir() if path.exists()])
"""


@pytest.mark.security
def test_onnx_runtime_reports_nothing_to_its_vendor(tmp_path: Path) -> None:
    """It would keep the reports in a database in the user's cache, and send them by HTTPS."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ORT_")}
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}

    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, env=inherited | home,
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert not [*tmp_path.rglob("*")]
    assert "onnxruntime.db" not in done.stdout
