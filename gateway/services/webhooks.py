"""Webhooks: who is told of alerts. Each change is one transaction with its row in the audit log.

A secret is shown once, stored encrypted, and used for signatures alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa

from gateway.domain.ids import new_id
from gateway.domain.webhook import check_url, masked, new_secret
from gateway.errors import InvalidRequest
from gateway.storage import audit, webhooks
from gateway.storage.audit import Act
from gateway.storage.database import Database, now_ms
from gateway.storage.sealing import Sealer
from gateway.storage.webhooks import Webhook, place_of

T = TypeVar("T")


class NewWebhook(NamedTuple):
    """A webhook and its secret, which is known only now."""

    webhook: Webhook
    secret: str


class Webhooks:
    """`sealer` None: there is no encrypting key, so none can be stored."""

    def __init__(self, database: Database, sealer: Sealer | None) -> None:
        self._database = database
        self._sealer = sealer

    async def create(self, name: str, url: str, *, actor: str) -> NewWebhook:
        """Raises InvalidRequest for an address that can't be posted to, and when no secret can be stored."""
        check_url(url)
        webhook_id, secret = new_id("hook"), new_secret()
        sealed = self._seal(webhook_id, secret)

        def work(conn: sa.Connection) -> Webhook:
            webhook = Webhook(id=webhook_id, name=name, url=url, secret=sealed, created_ms=now_ms(conn))
            webhooks.insert(conn, webhook)
            return webhook

        made = await self._write(work, _act(actor, "create", webhook_id, {"name": name, "url": url}))
        return NewWebhook(made, secret)

    async def list(self) -> list[Webhook]:
        return await self._database.read(webhooks.every)

    async def get(self, webhook_id: str) -> Webhook:
        """Raises NotFound."""
        return await self._database.read(lambda conn: webhooks.require(conn, webhook_id))

    async def update(self, webhook_id: str, values: Mapping[str, Any], *, actor: str) -> Webhook:
        """`values`: any of name, url, disabled (true or false). Raises NotFound and InvalidRequest."""
        if "url" in values:
            check_url(values["url"])

        def work(conn: sa.Connection) -> Webhook:
            changed = dict(values)
            if "disabled" in changed:
                changed["disabled_ms"] = now_ms(conn) if changed.pop("disabled") else None
            return webhooks.update(conn, webhook_id, changed)

        return await self._write(work, _act(actor, "update", webhook_id, values))

    async def rotate(self, webhook_id: str, *, actor: str) -> NewWebhook:
        """A new secret; the old one signs nothing from now on. Raises NotFound."""
        secret = new_secret()
        values = {"secret": self._seal(webhook_id, secret)}
        made = await self._write(
            lambda conn: webhooks.update(conn, webhook_id, values), _act(actor, "rotate", webhook_id)
        )
        return NewWebhook(made, secret)

    async def delete(self, webhook_id: str, *, actor: str) -> None:
        """The log of its deliveries stays. Raises NotFound."""
        act = _act(actor, "delete", webhook_id)
        await self._write(lambda conn: webhooks.delete(conn, webhook_id), act)

    async def reencrypt(self, *, actor: str) -> int:
        """Seal with the first key what an older one sealed. Safe to repeat. Returns how many."""
        sealer = self._require_sealer()
        stale = [webhook for webhook in await self.list() if not sealer.is_current(webhook.secret)]
        for webhook in stale:
            values = {"secret": self._seal(webhook.id, self.secret_of(webhook))}
            await self._write(_updating(webhook.id, values), _act(actor, "reencrypt", webhook.id))
        return len(stale)

    def secret_of(self, webhook: Webhook) -> str:
        """Raises ConfigurationError when it can't be opened."""
        return self._require_sealer().open(webhook.secret, place=place_of(webhook.id))

    def _seal(self, webhook_id: str, secret: str) -> str:
        return self._require_sealer().seal(secret, place=place_of(webhook_id))

    def _require_sealer(self) -> Sealer:
        if self._sealer is None:
            raise InvalidRequest(
                "The secrets of webhooks are stored encrypted: set security.encryption_keys (32 bytes in URL-safe "
                "base64) first."
            )
        return self._sealer

    async def _write(self, work: Callable[[sa.Connection], T], act: Act) -> T:
        def audited(conn: sa.Connection) -> T:
            result = work(conn)
            audit.record(conn, act)
            return result

        return await self._database.write(audited)


def _act(actor: str, action: str, webhook_id: str, detail: Mapping[str, Any] = {}) -> Act:
    """More people see the audit log than may see an address."""
    told = {name: masked(value) if name == "url" else value for name, value in detail.items()}
    return Act(actor, action, "webhook", webhook_id, told or None)


def _updating(webhook_id: str, values: Mapping[str, Any]) -> Callable[[sa.Connection], Webhook]:
    return lambda conn: webhooks.update(conn, webhook_id, values)
