"""The balance behind each provider key: shown as a gauge, and the end of a lack of credits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from gateway.domain.pricing import MICRO_PER_USD
from gateway.providers.base import BooksUnavailable, ProviderKey
from gateway.services.buying import Vendor
from gateway.telemetry.metrics import Metrics

_log = structlog.get_logger(__name__)


class BalanceWatch:
    """One a process. One account may stand behind several keys: each is asked for, since each may be of another."""

    def __init__(
        self,
        vendors: Mapping[str, Vendor],
        metrics: Metrics,
        *,
        interval_s: float = 60.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._vendors = vendors
        self._gauge = metrics.provider_balance_usd
        self._interval_s = interval_s
        self._sleep = sleep
        self._said: dict[tuple[str, str], str] = {}

    async def run(self) -> None:
        """For ever; what fails is asked again."""
        while True:
            await self.look()
            await self._sleep(self._interval_s)

    async def look(self) -> None:
        """One round over all keys."""
        keys = {(name, key.id): key for name, vendor in self._vendors.items() for key in vendor.pool.all_keys()}
        for place in self._said.keys() - keys.keys():
            self._gauge.remove(*place)
            del self._said[place]
        for (name, _), key in keys.items():
            await self._look_at(name, key)

    async def _look_at(self, name: str, key: ProviderKey) -> None:
        vendor = self._vendors[name]
        try:
            balance = await vendor.provider.balance(key)
            if balance is not None:
                self._note(name, key, balance)
        except BooksUnavailable as exc:
            self._fail(name, key, str(exc))
        except Exception as exc:  # noqa: BLE001  (whatever it was, the next key is owed its turn)
            self._fail(name, key, type(exc).__name__)

    def _note(self, name: str, key: ProviderKey, balance_micro_usd: int) -> None:
        pool = self._vendors[name].pool
        balance_usd = balance_micro_usd / MICRO_PER_USD
        self._gauge.labels(name, key.id).set(balance_usd)
        if balance_micro_usd > 0 and key in pool.waiting_for_credits():
            pool.credits_back(key.id)
        if self._is_news(name, key, "left" if balance_micro_usd > 0 else "spent"):
            say = _log.info if balance_micro_usd > 0 else _log.warning
            say("provider_balance", provider=name, key_id=key.id, balance_usd=balance_usd)

    def _fail(self, name: str, key: ProviderKey, reason: str) -> None:
        self._gauge.remove(name, key.id)  # an old figure would look like a present one
        if self._is_news(name, key, "unavailable"):
            _log.warning("provider_balance_unavailable", provider=name, key_id=key.id, reason=reason)

    def _is_news(self, name: str, key: ProviderKey, state: str) -> bool:
        before, self._said[name, key.id] = self._said.get((name, key.id)), state
        return before != state
