"""Routes of constant paths, found by one lookup: the innermost middleware, in front of the framework's router.

    POST /v1/predict       in the table: its route handles the request
    GET  /v1/predict       not in the table: FastAPI's router answers 405
    GET  /predictions/ID   not in the table: FastAPI's router finds the route

A path that several routes have, of which a header chooses one, is not in the table either.

Otherwise each prediction would pass three more layers of FastAPI's middleware, and its path would be compared with
the pattern of one route after the other.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import Request
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from heart.http.messages import route_path

Handlers = Mapping[Any, Callable[[Request, Any], Any]]  # async, by the class of an exception


class DirectRoutesMiddleware:
    """Passes requests to their routes, and others on. An exception gets the response of the application."""

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute], handlers: Handlers) -> None:
        """The direct ones of `routes` have an attribute `direct` that is true."""
        self.app = app
        own = [route for route in routes if isinstance(route, Route)]
        paths = Counter(route.path for route in own)
        self._routes = {
            (method, route.path): route
            for route in own
            if getattr(route, "direct", False) and paths[route.path] == 1
            for method in route.methods or ()
        }
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
            handlers = (self._handlers.get(kind) for kind in type(error).__mro__)
            handler = next(filter(None, handlers), None)
            if handler is None:
                raise
            response = await handler(Request(scope), error)
            await response(scope, receive, send)
