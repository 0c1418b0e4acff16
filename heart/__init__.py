"""The library that the pipeline, the drift monitor and the service share.

It imports none of them. Each package below says in its docstring what lives there.
"""

import os

# From version 1.32 on, ONNX Runtime reports its use to its vendor by HTTPS, unless this is set before its import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
