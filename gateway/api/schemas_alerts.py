"""Webhooks, alerts and deliveries as administrators send and get them."""

from __future__ import annotations

from pydantic import BaseModel, Field

from gateway.api.schemas import Name, RequestBody, iso_time
from gateway.domain.administrator import Administrator, Permission
from gateway.domain.webhook import masked
from gateway.resources import Alert, Webhook, WebhookDelivery


class WebhookCreate(RequestBody):
    name: Name
    url: str = Field(
        max_length=2000, description="Messages are posted there: http or https; redirects are not followed."
    )


class WebhookUpdate(RequestBody):
    name: Name = Field("", validate_default=False)
    url: str = Field("", max_length=2000)
    disabled: bool = False


class WebhookAnswer(BaseModel):
    id: str
    object: str = "webhook"
    name: str
    url: str = Field(description="Whole for those who may change it; for others, and in the audit log, its host alone.")
    disabled: bool
    created_at: str
    disabled_at: str | None


class WebhookCreated(WebhookAnswer):
    secret: str = Field(description="Signs its messages: shown now and never again.")


class Period(BaseModel):
    from_: str | None = Field(serialization_alias="from", description="null: a limit for good.")
    to: str | None


class AlertAnswer(BaseModel):
    """A limit that has reached a share of its amount, as it was then."""

    id: str
    object: str = "alert"
    at: str
    mode: str
    scope: str
    scope_id: str
    name: str | None = Field(description="Of the team, the user or the key; null: it is no more.")
    limit: str = Field(description="Scope, metric and window, like `user-cost_usd-month`.")
    metric: str
    window: str
    percent: int
    amount: str
    used: str
    period: Period


class DeliveryAnswer(BaseModel):
    id: str
    object: str = "delivery"
    webhook_id: str
    alert_id: str | None = Field(description="null: a test.")
    status: str = Field(description="pending, delivered or failed.")
    attempts: int
    last_status: int | None = Field(description="What the webhook answered last.")
    last_error: str | None
    created_at: str
    next_at: str | None = Field(description="When it is sent again; null: never.")
    delivered_at: str | None


def webhook_answer(webhook: Webhook, admin: Administrator) -> WebhookAnswer:
    return WebhookAnswer(
        id=webhook.id,
        name=webhook.name,
        url=webhook.url if admin.may(Permission.MANAGE_ALERTS) else masked(webhook.url),
        disabled=webhook.disabled_ms is not None,
        created_at=iso_time(webhook.created_ms),
        disabled_at=_moment(webhook.disabled_ms),
    )


def webhook_created(webhook: Webhook, admin: Administrator, secret: str) -> WebhookCreated:
    return WebhookCreated(**webhook_answer(webhook, admin).model_dump(), secret=secret)


def alert_answer(alert: Alert) -> AlertAnswer:
    limit, (from_ms, to_ms) = alert.limit, alert.period_ms
    return AlertAnswer(
        id=alert.id,
        at=iso_time(alert.at_ms),
        mode=alert.mode,
        scope=alert.scope.value,
        scope_id=alert.scope_id,
        name=alert.name,
        limit=limit.name,
        metric=alert.metric.value,
        window=alert.window.value,
        percent=alert.percent,
        amount=limit.shown(alert.amount),
        used=limit.shown(alert.used),
        period=Period(from_=_moment(from_ms), to=_moment(to_ms)),
    )


def delivery_answer(delivery: WebhookDelivery) -> DeliveryAnswer:
    return DeliveryAnswer(
        id=delivery.id,
        webhook_id=delivery.webhook_id,
        alert_id=delivery.alert_id,
        status=delivery.status,
        attempts=delivery.attempts,
        last_status=delivery.last_status,
        last_error=delivery.last_error,
        created_at=iso_time(delivery.created_ms),
        next_at=_moment(delivery.next_ms),
        delivered_at=_moment(delivery.delivered_ms),
    )


def _moment(at_ms: int | None) -> str | None:
    return None if at_ms is None else iso_time(at_ms)
