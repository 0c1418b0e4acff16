"""The optional parts for programs in hospitals: `serve/fhir` is imported only if a setting enables it."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from heart.errors import UserError
from heart.http.tokens import PREDICT, Tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import APIRouter, FastAPI

    from serve.api.protected import Protection
    from serve.fhir.clients import Clients
    from serve.service import Service
    from serve.settings import Settings


@contextlib.contextmanager
def _optional_packages(setting: str) -> Iterator[None]:
    """Import packages that only a setting needs. Raises UserError without them."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(
            f"{setting} is true, but the package {error.name} is not installed: run "
            f"`python requirements/install.py fhir`, or set {setting}=false"
        ) from None


def fhir_routers(
    service: Service, protection: Protection, dependencies: list[Any], settings: Settings
) -> list[APIRouter]:
    """The routers for FHIR, if a setting enables it; they must be first. Raises UserError without its library."""
    if not settings.fhir:
        return []
    with _optional_packages("HEART_FHIR"):
        from serve.fhir.routes import fhir, fhir_scoring
    kind = protection.route_class(PREDICT)
    return [create(service, kind, dependencies) for create in (fhir_scoring, fhir)]


def cds_clients(settings: Settings) -> Clients | None:
    """The CDS clients that have keys, if a setting enables CDS Hooks. Raises UserError."""
    if not settings.cds_hooks or not settings.cds_public_keys:
        return None
    with _optional_packages("HEART_CDS_HOOKS"):
        from serve.fhir.clients import Clients
        from serve.fhir.keys import Keys
    keys = Keys(settings.cds_public_keys)
    if keys.is_file:
        keys.read()
    return Clients(
        settings.all_tokens(), keys, settings.cds_issuers, settings.cds_url, settings.root_path
    )


def add_cors(app: FastAPI, settings: Settings) -> None:
    """Let pages of configured origins call CDS Hooks; outermost, as `serve/fhir/cors.py` explains."""
    if not settings.cds_hooks or not settings.cds_origins:
        return
    with _optional_packages("HEART_CDS_HOOKS"):
        from serve.fhir.cors import CorsMiddleware
    app.add_middleware(CorsMiddleware, origins=settings.cds_origins, prefix=settings.root_path)


def cds_routers(
    service: Service, protection: Protection, settings: Settings, clients: Tokens | None
) -> list[APIRouter]:
    """The routers for CDS Hooks, if a setting enables it. Raises UserError without its library."""
    if not settings.cds_hooks:
        return []
    with _optional_packages("HEART_CDS_HOOKS"):
        from serve.fhir.cds_hooks import cds_hooks
    if clients:
        protection = replace(protection, tokens=clients)
    return cds_hooks(service, protection, settings.cds_base_url())
