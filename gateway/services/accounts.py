"""Administration of teams, users, keys and their limits.

Each change is one transaction with its row in the audit log and its row in `changes`. Once it is committed,
this process's memory hears of it at once, every other's within seconds. What a file declares (`declarations`) is
changed there: here it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import msgspec
import sqlalchemy as sa

from gateway.domain.api_key import Mode, hash_api_key, new_api_key
from gateway.domain.declaration import LimitEntry
from gateway.domain.ids import new_id
from gateway.domain.limits import Limit, ScopeKind
from gateway.errors import Conflict, Forbidden, InvalidRequest
from gateway.services.account_checks import check_future, known_models, parse_limits
from gateway.storage import audit, changes, declared, limits
from gateway.storage.accounts import (
    KEYS,
    TEAMS,
    USERS,
    AccountStore,
    Key,
    Row,
    Team,
    TeamSize,
    User,
    delete_keys_of,
    names_of,
    size_of_team,
)
from gateway.storage.audit import Act, AuditEvent, EventFilter
from gateway.storage.database import Database, now_ms
from gateway.storage.paging import DEFAULT_LIMIT, Page

T = TypeVar("T")
DAY_S = 24 * 3600


class NewKey(NamedTuple):
    """A key and its text, which is known only now."""

    key: Key
    text: str


class AccountService:
    """`models`: the names a key may be restricted to. `notify` hears kind and id of each committed change.

    `team_id`: the one team to whose accounts all of it is confined; None: to none.
    """

    def __init__(
        self,
        database: Database,
        peppers: Sequence[bytes],
        models: Collection[str],
        *,
        notify: Callable[[str, str], None],
        team_id: str | None = None,
    ) -> None:
        self._database = database
        self._pepper = peppers[0]
        self._models = frozenset(models)
        self._notify = notify
        self._team_id = team_id
        self._teams = TEAMS.within(team_id)
        self._users = USERS.within(team_id)
        self._keys = KEYS.within(team_id)

    def within(self, team_id: str | None) -> AccountService:
        """The same, to whom only one team, its users and their keys are there; None: all."""
        if team_id is None:
            return self
        return AccountService(self._database, [self._pepper], self._models, notify=self._notify, team_id=team_id)

    # -- teams -----------------------------------------------------------------------------------------------

    async def create_team(self, *, actor: str, name: str, labels: Mapping[str, str] | None = None) -> Team:
        def work(conn: sa.Connection) -> Team:
            team = Team(id=team_id, name=name, labels=dict(labels or {}), created_ms=now_ms(conn))
            return self._teams.insert(conn, team)

        team_id = new_id("team")
        return await self._write(work, Act(actor, "create", "team", team_id, {"name": name}))

    async def get_team(self, team_id: str) -> tuple[Team, TeamSize]:
        return await self._database.read(lambda conn: (self._teams.require(conn, team_id), size_of_team(conn, team_id)))

    async def list_teams(
        self, *, q: str | None = None, limit: int = DEFAULT_LIMIT, cursor: str | None = None
    ) -> Page[Team]:
        """`q` in each list: a part of a name, an id, an e-mail address or the prefix of a key."""
        return await self._database.read(lambda conn: self._teams.list(conn, q=q, limit=limit, cursor=cursor))

    async def update_team(self, team_id: str, values: Mapping[str, Any], *, actor: str) -> Team:
        """`values`: any of name, labels."""
        return await self._update(self._teams, team_id, values, actor=actor)

    async def delete_team(self, team_id: str, *, actor: str) -> None:
        """Its users stay in it, and their keys are refused until they are moved."""
        await self._write(lambda conn: _delete(conn, self._teams, team_id), Act(actor, "delete", "team", team_id))

    # -- users -----------------------------------------------------------------------------------------------

    async def create_user(
        self,
        *,
        actor: str,
        name: str,
        email: str | None = None,
        team_id: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> User:
        def work(conn: sa.Connection) -> User:
            _check_reference(conn, self._teams, home)
            return self._users.insert(
                conn,
                User(
                    id=user_id,
                    name=name,
                    email=email,
                    team_id=home,
                    labels=dict(labels or {}),
                    created_ms=now_ms(conn),
                ),
            )

        user_id, home = new_id("user"), self._team_id if team_id is None else team_id
        detail = {"name": name, "team_id": home}
        return await self._write(work, Act(actor, "create", "user", user_id, detail))

    async def get_user(self, user_id: str) -> User:
        return await self._database.read(lambda conn: self._users.require(conn, user_id))

    async def list_users(
        self,
        *,
        team_id: str | None = None,
        q: str | None = None,
        limit: int = DEFAULT_LIMIT,
        cursor: str | None = None,
    ) -> Page[User]:
        return await self._database.read(
            lambda conn: self._users.list(conn, team_id=team_id, q=q, limit=limit, cursor=cursor)
        )

    async def update_user(self, user_id: str, values: Mapping[str, Any], *, actor: str) -> User:
        """`values`: any of name, email, team_id, labels. Raises Forbidden when the user would leave the one team."""
        if self._team_id is not None and values.get("team_id", self._team_id) != self._team_id:
            raise Forbidden("Who administers one team moves nobody out of it.", param="team_id")

        def check(conn: sa.Connection) -> Mapping[str, Any]:
            _check_reference(conn, self._teams, values.get("team_id"))
            return values

        return await self._update(self._users, user_id, values, actor=actor, columns=check)

    async def delete_user(self, user_id: str, *, actor: str) -> None:
        """Deletes the user's keys with it."""

        def work(conn: sa.Connection) -> None:
            _delete(conn, self._users, user_id)
            for key_id in delete_keys_of(conn, user_id):
                audit.record(conn, Act(actor, "delete", "key", key_id))

        await self._write(work, Act(actor, "delete", "user", user_id))

    # -- keys ------------------------------------------------------------------------------------------------

    async def create_key(
        self,
        *,
        actor: str,
        user_id: str,
        name: str | None = None,
        mode: Mode = Mode.LIVE,
        expires_ms: int | None = None,
        models: Sequence[str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> NewKey:
        """`models` None: every model, those to come included. Raises Conflict for a user of a deleted team."""

        def work(conn: sa.Connection) -> NewKey:
            _check_in_a_team_that_is(_referred(conn, self._users, user_id))
            now = now_ms(conn)
            check_future(expires_ms, now)
            key = Key(
                id=key_id,
                user_id=user_id,
                name=name,
                mode=mode,
                prefix="",
                models=allowed,
                labels=dict(labels or {}),
                created_ms=now,
                expires_ms=expires_ms,
                disabled_ms=None,
                rotated_to=None,
            )
            return self._insert_key(conn, key)

        key_id, allowed = new_id("key"), known_models(self._models, models)
        detail = {"user_id": user_id, "name": name, "mode": mode, "models": allowed, "expires_ms": expires_ms}
        return await self._write(work, Act(actor, "create", "key", key_id, detail))

    async def get_key(self, key_id: str) -> Key:
        return await self._database.read(lambda conn: self._keys.require(conn, key_id))

    async def list_keys(
        self,
        *,
        user_id: str | None = None,
        mode: Mode | None = None,
        team_id: str | None = None,
        q: str | None = None,
        limit: int = DEFAULT_LIMIT,
        cursor: str | None = None,
    ) -> Page[Key]:
        keys = self._keys.within(team_id)
        return await self._database.read(
            lambda conn: keys.list(conn, user_id=user_id, mode=mode, q=q, limit=limit, cursor=cursor)
        )

    async def update_key(self, key_id: str, values: Mapping[str, Any], *, actor: str) -> Key:
        """`values`: any of name, expires_ms, models, labels, disabled (true or false)."""

        def columns(conn: sa.Connection) -> Mapping[str, Any]:
            changed, now = dict(values), now_ms(conn)
            check_future(changed.get("expires_ms"), now)
            if "models" in changed:
                changed["models"] = known_models(self._models, changed["models"])
            if "disabled" in changed:
                changed["disabled_ms"] = now if changed.pop("disabled") else None
            return changed

        return await self._update(self._keys, key_id, values, actor=actor, columns=columns)

    async def delete_key(self, key_id: str, *, actor: str) -> None:
        await self._write(lambda conn: _delete(conn, self._keys, key_id), Act(actor, "delete", "key", key_id))

    async def rotate_key(self, key_id: str, *, actor: str, overlap_s: int = DAY_S) -> NewKey:
        """A new key like the old one, limits and expiry included; the old one works for `overlap_s` more.

        The new key's own limits start unused. Raises InvalidRequest for one rotated already or out of use, and Conflict
        for one of a deleted team.
        """

        def work(conn: sa.Connection) -> NewKey:
            old, now = self._keys.lock(conn, key_id), now_ms(conn)
            declared.check_free(conn, "key", key_id)
            _check_in_a_team_that_is(self._users.require(conn, old.user_id))
            _check_rotatable(old, now)
            fresh = msgspec.structs.replace(old, id=successor_id, created_ms=now)
            new = self._insert_key(conn, fresh)
            _copy_limits(conn, key_id, successor_id)
            ends_ms = min(now + overlap_s * 1000, old.expires_ms or now + overlap_s * 1000)
            self._keys.update(conn, key_id, {"expires_ms": ends_ms, "rotated_to": successor_id})
            audit.record(conn, Act(actor, "create", "key", successor_id, {"rotated_from": key_id}))
            return new

        successor_id = new_id("key")
        detail = {"rotated_to": successor_id, "overlap_s": overlap_s}
        return await self._write(work, Act(actor, "rotate", "key", key_id, detail))

    async def spend_as(self, key_id: str, *, actor: str) -> Key:
        """The key that an administrator is about to spend as. The audit log keeps that it did."""

        def work(conn: sa.Connection) -> Key:
            key = self._keys.require(conn, key_id)
            audit.record(conn, Act(actor, "spend", "key", key_id))
            return key

        return await self._database.write(work)

    async def names(self, ids: Sequence[str]) -> dict[str, str]:
        """Of teams, users and keys by id, the deleted included."""
        return await self._database.read(lambda conn: names_of(conn, ids, team_id=self._team_id))

    # -- limits and the audit log ----------------------------------------------------------------------------

    async def put_limits(
        self, scope: ScopeKind, scope_id: str, entries: Sequence[LimitEntry], *, actor: str
    ) -> list[Limit]:
        """Replaces all limits set at a team, a user or a key; what they have used stays."""
        wanted = parse_limits(scope, scope_id, entries)

        def work(conn: sa.Connection) -> list[Limit]:
            self._store(scope).lock(conn, scope_id)
            declared.check_free(conn, scope.value, scope_id)
            limits.put_limits(conn, scope, scope_id, wanted)
            return limits.get_limits(conn, [(scope, scope_id)])

        detail = {"limits": [entry._asdict() for entry in entries]}
        return await self._write(work, Act(actor, "limits", scope.value, scope_id, detail))

    async def get_limits(self, scope: ScopeKind, scope_id: str) -> list[Limit]:
        """Those set at this scope itself, not those inherited from wider ones."""

        def work(conn: sa.Connection) -> list[Limit]:
            self._store(scope).require(conn, scope_id)
            return limits.get_limits(conn, [(scope, scope_id)])

        return await self._database.read(work)

    async def list_audit(self, chosen: EventFilter | None = None, **page: Any) -> Page[AuditEvent]:
        """Newest first; `page` as in the other lists."""
        return await self._database.read(lambda conn: audit.list_events(conn, chosen, **page))

    # -- what all of them share ------------------------------------------------------------------------------

    def _store(self, scope: ScopeKind) -> AccountStore[Any]:
        stores: dict[ScopeKind, AccountStore[Any]] = {
            ScopeKind.TEAM: self._teams,
            ScopeKind.USER: self._users,
            ScopeKind.KEY: self._keys,
        }
        return stores[scope]

    async def _write(
        self,
        work: Callable[[sa.Connection], T],
        act: Act,
    ) -> T:
        """A creation is no news to others: whoever holds what was made read it after that."""
        is_news = act.verb != "create"

        def recorded(conn: sa.Connection) -> T:
            result = work(conn)
            audit.record(conn, act)
            if is_news:
                changes.record(conn, act.kind, act.object_id)
            return result

        result = await self._database.write(recorded)
        if is_news:
            self._notify(act.kind, act.object_id)
        return result

    async def _update(
        self,
        store: AccountStore[Row],
        row_id: str,
        values: Mapping[str, Any],
        *,
        actor: str,
        columns: Callable[[sa.Connection], Mapping[str, Any]] | None = None,
    ) -> Row:
        """Sets `values`, or the columns that `columns` makes of them once the row is locked."""

        def work(conn: sa.Connection) -> Row:
            store.lock(conn, row_id)
            declared.check_free(conn, store.kind, row_id)
            return store.update(conn, row_id, values if columns is None else columns(conn))

        if not values:
            return await self._database.read(lambda conn: store.require(conn, row_id))
        return await self._write(work, Act(actor, "update", store.kind, row_id, dict(values)))

    def _insert_key(self, conn: sa.Connection, key: Key) -> NewKey:
        made = new_api_key(key.mode)
        named = msgspec.structs.replace(key, prefix=made.prefix)
        self._keys.insert(conn, named, hash=hash_api_key(made.text, self._pepper))
        return NewKey(named, made.text)


def _delete(conn: sa.Connection, store: AccountStore[Any], row_id: str) -> None:
    store.delete(conn, row_id)
    declared.check_free(conn, store.kind, row_id)


def _check_reference(conn: sa.Connection, store: AccountStore[Any], row_id: str | None) -> None:
    if row_id is not None:
        _referred(conn, store, row_id)


def _referred(conn: sa.Connection, store: AccountStore[Row], row_id: str) -> Row:
    row = store.get(conn, row_id)
    if row is None:
        field = f"{store.kind}_id"
        raise InvalidRequest(f"{field}: there is no {store.kind} with this id.", param=field)
    return row


def _check_in_a_team_that_is(user: User) -> None:
    if user.team_deleted_ms is not None:
        raise Conflict(
            f"The team of {user.name} was deleted, so its keys are refused, new ones too. Move the user to another "
            f"team first: `darkroom user update {user.id} --team TEAM_ID`, or --team '' for none."
        )


def _check_rotatable(key: Key, now: int) -> None:
    if key.rotated_to is not None:
        raise InvalidRequest(f"This key was rotated already; its successor is {key.rotated_to}.")
    if key.disabled_ms is not None or (key.expires_ms is not None and key.expires_ms <= now):
        raise InvalidRequest("This key no longer works, so there is nothing to hand over; create a new key.")


def _copy_limits(conn: sa.Connection, from_id: str, to_id: str) -> None:
    own = limits.get_limits(conn, [(ScopeKind.KEY, from_id)])
    moved = [replace(limit, scope_id=to_id) for limit in own]
    limits.put_limits(conn, ScopeKind.KEY, to_id, moved)
