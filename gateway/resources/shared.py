"""What replicas share beside SQL: limits of requests, answers, notices. By Redis, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from gateway.config import Settings
from gateway.storage.notices import NoNotices, Notices
from gateway.storage.rate_limits import CountCalls, MemoryRateLimits, RateLimits
from gateway.storage.shared_answers import NothingShared, SharedAnswers
from gateway.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Shared:
    """`set_share` is told how many processes there are, for where they can't ask each other."""

    rates: RateLimits
    answers: SharedAnswers
    notices: Notices
    set_share: Callable[[int], None]


async def open_shared(
    settings: Settings,
    metrics: Metrics,
    count_calls: CountCalls,
    background: Callable[[Coroutine[Any, Any, None]], None],
) -> Shared:
    """With `redis_url` over Redis, which need not be there yet; `background` keeps what runs for ever."""
    local = MemoryRateLimits(count_calls)

    def set_share(processes: int) -> None:
        local.share = processes

    if settings.redis_url is None:
        return Shared(local, NothingShared(), NoNotices(), set_share)
    # redis-py takes a tenth of a start, which a process that has no use for it need not pay
    from gateway.storage.notices_redis import RedisNotices  # noqa: PLC0415
    from gateway.storage.rate_limits_redis import RedisRateLimits  # noqa: PLC0415
    from gateway.storage.redis_pipe import RedisPipe  # noqa: PLC0415
    from gateway.storage.shared_answers_redis import RedisAnswers  # noqa: PLC0415

    url = settings.redis_url.get_secret_value()
    pipe = RedisPipe(url, timeout_s=settings.redis_timeout_s)
    metrics.follow_redis(lambda: pipe.up)
    background(pipe.run())
    await pipe.first_try()
    return Shared(RedisRateLimits(pipe, local, count_calls), RedisAnswers(pipe), RedisNotices(pipe, url), set_share)
