"""`GET /v1/models`: OpenAI's list form, with parameters, price, and whether seeded calls are cached."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from gateway.api.dependencies import CallerDep, ResourcesDep
from gateway.api.schemas_images import Price, price_body, refused, with_openai_names
from gateway.domain.model import Model
from gateway.errors import ModelNotFound

router = APIRouter(tags=["models"])
_SECURITY: dict[str, Any] = {"security": [{"callerKey": []}]}


class ModelAnswer(BaseModel):
    id: str
    object: str = "model"
    created: int = Field(0, description="Not known: 0.")
    owned_by: str = Field(description="The provider that serves it.")
    description: str
    version: str = Field(description="A part of every cache key.")
    price: Price
    cached_when_seeded: bool
    parameters: dict[str, Any] = Field(description="JSON Schema of the request body.")


class ModelList(BaseModel):
    object: str = "list"
    data: list[ModelAnswer]


@router.get("/v1/models", responses=refused(401, 403, 503), openapi_extra=_SECURITY)
async def list_models(caller: CallerDep, resources: ResourcesDep) -> ModelList:
    """The models that your key may use."""
    allowed = [model for name, model in sorted(resources.models.items()) if _may_use(caller.models, name)]
    return ModelList(data=[_answer(model) for model in allowed])


@router.get("/v1/models/{model_id}", responses=refused(401, 403, 404, 503), openapi_extra=_SECURITY)
async def get_model(model_id: str, caller: CallerDep, resources: ResourcesDep) -> ModelAnswer:
    model = resources.models.get(model_id)
    if model is None or not _may_use(caller.models, model_id):
        raise ModelNotFound(f"There is no model {model_id[:100]!r} for this key.", param="model")
    return _answer(model)


def _may_use(models: frozenset[str] | None, name: str) -> bool:
    return models is None or name in models


def _answer(model: Model) -> ModelAnswer:
    return ModelAnswer(
        id=model.name,
        owned_by=model.provider,
        description=model.description,
        version=model.version,
        price=Price(**price_body(model.price)),
        cached_when_seeded=model.deterministic,
        parameters=with_openai_names(model),
    )
