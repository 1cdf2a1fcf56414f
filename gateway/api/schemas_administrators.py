"""Administrators as they are sent and shown. A key is shown once."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, computed_field

from gateway.api.schemas import Answer, IsoTime, Moment, Name, RequestBody
from gateway.domain.administrator import Administrator, Role

_TEAM = "The one team of a team-admin; null for every other role."


class AdministratorCreate(RequestBody):
    name: Name
    role: Role
    team_id: str | None = Field(None, description=_TEAM)
    expires_ms: Moment | None = Field(None, alias="expires_at")


class AdministratorUpdate(RequestBody):
    name: Name = Field(default_factory=str)
    role: Role = Role.VIEWER
    team_id: str | None = Field(None, description=_TEAM)
    expires_ms: Moment | None = Field(None, alias="expires_at")
    disabled: bool = False


class AdministratorAnswer(Answer):
    id: str
    object: Literal["administrator"] = "administrator"
    name: str
    role: Role
    team_id: str | None
    prefix: str = Field(description="The public part of its key.")
    created_at: IsoTime = Field(validation_alias="created_ms")
    expires_at: IsoTime | None = Field(validation_alias="expires_ms")
    disabled_at: IsoTime | None = Field(validation_alias="disabled_ms")

    @computed_field
    def disabled(self) -> bool:
        return self.disabled_at is not None


class AdministratorCreated(AdministratorAnswer):
    key: str = Field("", description="The key itself: shown now and never again.")


class Me(Answer):
    """Who is calling, and what it may do."""

    id: str | None = Field(description="null: the key of the configuration.")
    object: Literal["administrator"] = "administrator"
    name: str
    role: Role
    team_id: str | None
    permissions: list[str] = Field(description="Like manage_accounts.")

    @classmethod
    def of(cls, admin: Administrator) -> Me:
        return cls(
            id=admin.id,
            name=admin.name,
            role=admin.role,
            team_id=admin.team_id,
            permissions=[permission.name.lower() for permission in admin.permissions],
        )
