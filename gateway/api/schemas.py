"""What administrators send and get: accounts, limits, the audit log, lists and refusals.

Money is a decimal string of dollars. Times are ISO 8601 in answers, ISO 8601 or Unix seconds in requests.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    computed_field,
)

from gateway.domain.api_key import Mode
from gateway.domain.caller import Unusable
from gateway.domain.declaration import LimitEntry
from gateway.domain.limits import MOST_ALERTS, Limit, Metric, Window

T = TypeVar("T")
_UNIX_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?")
_LAST_SECOND = 253_402_300_799  # 9999-12-31T23:59:59Z, the last that ISO 8601's four digits can say


def parse_moment(value: Any) -> int:
    """Milliseconds since the epoch, of ISO 8601 (UTC if it does not say) or Unix seconds. Or ValueError."""
    seconds = _seconds(value)
    if not 0 <= seconds <= _LAST_SECOND:
        raise ValueError("a time must lie between 1970 and 9999; Unix times are in seconds")
    return round(seconds * 1000)


def _seconds(value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and _UNIX_SECONDS.fullmatch(value):  # as a query string has it
        return float(value)
    try:
        moment = dt.datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError('write a time like "2026-11-22T20:00:00Z", or as Unix seconds') from None
    return moment.replace(tzinfo=moment.tzinfo or dt.UTC).timestamp()


def iso_time(value: Any) -> str:
    """ISO 8601 in UTC, whole seconds, of milliseconds since the epoch; a text stays as it is."""
    if isinstance(value, str):
        return value
    moment = dt.datetime.fromtimestamp(value // 1000, dt.UTC)
    return moment.isoformat().replace("+00:00", "Z")


def _amount(value: Any) -> Any:
    """5.0 is 5, and true is not 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    return str(int(value) if value == value // 1 else value)


Moment = Annotated[
    int,
    BeforeValidator(parse_moment),
    WithJsonSchema({"anyOf": [{"type": "string", "format": "date-time"}, {"type": "number"}]}),
]
IsoTime = Annotated[
    str,
    BeforeValidator(iso_time),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]
# No control characters: they break logs, tables and CSV, and PostgreSQL refuses NUL.
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\u0000-\u001f\u007f-\u009f]*$")]
Email = Annotated[
    str,
    StringConstraints(max_length=320, pattern=r"^[^\u0000-\u0020\u007f-\u009f@]+@[^\u0000-\u0020\u007f-\u009f@]+$"),
]
Labels = Annotated[dict[Name, Name], Field(max_length=64)]
Models = Annotated[list[Name], Field(max_length=1000)]
Amount = Annotated[
    str,
    BeforeValidator(_amount),
    StringConstraints(max_length=32, pattern=r"^[0-9]+(\.[0-9]+)?$"),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?$"}, {"type": "number", "minimum": 0}]}
    ),
]


Percent = Annotated[int, Field(strict=True, ge=1, le=100)]


class RequestBody(BaseModel):
    """A key that is not known is refused: a misspelt limit must not pass for none."""

    # Not put off to the first use, as `__main__` does it: pydantic warns of how FastAPI declares a body, and FastAPI
    # turns that off only while it declares it.
    model_config = ConfigDict(extra="forbid", defer_build=False)

    def values(self) -> dict[str, Any]:
        """What was sent, by the service's names: absent is not null."""
        return self.model_dump(exclude_unset=True)


class TeamCreate(RequestBody):
    name: Name
    labels: Labels = Field(default_factory=dict)


class TeamUpdate(RequestBody):
    name: Name = Field(default_factory=str)
    labels: Labels = Field(default_factory=dict)


class UserCreate(RequestBody):
    name: Name
    email: Email | None = None
    team_id: str | None = None
    labels: Labels = Field(default_factory=dict)


class UserUpdate(RequestBody):
    name: Name = Field(default_factory=str)
    email: Email | None = None
    team_id: str | None = None
    labels: Labels = Field(default_factory=dict)


class KeyCreate(RequestBody):
    user_id: str
    name: Name | None = None
    mode: Mode = Mode.LIVE
    expires_ms: Moment | None = Field(None, alias="expires_at")
    models: Models | None = Field(None, description="The models it may use; null: every one.")
    labels: Labels = Field(default_factory=dict)


class KeyUpdate(RequestBody):
    name: Name | None = None
    expires_ms: Moment | None = Field(None, alias="expires_at")
    models: Models | None = None
    labels: Labels = Field(default_factory=dict)
    disabled: bool = Field(default_factory=bool)


