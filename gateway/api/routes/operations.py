"""For whoever runs it: is it alive, is it ready, what does it count."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import Response

from gateway.api.dependencies import ResourcesDep
from gateway.api.schemas_images import refused

router = APIRouter(tags=["operations"])
metrics_router = APIRouter(tags=["operations"])


class Health(BaseModel):
    status: str = "ok"


@router.get("/livez")
async def livez() -> Health:
    """The process answers."""
    return Health()


@router.get("/readyz", responses=refused(503))
async def readyz(resources: ResourcesDep) -> Health:
    """New calls may come: the database answers, and the process is not on its way out."""
    await resources.check_ready()
    return Health()


@metrics_router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus' text format."}},
)
async def metrics(resources: ResourcesDep) -> Response:
    return Response(resources.render_metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")
