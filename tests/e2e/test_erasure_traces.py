"""After an erasure no table and no journal has a word that the user, or whoever made it, wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tests.support.console import Visitor, signed_in
from tests.support.gateway import Gateway, gateway_and_provider

WORD = "zyzzyva"


async def test_no_table_has_a_word_of_an_erased_user(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path / "data") as (gateway, _):
        user_id, visitor = await _lived(gateway)
        assert [call["tags"] for call in await gateway.requests(user_id=user_id)] == [{"for": WORD}]
        assert {"users", "keys", "audit_log", "generations", "usage_log"} <= await _tables_that_tell(gateway)
        assert await _count(gateway, "sessions") == 1
        await gateway.admin("POST", f"/users/{user_id}/erase")
        assert await _tables_that_tell(gateway) == set()
        assert await _count(gateway, "sessions") == 0
        assert (await visitor.get("live/mine")).status_code == 303
        journal = [file for file in (tmp_path / "data" / "journal").rglob("*") if file.is_file()]
        assert not [file for file in journal if WORD.encode() in file.read_bytes()]


async def _lived(gateway: Gateway) -> tuple[str, Visitor]:
    """A user with everything that a user can have, each with the word in it; and its visit to the console."""
    labels = {"who": WORD}
    user = {"name": f"{WORD} one", "email": f"{WORD}@example.com", "labels": labels}
    user_id = (await gateway.admin("POST", "/users", user))["id"]
    await gateway.admin("PATCH", f"/users/{user_id}", {"name": f"{WORD} two"})
    key = await gateway.admin("POST", "/keys", {"user_id": user_id, "name": f"{WORD} key", "labels": labels})
    await gateway.admin("PATCH", f"/keys/{key['id']}", {"name": f"{WORD} renamed"})
    said = {"Darkroom-Tags": f"for={WORD}", "Idempotency-Key": WORD}
    answer = await gateway.generate(key["key"], seed=1, prompt=f"A {WORD}", headers=said)
    assert answer.status_code == 200, answer.text
    await gateway.admin("POST", f"/keys/{key['id']}/rotate")
    return user_id, await signed_in(gateway, key["key"])


async def _tables_that_tell(gateway: Gateway) -> set[str]:
    def look(conn: sa.Connection) -> set[str]:
        names = sa.inspect(conn).get_table_names()
        return {name for name in names if any(WORD in str(row) for row in _rows(conn, name))}

    return await gateway.resources.database.read(look)


async def _count(gateway: Gateway, table: str) -> int:
    return len(await gateway.resources.database.read(lambda conn: _rows(conn, table)))


def _rows(conn: sa.Connection, table: str) -> list[Any]:
    return list(conn.exec_driver_sql(f"SELECT * FROM {table}"))
