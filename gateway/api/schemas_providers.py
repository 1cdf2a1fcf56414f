"""Providers and their keys as administrators send and get them. A secret goes in and never comes out."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from gateway.api.schemas import Name, RequestBody, iso_time
from gateway.resources import KeyReport

Secret = Annotated[str, StringConstraints(min_length=1, max_length=4096, pattern=r"^[!-~]+$", strip_whitespace=True)]
Weight = Annotated[int, Field(ge=1, le=10_000, description="Share of the calls beside the provider's other keys.")]
Concurrency = Annotated[int, Field(ge=1, le=100_000, description="Calls at once with this key; more wait.")]


class ProviderKeyCreate(RequestBody):
    value: Secret = Field(description="The credential. It is stored encrypted and never shown.")
    name: Name | None = None
    weight: Weight = 1
    max_concurrency: Concurrency = 64


class ProviderKeyUpdate(RequestBody):
    value: Secret = Field("", validate_default=False, description="A new secret under the same id: rotates the key.")
    name: Name | None = None
    weight: Weight = 1
    max_concurrency: Concurrency = 64
    disabled: bool = Field(
        False, description="false also puts a key back to work that was refused, rate limited or failing."
    )


class ProviderKeyAnswer(BaseModel):
    id: str
    object: str = "provider_key"
    provider: str
    name: str | None
    hint: str = Field(description="The end of the secret, to tell keys apart by.")
    source: str = Field(description="configuration, or stored.")
    weight: float
    max_concurrency: int
    disabled: bool
    state: str = Field(
        description="healthy, cooling, circuit_open, half_open, out_of_credits, ejected or disabled, in this process."
    )
    reason: str | None = Field(description="What brought it there.")
    until_s: float | None = Field(description="Seconds until it may serve again; null: not by itself.")
    open_calls: int
    served: int = Field(description="Calls since this process began.")
    created_at: str | None


class ProviderAnswer(BaseModel):
    name: str
    object: str = "provider"
    kind: str
    keys: int
    usable: int = Field(description="Keys that may serve now.")
    open_calls: int


class Reencrypted(BaseModel):
    reencrypted: int


def key_answer(report: KeyReport) -> ProviderKeyAnswer:
    state = report.state
    return ProviderKeyAnswer(
        id=report.id,
        provider=report.provider,
        name=report.name,
        hint=report.hint,
        source=report.source,
        weight=state.weight,
        max_concurrency=state.max_concurrency,
        disabled=state.state == "disabled",
        state=state.state,
        reason=state.reason,
        until_s=state.until_s,
        open_calls=state.busy,
        served=state.served,
        created_at=None if report.created_ms is None else iso_time(report.created_ms),
    )
