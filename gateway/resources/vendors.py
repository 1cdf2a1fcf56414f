"""Providers with their keys, as configured."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping

from gateway.config import Settings
from gateway.config_sections import AimlapiSettings, SandboxSettings, padded
from gateway.domain.api_key import Mode
from gateway.domain.model import Model
from gateway.providers.aimlapi import AimlapiProvider
from gateway.providers.base import Provider, ProviderKey
from gateway.providers.key_pool import KeyPool, PooledKey
from gateway.providers.sandbox import SandboxProvider
from gateway.services.buying import Vendor
from gateway.storage.data_dir import kept_secret
from gateway.storage.sealing import Sealer

_SANDBOX_CONCURRENCY = 10_000


def open_vendors(settings: Settings) -> dict[str, Vendor]:
    """By name. There is always a sandbox, for test keys. Whoever opens them closes their providers."""
    chosen = list(settings.providers)
    if not any(isinstance(provider, SandboxSettings) for provider in chosen):
        chosen.append(SandboxSettings())
    return {each.name: _vendor(each) for each in chosen}


def _vendor(settings: AimlapiSettings | SandboxSettings) -> Vendor:
    if isinstance(settings, SandboxSettings):
        sandbox = SandboxProvider(settings.name, delay_s=settings.delay_s)
        key = PooledKey(ProviderKey(settings.name, ""), 1, _SANDBOX_CONCURRENCY)
        return Vendor(sandbox, KeyPool(settings.name, [key], follows_health=False), timeout_s=settings.delay_s + 60)
    provider: Provider = AimlapiProvider(
        settings.name,
        base_url=settings.base_url,
        image_hosts=settings.image_hosts,
        timeout_s=settings.timeout_s,
        connect_timeout_s=min(10.0, settings.timeout_s / 2),
    )
    keys = [
        PooledKey(_provider_key(settings.name, key.value.get_secret_value()), key.weight, key.max_concurrency)
        for key in settings.api_keys
    ]
    return Vendor(provider, KeyPool(settings.name, keys), settings.timeout_s, settings.books_lag_s, keys)


def _provider_key(provider: str, secret: str) -> ProviderKey:
    """Its public id is a hash of it: the same after a restart and on every replica, and it tells nothing."""
    return ProviderKey(f"{provider}-{hashlib.sha256(secret.encode()).hexdigest()[:8]}", secret)


def open_sealer(settings: Settings) -> Sealer | None:
    """Of provider keys added at run time; None with a shared database and no key for it."""
    keys = [key.get_secret_value() for key in settings.security.encryption_keys]
    if not keys and (settings.database_url is None or settings.database_url.startswith("sqlite")):
        keys = [kept_secret(settings.data_dir, "encryption_key")]
    return Sealer([urlsafe_b64decode(padded(key)) for key in keys]) if keys else None


def provider_of(vendors: Mapping[str, Vendor]) -> Callable[[Mode, Model], tuple[str, str]]:
    sandbox = next(name for name, vendor in vendors.items() if vendor.provider.kind == "sandbox")

    def chosen(mode: Mode, model: Model) -> tuple[str, str]:
        name = sandbox if mode is Mode.TEST else model.provider
        return name, vendors[name].provider.kind

    return chosen
