"""Who administers: a name, a role, and what the role may do.

owner          everything, the credentials of administrators included
operator       everything but administrators
viewer         sees all, changes nothing
team-admin     sees and manages the users, keys and limits of one team, and spends as one of its keys; nothing else
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from gateway.errors import Forbidden


class Role(StrEnum):
    OWNER = "owner"
    OPERATOR = "operator"
    VIEWER = "viewer"
    TEAM_ADMIN = "team-admin"


class Permission(StrEnum):
    """What a call does, as refusals name it."""

    SEE = "see accounts and spend"
    SEE_ALL = "see what concerns no single team"
    MANAGE_ACCOUNTS = "change users, keys and their limits"
    MANAGE_TEAMS = "change teams and their limits"
    PURGE = "remove pictures"
    CORRECT_MONEY = "settle, adjust, reconcile and close months"
    MANAGE_PROVIDERS = "change providers"
    MANAGE_ALERTS = "change webhooks"
    SPEND = "spend as a key"
    ERASE = "erase users"
    MANAGE_ADMINISTRATORS = "change administrators"


_TEAM_ADMIN = frozenset({Permission.SEE, Permission.MANAGE_ACCOUNTS, Permission.PURGE, Permission.SPEND})
_GRANTED: dict[Role, frozenset[Permission]] = {
    Role.OWNER: frozenset(Permission),
    Role.OPERATOR: frozenset(Permission) - {Permission.MANAGE_ADMINISTRATORS},
    Role.VIEWER: frozenset({Permission.SEE, Permission.SEE_ALL}),
    Role.TEAM_ADMIN: _TEAM_ADMIN,
}


class Administrator(msgspec.Struct, frozen=True, kw_only=True):
    """`team_id`: the one team that a team-admin sees; None for the other roles. `id` None: the configuration's key."""

    id: str | None
    name: str
    role: Role
    team_id: str | None = None

    @property
    def actor(self) -> str:
        """How the audit log names it: the id outlives a change of name."""
        return self.name if self.id is None else f"{self.name} ({self.id})"

    @property
    def permissions(self) -> list[Permission]:
        return [permission for permission in Permission if self.may(permission)]

    def may(self, permission: Permission) -> bool:
        return permission in _GRANTED[self.role]

    def require(self, permission: Permission) -> None:
        """Raises Forbidden."""
        if not self.may(permission):
            raise Forbidden(f"{self.name} is {self.role}, which may not {permission}.")

    def team(self, asked: str | None = None) -> str | None:
        """The team that a list is restricted to: a team-admin's own, else the one asked for. Raises Forbidden for
        another team than its own.
        """
        if self.team_id is None:
            return asked
        if asked not in {None, self.team_id}:
            raise Forbidden(f"{self.name} administers {self.team_id} alone.")
        return self.team_id


OWNER = Administrator(id=None, name="admin", role=Role.OWNER)
"""Whoever holds the key of the configuration."""
