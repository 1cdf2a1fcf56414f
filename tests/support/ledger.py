"""Builders for the books: intents, limits, answers, usage rows, and looks at what SQL holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from msgspec import structs

from gateway.domain.answer import AnsweredImage, ProviderAnswer, StoredAnswer, StoredImage
from gateway.domain.ids import new_id
from gateway.domain.limits import Limit, Metric, ScopeKind, Window
from gateway.domain.pricing import PriceRule
from gateway.domain.usage_row import UsageRow
from gateway.storage import generations, invariants, settlement, tables
from gateway.storage.database import Database
from gateway.storage.generations import Charge, Intent
from gateway.storage.settlement import SettledBy

PRICE = 65_000
HOUR_MS = 3_600_000
AT_MS = 1_767_261_600_000  # 2026-01-01, 10:00 UTC
ANSWER = ProviderAnswer(images=(AnsweredImage(url="https://cdn.test/a.jpeg"),), inference_id="inf_1")
CHARGE = Charge(PRICE, 1, 1, overrun=False)
ERROR = {"code": "provider_error", "message": "no picture", "charged": "no"}


def usage_row(**changes: Any) -> UsageRow:
    row: dict[str, Any] = {
        "at_ms": AT_MS,
        "id": new_id("req"),
        "mode": "live",
        "key_id": "key_1",
        "user_id": "user_1",
        "team_id": "team_1",
        "model": "flux-pro",
        "provider": "aimlapi",
        "outcome": "bought",
        "status": 200,
        "code": None,
        "images": 1,
        "cost_micro_usd": PRICE,
        "saved_micro_usd": 0,
        "latency_us": 1000,
        "generation_id": None,
    }
    return UsageRow(**(row | changes))


def intent(**changes: Any) -> Intent:
    generation_id = changes.get("id", new_id("gen"))
    made = Intent(
        id=generation_id,
        mode="live",
        fingerprint=f"fp-{generation_id}",
        flight=None,
        model="flux-pro",
        model_version="1",
        provider="aimlapi",
        key_id="key_1",
        user_id="user_1",
        team_id="team_1",
        request={"prompt": "A lighthouse"},
        expected={"images": 1, "extension": "jpg", "size": (64, 64)},
        images=1,
        megapixels=1,
        estimate_micro_usd=PRICE,
        price_rule=PriceRule("image", PRICE),
        usage=usage_row(generation_id=generation_id),
        repeat_key=f"repeat-{generation_id}",
    )
    return replace(made, **changes)


def flight(fingerprint: str = "fp", **changes: Any) -> Intent:
    """An intent that equal calls may join."""
    return intent(fingerprint=fingerprint, flight=fingerprint, **changes)


def limit(
    amount: int,
    metric: Metric = Metric.COST_USD,
    window: Window = Window.TOTAL,
    scope: ScopeKind = ScopeKind.USER,
    scope_id: str = "",
) -> Limit:
    """In a window that can't roll over in the middle of a test, unless another is asked for."""
    if metric is Metric.CONCURRENCY:
        window = Window.NONE
    return Limit(scope, scope_id or f"{scope}_1", metric, window, amount)


def stored_image(sha256: str = "aa" * 32, **changes: Any) -> StoredImage:
    values: dict[str, Any] = {
        "extension": "jpg",
        "content_type": "image/jpeg",
        "width": 64,
        "height": 64,
        "size_bytes": 100,
    }
    return StoredImage(id=new_id("img"), sha256=sha256, **(values | changes))


def stored_answer(generation_id: str, *images: StoredImage) -> StoredAnswer:
    return StoredAnswer(generation_id, 1, images or (stored_image(),), PRICE, "aimlapi")


