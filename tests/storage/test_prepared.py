"""Statements compiled once: the same as SQLAlchemy's own, on both engines."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from gateway.storage import tables, tables_accounts
from gateway.storage.database import Database, insert_for
from gateway.storage.prepared import Prepared
from tests.support.ledger import Books, intent

TEAM = {"id": "team_1", "name": "Search", "labels": {"cost": "é\0"}, "created_ms": 1}
_t = tables_accounts.teams.c
_ADD = Prepared(lambda dialect: insert_for(dialect, tables_accounts.teams).on_conflict_do_nothing())
_NAMED = Prepared(
    sa.select(_t.id, _t.labels).where(_t.name.in_(("Search", "Maps")), _t.created_ms >= sa.bindparam("since")).limit(9)
)
_RENAME = Prepared(
    sa.update(tables_accounts.teams)
    .where(_t.id == sa.bindparam("the_id"))
    .values(name="Maps")
    .returning(_t.name, _t.deleted_ms)
)


async def test_a_row_comes_back_as_it_went_in(database: Database):
    def work(conn: sa.Connection) -> tuple[int, int, Any]:
        return _ADD.run(conn, TEAM), _ADD.run(conn, TEAM), _NAMED.row(conn, {"since": 1})

    assert await database.write(work) == (1, 0, {"id": "team_1", "labels": TEAM["labels"]})


async def test_each_of_many_is_run_and_none_of_none(database: Database):
    def work(conn: sa.Connection) -> list[str]:
        _ADD.run_each(conn, [])
        _ADD.run_each(conn, [TEAM | {"id": f"team_{number}"} for number in range(3)])
        return sorted(row["id"] for row in _NAMED.rows(conn, {"since": 0}))

    assert await database.write(work) == ["team_0", "team_1", "team_2"]


async def test_what_a_change_returns_is_read_whole(database: Database):
    def work(conn: sa.Connection) -> tuple[Any, Any]:
        _ADD.run(conn, TEAM)
        return _RENAME.row(conn, {"the_id": "team_1"}), _RENAME.row(conn, {"the_id": "team_2"})

    assert await database.write(work) == ({"name": "Maps", "deleted_ms": None}, None)


async def test_other_names_are_another_statement(database: Database):
    update = Prepared(sa.update(tables_accounts.teams).where(_t.id == sa.bindparam("the_id")))

    def work(conn: sa.Connection) -> Any:
        _ADD.run(conn, TEAM)
        update.run(conn, {"the_id": "team_1", "created_ms": 5})
        update.run(conn, {"the_id": "team_1", "labels": {"app": "x"}, "deleted_ms": 7})
        return conn.execute(sa.select(_t.labels, _t.created_ms, _t.deleted_ms)).one()

    assert tuple(await database.write(work)) == ({"app": "x"}, 5, 7)


async def test_bytes_truths_and_types_of_ours_come_back_as_sqlalchemy_brings_them(database: Database):
    made = await Books(database).reserve(intent())
    everything = sa.select(tables.generations).where(tables.generations.c.id == sa.bindparam("the_id"))

    def work(conn: sa.Connection) -> tuple[Any, Any]:
        asked = {"the_id": made.id}
        return Prepared(everything).row(conn, asked), dict(conn.execute(everything, asked).mappings().one())

    found, expected = await database.read(work)
    assert found == expected
    assert {name: type(value) for name, value in found.items()} == {name: type(v) for name, v in expected.items()}


async def test_a_conflict_is_sqlalchemys_and_shows_no_parameters(database: Database):
    add = Prepared(tables_accounts.teams.insert())
    for run in (lambda conn: add.run(conn, TEAM), lambda conn: add.run_each(conn, [TEAM])):
        await database.write(lambda conn: _ADD.run(conn, TEAM))
        with pytest.raises(sa.exc.IntegrityError) as refused:
            await database.write(run)
        if database.url.get_backend_name() == "sqlite":
            assert "Search" not in str(refused.value)
