"""Routes of constant paths, found by one lookup: the innermost middleware, in front of the framework's router.

    POST /v1/predict       in the table: its route handles the request
    GET  /v1/predict       not in the table: FastAPI's router answers 405
    GET  /predictions/ID   not in the table: FastAPI's router finds the route

A path that several routes have, of which a header chooses one, is not in the table either.

Before a route handles a request, FastAPI runs three more layers of middleware and compares the path with the
pattern of one route after the other. That takes a tenth of the time of a prediction.
"""

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from heart.http.messages import route_path

Routes = dict[tuple[str, str], Route]  # by method and path
Handlers = Mapping[Any, Callable[[Request, Any], Any]]  # async, by the class of an exception


class DirectRoutesMiddleware:
    """Passes requests to their routes, and others on. An exception gets the response of the application."""

    def __init__(self, app: ASGIApp, routes: Routes, handlers: Handlers) -> None:
        """Both may be filled after this call."""
        self.app = app
        self._routes = routes
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = None
        if scope["type"] == "http":
            route = self._routes.get((scope["method"], route_path(scope)))
        if route is None:
            await self.app(scope, receive, send)
            return
        scope["route"] = route
        try:
            await route.handle(scope, receive, send)
        except Exception as error:
            kinds = (kind for kind in type(error).__mro__ if kind in self._handlers)
            kind = next(kinds, None)
            if kind is None:
                raise
            response = await self._handlers[kind](Request(scope), error)
            await response(scope, receive, send)
