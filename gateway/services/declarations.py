"""Accounts brought to what a file declares, in one transaction; applied again, the same file changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import sqlalchemy as sa

from gateway.domain.declaration import Declaration, DeclaredKey, DeclaredTeam, DeclaredUser, LimitEntry
from gateway.domain.ids import new_id
from gateway.domain.limits import Limit, ScopeKind
from gateway.errors import Conflict
from gateway.services.account_checks import known_models, parse_limits
from gateway.storage import audit, changes, declared, limits
from gateway.storage.accounts import (
    KEYS,
    TEAMS,
    USERS,
    AccountStore,
    Key,
    Team,
    User,
    delete_keys_of,
    find_named,
    key_secrets,
    set_hash,
)
from gateway.storage.audit import Act
from gateway.storage.database import Database, now_ms

Action = Literal["create", "adopt", "update", "delete", "extra"]


class Change(NamedTuple):
    """What a file asks for that is not so: `fields` are those that differ. "adopt": an account of that name was there,
    and is the file's now. "extra": the file no longer declares it, and it stays unless pruned.
    """

    action: Action
    kind: str
    name: str
    object_id: str
    fields: Sequence[str] = ()


class DeclarationService:
    """`notify` hears kind and id of each account that was changed."""

    def __init__(self, database: Database, models: Collection[str], *, notify: Callable[[str, str], None]) -> None:
        self._database = database
        self._models = frozenset(models)
        self._notify = notify

    async def apply(self, declaration: Declaration, *, actor: str, prune: bool, dry_run: bool) -> Sequence[Change]:
        """The changes; made, unless `dry_run`. Accounts that other files declare are not touched.

        Raises InvalidRequest for a file that makes no sense, and Conflict where another file declares the same.
        """
        declaration.check()

        def work(conn: sa.Connection) -> Sequence[Change]:
            made = _Application(conn, declaration.source, actor, self._models).run(declaration, prune=prune)
            if dry_run:
                raise _OnlyLooked(made)
            return made

        try:
            made = await self._database.write(work)
        except _OnlyLooked as looked:
            return looked.changes
        for change in made:
            self._notify(change.kind, change.object_id)
        return made


class _OnlyLooked(Exception):
    """Takes back what was done to see what would be."""

    def __init__(self, changes: Sequence[Change]) -> None:
        super().__init__(changes)
        self.changes = changes


class _Application:
    """One file, within one transaction. Teams come before the users in them, users before their keys."""

    def __init__(self, conn: sa.Connection, source: str, actor: str, models: frozenset[str]) -> None:
        self._conn = conn
        self._source = source
        self._actor = actor
        self._models = models
        self._now = now_ms(conn)
        self._left = declared.places(conn, source)
        self._made: list[Change] = []

    def run(self, declaration: Declaration, *, prune: bool) -> Sequence[Change]:
        teams = {team.name: self._team(team) for team in declaration.teams}
        for user in declaration.users:
            user_id = self._user(user, None if user.team is None else teams[user.team])
            for key in user.keys:
                self._key(key, user.name, user_id)
        self._rest(prune=prune)
        return self._made

    def _team(self, wanted: DeclaredTeam) -> str:
        values: dict[str, Any] = {"name": wanted.name, "labels": wanted.labels}
        found = self._find("team", wanted.name, lambda: find_named(self._conn, TEAMS, wanted.name))
        team_id = found or new_id("team")
        if found is None:
            TEAMS.insert(self._conn, Team(id=team_id, created_ms=self._now, **values))
        self._settle(TEAMS, wanted.name, team_id, values, wanted.limits, is_new=found is None)
        return team_id

    def _user(self, wanted: DeclaredUser, team_id: str | None) -> str:
        values: dict[str, Any] = {
            "name": wanted.name,
            "email": wanted.email,
            "team_id": team_id,
            "labels": wanted.labels,
        }
        found = self._find("user", wanted.name, lambda: find_named(self._conn, USERS, wanted.name))
        user_id = found or new_id("user")
        if found is None:
            USERS.insert(self._conn, User(id=user_id, created_ms=self._now, **values))
        self._settle(USERS, wanted.name, user_id, values, wanted.limits, is_new=found is None)
        return user_id

    def _key(self, wanted: DeclaredKey, user: str, user_id: str) -> None:
        name = f"{user.replace('%', '%25').replace('/', '%2F')}/{wanted.name}"  # of one key of one user alone
        values: dict[str, Any] = {
            "name": wanted.name,
            "models": known_models(self._models, wanted.models),
            "labels": wanted.labels,
            "expires_ms": wanted.expires_ms,
        }
        key_id = self._left.get(("key", name))
        if key_id is not None and key_secrets(self._conn, key_id) != (wanted.prefix, wanted.hash):
            self._replace(key_id, name, wanted)
            key_id = self._left.get(("key", name))
        found = self._find("key", name, lambda: self._key_elsewhere(wanted, user_id))
        key_id = found or new_id("key")
        if found is None:
            key = Key(
                id=key_id, user_id=user_id, mode=wanted.mode, prefix=wanted.prefix, created_ms=self._now,
                disabled_ms=None, rotated_to=None, **values,
            )  # fmt: skip
            self._insert_key(key, name, wanted.hash)
        self._settle(KEYS, name, key_id, values, wanted.limits, is_new=found is None)

    def _insert_key(self, key: Key, name: str, hashed: str) -> None:
        try:
            KEYS.insert(self._conn, key, hash=hashed)
        except sa.exc.IntegrityError:  # its text quotes the row, which no log may
            raise Conflict(
                f"The key {name} ({key.prefix}) was deleted once, and does not come back: "
                "`darkroom key hash` makes another."
            ) from None

    def _replace(self, key_id: str, name: str, wanted: DeclaredKey) -> None:
        """Another key by the old name: the old one ends. The same key, hashed with another pepper: only its hash."""
        prefix, _ = key_secrets(self._conn, key_id)
        if prefix == wanted.prefix:
            set_hash(self._conn, key_id, wanted.hash)
            self._note("update", "key", name, key_id, ["hash"])
        else:
            self._delete(KEYS, name, key_id)
            del self._left["key", name]

    def _key_elsewhere(self, wanted: DeclaredKey, user_id: str) -> str | None:
        """A key with this prefix that nobody declared: it must be the same key of the same user."""
        found = KEYS.list(self._conn, limit=1, prefix=wanted.prefix).data
        if not found:
            return None
        if found[0].user_id != user_id or key_secrets(self._conn, found[0].id) != (wanted.prefix, wanted.hash):
            raise Conflict(
                f"There is another key with the prefix {wanted.prefix}: {found[0].id} of {found[0].user_id}."
            )
        return found[0].id

    def _find(self, kind: str, name: str, elsewhere: Callable[[], str | None]) -> str | None:
        """The account that the file declared before; else one of that name that it adopts."""
        known = self._left.pop((kind, name), None)
        if known is not None:
            return known
        found = elsewhere()
        if found is not None:
            other = declared.source_of(self._conn, found)
            if other == self._source:
                self._rename((kind, name), found)
                return found
            if other is not None:
                raise Conflict(f"The {kind} {name} is declared in {other} already.")
            declared.declare(self._conn, self._source, (kind, name), found)
            self._note("adopt", kind, name, found, [])
        return found

    def _rename(self, place: declared.Place, object_id: str) -> None:
        """The file calls by another name what it declared before."""
        self._left = {each: left for each, left in self._left.items() if left != object_id}
        declared.release(self._conn, object_id)
        declared.declare(self._conn, self._source, place, object_id)

    def _settle(
        self,
        store: AccountStore[Any],
        name: str,
        row_id: str,
        values: Mapping[str, Any],
        entries: Sequence[LimitEntry],
        *,
        is_new: bool,
    ) -> None:
        """The row as wanted, and its limits."""
        wanted = parse_limits(ScopeKind(store.kind), row_id, entries)
        if is_new:
            declared.declare(self._conn, self._source, (store.kind, name), row_id)
            limits.put_limits(self._conn, ScopeKind(store.kind), row_id, wanted)
            self._note("create", store.kind, name, row_id, [])
            return
        row = msgspec.structs.asdict(store.lock(self._conn, row_id))
        differing = {field: value for field, value in values.items() if row[field] != value}
        if differing:
            store.update(self._conn, row_id, differing)
        fields = sorted(differing)
        if _amounts(limits.get_limits(self._conn, [(ScopeKind(store.kind), row_id)])) != _amounts(wanted):
            limits.put_limits(self._conn, ScopeKind(store.kind), row_id, wanted)
            fields.append("limits")
        if fields:
            self._note("update", store.kind, name, row_id, fields)

    def _rest(self, *, prune: bool) -> None:
        """What the file declared once, and does not any more: keys first, then who they belonged to."""
        stores: dict[str, AccountStore[Any]] = {"key": KEYS, "user": USERS, "team": TEAMS}
        for kind, store in stores.items():
            for (of, name), row_id in sorted(self._left.items()):
                if of == kind and prune:
                    self._delete(store, name, row_id)
                elif of == kind:
                    self._made.append(Change("extra", kind, name, row_id))

    def _delete(self, store: AccountStore[Any], name: str, row_id: str) -> None:
        store.delete(self._conn, row_id)
        declared.release(self._conn, row_id)
        for key_id in delete_keys_of(self._conn, row_id) if store is USERS else ():
            self._note("delete", "key", f"{name}/{key_id}", key_id, [])
        self._note("delete", store.kind, name, row_id, [])

    def _note(self, action: Action, kind: str, name: str, row_id: str, fields: Sequence[str]) -> None:
        self._made.append(Change(action, kind, name, row_id, fields))
        detail = {"declared_in": self._source, "name": name, "fields": list(fields)}
        audit.record(self._conn, Act(self._actor, action, kind, row_id, detail))
        changes.record(self._conn, kind, row_id)


def _amounts(found: Sequence[Limit]) -> set[tuple[Any, ...]]:
    return {(limit.metric, limit.window, limit.amount, limit.alert_at) for limit in found}
