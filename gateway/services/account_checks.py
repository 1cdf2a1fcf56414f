"""What is asked of accounts, by whatever way: models that there are, limits that make sense."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from gateway.domain.declaration import LimitEntry
from gateway.domain.limits import Limit, Metric, ScopeKind, Window, check_alerts, check_window, parse_amount
from gateway.errors import InvalidRequest


def known_models(known: Collection[str], models: Sequence[str] | None) -> list[str] | None:
    """In order, each once; None: every model. Raises InvalidRequest for one that is not known."""
    unknown = sorted(set(models or ()) - set(known))
    if unknown:
        raise InvalidRequest(
            f"models: there is no {unknown[0]!r} here; the models are: {', '.join(sorted(known))}.", param="models"
        )
    return None if models is None else sorted(set(models))


def check_future(expires_ms: int | None, now_ms: int) -> None:
    """Raises InvalidRequest."""
    if expires_ms is not None and expires_ms <= now_ms:
        raise InvalidRequest("expires_at is in the past; to end a key now, delete or disable it.", param="expires_at")


def parse_limits(scope: ScopeKind, scope_id: str, entries: Sequence[LimitEntry]) -> list[Limit]:
    """Raises InvalidRequest for the first entry that makes no sense, and for two of one metric and window."""
    found: dict[tuple[Metric, Window], Limit] = {}
    for position, (metric, window, amount, alert_at) in enumerate(entries):
        try:
            check_window(metric, window)
            check_alerts(metric, window, alert_at)
            limit = Limit(scope, scope_id, metric, window, parse_amount(metric, amount), alert_at)
        except ValueError as exc:
            raise InvalidRequest(f"limits[{position}]: {exc}.", param=str(position)) from exc
        if found.setdefault((metric, window), limit) is not limit:
            raise InvalidRequest(
                f"limits[{position}]: {metric} per {window or 'moment'} is there twice; one amount is meant.",
                param=str(position),
            )
    return list(found.values())
