"""Every page, by its address below `/console/{mode}/`."""

from __future__ import annotations

from gateway.console.pages import access, alerts, money, operations, oversight, own, pictures, playground, statements

VIEWS = [
    *money.VIEWS,
    *statements.VIEWS,
    *pictures.VIEWS,
    *playground.VIEWS,
    *access.VIEWS,
    *operations.VIEWS,
    *alerts.VIEWS,
    *oversight.VIEWS,
    *own.VIEWS,
]
