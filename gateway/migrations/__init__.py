"""Alembic's environment and the schema's versions, on SQLite and on PostgreSQL."""
