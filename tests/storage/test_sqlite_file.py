"""A file of SQLite's that is damaged, removed or replaced."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from gateway.errors import LedgerUnavailable, reason_of
from gateway.storage import tables, tables_accounts
from gateway.storage.database import open_database
from gateway.storage.sqlite_file import is_damage
from tests.support.damage import damage_table

A_TEAM = tables_accounts.teams.insert().values(id="team_1", name="Search", labels={}, created_ms=1)


@pytest.mark.parametrize("damage", [0, 4096], ids=["no database at all", "a page in the middle"])
async def test_a_damaged_file_is_one_refusal(tmp_path: Path, damage: int):
    path = tmp_path / "x.db"
    whole = open_database(URL.create("sqlite", database=str(path)))
    await whole.write(tables.metadata.create_all)
    await whole.close()
    with path.open("r+b") as file:
        file.seek(damage)
        file.write(b"?" * (path.stat().st_size - damage))
    database = open_database(URL.create("sqlite", database=str(path)))
    for call in (database.read, database.write):
        with pytest.raises(LedgerUnavailable) as refused:
            await call(lambda conn: conn.exec_driver_sql("SELECT * FROM teams").all())
        assert is_damage(refused.value)
    await database.close()


@pytest.mark.parametrize("instead", [None, "another"], ids=["removed", "replaced"])
async def test_a_file_that_is_gone_while_it_is_in_use_is_a_refusal_until_it_is_put_back(
    tmp_path: Path, instead: str | None
):
    path, aside = tmp_path / "x.db", tmp_path / "aside"
    database = open_database(URL.create("sqlite", database=str(path)))
    await database.write(tables.metadata.create_all)
    path.rename(aside)
    if instead is not None:
        path.write_bytes(aside.read_bytes())
    for call in (database.read, database.write):
        with pytest.raises(LedgerUnavailable) as refused:
            await call(lambda conn: conn.exec_driver_sql("SELECT 1"))
        assert str(path) in reason_of(refused.value)
    aside.replace(path)
    await database.write(lambda conn: conn.execute(A_TEAM))
    assert len(await database.read(lambda conn: conn.exec_driver_sql("SELECT * FROM teams").all())) == 1
    await database.close()


async def test_a_file_that_has_shown_damage_is_one_to_begin_nothing_with(tmp_path: Path):
    path = tmp_path / "x.db"
    whole = open_database(URL.create("sqlite", database=str(path)))
    await whole.write(tables.metadata.create_all)
    await whole.close()
    database = open_database(URL.create("sqlite", database=str(path)))
    damage_table(path, "teams")
    database.check()
    with pytest.raises(LedgerUnavailable):
        await database.write(lambda conn: conn.execute(A_TEAM))
    with pytest.raises(LedgerUnavailable):
        database.check()
    assert await database.read(lambda conn: conn.exec_driver_sql("SELECT count(*) FROM users").scalar_one()) == 0
    await database.close()
