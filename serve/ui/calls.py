"""Which requests reach Gradio, and what of them.

By default, Gradio opens files and fetches URLs named in the values of a call, keeps a copy of all
components for each session named in a call, and prints the values of an invalid call. The page needs
none of this: its calls are the number of an event and one scalar for each input.
"""

import asyncio
import functools
import inspect
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from heart.http.messages import SAFE_METHODS, header, route_path
from heart.http.problems import problem_response
from heart.http.request_body import replay
from heart.locale.language import translate_all
from serve.middleware.instrumentation import report_error
from serve.page_paths import CALL, POSTED

if TYPE_CHECKING:
    import gradio as gr

READ = frozenset(
    (
        "/",
        "/config",
        "/favicon.ico",
        "/gradio_api/app_id",
        "/logout",
        "/robots.txt",
        "/theme.css",
    )
)
STATIC = ("/assets/", "/static/")
HOST_HEADERS = (b"host", b"x-forwarded-host", b"x-gradio-server")
# Gradio takes only objects for files, so no scalar can name one.
SCALARS = (str, int, float, bool, type(None))


def is_allowed(method: str, path: str) -> bool:
    """Whether the page itself sends such requests."""
    if method in SAFE_METHODS:
        return path in READ or path.startswith(STATIC)
    return method == "POST" and path in POSTED


def allowed_methods(path: str) -> str:
    """The methods of a path of the page, as the header Allow has them; empty if it has none."""
    return ", ".join(method for method in ("GET", "HEAD", "POST") if is_allowed(method, path))


def input_counts(blocks: "gr.Blocks") -> dict[int, int]:
    """The number of inputs of each event that the server handles, by the event's number."""
    return {
        number: len(event.inputs) for number, event in blocks.fns.items() if event.fn is not None
    }


class CallFilter:
    """Middleware in front of Gradio that passes on only the event of a call and its values.

    Everything else in a body is dropped, also the session, of which Gradio would keep a record, and the
    query of every request. The headers from which Gradio makes its links are replaced by one, Host, with the
    name that was checked.
    """

    def __init__(self, app: ASGIApp, inputs: Mapping[int, int]) -> None:
        """`inputs` is the number of values of each event, by its number."""
        self.app = app
        self._inputs = inputs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "query_string": b"", "headers": _with_one_host(scope)}
            if route_path(scope) == CALL:
                call = self._checked(await Request(scope, receive).body())
                if call is None:
                    text = translate_all("page.out_of_date")
                    refusal = problem_response("invalid-request", text, error=text)
                    await refusal(scope, receive, send)
                    return
                receive = replay(json.dumps(call).encode(), receive)
        await self.app(scope, receive, send)

    def _checked(self, body: bytes) -> dict[str, Any] | None:
        """The call in a body; None if it is not a valid call of an event.

        A pydantic model would take a second to describe the errors of the longest body.
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
        valid = len(data) == self._inputs.get(event) and all(type(v) in SCALARS for v in data)
        return {"fn_index": event, "data": data} if valid else None


def _with_one_host(scope: Scope) -> list[tuple[bytes, bytes]]:
    """The headers of a request; Host is that of the outermost proxy, as the origin check takes it.

    From X-Forwarded-Host, Gradio would make links without the sub-path, and it believes X-Gradio-Server.
    """
    forwarded = header(scope, b"x-forwarded-host").split(b",")[0].strip()
    host = forwarded or header(scope, b"host")
    others = [(name, value) for name, value in scope["headers"] if name not in HOST_HEADERS]
    return [(b"host", host), *others]


def contain_errors(blocks: "gr.Blocks") -> None:
    """Report errors of event handlers without their messages, which Gradio would print."""
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
        except Exception as error:  # noqa: BLE001  # any message may quote a value
            report_error(error)
            raise gr.Error(translate_all("page.internal_error"), print_exception=False) from None

    return contained
