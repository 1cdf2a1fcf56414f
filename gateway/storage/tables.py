"""The tables of money, pictures and usage, and what processes tell each other; `tables_accounts` has the others.

`metadata` holds all of them. Times are milliseconds since the epoch (`_ms`), money is micro-dollars (`_micro_usd`).
"""

from __future__ import annotations

import sqlalchemy as sa

from gateway.domain.usage_row import UsageRow
from gateway.storage import tables_accounts as _tables_accounts  # noqa: F401  (metadata holds them all)
from gateway.storage.columns import big, id_column, moment, text
from gateway.storage.columns import metadata as metadata  # noqa: PLC0414  (exported)
from gateway.storage.database import Json

UNDER_WAY = ("pending", "sent", "answered")
"""States of a generation that equal calls join."""

schema_floor = sa.Table(  # one row: the oldest revision whose code can use this schema
    "schema_floor",
    metadata,
    text("revision", primary_key=True),
)

# -- processes ------------------------------------------------------------------------------------------------------

changes = sa.Table(
    "changes",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    moment("at_ms", nullable=False, index=True),
    text("kind"),
    text("object_id"),
)

replicas = sa.Table(  # the processes that share this database
    "replicas",
    metadata,
    text("process_id", primary_key=True),
    moment("seen_ms", nullable=False),
)

# -- money -----------------------------------------------------------------------------------------------------------

generations = sa.Table(
    "generations",
    metadata,
    id_column(primary_key=True),
    text("status"),
    text("mode"),
    text("fingerprint"),
    text("flight", nullable=True),  # the fingerprint when equal calls may join and the answer may be stored
    text("model"),
    text("model_version"),
    text("provider"),
    text("provider_key_id", nullable=True),
    id_column("key_id", nullable=False),
    id_column("user_id", nullable=False),
    id_column("team_id"),
    sa.Column("request", Json),  # canonical parameters, as privacy.store_prompts allows
    sa.Column("expected", Json, nullable=False),  # what the pictures must be: count, extension, size
    big("images"),  # asked; the images delivered once settled
    big("megapixels"),
    big("reserved_micro_usd"),
    big("cost_micro_usd", nullable=True),  # None: unknown
    big("adjusted_micro_usd", server_default="0"),  # the sum of its adjustments
    text("settled_by", nullable=True),  # after `unknown`: answer | books | estimate | administrator
    sa.Column("overrun", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("price_rule", Json, nullable=False),
    sa.Column("answer", Json),  # the provider's, from `answered` until it is published
    sa.Column("published", sa.LargeBinary),  # the stored answer, from then on: for repeats and receipts
    text("repeat_key", nullable=True),  # the same for equal calls of one key and end user
    moment("abandoned_ms"),  # its caller went without an answer, and nobody has been given the picture since
    text("inference_id", nullable=True),
    sa.Column("usage", Json(UsageRow), nullable=False),  # the buyer's usage row, for whoever publishes
    sa.Column("error", Json),
    text("lease_owner", nullable=True),
    moment("lease_until_ms"),
    moment("created_ms", nullable=False),
    moment("sent_ms"),
    moment("answered_ms"),
    moment("finished_ms"),
    sa.Index("ix_generations_user_id_created_ms", "user_id", "created_ms"),
    sa.Index("ix_generations_team_id_created_ms", "team_id", "created_ms"),
    sa.Index("ix_generations_key_id_created_ms", "key_id", "created_ms"),
    sa.Index("ix_generations_created_ms", "created_ms"),
)

_under_way = generations.c.status.in_(UNDER_WAY)
sa.Index(
    "uq_generations_flight",
    generations.c.flight,
    unique=True,
    sqlite_where=sa.text("flight IS NOT NULL AND status IN ('pending', 'sent', 'answered')"),
    postgresql_where=sa.text("flight IS NOT NULL AND status IN ('pending', 'sent', 'answered')"),
)
sa.Index(
    "ix_generations_open",
    generations.c.lease_until_ms,
    sqlite_where=sa.text("status IN ('pending', 'sent', 'answered', 'unknown')"),
    postgresql_where=sa.text("status IN ('pending', 'sent', 'answered', 'unknown')"),
)

sa.Index(
    "ix_generations_repeat_key",
    generations.c.repeat_key,
    sqlite_where=sa.text("abandoned_ms IS NOT NULL"),
    postgresql_where=sa.text("abandoned_ms IS NOT NULL"),
)
sa.Index(
    "ix_generations_unknown",
    generations.c.finished_ms,
    sqlite_where=sa.text("status = 'unknown'"),
    postgresql_where=sa.text("status = 'unknown'"),
)

adjustments = sa.Table(
    "adjustments",
    metadata,
    id_column(primary_key=True),
    id_column("generation_id", nullable=False, index=True),
    moment("at_ms", nullable=False),
    big("amount_micro_usd"),  # what the cost was too low by; negative: too high
    text("reason"),
    text("actor"),
)

shares = sa.Table(  # users other than its buyer who were promised the picture of a generation
    "shares",
    metadata,
    id_column("generation_id", primary_key=True),
    id_column("user_id", primary_key=True),
)

idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    id_column("key_id", primary_key=True),
    text("idempotency_key", primary_key=True),
    text("request_hash"),
    id_column("generation_id", nullable=False, index=True),
    moment("expires_ms", nullable=False, index=True),
)

counters = sa.Table(
    "counters",
    metadata,
    text("mode", primary_key=True),
    text("scope", primary_key=True),
    id_column("scope_id", primary_key=True),
    text("metric", primary_key=True),
    text("window", primary_key=True),
    sa.Column("window_start_ms", sa.BigInteger, primary_key=True),
    big("spent"),
    big("reserved"),
    sa.CheckConstraint("spent >= 0", name="spent"),
    sa.CheckConstraint("reserved >= 0", name="reserved"),
)

holds = sa.Table(
    "holds",
    metadata,
    id_column("generation_id", primary_key=True),
    text("scope", primary_key=True),
    id_column("scope_id", primary_key=True),
    text("metric", primary_key=True),
    text("window", primary_key=True),
    big("window_start_ms"),
    big("amount"),
)

price_estimates = sa.Table(
    "price_estimates",
    metadata,
    text("model", primary_key=True),
    text("provider", primary_key=True),
    text("unit"),
    big("listed_micro_usd"),  # the estimate lapses when the listed price changes
    big("unit_micro_usd"),
)

# -- pictures --------------------------------------------------------------------------------------------------------

blobs = sa.Table(
    "blobs",
    metadata,
    text("sha256", primary_key=True),
    big("size_bytes"),
    moment("dead_since_ms", index=True),
    moment("deleting_since_ms"),
)

images = sa.Table(
    "images",
    metadata,
    id_column(primary_key=True),
    text("sha256", index=True),
    id_column("generation_id", nullable=False, index=True),
    big("position"),
    text("extension"),
    text("content_type"),
    big("width"),
    big("height"),
    big("size_bytes"),
    moment("created_ms", nullable=False, index=True),
    moment("removed_ms"),
)

_shown = sa.and_(images.c.position == sa.literal_column("0"), images.c.removed_ms.is_(None))
sa.Index(  # one row for each purchase whose pictures are there: those of one purchase go together
    "ix_images_shown", images.c.created_ms, images.c.id, sqlite_where=_shown, postgresql_where=_shown
)

cache_entries = sa.Table(
    "cache_entries",
    metadata,
    text("fingerprint", primary_key=True),
    id_column("generation_id", nullable=False, index=True),
    text("mode"),
    text("model", index=True),
    id_column("user_id", nullable=False, index=True),
    sa.Column("answer", sa.LargeBinary, nullable=False),
    moment("created_ms", nullable=False, index=True),
    moment("expires_ms"),
)

# -- usage -----------------------------------------------------------------------------------------------------------

usage_log = sa.Table(  # kept in the order of its key, so that rows enter it at its end
    "usage_log",
    metadata,
    sa.Column("at_ms", sa.BigInteger, primary_key=True, autoincrement=False),
    id_column(primary_key=True),
    text("mode"),
    id_column("key_id", nullable=False),
    id_column("user_id", nullable=False),
    id_column("team_id"),
    text("model", nullable=True),
    text("provider", nullable=True),
    text("outcome"),  # hit | joined | repeated | bought | refused | failed; settlement | adjustment: money alone
    big("status"),
    text("code", nullable=True),
    big("images"),
    big("cost_micro_usd", nullable=True),
    big("saved_micro_usd"),
    big("latency_us"),
    id_column("generation_id"),
    sa.Column("tags", Json),
    sa.Column("labels", Json),
    sa.Index("ix_usage_log_user_id_at_ms", "user_id", "at_ms"),
    sqlite_with_rowid=False,
    postgresql_partition_by="RANGE (at_ms)",  # by month: `usage_partitions`
)
sa.event.listen(
    usage_log,
    "after_create",
    sa.DDL(  # type: ignore[no-untyped-call]
        "CREATE TABLE usage_log_default PARTITION OF usage_log DEFAULT"
    ).execute_if(dialect="postgresql"),
)
sa.Index(
    "ix_usage_log_generation_id",
    usage_log.c.generation_id,
    sqlite_where=sa.text("outcome != 'hit'"),
    postgresql_where=sa.text("outcome != 'hit'"),
)


_failed = usage_log.c.status >= sa.literal_column("400")
sa.Index(  # few, looked for often, and found in no other order
    "ix_usage_log_failed",
    usage_log.c.at_ms,
    usage_log.c.id,
    usage_log.c.status,
    usage_log.c.code,
    sqlite_where=_failed,
    postgresql_where=_failed,
)


def _sums() -> list[sa.Column[int]]:
    return [
        big("requests"),
        big("counted"),  # those that count against limits of requests: all but those a limit refused
        big("hits"),
        big("joined"),
        big("generations"),
        big("images"),
        big("errors"),
        big("cost_micro_usd"),
        big("saved_micro_usd"),
    ]


def _totals(name: str, since: str) -> sa.Table:
    """Sums over the usage log by what it is asked for, in steps of time that begin at `since`."""
    return sa.Table(
        name,
        metadata,
        sa.Column(since, sa.BigInteger, primary_key=True),
        text("mode", primary_key=True),
        id_column("key_id", primary_key=True),
        id_column("user_id", primary_key=True),
        text("team_id", primary_key=True),  # "" for none: a key column can't be NULL
        text("model", primary_key=True),
        text("provider", primary_key=True),
        *_sums(),
        sqlite_with_rowid=False,
    )


usage_hourly = _totals("usage_hourly", "hour_ms")
usage_daily = _totals("usage_daily", "day_ms")

usage_tags_daily = sa.Table(  # the same sums of rows with tags, once for each of their tags
    "usage_tags_daily",
    metadata,
    text("mode", primary_key=True),
    text("tag", primary_key=True),
    sa.Column("day_ms", sa.BigInteger, primary_key=True),
    text("value", primary_key=True),
    id_column("key_id", primary_key=True),
    id_column("user_id", primary_key=True),
    text("team_id", primary_key=True),
    text("model", primary_key=True),
    text("provider", primary_key=True),
    *_sums(),
    sqlite_with_rowid=False,
)

usage_tags_since = sa.Table(  # the first day that usage_tags_daily holds whole; no row: every day
    "usage_tags_since",
    metadata,
    sa.Column("day_ms", sa.BigInteger, primary_key=True, autoincrement=False),
)

reuses = sa.Table(  # how often a generation answered another call, and what that saved
    "reuses",
    metadata,
    id_column("generation_id", primary_key=True),
    big("times"),
    big("saved_micro_usd"),
    sqlite_with_rowid=False,
)

# -- statements ------------------------------------------------------------------------------------------------------

statements = sa.Table(  # a month that was closed
    "statements",
    metadata,
    text("month", primary_key=True),  # 2026-11
    text("mode", primary_key=True),
    moment("closed_ms", nullable=False),
    text("closed_by"),
    big("cost_micro_usd"),
)

statement_lines = sa.Table(  # its sums, as they were frozen: what the usage log says more today is a later correction
    "statement_lines",
    metadata,
    text("month", primary_key=True),
    text("mode", primary_key=True),
    text("of_month", primary_key=True),  # the month itself; an earlier one: what came in after that was closed
    id_column("key_id", primary_key=True),
    id_column("user_id", primary_key=True),
    text("team_id", primary_key=True),  # "" for none
    text("model", primary_key=True),
    text("provider", primary_key=True),
    sa.Column("names", Json, nullable=False),  # of team, user and key, as they were then
    *(big(name) for name in ("requests", "hits", "joined", "generations", "images", "errors")),
    big("cost_micro_usd"),
    big("saved_micro_usd"),
)
