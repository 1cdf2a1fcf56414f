"""The web application: routes, handlers and layers around one graph of resources."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp

from gateway import __version__
from gateway.api.client_limit import ClientCounts, RequestsPerClient
from gateway.api.docs_page import docs_page
from gateway.api.error_response import handle_error
from gateway.api.generation_answer import BegunCalls
from gateway.api.middleware import APPLY_PATH, MAX_EXPORT_BYTES, RECONCILE_PATH, BodyLimit
from gateway.api.routes import (
    admin_accounts,
    admin_administrators,
    admin_alerts,
    admin_apply,
    admin_erasure,
    admin_limits,
    admin_money,
    admin_names,
    admin_pictures,
    admin_providers,
    admin_spending,
    admin_statements,
    admin_tags,
    admin_usage,
    generations,
    images,
    models,
    operations,
    own_pictures,
    usage,
)
from gateway.api.schemas_images import request_schema
from gateway.config import Settings
from gateway.console.door import ConsoleDoor
from gateway.errors import DarkroomError
from gateway.resources import Resources, open_resources, served_models

_DESCRIPTION = (
    "A caching gateway for image-generation APIs. Send the provider's own request body with a key of this gateway; "
    "calls with a seed are bought once and served from the cache ever after."
)
_EXPOSED = [
    "age", "cache-status", "darkroom-cost-usd", "darkroom-generation-id", "darkroom-mode", "darkroom-provider",
    "darkroom-saved-usd", "location", "preference-applied", "ratelimit", "ratelimit-policy", "retry-after",
    "x-client-request-id", "x-inference-id", "x-request-id", "x-should-retry",
]  # fmt: skip


_FOR_CALLERS = [module.router for module in (generations, models, usage, images, own_pictures)]
ADMIN_ROUTERS = [
    module.router
    for module in (
        admin_accounts,
        admin_administrators,
        admin_apply,
        admin_erasure,
        admin_usage,
        admin_statements,
        admin_money,
        admin_providers,
        admin_pictures,
        admin_limits,
        admin_names,
        admin_tags,
        admin_alerts,
        admin_spending,
    )
]
_FOR_OPERATORS = [*ADMIN_ROUTERS, operations.metrics_router]
_EVERYTHING = [*_FOR_CALLERS, *_FOR_OPERATORS]


def create_app(settings: Settings, *, resources: Resources | None = None) -> ASGIApp:
    """The application, around open resources or, without, around those that its lifespan opens from the settings.

    With a management port it lacks what answers there.
    """
    managed = settings.management.port is not None
    app = _application(settings, resources, _FOR_CALLERS if managed else _EVERYTHING)
    layered = _limited(app, settings)
    if resources is not None:
        layered = BegunCalls(layered, resources)
    most = settings.server.max_connections_per_address
    if most is not None and settings.server.trusted_proxies:
        layered = RequestsPerClient(layered, ClientCounts(most, trusted=settings.server.trusted_proxies))
    if settings.server.cors_origins:
        layered = CORSMiddleware(
            layered,
            allow_origins=settings.server.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=_EXPOSED,
            max_age=600,
        )
    return _with_console(layered, app, settings, for_administrators=not managed)


def create_management_app(settings: Settings, *, resources: Resources) -> ASGIApp:
    """What answers at the management port: all that is not for callers."""
    app = _application(settings, resources, _FOR_OPERATORS)
    return _with_console(_limited(app, settings), app, settings, for_administrators=True)


def _with_console(layered: ASGIApp, app: FastAPI, settings: Settings, *, for_administrators: bool) -> ASGIApp:
    """The console beside the layered application, outside of its layers: no other origin may read its pages."""

    def make() -> ASGIApp:
        from gateway.console.app import make_console  # noqa: PLC0415  (heavy: not for who never looks)

        resources = app.state.resources
        routed = app if settings.management.port is None else _application(settings, resources, _EVERYTHING)
        return _limited(make_console(routed, resources, for_administrators=for_administrators), settings)

    return ConsoleDoor(layered, make) if settings.console.enabled else layered


def _application(settings: Settings, resources: Resources | None, routers: Sequence[APIRouter]) -> FastAPI:
    app = FastAPI(
        title="Darkroom", version=__version__, description=_DESCRIPTION, docs_url=None, redoc_url=None,
        lifespan=_lifespan(settings) if resources is None else None, redirect_slashes=False,
    )  # fmt: skip
    app.state.resources = resources
    for kind in (DarkroomError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, handle_error)
    for router in (*routers, operations.router):
        app.include_router(router)
    _document(app, settings)
    return app


def _limited(app: ASGIApp, settings: Settings) -> ASGIApp:
    most = max(settings.server.max_body_bytes, 65_536)
    return BodyLimit(app, max_bytes=most, larger=dict.fromkeys((RECONCILE_PATH, APPLY_PATH), MAX_EXPORT_BYTES))


def _lifespan(settings: Settings) -> Any:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_resources(settings) as resources:
            app.state.resources = resources
            yield

    return lifespan


def _document(app: FastAPI, settings: Settings) -> None:
    """`/openapi.json` with the models' own parameters, and `/docs` made from it."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            parts = document.setdefault("components", {})
            parts.setdefault("schemas", {})["ImageRequest"] = request_schema(served_models(settings))
            parts["securitySchemes"] = {
                "callerKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A key dk_live_... or dk_test_...",
                },
                "adminKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The admin key, or an administrator's dk_admin_... of a role that goes so far.",
                },
            }
            for path, methods in document["paths"].items():
                for operation in methods.values():
                    if path.startswith("/admin/"):
                        operation["security"] = [{"adminKey": []}]
                    operation.get("responses", {}).pop("422", None)  # validation answers 400 here
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(
            docs_page(app.openapi()),
            headers={"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'"},
        )
