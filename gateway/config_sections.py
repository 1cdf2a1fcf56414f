"""The sections of the settings: what each may say, and what it means. `config.py` puts them together."""

from __future__ import annotations

import base64
import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from gateway.domain.limits import Metric, Window, check_alerts, check_window, parse_amount
from gateway.domain.pricing import parse_price
from gateway.errors import ConfigurationError

_KEY_BYTES = 32
_HEADER_TOKEN = re.compile(r"[!-~]+")


def _number_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Amount = Annotated[
    str, BeforeValidator(_number_as_text), WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}]})
]
"""Kept as text, so that 0.065 dollars stay what was written; in YAML it may stand with or without quotes."""


def web_address(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("start it with http:// or https://")
    return value.rstrip("/")


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _may_be_empty(cls, value: Any) -> Any:
        """A section whose lines are all commented out is null in YAML."""
        return {} if value is None else value


class ServerSettings(Section):
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(8080, ge=0, le=65535)
    """Port to listen on."""
    workers: int = Field(1, ge=1, le=128)
    """Processes that share the port. More than one needs PostgreSQL (database_url) and Redis (redis_url)."""
    public_url: str | None = None
    """Base of image addresses, like https://images.example.com. null: the bind address; loopback only."""
    max_body_bytes: int = Field(65536, ge=1024)
    """Largest request body; a larger one gets 413."""
    drain_delay_s: float = Field(0, ge=0)
    """On SIGTERM: how long calls are still served as ever while /readyz says 503. As long as a load balancer takes to
    notice; 0 without one."""
    drain_s: float = Field(60, ge=0)
    """After that: how long open purchases may take to finish. What is left is resumed at the next start."""
    keep_alive_s: int = Field(75, ge=1)
    """How long an idle connection stays open."""
    head_timeout_s: float = Field(10, ge=0.1)
    """How long the request line and headers may take to come; then 408."""
    body_timeout_s: float = Field(30, ge=0.1)
    """How long a request's body may take to come; then 408."""
    max_connections_per_address: int | None = Field(None, ge=1)
    """Connections a client address may have open, or requests under way behind trusted proxies; more get 429. null: any
    number. An IPv6 address counts by its /64."""
    max_wait_s: float | None = Field(None, gt=0)
    """Longest that a call waits: then 503 still_generating, and its repeat goes on. null: as long as it takes."""
    trusted_proxies: list[str] = []
    """Addresses or networks whose X-Forwarded-For and X-Forwarded-Proto are believed."""
    cors_origins: list[str] = []
    """Origins of web pages that may call the API from a browser. ["*"]: any."""

    @field_validator("public_url")
    @classmethod
    def _public_url(cls, value: str | None) -> str | None:
        return None if value is None else web_address(value)

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        for text in value:
            ipaddress.ip_network(text, strict=False)  # raises ValueError, and says why
        return value

    @model_validator(mode="after")
    def _address_that_others_can_use(self) -> ServerSettings:
        if self.public_url is None and not is_loopback(self.host):
            raise ValueError(
                f"public_url is needed when host is {self.host}: image addresses must be ones that callers can reach"
            )
        return self

    @property
    def base_url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.public_url or f"http://{host}:{self.port}"


class DatabaseSettings(Section):
    """Of PostgreSQL alone: SQLite has one writer and needs none of it."""

    pool_size: int = Field(20, ge=2, le=1000)
    """Connections of one process. Processes x pool_size, and 5 more for commands, must fit the server's
    max_connections."""
    pool_wait_s: float = Field(30, gt=0)
    """How long a call may wait for a free connection of the pool; then 503 ledger_unavailable."""
    connect_timeout_s: float = Field(10, gt=0)
    """How long the server may take to accept a connection."""
    statement_timeout_s: float = Field(30, ge=1)
    """How long one statement may take. Migrations, backups and restores are not bound by it."""
    lock_timeout_s: float = Field(10, gt=0)
    """How long a statement may wait for a lock."""
    idle_in_transaction_timeout_s: float = Field(60, ge=1)
    """After how long without a statement the server ends a transaction, of a process that was frozen in it."""

    @model_validator(mode="after")
    def _locks_give_up_first(self) -> DatabaseSettings:
        if self.lock_timeout_s >= self.statement_timeout_s:
            raise ValueError("lock_timeout_s must be shorter than statement_timeout_s: a wait for a lock is part of it")
        return self


class ImageStoreSettings(Section):
    kind: Literal["local", "s3"] = "local"
    """Where the bytes of pictures live. local: files on this machine. s3: a bucket of S3, or of a store like it."""
    path: Path | None = None
    """Of kind local: folder of the files. null: images/ in data_dir. With less than 64 MiB free in it nothing is
    bought."""
    bucket: str | None = None
    """Of kind s3: the bucket, which must exist."""
    prefix: str = ""
    """Of kind s3: what the names of the objects begin with, like darkroom/images."""
    endpoint_url: str | None = None
    """Of kind s3: where the store is. null: AWS."""
    region: str | None = None
    """Of kind s3: where the bucket is. null: AWS_REGION, else us-east-1."""
    access_key_id: SecretStr | None = None
    """Of kind s3. null: the usual AWS environment: AWS_ACCESS_KEY_ID, a web identity, or the role of the machine."""
    secret_access_key: SecretStr | None = None
    """Of kind s3: the secret of access_key_id."""
    serve: Literal["stream", "redirect"] = "stream"
    """Of kind s3. stream: pictures go through the gateway. redirect: their addresses lead on to ones of the bucket that
    are signed for 5 minutes."""

    @field_validator("endpoint_url")
    @classmethod
    def _endpoint_url(cls, value: str | None) -> str | None:
        return None if value is None else web_address(value)

    @field_validator("prefix")
    @classmethod
    def _prefix(cls, value: str) -> str:
        if any(part in {".", ".."} for part in value.split("/")):
            raise ValueError("write it like darkroom/images")
        return value.strip("/")

    @model_validator(mode="after")
    def _of_one_kind(self) -> ImageStoreSettings:
        if self.kind == "s3" and not self.bucket:
            raise ValueError("kind: s3 needs a bucket: name one that exists, like bucket: darkroom-images")
        alien = {"path"} if self.kind == "s3" else set(type(self).model_fields) - {"kind", "path"}
        named = sorted(name for name in alien if getattr(self, name) != type(self).model_fields[name].default)
        if named:
            other = "local" if self.kind == "s3" else "s3"
            raise ValueError(f"{', '.join(named)} can't stand here: of kind: {other}, and this is kind: {self.kind}")
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key go together: give both, or neither")
        return self


class ImageUrlSettings(Section):
    expire_s: int | None = Field(None, ge=60)
    """Seconds after which an image address, signed then, expires. null: permanent and unguessable."""


class SecuritySettings(Section):
    admin_key: SecretStr | None = None
    """Key of the admin API. null: generated once, kept in data_dir/admin_key (mode 0600)."""
    secrets: list[SecretStr] = []
    """Pepper of key hashes, key of signatures: the first makes, all check. []: generated; SQLite only."""
    encryption_keys: list[SecretStr] = []
    """Seal provider keys added at run time and webhooks' secrets. 32 bytes in URL-safe base64; the first seals, all
    open. []: generated with SQLite, else none can be added."""

    @field_validator("admin_key")
    @classmethod
    def _long_admin_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < 16:
            raise ValueError("use at least 16 characters")
        return value

    @field_validator("secrets")
    @classmethod
    def _long_secrets(cls, value: list[SecretStr]) -> list[SecretStr]:
        if any(len(secret.get_secret_value()) < 32 for secret in value):
            raise ValueError("use at least 32 characters for each; `openssl rand -hex 32` makes one")
        return value

    @field_validator("encryption_keys")
    @classmethod
    def _of_32_bytes(cls, value: list[SecretStr]) -> list[SecretStr]:
        for key in value:
            try:
                size = len(base64.b64decode(padded(key.get_secret_value()), altchars=b"-_", validate=True))
            except ValueError:
                size = 0
            if size != _KEY_BYTES:
                raise ValueError(
                    "each is 32 bytes in URL-safe base64; `openssl rand -base64 32 | tr '+/' '-_'` makes one"
                )
        return value


def padded(text: str) -> str:
    """Base64 as its decoder wants it, whether or not its padding was written."""
    return text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4)


