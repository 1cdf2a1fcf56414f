"""For whoever runs it: is it alive, is it ready, what does it count."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import Response

from gateway.api.dependencies import ResourcesDep
from gateway.api.schemas_images import refused

router = APIRouter(tags=["operations"])
metrics_router = APIRouter(tags=["operations"])


class Health(BaseModel):
    status: Literal["ok", "degraded"] = "ok"


@router.get("/livez")
async def livez() -> Health:
    """The process answers."""
    return Health()


@router.get("/readyz", responses=refused(503))
async def readyz(resources: ResourcesDep) -> Health:
    """New calls may come: the process is not on its way out, and can record what it serves. `degraded`: the database
    does not answer, so hits are served and nothing is bought.
    """
    return Health(status="ok" if await resources.readiness.check() else "degraded")


@metrics_router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus' text format."}},
)
async def metrics(resources: ResourcesDep) -> Response:
    return Response(resources.render_metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")
