"""The paths to which the page sends requests that are not safe."""

CALL = "/gradio_api/run/predict"
LOGIN = "/login"
POSTED = frozenset((CALL, LOGIN))
