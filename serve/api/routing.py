"""What the routers of the API share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute

from serve.metrics import V1


@dataclass(frozen=True)
class Routing:
    """How the routes of one purpose are reached.

    Each router is made twice, with and without the prefix /v1. Only the routes with it are in the OpenAPI
    document, so that a generated client has each operation once, under the path that stays.
    """

    route_class: type[APIRoute]
    dependencies: Sequence[Any] = ()
    prefix: str = V1

    def router(self, tag: str) -> APIRouter:
        """An empty router."""
        return APIRouter(
            prefix=self.prefix,
            tags=[tag],
            route_class=self.route_class,
            dependencies=self.dependencies,
            include_in_schema=self.prefix == V1,
        )
