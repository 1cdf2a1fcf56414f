"""Those who administer, beside the key of the configuration: rows, and what signing in asks of them.

SQL gone: only the key of the configuration is known, and can do what needs no SQL.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import sqlalchemy as sa

from gateway.domain.administrator import Administrator, Role
from gateway.storage.accounts import AccountStore
from gateway.storage.database import now_ms
from gateway.storage.paging import is_id
from gateway.storage.tables_accounts import administrators, teams


class AdministratorRow(msgspec.Struct, frozen=True, kw_only=True):
    """Without its hash, which never leaves storage."""

    id: str
    name: str
    role: Role
    team_id: str | None
    prefix: str
    created_ms: int
    expires_ms: int | None
    disabled_ms: int | None


ADMINISTRATORS = AccountStore(
    "administrator",
    administrators,
    AdministratorRow,
    command="admin",
    searched=("name", "prefix", "id"),
    of_team=lambda team_id: administrators.c.team_id == team_id,
)


@dataclass(frozen=True, slots=True)
class SignIn:
    """What proves an administrator, and why it may not sign in all the same, if so."""

    administrator: Administrator
    key_hash: str
    refused: str | None


def find_by_prefix(conn: sa.Connection, prefix: str) -> SignIn | None:
    return _find(conn, administrators.c.prefix == prefix)


def find_by_id(conn: sa.Connection, administrator_id: str) -> SignIn | None:
    return _find(conn, administrators.c.id == administrator_id) if is_id(administrator_id) else None


def _find(conn: sa.Connection, which: sa.ColumnElement[bool]) -> SignIn | None:
    a = administrators.c
    found = (
        sa.select(administrators, teams.c.deleted_ms.label("team_deleted_ms"))
        .select_from(administrators.outerjoin(teams, teams.c.id == a.team_id))
        .where(which, a.deleted_ms.is_(None))
    )
    row = conn.execute(found).one_or_none()
    if row is None:
        return None
    known = Administrator(id=row.id, name=row.name, role=Role(row.role), team_id=row.team_id)
    return SignIn(known, row.hash, _refusal(row, now_ms(conn)))


def _refusal(row: sa.Row[tuple[object, ...]], now: int) -> str | None:
    if row.disabled_ms is not None:
        return "is disabled"
    if row.expires_ms is not None and row.expires_ms <= now:
        return "has expired"
    return "is of a team that was deleted" if row.team_deleted_ms is not None else None
