"""Callers of every kind, who never stop asking, and a provider that fails now and then."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import httpx

from gateway.demo.provider import FakeProvider
from tests.support.gateway import Gateway

SEED = int(os.environ.get("SOAK_SEED", "0")) or random.SystemRandom().randint(1, 10**9)
_CALLERS = 16
_SMALL = {"width": 256, "height": 256}
_FAULTS: list[dict[str, Any]] = [
    {"answer_fault": "reset_after_charge"},
    {"answer_fault": "truncated_json"},
    {"image_fault": "missing"},
    {"image_fault": "truncated"},
    {"refuse_status": 500},
    {"refuse_status": 400},
    {"state_cost": False},
    {"price_usd": "0.08"},
]


def impatient_provider(keys: Sequence[str]) -> dict[str, Any]:
    """Settings of a provider that is given up soon, and whose books are believed soon."""
    api_keys = [{"value": key, "max_concurrency": 1000} for key in keys]
    return {"timeout_s": 5, "books_lag_s": 1, "api_keys": api_keys}


class MixedLoad:
    """`answered`: the request ids of calls that were answered with 200 or 202, which the usage log must have."""

    def __init__(self, gateway: Gateway, fake: FakeProvider, keys: list[str], *, seed: int) -> None:
        self._gateway = gateway
        self._fake = fake
        self._keys = keys
        self._chance = random.Random(seed)
        self.answered: set[str] = set()
        self.outcomes: Counter[str] = Counter()
        self.progress = asyncio.Event()

    async def run(self) -> None:
        await asyncio.gather(self._mischief(), *(self._caller() for _ in range(_CALLERS)))

    async def _mischief(self) -> None:
        """One call in eight meets something."""
        while True:
            while len(self._fake.script) < 20:
                fault = self._chance.choice(_FAULTS) if self._chance.random() < 1 / 8 else {}
                self._fake.script.append(fault)
            await asyncio.sleep(0.05)

    async def _caller(self) -> None:
        while True:
            try:
                await self._ask()
            except (httpx.HTTPError, OSError):
                await asyncio.sleep(0.02)  # the gateway is down: come back

    async def _ask(self) -> None:
        chance = self._chance
        seed = chance.choice([chance.randint(1, 60), chance.randint(1, 10**9), None])
        body: dict[str, Any] = {"seed": seed, "image_size": _SMALL, "prompt": f"Wish {chance.randint(1, 5)}"}
        if chance.random() < 0.1:
            body["response_format"] = "b64_json"
        key, kind = chance.choice(self._keys), chance.random()
        if kind < 0.15:
            await self._insist(key, body)
        elif kind < 0.3:
            await self._leave(key, body)
        elif kind < 0.4:
            prefer = chance.choice(["wait=0", "respond-async"])
            self._note(await self._gateway.generate(key, headers={"Prefer": prefer}, **body))
        else:
            self._note(await self._gateway.generate(key, **body))

    async def _insist(self, key: str, body: dict[str, Any]) -> None:
        """With an Idempotency-Key, again after each broken connection: as a careful client does."""
        headers = {"Idempotency-Key": f"order-{self._chance.randint(1, 10**12)}"}
        while True:
            try:
                self._note(await self._gateway.generate(key, headers=headers, **body))
            except (httpx.HTTPError, OSError):
                await asyncio.sleep(0.05)
            else:
                return

    async def _leave(self, key: str, body: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(self._chance.uniform(0, 0.2)):
                self._note(await self._gateway.generate(key, **body))
        except TimeoutError:
            self.outcomes["left"] += 1

    def _note(self, answer: httpx.Response) -> None:
        self.outcomes[str(answer.status_code)] += 1
        if answer.status_code in {200, 202}:
            self.answered.add(answer.headers["x-request-id"])
        self.progress.set()
