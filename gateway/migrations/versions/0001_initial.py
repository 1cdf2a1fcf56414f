"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "adjustments",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("generation_id", sa.String(length=64), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("amount_micro_usd", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adjustments")),
    )
    op.create_index(op.f("ix_adjustments_generation_id"), "adjustments", ["generation_id"], unique=False)
    op.create_table(
        "audit_log",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("object_kind", sa.Text(), nullable=False),
        sa.Column("object_id", sa.String(length=64), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
    )
    op.create_index(op.f("ix_audit_log_at_ms"), "audit_log", ["at_ms"], unique=False)
    op.create_table(
        "blobs",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("dead_since_ms", sa.BigInteger(), nullable=True),
        sa.Column("deleting_since_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_blobs")),
    )
    op.create_index(op.f("ix_blobs_dead_since_ms"), "blobs", ["dead_since_ms"], unique=False)
    op.create_table(
        "cache_entries",
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("generation_id", sa.String(length=64), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_cache_entries")),
    )
    op.create_index(op.f("ix_cache_entries_created_ms"), "cache_entries", ["created_ms"], unique=False)
    op.create_index(op.f("ix_cache_entries_generation_id"), "cache_entries", ["generation_id"], unique=False)
    op.create_index(op.f("ix_cache_entries_model"), "cache_entries", ["model"], unique=False)
    op.create_index(op.f("ix_cache_entries_user_id"), "cache_entries", ["user_id"], unique=False)
    op.create_table(
        "changes",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("object_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_changes")),
    )
    op.create_index(op.f("ix_changes_at_ms"), "changes", ["at_ms"], unique=False)
    op.create_table(
        "counters",
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("scope_id", sa.String(length=64), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("window", sa.Text(), nullable=False),
        sa.Column("window_start_ms", sa.BigInteger(), nullable=False),
        sa.Column("spent", sa.BigInteger(), nullable=False),
        sa.Column("reserved", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("reserved >= 0", name=op.f("ck_counters_reserved")),
        sa.CheckConstraint("spent >= 0", name=op.f("ck_counters_spent")),
        sa.PrimaryKeyConstraint(
            "mode", "scope", "scope_id", "metric", "window", "window_start_ms", name=op.f("pk_counters")
        ),
    )
    op.create_table(
        "generations",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("flight", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("provider_key_id", sa.Text(), nullable=True),
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("team_id", sa.String(length=64), nullable=True),
        sa.Column("request", sa.Text(), nullable=True),
        sa.Column("expected", sa.Text(), nullable=False),
        sa.Column("images", sa.BigInteger(), nullable=False),
        sa.Column("megapixels", sa.BigInteger(), nullable=False),
        sa.Column("reserved_micro_usd", sa.BigInteger(), nullable=False),
        sa.Column("cost_micro_usd", sa.BigInteger(), nullable=True),
        sa.Column("adjusted_micro_usd", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("settled_by", sa.Text(), nullable=True),
        sa.Column("overrun", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("price_rule", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("published", sa.LargeBinary(), nullable=True),
        sa.Column("repeat_key", sa.Text(), nullable=True),
        sa.Column("abandoned_ms", sa.BigInteger(), nullable=True),
        sa.Column("inference_id", sa.Text(), nullable=True),
        sa.Column("usage", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_until_ms", sa.BigInteger(), nullable=True),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("sent_ms", sa.BigInteger(), nullable=True),
        sa.Column("answered_ms", sa.BigInteger(), nullable=True),
        sa.Column("finished_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_generations")),
    )
    op.create_index("ix_generations_created_ms", "generations", ["created_ms"], unique=False)
    op.create_index("ix_generations_key_id_created_ms", "generations", ["key_id", "created_ms"], unique=False)
    op.create_index(
        "ix_generations_open",
        "generations",
        ["lease_until_ms"],
        unique=False,
        sqlite_where=sa.text("status IN ('pending', 'sent', 'answered', 'unknown')"),
        postgresql_where=sa.text("status IN ('pending', 'sent', 'answered', 'unknown')"),
    )
    op.create_index(
        "ix_generations_repeat_key",
        "generations",
        ["repeat_key"],
        unique=False,
        sqlite_where=sa.text("abandoned_ms IS NOT NULL"),
        postgresql_where=sa.text("abandoned_ms IS NOT NULL"),
    )
    op.create_index("ix_generations_team_id_created_ms", "generations", ["team_id", "created_ms"], unique=False)
    op.create_index(
        "ix_generations_unknown",
        "generations",
        ["finished_ms"],
        unique=False,
        sqlite_where=sa.text("status = 'unknown'"),
        postgresql_where=sa.text("status = 'unknown'"),
    )
    op.create_index("ix_generations_user_id_created_ms", "generations", ["user_id", "created_ms"], unique=False)
    op.create_index(
        "uq_generations_flight",
        "generations",
        ["flight"],
        unique=True,
        sqlite_where=sa.text("flight IS NOT NULL AND status IN ('pending', 'sent', 'answered')"),
        postgresql_where=sa.text("flight IS NOT NULL AND status IN ('pending', 'sent', 'answered')"),
    )
    op.create_table(
        "holds",
        sa.Column("generation_id", sa.String(length=64), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("scope_id", sa.String(length=64), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("window", sa.Text(), nullable=False),
        sa.Column("window_start_ms", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("generation_id", "scope", "scope_id", "metric", "window", name=op.f("pk_holds")),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("request_hash", sa.Text(), nullable=False),
        sa.Column("generation_id", sa.String(length=64), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key_id", "idempotency_key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_expires_ms"), "idempotency_keys", ["expires_ms"], unique=False)
    op.create_index(op.f("ix_idempotency_keys_generation_id"), "idempotency_keys", ["generation_id"], unique=False)
    op.create_table(
        "images",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("generation_id", sa.String(length=64), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("extension", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("width", sa.BigInteger(), nullable=False),
        sa.Column("height", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("removed_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_images")),
    )
    op.create_index(op.f("ix_images_created_ms"), "images", ["created_ms"], unique=False)
    op.create_index(op.f("ix_images_generation_id"), "images", ["generation_id"], unique=False)
    op.create_index(op.f("ix_images_sha256"), "images", ["sha256"], unique=False)
    op.create_table(
        "keys",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("models", sa.Text(), nullable=True),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=True),
        sa.Column("disabled_ms", sa.BigInteger(), nullable=True),
        sa.Column("deleted_ms", sa.BigInteger(), nullable=True),
        sa.Column("rotated_to", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_keys")),
        sa.UniqueConstraint("prefix", name=op.f("uq_keys_prefix")),
    )
    op.create_index(op.f("ix_keys_user_id"), "keys", ["user_id"], unique=False)
    op.create_table(
        "limits",
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("scope_id", sa.String(length=64), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("window", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "scope_id", "metric", "window", name=op.f("pk_limits")),
    )
    op.create_table(
        "price_estimates",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("listed_micro_usd", sa.BigInteger(), nullable=False),
        sa.Column("unit_micro_usd", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("model", "provider", name=op.f("pk_price_estimates")),
    )
    op.create_table(
        "provider_keys",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("secret", sa.Text(), nullable=True),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("weight", sa.BigInteger(), nullable=False),
        sa.Column("max_concurrency", sa.BigInteger(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("disabled_ms", sa.BigInteger(), nullable=True),
        sa.Column("deleted_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_provider_keys")),
    )
    op.create_index(op.f("ix_provider_keys_provider"), "provider_keys", ["provider"], unique=False)
    op.create_table(
        "reuses",
        sa.Column("generation_id", sa.String(length=64), nullable=False),
        sa.Column("times", sa.BigInteger(), nullable=False),
        sa.Column("saved_micro_usd", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("generation_id", name=op.f("pk_reuses")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "shares",
        sa.Column("generation_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("generation_id", "user_id", name=op.f("pk_shares")),
    )
    op.create_table(
        "teams",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("deleted_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_teams")),
    )
    op.create_table(
        "usage_daily",
        sa.Column("day_ms", sa.BigInteger(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("team_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("counted", sa.BigInteger(), nullable=False),
        sa.Column("hits", sa.BigInteger(), nullable=False),
        sa.Column("joined", sa.BigInteger(), nullable=False),
        sa.Column("generations", sa.BigInteger(), nullable=False),
        sa.Column("images", sa.BigInteger(), nullable=False),
        sa.Column("errors", sa.BigInteger(), nullable=False),
        sa.Column("cost_micro_usd", sa.BigInteger(), nullable=False),
        sa.Column("saved_micro_usd", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "day_ms", "mode", "key_id", "user_id", "team_id", "model", "provider", name=op.f("pk_usage_daily")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "usage_hourly",
        sa.Column("hour_ms", sa.BigInteger(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("team_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("counted", sa.BigInteger(), nullable=False),
        sa.Column("hits", sa.BigInteger(), nullable=False),
        sa.Column("joined", sa.BigInteger(), nullable=False),
        sa.Column("generations", sa.BigInteger(), nullable=False),
        sa.Column("images", sa.BigInteger(), nullable=False),
        sa.Column("errors", sa.BigInteger(), nullable=False),
        sa.Column("cost_micro_usd", sa.BigInteger(), nullable=False),
        sa.Column("saved_micro_usd", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "hour_ms", "mode", "key_id", "user_id", "team_id", "model", "provider", name=op.f("pk_usage_hourly")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "usage_log",
        sa.Column("at_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("team_id", sa.String(length=64), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("status", sa.BigInteger(), nullable=False),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("images", sa.BigInteger(), nullable=False),
        sa.Column("cost_micro_usd", sa.BigInteger(), nullable=True),
        sa.Column("saved_micro_usd", sa.BigInteger(), nullable=False),
        sa.Column("latency_us", sa.BigInteger(), nullable=False),
        sa.Column("generation_id", sa.String(length=64), nullable=True),
        sa.Column("tags", sa.Text(), nullable=True),
        sa.Column("labels", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("at_ms", "id", name=op.f("pk_usage_log")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_usage_log_generation_id",
        "usage_log",
        ["generation_id"],
        unique=False,
        sqlite_where=sa.text("outcome != 'hit'"),
        postgresql_where=sa.text("outcome != 'hit'"),
    )
    op.create_index("ix_usage_log_user_id_at_ms", "usage_log", ["user_id", "at_ms"], unique=False)
    op.create_table(
        "users",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("team_id", sa.String(length=64), nullable=True),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("deleted_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
    )
    op.create_index(op.f("ix_users_team_id"), "users", ["team_id"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_users_team_id"), table_name="users")
    op.drop_table("users")
    op.drop_index("ix_usage_log_user_id_at_ms", table_name="usage_log")
    op.drop_index(
        "ix_usage_log_generation_id",
        table_name="usage_log",
        sqlite_where=sa.text("outcome != 'hit'"),
        postgresql_where=sa.text("outcome != 'hit'"),
    )
    op.drop_table("usage_log")
    op.drop_table("usage_hourly")
    op.drop_table("usage_daily")
    op.drop_table("teams")
    op.drop_table("shares")
    op.drop_table("reuses")
    op.drop_index(op.f("ix_provider_keys_provider"), table_name="provider_keys")
    op.drop_table("provider_keys")
    op.drop_table("price_estimates")
    op.drop_table("limits")
    op.drop_index(op.f("ix_keys_user_id"), table_name="keys")
    op.drop_table("keys")
    op.drop_index(op.f("ix_images_sha256"), table_name="images")
    op.drop_index(op.f("ix_images_generation_id"), table_name="images")
    op.drop_index(op.f("ix_images_created_ms"), table_name="images")
    op.drop_table("images")
    op.drop_index(op.f("ix_idempotency_keys_generation_id"), table_name="idempotency_keys")
    op.drop_index(op.f("ix_idempotency_keys_expires_ms"), table_name="idempotency_keys")
    op.drop_table("idempotency_keys")
    op.drop_table("holds")
    op.drop_index(
        "uq_generations_flight",
        table_name="generations",
        sqlite_where=sa.text("flight IS NOT NULL AND status IN ('pending', 'sent', 'answered')"),
        postgresql_where=sa.text("flight IS NOT NULL AND status IN ('pending', 'sent', 'answered')"),
    )
    op.drop_index("ix_generations_user_id_created_ms", table_name="generations")
    op.drop_index(
        "ix_generations_unknown",
        table_name="generations",
        sqlite_where=sa.text("status = 'unknown'"),
        postgresql_where=sa.text("status = 'unknown'"),
    )
    op.drop_index("ix_generations_team_id_created_ms", table_name="generations")
    op.drop_index(
        "ix_generations_repeat_key",
        table_name="generations",
        sqlite_where=sa.text("abandoned_ms IS NOT NULL"),
        postgresql_where=sa.text("abandoned_ms IS NOT NULL"),
    )
    op.drop_index(
        "ix_generations_open",
        table_name="generations",
        sqlite_where=sa.text("status IN ('pending', 'sent', 'answered', 'unknown')"),
        postgresql_where=sa.text("status IN ('pending', 'sent', 'answered', 'unknown')"),
    )
    op.drop_index("ix_generations_key_id_created_ms", table_name="generations")
    op.drop_index("ix_generations_created_ms", table_name="generations")
    op.drop_table("generations")
    op.drop_table("counters")
    op.drop_index(op.f("ix_changes_at_ms"), table_name="changes")
    op.drop_table("changes")
    op.drop_index(op.f("ix_cache_entries_user_id"), table_name="cache_entries")
    op.drop_index(op.f("ix_cache_entries_model"), table_name="cache_entries")
    op.drop_index(op.f("ix_cache_entries_generation_id"), table_name="cache_entries")
    op.drop_index(op.f("ix_cache_entries_created_ms"), table_name="cache_entries")
    op.drop_table("cache_entries")
    op.drop_index(op.f("ix_blobs_dead_since_ms"), table_name="blobs")
    op.drop_table("blobs")
    op.drop_index(op.f("ix_audit_log_at_ms"), table_name="audit_log")
    op.drop_table("audit_log")
    op.drop_index(op.f("ix_adjustments_generation_id"), table_name="adjustments")
    op.drop_table("adjustments")
