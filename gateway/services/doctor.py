"""The doctor: is everything there that the gateway needs, and are the books in order. Changes nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gateway.domain.pricing import usd
from gateway.errors import DarkroomError, StorageFailed, reason_of
from gateway.providers.base import BooksUnavailable
from gateway.services.buying import Vendor
from gateway.services.provider_keys import ProviderKeys
from gateway.storage import invariants, usage_partitions
from gateway.storage.database import Database
from gateway.storage.images import ImageStore
from gateway.storage.migrations import require_known_schema

_PICTURES = 1000


@dataclass(frozen=True, slots=True)
class Check:
    """`said`: what was found, and for what is not ok what to do about it."""

    name: str
    status: Literal["ok", "warning", "failed"]
    said: str


class Doctor:
    def __init__(
        self,
        database: Database,
        images: ImageStore,
        vendors: Mapping[str, Vendor],
        keys: ProviderKeys,
        *,
        data_dir: Path,
    ) -> None:
        self._database = database
        self._images = images
        self._vendors = vendors
        self._keys = keys
        self._data_dir = data_dir

    async def examine(self) -> list[Check]:
        """Every check, the first ones those that the others rest on."""
        checks = [await self._guarded("database", self._database_is_there)]
        checks.append(await self._guarded("image store", self._images_can_be_written))
        checks.append(self._data_dir_can_be_written())
        if checks[0].status == "ok":
            checks.append(await self._guarded("provider keys", self._keys_can_be_opened))
        for name, vendor in self._vendors.items():
            if vendor.provider.kind != "sandbox":
                checks += await self._provider(name, vendor)
        if checks[0].status == "ok":
            checks += await self._books()
        return checks

    async def _guarded(self, name: str, look: Callable[[], Awaitable[Check]]) -> Check:
        try:
            return await look()
        except DarkroomError as exc:
            cause = f" ({reason_of(exc)})" if exc.__cause__ is not None else ""
            return Check(name, "failed", f"{exc.message}{cause}")

    async def _database_is_there(self) -> Check:
        if await require_known_schema(self._database):
            return Check("database", "ok", "reachable, at a schema that this version can use")
        return Check("database", "failed", "not at this version's schema: run `darkroom migrate`")

    async def _images_can_be_written(self) -> Check:
        try:
            await self._images.check()
        except StorageFailed as exc:
            return Check("image store", "failed", f"{self._images.place}: {exc.message}")
        return Check("image store", "ok", f"{self._images.place} takes pictures")

    async def _keys_can_be_opened(self) -> Check:
        await self._keys.load()
        return Check("provider keys", "ok", "those added at run time can be opened")

    def _data_dir_can_be_written(self) -> Check:
        probe = self._data_dir / ".doctor"
        try:
            probe.write_bytes(b"\0" * 4096)
            probe.unlink()
        except OSError as exc:
            return Check("data_dir", "failed", f"{self._data_dir} can't be written: {exc.strerror}")
        return Check("data_dir", "ok", f"{self._data_dir} can be written")

    async def _provider(self, name: str, vendor: Vendor) -> list[Check]:
        keys = vendor.pool.all_keys()
        if not keys:
            said = "has no key, so live calls get 503: set AIMLAPI_API_KEY, or `darkroom provider-key create`"
            return [Check(f"provider {name}", "warning", said)]
        checks = []
        for key in keys:
            try:
                balance = await vendor.provider.balance(key)
            except BooksUnavailable as exc:
                checks.append(Check(f"provider {name}, key {key.id}", "failed", f"its balance can't be read: {exc}"))
                continue
            said = "reachable" if balance is None else f"reachable, balance ${usd(balance)}"
            empty = balance is not None and balance <= 0
            advice = ": top it up, or calls get 503" if empty else ""
            checks.append(Check(f"provider {name}, key {key.id}", "warning" if empty else "ok", f"{said}{advice}"))
        return checks

    async def _books(self) -> list[Check]:
        found = await self._database.read(invariants.examine)
        checks = [
            Check(finding.rule, "failed", f"{finding.count} break it: {', '.join(finding.wrong)}")
            if finding.count
            else Check(finding.rule, "ok", "holds")
            for finding in found
        ]
        months = await self._guarded("usage log", self._months_are_there)
        return [*checks, months, await self._guarded("pictures", self._pictures_are_there)]

    async def _months_are_there(self) -> Check:
        faults = await self._database.read(usage_partitions.faults)
        if not faults:
            return Check("usage log", "ok", "has a place for this month and the next")
        said = "; ".join(faults)
        advice = "a running gateway makes months within 10 minutes; far rows are of a machine whose clock is wrong"
        return Check("usage log", "warning", f"{said}: nothing is lost, but retention takes longer ({advice})")

    async def _pictures_are_there(self) -> Check:
        wanted = await self._database.read(lambda conn: invariants.pictures_to_find(conn, limit=_PICTURES))
        gone = [sha256 for sha256 in wanted if not await self._images.contains(sha256)]
        if gone:
            said = f"{len(gone)} of the newest {len(wanted)} have no bytes: {', '.join(gone[:3])}"
            return Check("pictures", "failed", said)
        return Check("pictures", "ok", f"the bytes of the newest {len(wanted)} are there")
