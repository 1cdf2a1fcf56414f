"""Run by Alembic, always on a connection that `gateway.storage.migrations` opened."""

from __future__ import annotations

from alembic import context

from gateway.storage.tables import metadata
from gateway.storage.usage_partitions import is_partition


def _is_described(_object: object, name: str | None, kind: str, reflected: bool, _beside: object) -> bool:
    """Partitions come and go with the months: no script makes or drops them."""
    return not (kind == "table" and reflected and name is not None and is_partition(name))


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters a table by making it anew
    include_object=_is_described,
    compare_type=False,  # Json is Text under another name
)
with context.begin_transaction():
    context.run_migrations()
