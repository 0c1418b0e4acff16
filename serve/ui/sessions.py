"""The sessions of visitors who have logged in, which Gradio keeps in its own application."""

from typing import Any

from fastapi import FastAPI
from starlette.requests import HTTPConnection
from starlette.routing import Mount
from starlette.types import Scope


class Sessions:
    """The sessions of the page's application."""

    def __init__(self, app: FastAPI) -> None:
        """`app` has Gradio's application as its only mounted one."""
        (self._gradio,) = (route.app for route in app.routes if isinstance(route, Mount))

    def has(self, scope: Scope) -> bool:
        """Whether a request has the cookie of a session, by either of the two names that Gradio uses."""
        gradio: Any = self._gradio
        cookies = HTTPConnection(scope).cookies
        names = (f"access-token-{gradio.cookie_id}", f"access-token-unsecure-{gradio.cookie_id}")
        return any(cookies.get(name) in gradio.tokens for name in names)
