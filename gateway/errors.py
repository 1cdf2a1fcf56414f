"""Every refusal Darkroom makes: its code, its HTTP status, and whether waiting cures it.

One handler (`api/error_response.py`) renders them in the provider's envelope. A class says what kind of refusal
it is; an instance says what was wrong, where, and what would be right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

Charged = Literal["no", "yes", "unknown"]


class DarkroomError(Exception):
    """Root of all refusals.

    `retry_after_s` is set when waiting cures the refusal. `should_retry` False tells SDKs to leave the call
    alone (`x-should-retry: false`); None leaves the decision to them. `charged` is said by every refusal that
    comes from a purchase. `data` lands in `error.data`. `param` is the request field at fault.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    type: ClassVar[str] = "api_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        data: dict[str, Any] | Sequence[dict[str, Any]] | None = None,
        retry_after_s: float | None = None,
        should_retry: bool | None = None,
        charged: Charged | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.data = data
        self.retry_after_s = retry_after_s
        self.should_retry = should_retry
        self.charged = charged

    @property
    def detail(self) -> Any:
        """What `error.data` says: the data, and whether the call was charged."""
        if self.charged is None:
            return self.data
        return {**(self.data if isinstance(self.data, dict) else {}), "charged": self.charged}


def root_cause(exc: BaseException) -> BaseException:
    """What is at the bottom of it: the driver's own error, or the system's."""
    while inner := getattr(exc, "orig", None) or exc.__cause__:  # `orig`: SQLAlchemy's wrap the driver's
        if isinstance(inner, asyncio.CancelledError):  # how a time-out ends what it waited for
            break
        exc = inner
    return exc


def reason_of(exc: BaseException) -> str:
    """The words of its root cause, for logs and people at a terminal. Never empty."""
    cause = root_cause(exc)
    if isinstance(cause, OSError) and cause.strerror:
        return f"{cause.filename}: {cause.strerror}" if cause.filename else cause.strerror
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    return str(cause) or type(cause).__name__


class InvalidRequest(DarkroomError):
    """400. `data` is a list of issues, each with `path`, `code`, `message` and what was expected."""

    code = "invalid_request"
    status = 400
    type = "invalid_request_error"


class InvalidApiKey(DarkroomError):
    code = "invalid_api_key"
    status = 401
    type = "authentication_error"


class KeyDisabled(DarkroomError):
    code = "key_disabled"
    status = 403
    type = "permission_error"


class Forbidden(DarkroomError):
    """An administrator whose role does not go so far, or whose team it is not."""

    code = "forbidden"
    status = 403
    type = "permission_error"


class ModelNotAllowed(DarkroomError):
    code = "model_not_allowed"
    status = 403
    type = "permission_error"


class ModelNotFound(DarkroomError):
    code = "model_not_found"
    status = 404
    type = "invalid_request_error"


class NotFound(DarkroomError):
    code = "not_found"
    status = 404
    type = "invalid_request_error"


class ImageRemoved(DarkroomError):
    code = "image_removed"
    status = 410
    type = "invalid_request_error"


class BodyTooLarge(DarkroomError):
    code = "body_too_large"
    status = 413
    type = "invalid_request_error"


class Conflict(DarkroomError):
    """409: what is asked can't be done to the thing as it stands."""

    code = "conflict"
    status = 409
    type = "invalid_request_error"


class IdempotencyInProgress(DarkroomError):
    """409: the first call with this Idempotency-Key is still under way."""

    code = "idempotency_in_progress"
    status = 409
    type = "invalid_request_error"


class IdempotencyMismatch(DarkroomError):
    """422: this Idempotency-Key came with another request before."""

    code = "idempotency_mismatch"
    status = 422
    type = "invalid_request_error"


class LimitExceeded(DarkroomError):
    """A limit refused the call. `data` names limit, scope, asked, left and reset."""


class RateLimitExceeded(LimitExceeded):
    """429 for a minute or an hour, and for concurrency: waiting a little cures it."""

    code = "rate_limit_exceeded"
    status = 429
    type = "rate_limit_error"


class QuotaExceeded(LimitExceeded):
    """429 for a day or a month."""

    code = "quota_exceeded"
    status = 429
    type = "insufficient_quota"


class BudgetExhausted(LimitExceeded):
    """403 for a limit that never resets."""

    code = "budget_exhausted"
    status = 403
    type = "insufficient_quota"


class ProviderError(DarkroomError):
    """502: the provider's 500, or an answer or an image that is not one."""

    code = "provider_error"
    status = 502


class ProviderUnavailable(DarkroomError):
    """503: no usable key, no credits, or the provider's own 429 and 503 after retries."""

    code = "provider_unavailable"
    status = 503


class StillGenerating(DarkroomError):
    """503: the caller's wait is over and the purchase goes on; an equal call joins it.

    Its buyer is told `charged` unknown, who joined it no.
    """

    code = "still_generating"
    status = 503


class Draining(DarkroomError):
    code = "draining"
    status = 503


class LedgerUnavailable(DarkroomError):
    """503: the database is gone, so nothing may be bought."""

    code = "ledger_unavailable"
    status = 503


class StorageFailed(DarkroomError):
    """503: the image store or the journal can't be written, so nothing may be bought."""

    code = "ledger_unavailable"
    status = 503


class ProviderTimeout(DarkroomError):
    """504: the provider did not answer in time, or its answer was lost."""

    code = "provider_timeout"
    status = 504


class NotCached(DarkroomError):
    """504 for `Cache-Control: only-if-cached` without an entry (RFC 9111, section 5.2.1.7)."""

    code = "not_cached"
    status = 504


class ConfigurationError(DarkroomError):
    """The settings can't be used; the message names the setting and the remedy. Never sent over HTTP."""

    code = "configuration_error"


def to_record(error: DarkroomError, message: str | None = None) -> dict[str, Any]:
    """A refusal as it is kept with its generation; `message` in place of its own."""
    return {"code": error.code, "message": message or error.message, "charged": error.charged}


def from_record(record: Mapping[str, Any]) -> DarkroomError:
    """The refusal that was kept, for those who ask again."""
    charged: Charged = record.get("charged") or "unknown"
    kind = _RECORDED.get(record["code"], ProviderError)
    return kind(record["message"], charged=charged, should_retry=None if charged == "no" else False)


_RECORDED: dict[str, type[DarkroomError]] = {
    kind.code: kind
    for kind in (InvalidRequest, ProviderError, ProviderTimeout, ProviderUnavailable, LedgerUnavailable, Draining)
}
