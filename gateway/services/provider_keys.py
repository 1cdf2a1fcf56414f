"""The keys of each provider: those of the configuration, and those added at run time, in one pool.

Each change is one transaction with its row in the audit log and in `changes`; this process's pool follows at once,
every other's within seconds. A secret goes in and is never shown again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import sqlalchemy as sa
import structlog

from gateway.domain.ids import new_id
from gateway.domain.key_health import KeyStatus
from gateway.errors import Conflict, DarkroomError, InvalidRequest, LedgerUnavailable, NotFound
from gateway.providers.base import ProviderKey
from gateway.providers.key_pool import KeyState, PooledKey
from gateway.services.buying import Vendor
from gateway.storage import audit, changes, provider_keys
from gateway.storage.audit import Act
from gateway.storage.database import Database, now_ms
from gateway.storage.provider_keys import StoredKey, place_of
from gateway.storage.sealing import Sealer

_HINTED = 20
_RETRY_S = 2.0
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class KeyReport:
    """A key as administrators see it. `source`: "configuration" or "stored"."""

    id: str
    provider: str
    name: str | None
    hint: str
    source: str
    created_ms: int | None
    state: KeyState


class ProviderKeys:
    """`sealer` None: there is no encrypting key, so none can be stored."""

    def __init__(
        self,
        database: Database,
        vendors: Mapping[str, Vendor],
        sealer: Sealer | None,
        *,
        notify: Callable[[str, str], None],
    ) -> None:
        self._database = database
        self._vendors = vendors
        self._sealer = sealer
        self._notify = notify
        self._stored: dict[str, StoredKey] = {}
        self._reloading: asyncio.Task[None] | None = None
        self._stale = False

    async def load(self) -> None:
        """Read the stored keys and fill the pools. Raises ConfigurationError for one that can't be opened."""
        self._apply(await self._database.read(provider_keys.load))

    def on_change(self, kind: str, _object_id: str) -> None:
        """Heard from `changes`: read again in a task."""
        if kind == "provider_key":
            self.forget()

    def forget(self) -> None:
        self._stale = True
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.create_task(self._reload(), name="reload-provider-keys")

    async def _reload(self) -> None:
        while self._stale:
            self._stale = False
            try:
                await self.load()
            except LedgerUnavailable:
                self._stale = True
                await asyncio.sleep(_RETRY_S)
            except DarkroomError as exc:
                _log.error("provider_keys_not_loaded", reason=exc.message)

    async def stop(self) -> None:
        if self._reloading is not None:
            self._reloading.cancel()
            await asyncio.gather(self._reloading, return_exceptions=True)

    def providers(self) -> Sequence[tuple[str, str, Sequence[KeyState], int, int]]:
        """Name, kind, the states of the keys, how many of them are healthy, and the calls under way."""
        found = []
        for name, vendor in self._vendors.items():
            states = vendor.pool.states()
            healthy = sum(state.state is KeyStatus.HEALTHY for state in states)
            found.append((name, vendor.provider.kind, states, healthy, sum(state.busy for state in states)))
        return found

    def list(self, provider: str) -> list[KeyReport]:
        """Raises NotFound for a provider that is not there."""
        vendor = self._vendor(provider)
        if vendor.provider.kind == "sandbox":
            return []
        return [self._report(provider, state) for state in vendor.pool.states()]

    def get(self, provider: str, key_id: str) -> KeyReport:
        """Raises NotFound."""
        for report in self.list(provider):
            if report.id == key_id:
                return report
        raise NotFound(f"The provider {provider} has no key {key_id[:64]!r}.")

    async def create(
        self, provider: str, value: str, *, name: str | None, weight: int, max_concurrency: int, actor: str
    ) -> KeyReport:
        """Raises NotFound, Conflict for a secret that is there already, InvalidRequest when none can be stored."""
        self._takes_keys(provider)
        sealer = self._require_sealer()
        key_id = new_id("pkey")

        def work(conn: sa.Connection) -> None:
            self._check_new(conn, provider, value)
            key = StoredKey(
                id=key_id,
                provider=provider,
                name=name,
                secret=sealer.seal(value, place=place_of(key_id)),
                hint=_hint(value),
                weight=weight,
                max_concurrency=max_concurrency,
                created_ms=now_ms(conn),
                disabled_ms=None,
                deleted_ms=None,
            )
            provider_keys.insert(conn, key)

        await self._write(work, Act(actor, "create", "provider_key", key_id, {"provider": provider, "name": name}))
        return self.get(provider, key_id)

    async def update(self, provider: str, key_id: str, values: Mapping[str, Any], *, actor: str) -> KeyReport:
        """`values`: any of name, weight, max_concurrency, disabled, value (a new secret: the key is rotated).

        `disabled: False` also puts a key back to work that was ejected, cooling or resting. Raises NotFound, and
        Conflict for what only the configuration can change.
        """
        known = self.get(provider, key_id)
        others = values.keys() - {"disabled"}
        if known.source == "configuration" and others:
            raise Conflict(
                f"{key_id} is a key of the configuration: change {', '.join(sorted(others))} there "
                f"(providers[].api_keys). Here it can be disabled and enabled."
            )

        def work(conn: sa.Connection) -> None:
            if "value" in values:
                self._check_new(conn, provider, values["value"])
            if provider_keys.find(conn, key_id) is None:
                self._remember_configured(conn, known)
            provider_keys.update(conn, key_id, self._columns(conn, key_id, values))

        detail = {name: value for name, value in values.items() if name != "value"}
        verb = "rotate" if "value" in values else "update"
        await self._write(work, Act(actor, verb, "provider_key", key_id, detail))
        if values.get("disabled") is False:
            self._vendors[provider].pool.reinstate(key_id)
        return self.get(provider, key_id)

    async def delete(self, provider: str, key_id: str, *, actor: str) -> None:
        """Its calls under way finish. Raises NotFound, and Conflict for a key of the configuration."""
        if self.get(provider, key_id).source == "configuration":
            raise Conflict(f"{key_id} is a key of the configuration: take it out there, or disable it here.")
        await self._write(lambda conn: provider_keys.delete(conn, key_id), Act(actor, "delete", "provider_key", key_id))

    async def reencrypt(self, *, actor: str) -> int:
        """Seal with the first key what an older one sealed. Safe to repeat. Returns how many."""
        sealer = self._require_sealer()
        stale = [key for key in self._stored.values() if key.secret and not sealer.is_current(key.secret)]
        for key in stale:
            sealed = {"secret": sealer.seal(self._secret(key), place=place_of(key.id))}
            work = partial(provider_keys.update, key_id=key.id, values=sealed)
            await self._write(work, Act(actor, "reencrypt", "provider_key", key.id))
        return len(stale)

    async def _write(self, work: Callable[[sa.Connection], None], act: Act) -> None:
        def audited(conn: sa.Connection) -> None:
            work(conn)
            audit.record(conn, act)
            changes.record(conn, act.kind, act.object_id)

        await self._database.write(audited)
        await self.load()
        self._notify(act.kind, act.object_id)

    def _columns(self, conn: sa.Connection, key_id: str, values: Mapping[str, Any]) -> dict[str, Any]:
        columns = {name: values[name] for name in ("name", "weight", "max_concurrency") if name in values}
        if "disabled" in values:
            columns["disabled_ms"] = now_ms(conn) if values["disabled"] else None
        if "value" in values:
            sealed = self._require_sealer().seal(values["value"], place=place_of(key_id))
            columns |= {"secret": sealed, "hint": _hint(values["value"])}
        return columns

    @staticmethod
    def _remember_configured(conn: sa.Connection, known: KeyReport) -> None:
        row = StoredKey(
            id=known.id,
            provider=known.provider,
            name=None,
            secret=None,
            hint=known.hint,
            weight=1,
            max_concurrency=1,
            created_ms=now_ms(conn),
            disabled_ms=None,
            deleted_ms=None,
        )
        provider_keys.insert(conn, row)

    def _apply(self, stored: Sequence[StoredKey]) -> None:
        self._stored = {key.id: key for key in stored}
        for name, vendor in self._vendors.items():
            if vendor.provider.kind == "sandbox":
                continue
            configured = [self._as_said(pooled) for pooled in vendor.configured]
            added = [self._pooled(key) for key in stored if key.provider == name and key.secret is not None]
            vendor.pool.replace([*configured, *added])

    def _as_said(self, pooled: PooledKey) -> PooledKey:
        said = self._stored.get(pooled.key.id)
        return pooled if said is None else replace(pooled, disabled=said.disabled_ms is not None)

    def _pooled(self, key: StoredKey) -> PooledKey:
        provider_key = ProviderKey(key.id, self._secret(key))
        return PooledKey(provider_key, key.weight, key.max_concurrency, disabled=key.disabled_ms is not None)

    def _secret(self, key: StoredKey) -> str:
        return self._require_sealer().open(key.secret or "", place=place_of(key.id))

    def _report(self, provider: str, state: KeyState) -> KeyReport:
        stored = self._stored.get(state.id)
        if stored is not None and stored.secret is not None:
            return KeyReport(state.id, provider, stored.name, stored.hint, "stored", stored.created_ms, state)
        secrets = {pooled.key.id: pooled.key.secret for pooled in self._vendors[provider].configured}
        return KeyReport(state.id, provider, None, _hint(secrets[state.id]), "configuration", None, state)

    def _vendor(self, provider: str) -> Vendor:
        vendor = self._vendors.get(provider)
        if vendor is None:
            raise NotFound(f"There is no provider {provider[:64]!r}; there is: {', '.join(sorted(self._vendors))}.")
        return vendor

    def _takes_keys(self, provider: str) -> None:
        if self._vendor(provider).provider.kind == "sandbox":
            raise InvalidRequest(f"The provider {provider} draws by itself and takes no keys.")

    def _check_new(self, conn: sa.Connection, provider: str, value: str) -> None:
        """By what SQL holds, however many add the same at once."""
        provider_keys.lock(conn)
        there = [self._secret(key) for key in provider_keys.load(conn) if key.provider == provider and key.secret]
        if value in [*there, *(pooled.key.secret for pooled in self._vendors[provider].configured)]:
            raise Conflict(f"The provider {provider} has this key already.")

    def _require_sealer(self) -> Sealer:
        if self._sealer is None:
            raise InvalidRequest(
                "Provider keys are stored encrypted: set security.encryption_keys (32 bytes in URL-safe base64) first."
            )
        return self._sealer


def _hint(secret: str) -> str:
    """Its end, for people to tell keys apart by; nothing of a short one."""
    return f"...{secret[-4:]}" if len(secret) >= _HINTED else "..."
