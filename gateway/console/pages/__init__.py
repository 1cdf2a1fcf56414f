"""Every page, by its address below `/console/{mode}/`."""

from __future__ import annotations

from gateway.console.pages import access, alerts, audit, money, operations, own, pictures, playground, statements

VIEWS = [
    *money.VIEWS,
    *statements.VIEWS,
    *pictures.VIEWS,
    *playground.VIEWS,
    *access.VIEWS,
    *operations.VIEWS,
    *alerts.VIEWS,
    *audit.VIEWS,
    *own.VIEWS,
]
