"""Administrators: their credentials and roles, and who it is that signs in.

Nothing of them is held in memory: what is changed here holds from the next call on, in every process. The key of the
configuration always works, so the last way in can't be lost.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa

from gateway.domain.admin_key import new_admin_key, parse_admin_key
from gateway.domain.administrator import OWNER, Administrator, Role
from gateway.domain.api_key import hash_api_key, matches
from gateway.domain.ids import new_id
from gateway.errors import Conflict, InvalidApiKey, InvalidRequest, KeyDisabled
from gateway.services.account_checks import check_future
from gateway.storage import audit
from gateway.storage.accounts import TEAMS
from gateway.storage.administrators import ADMINISTRATORS, AdministratorRow, SignIn, find_by_id, find_by_prefix
from gateway.storage.audit import Act
from gateway.storage.database import Database, now_ms
from gateway.storage.paging import DEFAULT_LIMIT, Page

T = TypeVar("T")
_WRONG = "The admin key is wrong. It is security.admin_key, or the file admin_key in data_dir, or an administrator's."
_UNKNOWN = "This administrator's key is not known here: it was replaced, or its administrator deleted."


class NewAdministrator(NamedTuple):
    """An administrator and the text of its key, which is known only now."""

    administrator: AdministratorRow
    text: str


class Administrators:
    """`owner_key`: the key of the configuration, whose holder is the owner."""

    def __init__(self, database: Database, peppers: Sequence[bytes], *, owner_key: str) -> None:
        self._database = database
        self._peppers = tuple(peppers)
        self._owner_key = owner_key

    # -- signing in ------------------------------------------------------------------------------------------

    async def authenticate(self, token: str) -> Administrator:
        """Raises InvalidApiKey, and KeyDisabled for one that is known and may not; all in constant time."""
        if hmac.compare_digest(token.encode(), self._owner_key.encode()):
            return OWNER
        key = parse_admin_key(token)
        if key is None:
            raise InvalidApiKey(_WRONG)
        found = await self._database.read(lambda conn: find_by_prefix(conn, key.prefix))
        if found is None or not matches(key.text, found.key_hash, self._peppers):
            raise InvalidApiKey(_UNKNOWN)
        if found.refused:
            raise KeyDisabled(f"The key {key.prefix}... {found.refused}. Ask an owner.")
        return found.administrator

    async def find(self, administrator_id: str | None) -> Administrator | None:
        """One that may sign in, as it is now; the id None is the owner's."""
        if administrator_id is None:
            return OWNER
        found = await self._usable(administrator_id)
        return None if found is None else found.administrator

    async def proof_of(self, administrator: Administrator) -> str | None:
        """Changes when its key does; None when it may not sign in any more."""
        if administrator.id is None:
            return hash_api_key(self._owner_key, self._peppers[0])
        found = await self._usable(administrator.id)
        return None if found is None else found.key_hash

    async def _usable(self, administrator_id: str) -> SignIn | None:
        found = await self._database.read(lambda conn: find_by_id(conn, administrator_id))
        return None if found is None or found.refused else found

    # -- administration --------------------------------------------------------------------------------------

    async def create(
        self, *, actor: str, name: str, role: Role, team_id: str | None = None, expires_ms: int | None = None
    ) -> NewAdministrator:
        """Raises InvalidRequest for a team-admin without a team, and for another role with one."""

        def work(conn: sa.Connection) -> NewAdministrator:
            now = now_ms(conn)
            _check_team(conn, role, team_id)
            check_future(expires_ms, now)
            row = AdministratorRow(
                id=administrator_id,
                name=name,
                role=role,
                team_id=team_id,
                prefix=made.prefix,
                created_ms=now,
                expires_ms=expires_ms,
                disabled_ms=None,
            )
            ADMINISTRATORS.insert(conn, row, hash=hash_api_key(made.text, self._peppers[0]))
            return NewAdministrator(row, made.text)

        administrator_id, made = new_id("adm"), new_admin_key()
        detail = {"name": name, "role": role, "team_id": team_id, "expires_ms": expires_ms}
        return await self._write(work, Act(actor, "create", "administrator", administrator_id, detail))

    async def get(self, administrator_id: str) -> AdministratorRow:
        """Raises NotFound."""
        return await self._database.read(lambda conn: ADMINISTRATORS.require(conn, administrator_id))

    async def list(
        self, *, q: str | None = None, limit: int = DEFAULT_LIMIT, cursor: str | None = None
    ) -> Page[AdministratorRow]:
        return await self._database.read(lambda conn: ADMINISTRATORS.list(conn, q=q, limit=limit, cursor=cursor))

    async def update(self, administrator_id: str, values: Mapping[str, Any], *, by: Administrator) -> AdministratorRow:
        """`values`: any of name, role, team_id, expires_ms, disabled (true or false).

        Raises Conflict when it would change what it may do itself.
        """
        if administrator_id == by.id and values.keys() - {"name"}:
            raise Conflict("Nobody changes its own role, team or term: another owner can, or the configuration's key.")

        def work(conn: sa.Connection) -> AdministratorRow:
            row, now = ADMINISTRATORS.lock(conn, administrator_id), now_ms(conn)
            return ADMINISTRATORS.update(conn, administrator_id, _columns(conn, row, values, now))

        if not values:
            return await self.get(administrator_id)
        return await self._write(work, Act(by.actor, "update", "administrator", administrator_id, dict(values)))

    async def rotate(self, administrator_id: str, *, actor: str) -> NewAdministrator:
        """A new key under the same id; the old one stops at once."""
        made = new_admin_key()

        def work(conn: sa.Connection) -> NewAdministrator:
            ADMINISTRATORS.lock(conn, administrator_id)
            changed = {"prefix": made.prefix, "hash": hash_api_key(made.text, self._peppers[0])}
            return NewAdministrator(ADMINISTRATORS.update(conn, administrator_id, changed), made.text)

        return await self._write(work, Act(actor, "rotate", "administrator", administrator_id, {"prefix": made.prefix}))

    async def delete(self, administrator_id: str, *, by: Administrator) -> None:
        """Its key stops at once; what it did stays in the audit log. Raises Conflict when it is oneself."""
        if administrator_id == by.id:
            raise Conflict("Nobody deletes itself: another owner can, or the configuration's key.")
        act = Act(by.actor, "delete", "administrator", administrator_id)
        await self._write(lambda conn: ADMINISTRATORS.delete(conn, administrator_id), act)

    async def _write(self, work: Callable[[sa.Connection], T], act: Act) -> T:
        def recorded(conn: sa.Connection) -> T:
            result = work(conn)
            audit.record(conn, act)
            return result

        return await self._database.write(recorded)


def _columns(conn: sa.Connection, row: AdministratorRow, values: Mapping[str, Any], now: int) -> dict[str, Any]:
    changed = dict(values)
    check_future(changed.get("expires_ms"), now)
    if "disabled" in changed:
        changed["disabled_ms"] = now if changed.pop("disabled") else None
    if changed.keys() & {"role", "team_id"}:
        role = Role(changed.get("role", row.role))
        if role is not Role.TEAM_ADMIN:
            changed.setdefault("team_id", None)  # who is no team-admin any more has no team
        _check_team(conn, role, changed.get("team_id", row.team_id))
    return changed


def _check_team(conn: sa.Connection, role: Role, team_id: str | None) -> None:
    if role is not Role.TEAM_ADMIN:
        if team_id is not None:
            raise InvalidRequest(f"team_id: only a team-admin has a team; {role} sees all of them.", param="team_id")
    elif team_id is None:
        raise InvalidRequest("team_id: a team-admin needs the team that it administers.", param="team_id")
    elif TEAMS.get(conn, team_id) is None:
        raise InvalidRequest("team_id: there is no team with this id.", param="team_id")
