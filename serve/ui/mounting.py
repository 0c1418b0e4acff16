"""How the page is served: built in the background, with only the requests that the page needs."""

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from jinja2 import ChoiceLoader, DictLoader, Environment
from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send

from heart.http.access import require_type
from heart.http.concurrency import ConcurrencyLimiter
from heart.http.messages import SAFE_METHODS, header, route_path
from heart.http.problems import KINDS, problem_response
from heart.http.quotas import QuotaExceeded
from heart.http.request_body import read_body, replay
from heart.http.tokens import Tokens
from heart.locale.catalog import DEFAULT
from heart.locale.language import LANGUAGES, browser_texts, preferred, translate_all
from heart.temporary import temporary_folder
from heart.web.markup import STYLE
from serve.middleware.admission import has_slot
from serve.middleware.instrumentation import NO_TELEMETRY
from serve.page_paths import POSTED
from serve.service import Service
from serve.settings import Settings
from serve.ui.calls import (
    CallFilter,
    allowed_methods,
    contain_errors,
    input_counts,
    is_allowed,
)
from serve.ui.layout import create_page
from serve.ui.sessions import Sessions
from serve.ui.templates import page_html
from serve.ui.theme import theme
from serve.ui.visitors import Visitors, max_bytes, too_many

logger = logging.getLogger(__name__)

RETRY_SECONDS = 2
FOLDER_PREFIX = "heart-page-"  # of the folder for Gradio's files
INDEX = "frontend/index.html"  # Gradio's template of the page
MANIFEST = '<link rel="manifest" href="/manifest.json" />'
QUEUE_PAUSE_SECONDS = 3600  # between two looks at Gradio's queue, which no event uses


class LazyPage:
    """An ASGI application that shows a placeholder until the page is built.

    Call `start` and `stop` in the lifespan of the application that it is mounted in.
    """

    def __init__(self, build: Callable[[Path], FastAPI], admission: ConcurrencyLimiter) -> None:
        """`build` makes the page's application; its argument is an empty folder for Gradio's files."""
        self._build = build
        self._admission = admission
        self._visitors = Visitors()
        self._app: FastAPI | None = None
        self._broken = False
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._built = asyncio.Event()

    async def start(self) -> None:
        """Start building the page in a thread."""
        self._task = asyncio.create_task(self._run())

    async def ready(self) -> bool:
        """Wait until the page is built; False if that failed."""
        await self._built.wait()
        return not self._broken

    async def stop(self) -> None:
        """Leave the page's lifespan and delete its files."""
        self._stopping.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        # One task must enter and leave the page's lifespan.
        with temporary_folder(FOLDER_PREFIX) as folder:
            try:
                app = await _in_thread(build_in_loop, self._build, folder)
                async with app.router.lifespan_context(app):
                    self._app = app
                    self._built.set()
                    await self._stopping.wait()
            except Exception as error:
                # The API must work without the page. The message cannot quote a visitor: there is none yet.
                logger.exception("the page cannot be served: %s", error)  # noqa: TRY401
                self._broken = True
            finally:
                self._app = None
                self._built.set()

    def has_session(self, scope: Scope) -> bool:
        """Whether a request is of a visitor who has logged in."""
        return self._app is not None and self._app.state.sessions.has(scope)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            # The page uses no WebSockets.
            await receive()
            await send({"type": "websocket.close", "code": 1000})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = _refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
        elif self._app is None:
            await _waiting(scope, broken=self._broken)(scope, receive, send)
        elif scope["method"] in SAFE_METHODS:
            await self._app(scope, receive, send)
        else:
            await self._posted(self._app, scope, receive, send)

    async def _posted(self, app: FastAPI, scope: Scope, receive: Receive, send: Send) -> None:
        path = route_path(scope)
        require_type(scope, *POSTED[path])
        limit = max_bytes(path)
        try:
            with self._visitors.admitted(scope, _length(scope)):
                body = await read_body(
                    scope, receive, limit, self._admission, has_slot=has_slot(scope)
                )
                send = self._visitors.count_failures(scope, send)
                await app(scope, replay(body, receive), send)
        except QuotaExceeded as error:
            await too_many(error)(scope, receive, send)


async def _in_thread(function: Callable[..., FastAPI], *args: Any) -> FastAPI:
    """Run it in a thread; a task that is cancelled waits for it too.

    Otherwise Gradio would make a folder again that has been removed.
    """
    # A future and no task, which the end of the event loop would cancel.
    work = asyncio.get_running_loop().run_in_executor(None, function, *args)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            with suppress(asyncio.CancelledError):  # a second time
                await asyncio.wait([work])
        raise


