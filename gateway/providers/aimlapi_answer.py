"""Read what AI/ML API answers: bytes and headers in, our words out. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from gateway.domain.answer import AnsweredImage, ProviderAnswer
from gateway.domain.outcome import Refused

_MICRO_USD_PER_USD = Decimal(1_000_000)
_MICRO_USD_PER_CREDIT = Decimal("0.5")  # $1 = 2,000,000 credits
_ABSURD_MICRO_USD = 10_000 * 10**6
_MAX_MESSAGE = 2_000
_MAX_TIMINGS = 4_096
_LONGEST_WAIT_S = 86_400.0


def read_answer(body: bytes, headers: Mapping[str, str]) -> ProviderAnswer:
    """A 200 in any of the shapes seen (images, images and data, data alone). `headers` by name in any case.

    Raises ValueError, with the reason, for what is not an answer with at least one image.
    """
    said = _decode(body)
    if not isinstance(said, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004  (bad input, not a bad call)
    return ProviderAnswer(
        images=_images(said),
        created=_whole(said.get("created")),
        seed=_whole(said.get("seed")),
        timings=_timings(said.get("timings")),
        nsfw=_flags(said.get("has_nsfw_concepts")),
        cost_micro_usd=_cost(said, headers),
        inference_id=headers.get("x-inference-id") or None,
    )


def read_refusal(status: int, headers: Mapping[str, str], body: bytes) -> Refused:
    """An answer of 400 and above. Never raises: any body will do, the provider's envelope says more."""
    try:
        said = _decode(body)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        return Refused(status, _snippet(body), enveloped=False, retry_after_s=_retry_after(headers))
    error = said["error"] if isinstance(said.get("error"), dict) else {}
    message = next((m for m in (said.get("message"), error.get("message")) if isinstance(m, str) and m), None)
    numbered = _whole(said.get("statusCode")) is not None or _whole(said.get("status")) is not None
    enveloped = message is not None and (numbered or isinstance(error.get("message"), str))
    issues = _issues(error.get("data"))
    full = f"{message.rstrip('.:')}: {issues}" if message and issues else message or _snippet(body)
    return Refused(
        status,
        full[:_MAX_MESSAGE],
        enveloped=enveloped,
        retry_after_s=_retry_after(headers),
        out_of_credits=_out_of_credits(error.get("data")),
    )


def _decode(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)  # keeps integers exact at any size: a seed never passes through a float
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, ValueError) as exc:
        raise ValueError(f"it is not JSON ({exc})") from exc


def _images(said: dict[str, Any]) -> tuple[AnsweredImage, ...]:
    items = said.get("images") or said.get("data")
    if not isinstance(items, list) or not items:
        raise ValueError("it names no images")
    return tuple(_image(item) for item in items)


def _image(item: Any) -> AnsweredImage:
    if not isinstance(item, dict):
        raise ValueError("an image in it is not an object")  # noqa: TRY004
    url, b64 = item.get("url"), item.get("b64_json")
    if isinstance(b64, str) and b64:  # bytes at hand beat an address that may be dead
        return AnsweredImage(b64=b64)
    if isinstance(url, str) and url:
        return AnsweredImage(url=url)
    raise ValueError("an image in it has neither url nor b64_json")


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _flags(value: Any) -> tuple[bool, ...] | None:
    if not isinstance(value, list) or not all(isinstance(flag, bool) for flag in value):
        return None
    return tuple(value)


def _cost(said: dict[str, Any], headers: Mapping[str, str]) -> int | None:
    """The first statement of the charge that makes sense; a nonsensical one counts as not said."""
    meta = said.get("meta")
    usage = meta.get("usage") if isinstance(meta, dict) else None
    usage = usage if isinstance(usage, dict) else {}
    statements = (
        (usage.get("usd_spent"), _MICRO_USD_PER_USD),
        (usage.get("credits_used"), _MICRO_USD_PER_CREDIT),
        (headers.get("x-aimlapi-usd-spent"), _MICRO_USD_PER_USD),
        (headers.get("x-aimlapi-credits-used"), _MICRO_USD_PER_CREDIT),
    )
    return next((c for value, unit in statements if (c := _micro_usd(value, unit)) is not None), None)


def _micro_usd(value: Any, unit: Decimal) -> int | None:
    """`value` times `unit`, rounded up to whole micro-dollars. None for nonsense."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    if not amount.is_finite() or not 0 <= amount <= _ABSURD_MICRO_USD / unit:
        return None
    return int((amount * unit).to_integral_value(ROUND_CEILING))


def _timings(value: Any) -> dict[str, Any] | None:
    """A few numbers; what is larger is not kept, since every stored answer would carry it."""
    if not isinstance(value, dict) or len(msgspec.json.encode(value)) > _MAX_TIMINGS:
        return None
    return value


def _out_of_credits(data: Any) -> bool:
    """By the kind that the provider names, in its spelling or the right one."""
    return isinstance(data, dict) and data.get("kind") in ("err_insufficent_credits", "err_insufficient_credits")


def _issues(data: Any) -> str:
    """`seed: Number must be greater than or equal to 1; prompt: Required`, or nothing."""
    issues = [issue for issue in data if isinstance(issue, dict)] if isinstance(data, list) else []
    return "; ".join(filter(None, map(_issue, issues)))


def _issue(issue: dict[str, Any]) -> str:
    path = issue.get("path")
    where = ".".join(map(str, path)) if isinstance(path, list) else str(path or "")
    what = str(issue.get("message") or issue.get("code") or "")
    return f"{where}: {what}" if where and what else where or what


def _snippet(body: bytes) -> str:
    return " ".join(body[:800].decode("utf-8", "replace").split())[:200] or "an empty body"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, a day at most. A date (RFC 9110, 10.2.3) is measured against the answer's own `Date`, not a clock."""
    said = headers.get("retry-after", "").strip()
    if said.isascii() and said.isdigit():
        return min(float(said), _LONGEST_WAIT_S)
    until, now = _date(said), _date(headers.get("date", ""))
    return min(max(0.0, (until - now).total_seconds()), _LONGEST_WAIT_S) if until and now else None


def _date(said: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(said)
    except (ValueError, OverflowError):  # a year of thirty digits
        return None
    return date if date.tzinfo else None
