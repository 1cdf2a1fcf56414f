"""Run by Alembic, always on a connection that `gateway.storage.migrations` opened."""

from __future__ import annotations

from alembic import context

from gateway.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters a table by making it anew
    compare_type=False,  # Json is Text under another name
)
with context.begin_transaction():
    context.run_migrations()