class KeyRotate(RequestBody):
    overlap_s: int = Field(24 * 3600, ge=0, le=365 * 24 * 3600, description="How long the old key works on.")


class LimitBody(RequestBody):
    metric: Metric
    window: Window | None = Field(None, description="Absent for concurrency alone.")
    amount: Amount
    alert_at: list[Percent] = Field(
        default_factory=list, max_length=MOST_ALERTS, description="Shares of it that webhooks are told of, ascending."
    )

    @property
    def entry(self) -> LimitEntry:
        return LimitEntry(self.metric, self.window or Window.NONE, self.amount, tuple(self.alert_at))


class Answer(BaseModel):
    """Built from the attributes of what a service gives."""

    model_config = ConfigDict(from_attributes=True)


class TeamAnswer(Answer):
    id: str
    name: str
    labels: dict[str, str]
    created_at: IsoTime = Field(validation_alias="created_ms")


class TeamDetail(TeamAnswer):
    users: int = Field(description="How many are in it.")
    usable_keys: int = Field(description="How many keys of theirs work: deleting the team stops them.")


class UserAnswer(TeamAnswer):
    email: str | None
    team_id: str | None
    team_deleted_at: IsoTime | None = Field(
        validation_alias="team_deleted_ms",
        description="Since when the user's keys are refused: its team was deleted, and it was not moved to another.",
    )


class KeyAnswer(Answer):
    id: str
    user_id: str
    name: str | None
    mode: Mode
    prefix: str = Field(description="The public part, by which logs and lists name the key.")
    models: list[str] | None
    labels: dict[str, str]
    created_at: IsoTime = Field(validation_alias="created_ms")
    expires_at: IsoTime | None = Field(validation_alias="expires_ms")
    disabled_at: IsoTime | None = Field(validation_alias="disabled_ms")
    rotated_to: str | None
    team_deleted_at: IsoTime | None = Field(validation_alias="team_deleted_ms", exclude=True)

    @computed_field
    def disabled(self) -> bool:
        return self.disabled_at is not None

    @computed_field(description="Whether calls with it are let in.")
    def usable(self) -> bool:
        return self.unusable_because is None

    @computed_field(description="`team_deleted`: move its user to another team. Null: it works.")
    def unusable_because(self) -> Literal[Unusable.TEAM_DELETED, Unusable.DISABLED, Unusable.EXPIRED] | None:
        if self.team_deleted_at is not None:
            return Unusable.TEAM_DELETED
        if self.disabled_at is not None:
            return Unusable.DISABLED
        is_over = self.expires_at is not None and dt.datetime.fromisoformat(self.expires_at) <= dt.datetime.now(dt.UTC)
        return Unusable.EXPIRED if is_over else None


class KeyCreated(KeyAnswer):
    key: str = Field("", description="The key itself: shown now and never again.")


class LimitAnswer(Answer):
    metric: Metric
    window: Window | None
    amount: str
    alert_at: list[int] = Field([], description="Absent: no alerts.")

    @classmethod
    def of(cls, limit: Limit) -> LimitAnswer:
        alerts = {"alert_at": limit.alert_at} if limit.alert_at else {}
        shown = limit.shown(limit.amount)
        return cls.model_validate({"metric": limit.metric, "window": limit.window or None, "amount": shown} | alerts)


class AuditAnswer(Answer):
    id: str
    at: IsoTime = Field(validation_alias="at_ms")
    actor: str
    action: str = Field(description="Object and verb, like `key.create`.")
    object_kind: str
    object_id: str
    detail: dict[str, Any] | None


class ListAnswer(Answer, Generic[T]):
    """Newest first. Pass `next_cursor` as `cursor` for the next page; null: there is none."""

    object: Literal["list"] = "list"
    data: list[T]
    has_more: bool
    next_cursor: str | None


class RefusalError(BaseModel):
    name: str
    message: str
    code: str
    type: str
    param: str | None = None
    data: Any = None


class Refusal(BaseModel):
    """Every refusal: the provider's envelope, with OpenAI's `code`, `type` and `param` in `error`."""

    model_config = ConfigDict(extra="allow")

    message: str
    error: RefusalError


_REFUSALS = {
    400: "The request makes no sense as it is; the message says what would be right.",
    401: "The key is missing or wrong.",
    403: "The administrator's role does not go so far, or its key is disabled.",
    404: "There is nothing with this id.",
    409: "It can't be done to the thing as it stands.",
    503: "The database can't be used right now.",
}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route declares of the refusals it can give."""
    return {status: {"model": Refusal, "description": _REFUSALS[status]} for status in statuses}