class CacheSettings(Section):
    scope: Literal["global", "team", "user"] = "global"
    """Who shares an entry: everyone, a team, or only the user. A user without a team is its own."""
    ttl_s: int | None = Field(None, ge=1)
    """How long an entry may answer. null: for ever (a seed pins the picture for a version of the model)."""
    memory_mb: int = Field(64, ge=1)
    """Memory for answers held in front of SQL."""


class PrivacySettings(Section):
    store_prompts: Literal["full", "hash", "none"] = "full"
    """What the database keeps of a prompt: all of it, a keyed hash, or nothing. The cache works the same."""


class RetentionSettings(Section):
    images_days: int | None = Field(None, ge=1)
    """Pictures older than this go, and their cache entries with them. null: kept."""
    requests_days: int | None = Field(None, ge=1)
    """Usage rows, kept prompts and deliveries to webhooks older than this go; hourly totals stay. null: kept."""
    thumbnails_mb: int = Field(512, ge=1)
    """Room for thumbnails in data_dir/thumbnails: beyond it those go that were not looked at for longest."""


class ProviderKeySettings(Section):
    value: SecretStr
    """The credential."""
    weight: int = Field(1, ge=1)
    """Share of the calls beside the provider's other keys."""
    max_concurrency: int = Field(64, ge=1)
    """Calls at once with this key; more wait."""

    @field_validator("value")
    @classmethod
    def _present(cls, value: SecretStr) -> SecretStr:
        """As a header can carry it: a file that it is read from often ends in a line break."""
        key = value.get_secret_value().strip()
        if not key:
            raise ValueError("the key is empty")
        if not _HEADER_TOKEN.fullmatch(key):
            raise ValueError("the key has characters that no header can carry: it is printable ASCII without spaces")
        return SecretStr(key)


