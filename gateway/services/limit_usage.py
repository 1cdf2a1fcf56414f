"""Limits beside what is used of them: which are near their end, and all that apply to one team, user or key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from gateway.domain.caller import effective_limits
from gateway.domain.limits import DefaultLimit, Limit, ScopeKind
from gateway.errors import NotFound
from gateway.storage import limits, limits_in_use
from gateway.storage.accounts import KEYS, TEAMS, USERS, Team, User
from gateway.storage.database import Database, now_ms
from gateway.storage.limits_in_use import LimitInUse
from gateway.storage.paging import Page


@dataclass(frozen=True, slots=True)
class AppliedLimit:
    """A limit that applies somewhere. `inherited`: from a wider scope, or from the settings. `use` None: it is a rate,
    which is free again within the hour, and is looked at with each call alone.
    """

    limit: Limit
    name: str
    inherited: bool
    use: LimitInUse | None


class LimitUsage:
    """`defaults`: of every user. `flush` brings rows of this process's journal into SQL, where calls are counted."""

    def __init__(
        self, database: Database, defaults: Sequence[DefaultLimit], *, flush: Callable[[], Awaitable[None]]
    ) -> None:
        self._database = database
        self._defaults = tuple(defaults)
        self._flush = flush

    async def fullest(
        self,
        *,
        mode: str,
        scope: ScopeKind | None = None,
        team_id: str | None = None,
        near: float = 0,
        limit: int,
    ) -> Page[LimitInUse]:
        """Limits that are set, and defaults that users have used some of, the fullest first; `near`: from that percent
        on. One page: its end is the end of what is of interest. Rates are left out.
        """

        def work(conn: sa.Connection) -> list[LimitInUse]:
            at = now_ms(conn)
            found = limits_in_use.set_limits(conn, mode=mode, now_ms=at, team_id=team_id, scope=scope)
            if scope in {None, ScopeKind.USER}:
                found += limits_in_use.default_limits(conn, self._defaults, mode=mode, now_ms=at, team_id=team_id)
            return found

        await self._flush()
        found = [line for line in await self._database.read(work) if line.percent >= near]
        found.sort(key=lambda line: (-line.percent, line.limit))
        return Page(found[:limit], None)

    async def of(self, scope: ScopeKind, scope_id: str, *, mode: str, team_id: str | None = None) -> list[AppliedLimit]:
        """All that apply to a team, a user or a key, the widest first.

        Raises NotFound, also for one that is not of `team_id`.
        """

        def work(conn: sa.Connection) -> list[AppliedLimit]:
            at = now_ms(conn)
            scopes = _scopes(conn, scope, scope_id)
            if team_id is not None and (ScopeKind.TEAM, team_id) not in scopes:
                raise NotFound(f"There is no {scope} with this id.")
            own = limits.get_limits(conn, list(scopes))
            users = [each for kind, each in scopes if kind is ScopeKind.USER]
            defaults = [default.of(user_id) for user_id in users for default in self._defaults]
            wanted = [
                (each, scopes[each.scope, each.scope_id]) for each in effective_limits(defaults=defaults, own=own)
            ]
            used = {line.limit: line for line in limits_in_use.of_limits(conn, wanted, mode=mode, now_ms=at)}
            return [
                AppliedLimit(each, name, each.scope is not scope or each not in own, used.get(each))
                for each, name in wanted
            ]

        await self._flush()
        return await self._database.read(work)


def _scopes(conn: sa.Connection, scope: ScopeKind, scope_id: str) -> dict[tuple[ScopeKind, str], str]:
    """It and the wider ones, with their names. Raises NotFound."""
    if scope is ScopeKind.TEAM:
        return _of_team(TEAMS.require(conn, scope_id))
    if scope is ScopeKind.USER:
        return _of_user(conn, USERS.require(conn, scope_id))
    key = KEYS.require(conn, scope_id)
    return {(scope, key.id): key.name or key.prefix} | _of_user(conn, USERS.require(conn, key.user_id))


def _of_user(conn: sa.Connection, user: User) -> dict[tuple[ScopeKind, str], str]:
    team = None if user.team_id is None else TEAMS.get(conn, user.team_id)
    return {(ScopeKind.USER, user.id): user.name} | ({} if team is None else _of_team(team))


def _of_team(team: Team) -> dict[tuple[ScopeKind, str], str]:
    return {(ScopeKind.TEAM, team.id): team.name}
