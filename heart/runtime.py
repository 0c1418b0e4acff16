"""ONNX Runtime, which reports its use to its vendor by HTTPS from version 1.32 on unless it is told not to."""

import os
from typing import Any


def onnx_runtime() -> Any:
    """The module onnxruntime, with its reports switched off before its import."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime
