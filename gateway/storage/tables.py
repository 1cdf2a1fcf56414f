"""The tables. Times are milliseconds since the epoch (`_ms`), money is integers of micro-dollars (`_micro_usd`)."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from gateway.domain.usage_row import UsageRow
from gateway.storage.database import Json

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
    }
)

UNDER_WAY = ("pending", "sent", "answered")
"""States of a generation that equal calls join."""


def _id(name: str = "id", **options: Any) -> sa.Column[str]:
    return sa.Column(name, sa.String(64), **options)


def _ms(name: str, **options: Any) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, **options)


def _big(name: str, *, nullable: bool = False, **options: Any) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=nullable, **options)


def _text(name: str, *, nullable: bool = False, **options: Any) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=nullable, **options)


schema_floor = sa.Table(  # one row: the oldest revision whose code can use this schema
    "schema_floor",
    metadata,
    _text("revision", primary_key=True),
)

# -- accounts --------------------------------------------------------------------------------------------------------

teams = sa.Table(
    "teams",
    metadata,
    _id(primary_key=True),
    _text("name"),
    sa.Column("labels", Json, nullable=False),
    _ms("created_ms", nullable=False),
    _ms("deleted_ms"),
)

users = sa.Table(
    "users",
    metadata,
    _id(primary_key=True),
    _text("name"),
    _text("email", nullable=True),
    _id("team_id", index=True),
    sa.Column("labels", Json, nullable=False),
    _ms("created_ms", nullable=False),
    _ms("deleted_ms"),
)

keys = sa.Table(
    "keys",
    metadata,
    _id(primary_key=True),
    _id("user_id", nullable=False, index=True),
    _text("name", nullable=True),
    _text("mode"),
    _text("prefix", unique=True),
    _text("hash"),
    sa.Column("models", Json),  # None: every model
    sa.Column("labels", Json, nullable=False),
    _ms("created_ms", nullable=False),
    _ms("expires_ms"),
    _ms("disabled_ms"),
    _ms("deleted_ms"),
    _id("rotated_to"),
)

limits = sa.Table(
    "limits",
    metadata,
    _text("scope", primary_key=True),
    _id("scope_id", primary_key=True),
    _text("metric", primary_key=True),
    _text("window", primary_key=True),
    _big("amount"),
)

provider_keys = sa.Table(
    "provider_keys",
    metadata,
    _id(primary_key=True),
    _text("provider", index=True),
    _text("name", nullable=True),
    _text("secret", nullable=True),  # sealed; None: the key of the settings that has this id
    _text("hint"),  # its last characters, for people
    _big("weight"),
    _big("max_concurrency"),
    _ms("created_ms", nullable=False),
    _ms("disabled_ms"),
    _ms("deleted_ms"),
)

declared = sa.Table(  # accounts that a file declares: they are changed there alone
    "declared",
    metadata,
    _id("object_id", primary_key=True),
    _text("source"),
    _text("kind"),
    _text("handle"),  # their name in the file
    sa.UniqueConstraint("source", "kind", "handle"),
)

audit_log = sa.Table(
    "audit_log",
    metadata,
    _id(primary_key=True),
    _ms("at_ms", nullable=False, index=True),
    _text("actor"),
    _text("action"),
    _text("object_kind"),
    _id("object_id", nullable=False),
    sa.Column("detail", Json),
)

changes = sa.Table(
    "changes",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    _ms("at_ms", nullable=False, index=True),
    _text("kind"),
    _text("object_id"),
)

replicas = sa.Table(  # the processes that share this database
    "replicas",
    metadata,
    _text("process_id", primary_key=True),
    _ms("seen_ms", nullable=False),
)

# -- money -----------------------------------------------------------------------------------------------------------

generations = sa.Table(
    "generations",
    metadata,
    _id(primary_key=True),
    _text("status"),
    _text("mode"),
    _text("fingerprint"),
    _text("flight", nullable=True),  # the fingerprint when equal calls may join and the answer may be stored
    _text("model"),
    _text("model_version"),
    _text("provider"),
    _text("provider_key_id", nullable=True),
    _id("key_id", nullable=False),
    _id("user_id", nullable=False),
    _id("team_id"),
    sa.Column("request", Json),  # canonical parameters, as privacy.store_prompts allows
    sa.Column("expected", Json, nullable=False),  # what the pictures must be: count, extension, size
    _big("images"),  # asked; the images delivered once settled
    _big("megapixels"),
    _big("reserved_micro_usd"),
    _big("cost_micro_usd", nullable=True),  # None: unknown
    _big("adjusted_micro_usd", server_default="0"),  # the sum of its adjustments
    _text("settled_by", nullable=True),  # after `unknown`: answer | books | estimate | administrator
    sa.Column("overrun", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("price_rule", Json, nullable=False),
    sa.Column("answer", Json),  # the provider's, from `answered` until it is published
    sa.Column("published", sa.LargeBinary),  # the stored answer, from then on: for repeats and receipts
    _text("repeat_key", nullable=True),  # the same for equal calls of one key and end user
    _ms("abandoned_ms"),  # its caller went without an answer, and nobody has been given the picture since
    _text("inference_id", nullable=True),
    sa.Column("usage", Json(UsageRow), nullable=False),  # the buyer's usage row, for whoever publishes
    sa.Column("error", Json),
    _text("lease_owner", nullable=True),
    _ms("lease_until_ms"),
    _ms("created_ms", nullable=False),
    _ms("sent_ms"),
    _ms("answered_ms"),
    _ms("finished_ms"),
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
    _id(primary_key=True),
    _id("generation_id", nullable=False, index=True),
    _ms("at_ms", nullable=False),
    _big("amount_micro_usd"),  # what the cost was too low by; negative: too high
    _text("reason"),
    _text("actor"),
)

shares = sa.Table(  # users other than its buyer who were promised the picture of a generation
    "shares",
    metadata,
    _id("generation_id", primary_key=True),
    _id("user_id", primary_key=True),
)

idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    _id("key_id", primary_key=True),
    _text("idempotency_key", primary_key=True),
    _text("request_hash"),
    _id("generation_id", nullable=False, index=True),
    _ms("expires_ms", nullable=False, index=True),
)

counters = sa.Table(
    "counters",
    metadata,
    _text("mode", primary_key=True),
    _text("scope", primary_key=True),
    _id("scope_id", primary_key=True),
    _text("metric", primary_key=True),
    _text("window", primary_key=True),
    sa.Column("window_start_ms", sa.BigInteger, primary_key=True),
    _big("spent"),
    _big("reserved"),
    sa.CheckConstraint("spent >= 0", name="spent"),
    sa.CheckConstraint("reserved >= 0", name="reserved"),
)

holds = sa.Table(
    "holds",
    metadata,
    _id("generation_id", primary_key=True),
    _text("scope", primary_key=True),
    _id("scope_id", primary_key=True),
    _text("metric", primary_key=True),
    _text("window", primary_key=True),
    _big("window_start_ms"),
    _big("amount"),
)

price_estimates = sa.Table(
    "price_estimates",
    metadata,
    _text("model", primary_key=True),
    _text("provider", primary_key=True),
    _text("unit"),
    _big("listed_micro_usd"),  # the estimate lapses when the listed price changes
    _big("unit_micro_usd"),
)

# -- pictures --------------------------------------------------------------------------------------------------------

blobs = sa.Table(
    "blobs",
    metadata,
    _text("sha256", primary_key=True),
    _big("size_bytes"),
    _ms("dead_since_ms", index=True),
    _ms("deleting_since_ms"),
)

images = sa.Table(
    "images",
    metadata,
    _id(primary_key=True),
    _text("sha256", index=True),
    _id("generation_id", nullable=False, index=True),
    _big("position"),
    _text("extension"),
    _text("content_type"),
    _big("width"),
    _big("height"),
    _big("size_bytes"),
    _ms("created_ms", nullable=False, index=True),
    _ms("removed_ms"),
)

cache_entries = sa.Table(
    "cache_entries",
    metadata,
    _text("fingerprint", primary_key=True),
    _id("generation_id", nullable=False, index=True),
    _text("mode"),
    _text("model", index=True),
    _id("user_id", nullable=False, index=True),
    sa.Column("answer", sa.LargeBinary, nullable=False),
    _ms("created_ms", nullable=False, index=True),
    _ms("expires_ms"),
)

# -- usage -----------------------------------------------------------------------------------------------------------

usage_log = sa.Table(  # kept in the order of its key, so that rows enter it at its end
    "usage_log",
    metadata,
    sa.Column("at_ms", sa.BigInteger, primary_key=True, autoincrement=False),
    _id(primary_key=True),
    _text("mode"),
    _id("key_id", nullable=False),
    _id("user_id", nullable=False),
    _id("team_id"),
    _text("model", nullable=True),
    _text("provider", nullable=True),
    _text("outcome"),  # hit | joined | repeated | bought | refused | failed; settlement | adjustment: money alone
    _big("status"),
    _text("code", nullable=True),
    _big("images"),
    _big("cost_micro_usd", nullable=True),
    _big("saved_micro_usd"),
    _big("latency_us"),
    _id("generation_id"),
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


def _totals(name: str, since: str) -> sa.Table:
    """Sums over the usage log by what it is asked for, in steps of time that begin at `since`."""
    return sa.Table(
        name,
        metadata,
        sa.Column(since, sa.BigInteger, primary_key=True),
        _text("mode", primary_key=True),
        _id("key_id", primary_key=True),
        _id("user_id", primary_key=True),
        _text("team_id", primary_key=True),  # "" for none: a key column can't be NULL
        _text("model", primary_key=True),
        _text("provider", primary_key=True),
        _big("requests"),
        _big("counted"),  # those that count against limits of requests: all but those a limit refused
        _big("hits"),
        _big("joined"),
        _big("generations"),
        _big("images"),
        _big("errors"),
        _big("cost_micro_usd"),
        _big("saved_micro_usd"),
        sqlite_with_rowid=False,
    )


usage_hourly = _totals("usage_hourly", "hour_ms")
usage_daily = _totals("usage_daily", "day_ms")

reuses = sa.Table(  # how often a generation answered another call, and what that saved
    "reuses",
    metadata,
    _id("generation_id", primary_key=True),
    _big("times"),
    _big("saved_micro_usd"),
    sqlite_with_rowid=False,
)
