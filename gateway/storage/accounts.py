"""Teams, users and keys: soft deletes, pages, and what authentication needs of a key in one look.

Deleting a user deletes its keys. Deleting a team moves nobody: its users' keys are refused until the users
are moved, so that removing a team lets no one out from under its limits.

SQL gone: keys held in memory go on being served; nothing can be changed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, Self, TypeVar

import msgspec
import sqlalchemy as sa

from gateway.domain.api_key import Mode
from gateway.domain.caller import Unusable
from gateway.errors import InvalidRequest, NotFound
from gateway.storage.database import now_ms
from gateway.storage.paging import DEFAULT_LIMIT, Page, filtered, is_id, read_page
from gateway.storage.tables_accounts import keys, teams, users


class Team(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    labels: dict[str, str]
    created_ms: int


class User(msgspec.Struct, frozen=True, kw_only=True):
    """`team_deleted_ms`: its keys are refused since then."""

    id: str
    name: str
    email: str | None
    team_id: str | None
    labels: dict[str, str]
    created_ms: int
    team_deleted_ms: int | None = None


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """Without its hash, which never leaves storage. `models` None: every model. `team_deleted_ms`: of its user."""

    id: str
    user_id: str
    name: str | None
    mode: Mode
    prefix: str
    models: list[str] | None
    labels: dict[str, str]
    created_ms: int
    expires_ms: int | None
    disabled_ms: int | None
    rotated_to: str | None
    team_deleted_ms: int | None = None


Row = TypeVar("Row", bound=msgspec.Struct)


class AccountStore(Generic[Row]):
    """One kind of account. Rows marked deleted are not there for anyone but reports.

    `command`: what lists them. `searched`: the columns that a search looks in. `of_team`: which rows are a team's.
    `derived`: what a row tells beside its own columns.
    """

    def __init__(
        self,
        kind: str,
        table: sa.Table,
        row: type[Row],
        *,
        command: str,
        searched: Sequence[str],
        of_team: Callable[[str], sa.ColumnElement[bool]],
        derived: Mapping[str, sa.ScalarSelect[Any]] = MappingProxyType({}),
    ) -> None:
        self.kind = kind
        self._table = table
        self._row = row
        self._command = command
        self._searched = [table.c[name] for name in searched]
        self._of_team = of_team
        self._own = [name for name in row.__struct_fields__ if name not in derived]
        columns = [*(table.c[name] for name in self._own), *(found.label(name) for name, found in derived.items())]
        self._query = sa.select(*columns).where(table.c.deleted_ms.is_(None))

    def within(self, team_id: str | None) -> Self:
        """The same, to which only the rows of one team are there; None: all."""
        if team_id is None:
            return self
        narrowed = copy.copy(self)
        mine = self._of_team(team_id) if is_id(team_id) else sa.false()
        narrowed._query = self._query.where(mine)  # noqa: SLF001  (its own kind)
        return narrowed

    def insert(self, conn: sa.Connection, row: Row, **secrets: str) -> Row:
        conn.execute(self._table.insert().values({name: getattr(row, name) for name in self._own} | secrets))
        return row

    def get(self, conn: sa.Connection, row_id: str) -> Row | None:
        return self._find(conn, row_id, self._query)

    def require(self, conn: sa.Connection, row_id: str) -> Row:
        """Raises NotFound."""
        return self._found(self.get(conn, row_id))

    def lock(self, conn: sa.Connection, row_id: str) -> Row:
        """As `require`; nobody else changes the row or its limits until the transaction ends."""
        return self._found(self._find(conn, row_id, self._query.with_for_update()))

    def list(
        self,
        conn: sa.Connection,
        *,
        limit: int = DEFAULT_LIMIT,
        cursor: str | None = None,
        q: str | None = None,
        **filters: str | None,
    ) -> Page[Row]:
        """Newest first. A filter is a column and its value; None does not filter. `q`: a part of what is searched, in
        letters of either case.
        """
        query = filtered(self._query, {self._table.c[name]: value for name, value in filters.items()})
        if q is not None:
            query = query.where(sa.or_(*(column.icontains(q, autoescape=True) for column in self._searched)))
        order = (self._table.c.created_ms, self._table.c.id)
        return read_page(conn, query, order=order, convert=self._convert, limit=limit, cursor=cursor)

    def ids_named(self, conn: sa.Connection, name: str) -> Sequence[str]:
        named = sa.select(self._table.c.id).where(self._table.c.name == name, self._table.c.deleted_ms.is_(None))
        return conn.execute(named.limit(10)).scalars().all()

    def update(self, conn: sa.Connection, row_id: str, values: Mapping[str, Any]) -> Row:
        """Sets the columns named. Raises NotFound."""
        if values:
            conn.execute(self._table.update().where(self._table.c.id == row_id).values(dict(values)))
        return self.require(conn, row_id)

    def delete(self, conn: sa.Connection, row_id: str) -> None:
        """Raises NotFound."""
        self.lock(conn, row_id)
        conn.execute(self._table.update().where(self._table.c.id == row_id).values(deleted_ms=now_ms(conn)))

    def _find(self, conn: sa.Connection, row_id: str, query: sa.Select[Any]) -> Row | None:
        if not is_id(row_id):
            return None
        found = conn.execute(query.where(self._table.c.id == row_id)).one_or_none()
        return None if found is None else self._convert(found)

    def _found(self, row: Row | None) -> Row:
        if row is None:
            raise NotFound(f"There is no {self.kind} with this id; `darkroom {self._command} list` shows them.")
        return row

    def _convert(self, row: sa.Row[Any]) -> Row:
        return msgspec.convert(row, self._row, from_attributes=True)


def _key_of_team(team_id: str) -> sa.ColumnElement[bool]:
    return keys.c.user_id.in_(sa.select(users.c.id).where(users.c.team_id == team_id))


_TEAM_OF_USER = sa.select(teams.c.deleted_ms).where(teams.c.id == users.c.team_id)
_TEAM_OF_KEY = (
    sa.select(teams.c.deleted_ms).join(users, teams.c.id == users.c.team_id).where(users.c.id == keys.c.user_id)
)

TEAMS = AccountStore(
    "team", teams, Team, command="team", searched=("name", "id"), of_team=lambda team_id: teams.c.id == team_id
)
USERS = AccountStore(
    "user",
    users,
    User,
    command="user",
    searched=("name", "email", "id"),
    of_team=lambda team_id: users.c.team_id == team_id,
    derived={"team_deleted_ms": _TEAM_OF_USER.correlate(users).scalar_subquery()},
)
KEYS = AccountStore(
    "key",
    keys,
    Key,
    command="key",
    searched=("name", "prefix", "id"),
    of_team=_key_of_team,
    derived={"team_deleted_ms": _TEAM_OF_KEY.correlate(keys).scalar_subquery()},
)


def find_named(conn: sa.Connection, store: AccountStore[Any], name: str) -> str | None:
    """The id of the one account of a name. Raises InvalidRequest when there are several."""
    ids = store.ids_named(conn, name)
    if len(ids) > 1:
        raise InvalidRequest(
            f"There are {len(ids)} {store.kind}s called {name}; rename all but one, then it can be declared."
        )
    return ids[0] if ids else None


def names_of(conn: sa.Connection, ids: Sequence[str], *, team_id: str | None) -> dict[str, str]:
    """What teams, users and keys of these ids are called, the deleted included; with a team those that are its own."""
    wanted = [each for each in ids if is_id(each)]
    mine = sa.true() if team_id is None else users.c.team_id == team_id
    own = sa.true() if team_id is None else teams.c.id == team_id
    queries = (
        sa.select(teams.c.id, teams.c.name).where(teams.c.id.in_(wanted), own),
        sa.select(users.c.id, users.c.name).where(users.c.id.in_(wanted), mine),
        sa.select(keys.c.id, sa.func.coalesce(keys.c.name, keys.c.prefix))
        .join(users, users.c.id == keys.c.user_id)
        .where(keys.c.id.in_(wanted), mine),
    )
    return {row[0]: row[1] for query in queries for row in conn.execute(query)}


class TeamSize(NamedTuple):
    """What stops when a team is deleted."""

    users: int
    usable_keys: int


def size_of_team(conn: sa.Connection, team_id: str) -> TeamSize:
    members = sa.select(users.c.id).where(users.c.team_id == team_id, users.c.deleted_ms.is_(None))
    works = (
        keys.c.deleted_ms.is_(None),
        keys.c.disabled_ms.is_(None),
        sa.or_(keys.c.expires_ms.is_(None), keys.c.expires_ms > now_ms(conn)),
    )
    usable = sa.select(keys.c.id).where(keys.c.user_id.in_(members), *works)
    counts = (sa.select(sa.func.count()).select_from(each.subquery()).scalar_subquery() for each in (members, usable))
    return TeamSize(*conn.execute(sa.select(*counts)).one())


def key_secrets(conn: sa.Connection, key_id: str) -> tuple[str, str]:
    """Prefix and hash of a key."""
    return tuple(conn.execute(sa.select(keys.c.prefix, keys.c.hash).where(keys.c.id == key_id)).one())


def set_hash(conn: sa.Connection, key_id: str, hashed: str) -> None:
    conn.execute(keys.update().where(keys.c.id == key_id).values(hash=hashed))


def delete_keys_of(conn: sa.Connection, user_id: str) -> list[str]:
    """Deletes every key of a user; returns their ids."""
    mine = (keys.c.user_id == user_id) & keys.c.deleted_ms.is_(None)
    deleted = keys.update().where(mine).values(deleted_ms=now_ms(conn)).returning(keys.c.id)
    return sorted(conn.execute(deleted).scalars())


class CallerRow(msgspec.Struct, frozen=True, kw_only=True):
    """A key joined with its user and team: all that authentication asks, the deleted included.

    `off_ms`: since when it does not work, by why. `labels`: widest scope first.
    """

    key_id: str
    key_prefix: str
    key_hash: str
    mode: Mode
    user_id: str
    team_id: str | None
    models: list[str] | None
    expires_ms: int | None
    off_ms: dict[Unusable, int]
    labels: tuple[dict[str, str], ...]


def find_caller(conn: sa.Connection, prefix: str) -> CallerRow | None:
    """By a key's prefix."""
    joined = keys.join(users, users.c.id == keys.c.user_id).outerjoin(teams, teams.c.id == users.c.team_id)
    query = (
        sa.select(
            keys,
            users.c.team_id,
            users.c.labels.label("user_labels"),
            users.c.deleted_ms.label("user_deleted_ms"),
            teams.c.labels.label("team_labels"),
            teams.c.deleted_ms.label("team_deleted_ms"),
        )
        .select_from(joined)
        .where(keys.c.prefix == prefix)
    )
    row = conn.execute(query).one_or_none()
    if row is None:
        return None
    off_ms = {
        Unusable.USER_DELETED: row.user_deleted_ms,
        Unusable.DELETED: row.deleted_ms,
        Unusable.TEAM_DELETED: row.team_deleted_ms,
        Unusable.DISABLED: row.disabled_ms,
    }
    return CallerRow(
        key_id=row.id,
        key_prefix=row.prefix,
        key_hash=row.hash,
        mode=Mode(row.mode),
        user_id=row.user_id,
        team_id=row.team_id,
        models=row.models,
        expires_ms=row.expires_ms,
        off_ms={why: at for why, at in off_ms.items() if at is not None},
        labels=(row.team_labels or {}, row.user_labels, row.labels),
    )