def build_in_loop(build: Callable[[Path], FastAPI], folder: Path) -> FastAPI:
    """Build inside a running event loop: without one, Gradio creates some and never closes them."""

    async def inside() -> FastAPI:
        return build(folder)

    return asyncio.run(inside())


def _refusal(scope: Scope) -> Response | None:
    """The response to a request that the page never sends, or that is too long; None for others."""
    # Gradio's routes match the path of the scope; that of `request.url` can be forged.
    path = route_path(scope)
    if scope["method"] == "OPTIONS" and (methods := allowed_methods(path)):
        detail = KINDS["method-not-allowed"].meaning
        return problem_response("method-not-allowed", detail, {"Allow": methods})
    if not is_allowed(scope["method"], path):
        return problem_response("not-found", "no route has this path: see /docs")
    if scope["method"] in SAFE_METHODS:
        return None
    try:
        length = _length(scope)
    except ValueError:
        return problem_response("length-required", "the header Content-Length is required")
    limit = max_bytes(path)
    if length <= limit:
        return None
    detail = f"the request body is longer than {limit} bytes"
    return problem_response("body-too-long", detail, max_bytes=limit)


def _length(scope: Scope) -> int:
    """The length of a request's body. Raises ValueError if the request does not give it."""
    length = header(scope, b"content-length")
    if not length.isdigit():
        raise ValueError
    return int(length)


def _waiting(scope: Scope, *, broken: bool) -> Response:
    """A placeholder that reloads itself until the page is built."""
    language = preferred(Headers(scope=scope).get("accept-language", ""))
    html = page_html("waiting", language, broken=broken, seconds=RETRY_SECONDS)
    headers = {"Retry-After": str(RETRY_SECONDS), "Vary": "Accept-Language"}
    return HTMLResponse(html, 503, headers)


def mount(
    app: FastAPI, service: Service, settings: Settings, admission: ConcurrencyLimiter
) -> LazyPage:
    """Serve the page where no route matches; the caller starts and stops it."""
    tokens = settings.all_tokens()
    page = LazyPage(lambda folder: build(service, tokens, folder), admission)
    # Not a mount, which would also match routes with the path but without the method.
    app.router.default = page
    return page


def build(service: Service, tokens: Tokens, folder: Path) -> FastAPI:
    """The page's own application with Gradio; `folder` is for Gradio's files."""
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    import gradio as gr
    from gradio import routes

    # Gradio has read the variable once, and would make the folder of an earlier page again.
    routes.DEFAULT_TEMP_DIR = str(folder)  # type: ignore[attr-defined]  # not in its __all__
    _remove_manifest(routes.templates.env)
    blocks = create_page(service, tokens)
    contain_errors(blocks)
    # Gradio's own pause wakes the event loop a thousand times a second.
    blocks._queue.sleep_when_free = QUEUE_PAUSE_SECONDS  # noqa: SLF001  # there is no option
    blocks._queue.progress_update_sleep_when_free = QUEUE_PAUSE_SECONDS  # noqa: SLF001
    app = FastAPI(openapi_url=None, telemetry=NO_TELEMETRY)
    app.add_middleware(CallFilter, inputs=input_counts(blocks))
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        auth=_check_login(tokens) if tokens else None,
        auth_message=page_html("login", DEFAULT, all=translate_all),
        show_error=False,
        app_kwargs={"telemetry": NO_TELEMETRY},
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        i18n=gr.I18n(**{language: browser_texts(language) for language in LANGUAGES}),
        theme=theme(),
        css=STYLE,
    )
    app.state.sessions = Sessions(app)
    return app


def _remove_manifest(templates: Environment) -> None:
    """Remove the link to a web application's manifest, which leads out of a sub-path: nothing is installed."""
    loader = templates.loader
    if loader is None or isinstance(loader, ChoiceLoader):
        return  # done for an earlier page
    source, _, _ = loader.get_source(templates, INDEX)
    templates.loader = ChoiceLoader([DictLoader({INDEX: source.replace(MANIFEST, "")}), loader])


def _check_login(tokens: Tokens) -> Callable[[str, str], bool]:
    def is_correct(user: str, password: str) -> bool:
        return tokens.login(user, password) is not None

    return is_correct