class Books:
    """The steps of a generation, each in a transaction of its own, and looks at the tables."""

    def __init__(self, database: Database, *, owner: str = "me") -> None:
        self.database = database
        self.owner = owner

    async def reserve(self, made: Intent, *limits: Limit, accepts: Any = lambda _entry, _now: True) -> Intent:
        await self.database.write(
            lambda conn: generations.reserve(conn, made, limits, lease_owner=self.owner, accepts=accepts)
        )
        return made

    async def send(self, generation_id: str, *, owner: str | None = None) -> bool:
        return await self.database.write(
            lambda conn: generations.mark_sent(
                conn, generation_id, lease_owner=owner or self.owner, provider_key_id="k1"
            )
        )

    async def answer(self, generation_id: str, charge: Charge = CHARGE, answer: ProviderAnswer = ANSWER) -> bool:
        return await self.database.write(
            lambda conn: generations.record_answer(conn, generation_id, answer, charge, lease_owner=self.owner)
        )

    async def publish(self, made: Intent, *images: StoredImage, **changes: Any) -> Any:
        options: dict[str, Any] = {"storable": made.flight is not None, "ttl_ms": None, "usage": made.usage} | changes
        answer = stored_answer(made.id, *images)
        return await self.database.write(lambda conn: generations.publish(conn, made.id, answer, **options))

    async def fail(self, made: Intent, **options: Any) -> bool:
        usage = structs.replace(made.usage, outcome="failed", status=502, cost_micro_usd=0)
        return await self.database.write(
            lambda conn: generations.fail(conn, made.id, error=ERROR, usage=usage, **options)
        )

    async def lose(self, made: Intent) -> bool:
        usage = structs.replace(made.usage, outcome="failed", status=504, cost_micro_usd=None)
        return await self.database.write(lambda conn: generations.lose(conn, made.id, error=ERROR, usage=usage))

    async def settle(self, generation_id: str, cost_micro_usd: int, by: SettledBy = "books") -> bool:
        return await self.database.write(
            lambda conn: settlement.settle(conn, generation_id, cost_micro_usd, by=by, error=ERROR)
        )

    async def correct(self, generation_id: str, cost_micro_usd: int) -> int:
        def work(conn: sa.Connection) -> int:
            row = settlement.lock(conn, generation_id)
            assert row is not None
            return settlement.correct(conn, row, cost_micro_usd, reason="the books say so", actor="a test")

        return await self.database.write(work)

    async def unknown(self, *limits: Limit, **changes: Any) -> Intent:
        made = await self.sent(*limits, **changes)
        assert await self.lose(made)
        return made

    async def logged_cost(self) -> int:
        """What the usage log and its totals say was spent: they always agree."""
        rows = sum(row["cost_micro_usd"] or 0 for row in await self.rows(tables.usage_log))
        assert rows == sum(row["cost_micro_usd"] for row in await self.rows(tables.usage_hourly))
        return rows

    async def broken_rules(self) -> list[str]:
        """What `darkroom doctor` would complain of."""
        return [f"{found.rule}: {found.wrong}" for found in await self.database.read(invariants.examine) if found.count]

    async def reserved(self, *limits: Limit, **changes: Any) -> Intent:
        return await self.reserve(intent(**changes), *limits)

    async def sent(self, *limits: Limit, **changes: Any) -> Intent:
        made = await self.reserved(*limits, **changes)
        assert await self.send(made.id)
        return made

    async def answered(self, *limits: Limit, charge: Charge = CHARGE, **changes: Any) -> Intent:
        made = await self.sent(*limits, **changes)
        assert await self.answer(made.id, charge)
        return made

    async def reserve_answered(self, made: Intent, *limits: Limit, charge: Charge = CHARGE) -> Intent:
        await self.reserve(made, *limits)
        assert await self.send(made.id)
        assert await self.answer(made.id, charge)
        return made

    async def rows(self, table: sa.Table) -> list[dict[str, Any]]:
        """In the order of their keys."""
        query = sa.select(table).order_by(*table.primary_key)
        found = await self.database.read(lambda conn: conn.execute(query).mappings().all())
        return [dict(row) for row in found]

    async def row(self, generation_id: str) -> dict[str, Any]:
        [row] = [row for row in await self.rows(tables.generations) if row["id"] == generation_id]
        return row

    async def status(self, generation_id: str) -> str:
        return str((await self.row(generation_id))["status"])

    async def counter(self, asked: Limit, *, mode: str = "live") -> tuple[int, int]:
        """Spent and reserved, over all windows started so far."""
        wanted = (mode, asked.scope, asked.scope_id, asked.metric, asked.window)
        names = ("mode", "scope", "scope_id", "metric", "window")
        rows = [row for row in await self.rows(tables.counters) if tuple(row[name] for name in names) == wanted]
        return sum(row["spent"] for row in rows), sum(row["reserved"] for row in rows)

    async def update(self, generation_id: str, **values: Any) -> None:
        """What no code does: for a test that needs an age or an expired lease."""
        changed = sa.update(tables.generations).where(tables.generations.c.id == generation_id).values(**values)
        await self.database.write(lambda conn: conn.execute(changed))

    async def expire(self, generation_id: str) -> None:
        await self.update(generation_id, lease_until_ms=0)
