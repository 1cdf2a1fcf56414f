"""What `POST /admin/v1/apply` gets and gives: accounts as a file declares them, and what differs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from gateway.api.schemas import Answer, Email, Labels, LimitBody, Models, Moment, Name, RequestBody
from gateway.domain.api_key import Mode
from gateway.domain.declaration import Declaration, DeclaredKey, DeclaredTeam, DeclaredUser, LimitEntry

Limits = Annotated[list[LimitBody], Field(max_length=100)]


class KeyBody(RequestBody):
    name: Name
    mode: Mode = Mode.LIVE
    prefix: str = Field(max_length=64, description="The public part of the key.")
    hash: str = Field(
        max_length=128, description="What `darkroom key hash` prints: the key itself stays with its owner."
    )
    models: Models | None = None
    labels: Labels = Field(default_factory=dict)
    expires_at: Moment | None = None
    limits: Limits = Field(default_factory=list)


class UserBody(RequestBody):
    name: Name
    email: Email | None = None
    team: Name | None = Field(None, description="The name of a team of the same file.")
    labels: Labels = Field(default_factory=dict)
    limits: Limits = Field(default_factory=list)
    keys: list[KeyBody] = Field(default_factory=list)


class TeamBody(RequestBody):
    name: Name
    labels: Labels = Field(default_factory=dict)
    limits: Limits = Field(default_factory=list)


class ApplyBody(RequestBody):
    source: Name = Field(description="The file's name: refusals of changes elsewhere name it.")
    teams: list[TeamBody] = Field(default_factory=list)
    users: list[UserBody] = Field(default_factory=list)
    dry_run: bool = False
    prune: bool = Field(False, description="Delete what the file declared once, and does not any more.")

    def declaration(self) -> Declaration:
        return Declaration(
            source=self.source,
            teams=[
                DeclaredTeam(name=team.name, labels=team.labels, limits=_entries(team.limits)) for team in self.teams
            ],
            users=[_user(user) for user in self.users],
        )


class ChangeAnswer(Answer):
    action: Literal["create", "adopt", "update", "delete", "extra"] = Field(
        description="extra: the file does not declare it any more; it stays unless pruned."
    )
    kind: str
    name: str
    id: str = Field(validation_alias="object_id")
    fields: Sequence[str]


class ApplyAnswer(Answer):
    source: str
    dry_run: bool
    changes: list[ChangeAnswer] = Field(description="None: all is as the file says.")


def _user(user: UserBody) -> DeclaredUser:
    return DeclaredUser(
        name=user.name,
        email=user.email,
        team=user.team,
        labels=user.labels,
        limits=_entries(user.limits),
        keys=[
            DeclaredKey(
                name=key.name,
                mode=key.mode,
                prefix=key.prefix,
                hash=key.hash,
                models=key.models,
                labels=key.labels,
                expires_ms=key.expires_at,
                limits=_entries(key.limits),
            )
            for key in user.keys
        ],
    )


def _entries(limits: Sequence[LimitBody]) -> list[LimitEntry]:
    return [limit.entry for limit in limits]
