"""How the page is served: built behind the service's back, and closed where Gradio is open."""

import asyncio
import hmac
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from heart.http.concurrency import ConcurrencyLimiter
from heart.http.messages import SAFE_METHODS
from heart.http.request_body import read_body, replay
from heart.locale.language import LANGUAGES, for_browser, preferred, translate, translate_all
from heart.web.markup import STYLE
from serve.middleware.instrumentation import NO_TELEMETRY
from serve.service import Service
from serve.settings import Settings
from serve.ui.calls import CallFilter, contain_errors, input_counts, is_allowed
from serve.ui.layout import create_page
from serve.ui.theme import theme
from serve.ui.uploads import MAX_ENCODED

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = MAX_ENCODED + 64 * 1024  # a file, and the rest of its call
RETRY_SECONDS = 2


class LazyPage:
    """An ASGI application that is there at once, and is the page some seconds later.

    `start` and `stop` belong into the lifespan of the application that it is mounted in.
    """

    def __init__(self, build: Callable[[Path], FastAPI], admission: ConcurrencyLimiter) -> None:
        """`build` makes the page's application, given a folder for Gradio's files that is its own."""
        self._build = build
        self._admission = admission
        self._app: FastAPI | None = None
        self._broken = False
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._built = asyncio.Event()

    async def start(self) -> None:
        """Begin to build the page, in a thread."""
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
        # One task enters and leaves the page's lifespan, as its contexts demand.
        with tempfile.TemporaryDirectory(prefix="heart-page-") as folder:
            try:
                app = await asyncio.to_thread(_with_loop, self._build, Path(folder))
                async with app.router.lifespan_context(app):
                    self._app = app
                    self._built.set()
                    await self._stopping.wait()
            except Exception as error:
                # Whatever keeps the page from being built must not take the API with it. Its message
                # quotes no visitor: there is none yet.
                logger.exception("the page cannot be served: %s", error)  # noqa: TRY401
                self._broken = True
            finally:
                self._app = None
                self._built.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            # The page has none: its streams are server-sent events.
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
            body = await read_body(scope, receive, MAX_BODY_BYTES, self._admission)
            await self._app(scope, replay(body, receive), send)


def _with_loop(build: Callable[[Path], FastAPI], folder: Path) -> FastAPI:
    """Build inside a running event loop: without one Gradio makes some, and leaves them open."""

    async def inside() -> FastAPI:
        return build(folder)

    return asyncio.run(inside())


def _refusal(scope: Scope) -> Response | None:
    """Why a request does not reach Gradio: not what the page asks for, or too long."""
    # The path of the scope is what Gradio's routes match; that of `request.url` can be forged.
    if not is_allowed(scope["method"], scope["path"]):
        return PlainTextResponse("not found", 404)
    if scope["method"] in SAFE_METHODS:
        return None
    length = Headers(scope=scope).get("content-length", "")
    if not length.isdigit():
        return PlainTextResponse("a length is needed", 411)
    if int(length) > MAX_BODY_BYTES:
        return PlainTextResponse("too long", 413)
    return None


def _waiting(scope: Scope, *, broken: bool) -> Response:
    """A page that opens itself again, until the real one is there."""
    language = preferred(Headers(scope=scope).get("accept-language", ""))
    keys = ("broken",) if broken else ("waiting", "waiting_how")
    lines = "".join(f"<p>{translate(key, language)}</p>" for key in keys)
    again = "" if broken else f'<meta http-equiv="refresh" content="{RETRY_SECONDS}">'
    html = f"""<!doctype html><html lang="{language}"><head><meta charset="utf-8">{again}
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Heart disease</title>
<style>body {{ font-family: system-ui, sans-serif; margin: 20vh auto; max-width: 32rem;
padding: 0 1rem; color: #334155; }}</style></head><body role="status">{lines}</body></html>"""
    headers = {"Retry-After": str(RETRY_SECONDS), "Vary": "Accept-Language"}
    return HTMLResponse(html, 503, headers)


def mount(
    app: FastAPI, service: Service, settings: Settings, admission: ConcurrencyLimiter
) -> LazyPage:
    """Serve the page where no route matches; the caller starts and stops it."""
    token = settings.api_token.get_secret_value() if settings.api_token else None
    page = LazyPage(lambda folder: build(service, token, folder), admission)
    # Not a mount, which would also take what a route has the path but not the method for.
    app.router.default = page
    return page


def build(service: Service, token: str | None, folder: Path) -> FastAPI:
    """The page's own application, with Gradio in it; `folder` is for what Gradio writes."""
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    import gradio as gr

    blocks = create_page(service)
    contain_errors(blocks)
    app = FastAPI(openapi_url=None, telemetry=NO_TELEMETRY)
    app.add_middleware(CallFilter, inputs=input_counts(blocks))
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        auth=None if token is None else _password(token),
        auth_message=translate_all("password"),
        show_error=False,
        app_kwargs={"telemetry": NO_TELEMETRY},
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        i18n=gr.I18n(**{language: for_browser(language) for language in LANGUAGES}),
        theme=theme(),
        css=STYLE,
    )
    return app


def _password(token: str) -> Callable[[str, str], bool]:
    def right(_user: str, password: str) -> bool:
        return hmac.compare_digest(password.encode(), token.encode())

    return right
