"""The messages that webhooks get (docs/alerts.md)."""

from __future__ import annotations

import datetime as dt
from typing import Any

from gateway.storage.alerts import Alert
from gateway.storage.webhooks import Webhook


def limit_reached(alert: Alert) -> dict[str, Any]:
    """A limit that has used a share of its amount."""
    limit, (from_ms, to_ms) = alert.limit, alert.period_ms
    data = {
        "alert_id": alert.id,
        "mode": alert.mode,
        "limit": limit.name,
        "scope": alert.scope.value,
        "scope_id": alert.scope_id,
        "name": alert.name,
        "metric": alert.metric.value,
        "window": alert.window.value,
        "percent": alert.percent,
        "amount": limit.shown(alert.amount),
        "used": limit.shown(alert.used),
        "period": {"from": None if from_ms is None else _iso(from_ms), "to": None if to_ms is None else _iso(to_ms)},
    }
    return {"type": "limit.reached", "timestamp": _iso(alert.at_ms), "data": data}


def tested(webhook: Webhook, *, at_ms: int) -> dict[str, Any]:
    """What `darkroom webhook test` sends."""
    return {"type": "webhook.test", "timestamp": _iso(at_ms), "data": {"webhook_id": webhook.id, "name": webhook.name}}


def _iso(at_ms: int) -> str:
    return dt.datetime.fromtimestamp(at_ms // 1000, dt.UTC).isoformat().replace("+00:00", "Z")
