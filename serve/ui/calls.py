"""Which requests reach Gradio, and with what.

Left to itself, Gradio opens the files and fetches the URLs that the values of a call name, keeps a copy
of all components for each session that a call names, and prints the values of a call that does not
fit. The page needs none of it: its calls are the number of an event and one scalar for each input.
"""

import asyncio
import functools
import inspect
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from heart.http.messages import SAFE_METHODS
from heart.http.request_body import replay
from heart.locale.language import translate_all
from serve.middleware.instrumentation import report_error

if TYPE_CHECKING:
    import gradio as gr

CALL = "/gradio_api/run/predict"
POSTED = frozenset((CALL, "/login"))
READ = frozenset(
    (
        "/",
        "/config",
        "/favicon.ico",
        "/gradio_api/app_id",
        "/logout",
        "/manifest.json",
        "/robots.txt",
        "/theme.css",
    )
)
STATIC = ("/assets/", "/static/")
# No value can name a file, for none is an object.
SCALARS = (str, int, float, bool, type(None))


def is_allowed(method: str, path: str) -> bool:
    """Whether the page itself makes such requests."""
    if method in SAFE_METHODS:
        return path in READ or path.startswith(STATIC)
    return method == "POST" and path in POSTED


def input_counts(blocks: "gr.Blocks") -> dict[int, int]:
    """The events that the server handles, by their numbers: how many values each takes."""
    return {
        number: len(event.inputs) for number, event in blocks.fns.items() if event.fn is not None
    }


class CallFilter:
    """Middleware in front of Gradio that passes on the event of a call and its values.

    What else a browser sends is dropped, the session too, of which Gradio would keep a record. No query of
    any request comes through.
    """

    def __init__(self, app: ASGIApp, inputs: Mapping[int, int]) -> None:
        """`inputs` says how many values an event takes, by its number."""
        self.app = app
        self._inputs = inputs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "query_string": b""}
            if scope["path"] == CALL:
                call = self._checked(await Request(scope, receive).body())
                if call is None:
                    refusal = JSONResponse({"error": translate_all("stale_page")}, 422)
                    await refusal(scope, receive, send)
                    return
                receive = replay(json.dumps(call).encode(), receive)
        await self.app(scope, receive, send)

    def _checked(self, body: bytes) -> dict[str, Any] | None:
        """The call in a body, None if it fits no event.

        A model of pydantic would take a second to say what is wrong with the longest body.
        """
        try:
            call = from_json(body)
        except ValueError:
            return None
        if not isinstance(call, dict):
            return None
        event, data = call.get("fn_index"), call.get("data")
        if type(event) is not int or not isinstance(data, list):
            return None
        fits = len(data) == self._inputs.get(event) and all(type(v) in SCALARS for v in data)
        return {"fn_index": event, "data": data} if fits else None


def contain_errors(blocks: "gr.Blocks") -> None:
    """Report what an event's handler raises without its message, which Gradio would print."""
    for event in blocks.fns.values():
        if event.fn is not None:
            event.fn = _contained(event.fn)


def _contained(handler: Callable[..., Any]) -> Callable[..., Any]:
    import gradio as gr

    @functools.wraps(handler)
    async def contained(*values: Any) -> Any:
        try:
            if inspect.iscoroutinefunction(handler):
                return await handler(*values)
            return await asyncio.to_thread(handler, *values)
        except Exception as error:  # noqa: BLE001  # whatever it is, its message may quote a value
            report_error(error)
            raise gr.Error(translate_all("page_fault"), print_exception=False) from None

    return contained
