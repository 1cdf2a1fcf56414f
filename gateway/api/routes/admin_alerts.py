"""For administrators: whom to tell when a limit fills up, what was told, and what became of it."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from gateway.api.dependencies import ResourcesDep, Seer, SeerOfAll, requires
from gateway.api.schemas import ListAnswer, Moment, refusals
from gateway.api.schemas_alerts import (
    AlertAnswer,
    DeliveryAnswer,
    WebhookAnswer,
    WebhookCreate,
    WebhookCreated,
    WebhookUpdate,
    alert_answer,
    delivery_answer,
    webhook_answer,
    webhook_created,
)
from gateway.domain.administrator import Administrator, Permission
from gateway.domain.api_key import Mode

router = APIRouter(prefix="/admin/v1", tags=["alerts"], responses=refusals(400, 401, 403, 503))
_NOT_FOUND = refusals(404)
Manager = Annotated[Administrator, requires(Permission.MANAGE_ALERTS)]
Limit = Annotated[int, Query(ge=1, le=1000)]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before.")]


@router.post("/webhooks", status_code=201)
async def create_webhook(body: WebhookCreate, resources: ResourcesDep, admin: Manager) -> WebhookCreated:
    """Alerts from now on are told to it. The answer shows the secret that signs them this once."""
    made = await resources.webhooks.create(body.name, body.url, actor=admin.actor)
    return webhook_created(made.webhook, admin, made.secret)


@router.get("/webhooks")
async def list_webhooks(resources: ResourcesDep, admin: SeerOfAll) -> ListAnswer[WebhookAnswer]:
    """Newest first, in one page."""
    data = [webhook_answer(webhook, admin) for webhook in await resources.webhooks.list()]
    return ListAnswer(data=data, has_more=False, next_cursor=None)


@router.get("/webhooks/{webhook_id}", responses=_NOT_FOUND)
async def get_webhook(webhook_id: str, resources: ResourcesDep, admin: SeerOfAll) -> WebhookAnswer:
    return webhook_answer(await resources.webhooks.get(webhook_id), admin)


@router.patch("/webhooks/{webhook_id}", responses=_NOT_FOUND)
async def update_webhook(
    webhook_id: str, body: WebhookUpdate, resources: ResourcesDep, admin: Manager
) -> WebhookAnswer:
    """One that is disabled is told nothing; what waits for it fails."""
    return webhook_answer(await resources.webhooks.update(webhook_id, body.values(), actor=admin.actor), admin)


@router.delete("/webhooks/{webhook_id}", status_code=204, responses=_NOT_FOUND)
async def delete_webhook(webhook_id: str, resources: ResourcesDep, admin: Manager) -> None:
    """The log of its deliveries stays."""
    await resources.webhooks.delete(webhook_id, actor=admin.actor)


@router.post("/webhooks/{webhook_id}/rotate", status_code=201, responses=_NOT_FOUND)
async def rotate_webhook(webhook_id: str, resources: ResourcesDep, admin: Manager) -> WebhookCreated:
    """A new secret; the old one signs nothing from now on. The answer shows the new one this once."""
    made = await resources.webhooks.rotate(webhook_id, actor=admin.actor)
    return webhook_created(made.webhook, admin, made.secret)


@router.post("/webhooks/{webhook_id}/test", responses=_NOT_FOUND)
async def send_test(webhook_id: str, resources: ResourcesDep, _admin: Manager) -> DeliveryAnswer:
    """Sends `webhook.test` now and once, and says what became of it."""
    return delivery_answer(await resources.deliveries.test(webhook_id))


@router.get("/alerts")
async def list_alerts(
    resources: ResourcesDep,
    admin: Seer,
    mode: Mode | None = None,
    scope_id: Annotated[str | None, Query(description="Of a team, a user or a key.")] = None,
    team_id: Annotated[str | None, Query(description="Its own and those of its users and keys.")] = None,
    from_: Annotated[Moment | None, Query(alias="from", description="ISO 8601 or Unix seconds.")] = None,
    to: Annotated[Moment | None, Query(description="The range is half-open.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> ListAnswer[AlertAnswer]:
    """Limits that have reached a share of their amount, newest first."""
    page = await resources.alerts.list(
        mode=mode, scope_id=scope_id, team_id=admin.team(team_id), from_ms=from_, to_ms=to, limit=limit, cursor=cursor
    )
    data = [alert_answer(alert) for alert in page.data]
    return ListAnswer(data=data, has_more=page.has_more, next_cursor=page.next_cursor)


@router.get("/deliveries")
async def list_deliveries(
    resources: ResourcesDep,
    _admin: SeerOfAll,
    webhook_id: str | None = None,
    status: Literal["pending", "delivered", "failed"] | None = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> ListAnswer[DeliveryAnswer]:
    """What was sent to webhooks, or waits to be, newest first."""
    page = await resources.deliveries.list(webhook_id=webhook_id, status=status, limit=limit, cursor=cursor)
    data = [delivery_answer(delivery) for delivery in page.data]
    return ListAnswer(data=data, has_more=page.has_more, next_cursor=page.next_cursor)


@router.post("/deliveries/{delivery_id}/retry", responses=_NOT_FOUND)
async def retry_delivery(delivery_id: str, resources: ResourcesDep, _admin: Manager) -> DeliveryAnswer:
    """Sends it again now, and says what became of it; if it is not taken, its tries begin anew."""
    return delivery_answer(await resources.deliveries.retry(delivery_id))