class AimlapiSettings(Section):
    name: str = "aimlapi"
    kind: Literal["aimlapi"] = "aimlapi"
    base_url: str = "https://api.aimlapi.com"
    """Where the API is."""
    image_hosts: list[str] = ["cdn.aimlapi.com"]
    """Hosts (host or host:port) that result images may be fetched from; loopback only if listed."""
    api_keys: list[ProviderKeySettings] = []
    """The company's keys of the provider."""
    timeout_s: float = Field(180, gt=0)
    """Longest wait for a picture. Past it the outcome is unknown and is held, not repeated."""
    books_lag_s: float = Field(900, ge=0)
    """How long after that the provider's logs may miss a call: only then does its absence prove it was not bought."""

    @field_validator("base_url")
    @classmethod
    def _base_url(cls, value: str) -> str:
        return web_address(value)

    @field_validator("image_hosts")
    @classmethod
    def _bare_hosts(cls, value: list[str]) -> list[str]:
        for host in value:
            if not host or "/" in host:
                raise ValueError(f"{host!r} is not a host: write it like cdn.example.com, or with :port")
        return value


class SandboxSettings(Section):
    name: str = "sandbox"
    kind: Literal["sandbox"] = "sandbox"
    delay_s: float = Field(1.0, ge=0, le=600)
    """How long a test picture takes."""


ProviderSettings = Annotated[AimlapiSettings | SandboxSettings, Field(discriminator="kind")]


class ModelSettings(Section):
    name: str
    """The public name: what callers send as `model`."""
    catalog: str | None = None
    """The catalogue's entry that it serves. null: the one of the same name."""
    provider: str | None = None
    """Name of the provider that serves it. null: the catalogue's."""
    price: dict[str, Amount] | None = None
    """{per_image_usd: "0.065"} or {per_megapixel_usd: "0.05"}. null: the catalogue's."""
    version: str | None = None
    """Version of the model: a part of every cache key. Change it when the provider changes the model."""

    @model_validator(mode="after")
    def _price(self) -> ModelSettings:
        if self.price is not None:
            try:
                parse_price(self.price, model=self.name)
            except ConfigurationError as exc:
                raise ValueError(exc.message.removeprefix("models: ")) from None
        return self


class LimitSettings(Section):
    metric: Metric
    window: Window = Window.NONE
    amount: Amount
    """Dollars for cost_usd, else a whole number."""
    alert_at: list[int] = []
    """Shares of it in percent, ascending, like [80, 100]: webhooks are told when they are used. []: none is."""

    @model_validator(mode="after")
    def _valid(self) -> LimitSettings:
        check_window(self.metric, self.window)
        check_alerts(self.metric, self.window, self.alert_at)
        parse_amount(self.metric, self.amount)
        return self


class DefaultLimits(Section):
    user: list[LimitSettings] = []
    """Of every user; a user's own limit replaces the default of the same metric and window."""

    @field_validator("user")
    @classmethod
    def _one_of_a_kind(cls, value: list[LimitSettings]) -> list[LimitSettings]:
        seen: dict[tuple[Metric, Window], int] = {}
        for number, limit in enumerate(value):
            first = seen.setdefault((limit.metric, limit.window), number)
            if first != number:
                kind = f"{limit.metric} {limit.window}".strip()
                amounts = f"{value[first].amount} and {limit.amount}"
                raise ValueError(f"{first} and {number} both limit {kind}, to {amounts}: keep one of them")
        return value
