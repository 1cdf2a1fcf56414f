"""Tables of accounts and of those who administer them: teams, users, keys, limits, administrators, sessions, alerts."""

from __future__ import annotations

import sqlalchemy as sa

from gateway.storage.columns import big, id_column, metadata, moment, text
from gateway.storage.database import Json

teams = sa.Table(
    "teams",
    metadata,
    id_column(primary_key=True),
    text("name"),
    sa.Column("labels", Json, nullable=False),
    moment("created_ms", nullable=False),
    moment("deleted_ms"),
)

users = sa.Table(
    "users",
    metadata,
    id_column(primary_key=True),
    text("name"),
    text("email", nullable=True),
    id_column("team_id", index=True),
    sa.Column("labels", Json, nullable=False),
    moment("created_ms", nullable=False),
    moment("deleted_ms"),
    moment("erased_ms"),
)

keys = sa.Table(
    "keys",
    metadata,
    id_column(primary_key=True),
    id_column("user_id", nullable=False, index=True),
    text("name", nullable=True),
    text("mode"),
    text("prefix", unique=True),
    text("hash"),
    sa.Column("models", Json),  # None: every model
    sa.Column("labels", Json, nullable=False),
    moment("created_ms", nullable=False),
    moment("expires_ms"),
    moment("disabled_ms"),
    moment("deleted_ms"),
    id_column("rotated_to"),
)

limits = sa.Table(
    "limits",
    metadata,
    text("scope", primary_key=True),
    id_column("scope_id", primary_key=True),
    text("metric", primary_key=True),
    text("window", primary_key=True),
    big("amount"),
    sa.Column("alert_at", Json),  # shares of the amount, in percent, that are told to webhooks
)

provider_keys = sa.Table(
    "provider_keys",
    metadata,
    id_column(primary_key=True),
    text("provider", index=True),
    text("name", nullable=True),
    text("secret", nullable=True),  # sealed; None: the key of the settings that has this id
    text("hint"),  # its last characters, for people
    big("weight"),
    big("max_concurrency"),
    moment("created_ms", nullable=False),
    moment("disabled_ms"),
    moment("deleted_ms"),
)

declared = sa.Table(  # accounts that a file declares: they are changed there alone
    "declared",
    metadata,
    id_column("object_id", primary_key=True),
    text("source"),
    text("kind"),
    text("handle"),  # their name in the file
    sa.UniqueConstraint("source", "kind", "handle"),
)

audit_log = sa.Table(
    "audit_log",
    metadata,
    id_column(primary_key=True),
    moment("at_ms", nullable=False, index=True),
    text("actor"),
    text("action"),
    text("object_kind"),
    id_column("object_id", nullable=False),
    sa.Column("detail", Json),
)

administrators = sa.Table(
    "administrators",
    metadata,
    id_column(primary_key=True),
    text("name"),
    text("role"),  # owner | operator | viewer | team-admin
    id_column("team_id"),  # of a team-admin: the one team it sees
    text("prefix", unique=True),
    text("hash"),
    moment("created_ms", nullable=False),
    moment("expires_ms"),
    moment("disabled_ms"),
    moment("deleted_ms"),
)

sessions = sa.Table(  # who is signed in at the console
    "sessions",
    metadata,
    text("token_hash", primary_key=True),
    text("kind"),  # administrator | caller
    id_column("subject_id", nullable=False),
    text("proof"),  # the hash of the key that was shown: a key that is changed ends its sessions
    text("csrf"),
    moment("created_ms", nullable=False),
    moment("expires_ms", nullable=False, index=True),
)

webhooks = sa.Table(
    "webhooks",
    metadata,
    id_column(primary_key=True),
    text("name"),
    text("url"),
    text("secret"),  # sealed
    moment("created_ms", nullable=False),
    moment("disabled_ms"),
    moment("deleted_ms"),
)

alerts = sa.Table(  # a limit that has reached a share of its amount, once for each window and each amount it had
    "alerts",
    metadata,
    id_column(primary_key=True),
    text("mode"),
    text("scope"),
    id_column("scope_id", nullable=False),
    text("metric"),
    text("window"),
    moment("window_start_ms", nullable=False),
    big("percent"),
    big("amount"),
    big("used"),
    moment("at_ms", nullable=False, index=True),
    sa.UniqueConstraint(
        "mode",
        "scope",
        "scope_id",
        "metric",
        "window",
        "window_start_ms",
        "percent",
        "amount",
        name="uq_alerts_crossing",
    ),
)

deliveries = sa.Table(  # an alert on its way to a webhook
    "deliveries",
    metadata,
    id_column(primary_key=True),
    id_column("webhook_id", nullable=False, index=True),
    id_column("alert_id"),  # None: a test
    text("status"),  # pending | delivered | failed
    big("attempts"),
    moment("next_ms", index=True),  # None: none to come
    big("last_status", nullable=True),
    text("last_error", nullable=True),
    moment("created_ms", nullable=False, index=True),
    moment("delivered_ms"),
)
