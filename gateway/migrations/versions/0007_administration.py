"""Administrators, their sessions, alerts, closed months and erased users."""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None
oldest_code = "0001"


def upgrade() -> None:
    op.create_table(
        "administrators",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("team_id", sa.String(length=64), nullable=True),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=True),
        sa.Column("disabled_ms", sa.BigInteger(), nullable=True),
        sa.Column("deleted_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_administrators")),
        sa.UniqueConstraint("prefix", name=op.f("uq_administrators_prefix")),
    )
    op.create_table(
        "alerts",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("scope_id", sa.String(length=64), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("window", sa.Text(), nullable=False),
        sa.Column("window_start_ms", sa.BigInteger(), nullable=False),
        sa.Column("percent", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alerts")),
        sa.UniqueConstraint(
            "mode", "scope", "scope_id", "metric", "window", "window_start_ms", "percent", name="uq_alerts_crossing"
        ),
    )
    op.create_index(op.f("ix_alerts_at_ms"), "alerts", ["at_ms"])
    op.create_table(
        "deliveries",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("webhook_id", sa.String(length=64), nullable=False),
        sa.Column("alert_id", sa.String(length=64), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("next_ms", sa.BigInteger(), nullable=True),
        sa.Column("last_status", sa.BigInteger(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("delivered_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
    )
    op.create_index(op.f("ix_deliveries_created_ms"), "deliveries", ["created_ms"])
    op.create_index(op.f("ix_deliveries_next_ms"), "deliveries", ["next_ms"])
    op.create_index(op.f("ix_deliveries_webhook_id"), "deliveries", ["webhook_id"])
    op.create_table(
        "sessions",
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("proof", sa.Text(), nullable=False),
        sa.Column("csrf", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_sessions")),
    )
    op.create_index(op.f("ix_sessions_expires_ms"), "sessions", ["expires_ms"])
    op.create_table(
        "statement_lines",
        sa.Column("month", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("of_month", sa.Text(), nullable=False),
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("team_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("names", sa.Text(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("hits", sa.BigInteger(), nullable=False),
        sa.Column("joined", sa.BigInteger(), nullable=False),
        sa.Column("generations", sa.BigInteger(), nullable=False),
        sa.Column("images", sa.BigInteger(), nullable=False),
        sa.Column("errors", sa.BigInteger(), nullable=False),
        sa.Column("cost_micro_usd", sa.BigInteger(), nullable=False),
        sa.Column("saved_micro_usd", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "month",
            "mode",
            "of_month",
            "key_id",
            "user_id",
            "team_id",
            "model",
            "provider",
            name=op.f("pk_statement_lines"),
        ),
    )
    op.create_table(
        "statements",
        sa.Column("month", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("closed_ms", sa.BigInteger(), nullable=False),
        sa.Column("closed_by", sa.Text(), nullable=False),
        sa.Column("cost_micro_usd", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("month", "mode", name=op.f("pk_statements")),
    )
    op.create_table(
        "webhooks",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("disabled_ms", sa.BigInteger(), nullable=True),
        sa.Column("deleted_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks")),
    )
    _total_tags()
    op.add_column("limits", sa.Column("alert_at", sa.Text(), nullable=True))
    op.add_column("users", sa.Column("erased_ms", sa.BigInteger(), nullable=True))
    shown = sa.text("position = 0 AND removed_ms IS NULL")
    op.create_index("ix_images_shown", "images", ["created_ms", "id"], sqlite_where=shown, postgresql_where=shown)


def _total_tags() -> None:
    """What older replicas log until they are gone has no totals by tag: those begin with the day after tomorrow."""
    sums = (
        "requests", "counted", "hits", "joined", "generations", "images", "errors", "cost_micro_usd", "saved_micro_usd",
    )  # fmt: skip
    op.create_table(
        "usage_tags_daily",
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("day_ms", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("team_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in sums),
        sa.PrimaryKeyConstraint(
            "mode",
            "tag",
            "day_ms",
            "value",
            "key_id",
            "user_id",
            "team_id",
            "model",
            "provider",
            name=op.f("pk_usage_tags_daily"),
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "usage_tags_since",
        sa.Column("day_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("day_ms", name=op.f("pk_usage_tags_since")),
    )
    day = int(time.time()) // 86_400
    op.execute(
        f"INSERT INTO usage_tags_since SELECT {(day + 2) * 86_400_000} WHERE EXISTS (SELECT 1 FROM usage_log)"  # noqa: S608
    )
    failed = sa.text("status >= 400")
    op.create_index(
        "ix_usage_log_failed",
        "usage_log",
        ["at_ms", "id", "status", "code"],
        sqlite_where=failed,
        postgresql_where=failed,
    )


def downgrade() -> None:
    op.drop_index("ix_usage_log_failed", table_name="usage_log")
    op.drop_table("usage_tags_since")
    op.drop_table("usage_tags_daily")
    op.drop_index("ix_images_shown", table_name="images")
    op.drop_column("users", "erased_ms")
    op.drop_column("limits", "alert_at")
    op.drop_table("webhooks")
    op.drop_table("statements")
    op.drop_table("statement_lines")
    op.drop_table("sessions")
    op.drop_table("deliveries")
    op.drop_table("alerts")
    op.drop_table("administrators")
