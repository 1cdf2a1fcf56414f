"""Settings: a YAML file, then the environment over it (`DARKROOM__SERVER__PORT=9000`).

In the file `${NAME}` reads the environment and `${file:PATH}` a file; unset or empty is an error that names
the setting. An unknown key is an error that names its line. `load_settings` is the one way in.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin

import msgspec
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from gateway.config_file import ConfigFile, Location, read_config_file
from gateway.domain.limits import Metric, Window, check_window, parse_amount
from gateway.domain.pricing import parse_price
from gateway.errors import ConfigurationError

ENV_PREFIX = "DARKROOM__"


def _number_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Amount = Annotated[
    str, BeforeValidator(_number_as_text), WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}]})
]
"""Kept as text, so that 0.065 dollars stay what was written; in YAML it may stand with or without quotes."""


def _web_address(value: str) -> str:
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
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

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
    workers: Literal[1] = 1
    """Processes. More than one needs shared stores, which this version does not have yet."""
    public_url: str | None = None
    """Base of image addresses, like https://images.example.com. null: the bind address; loopback only."""
    max_body_bytes: int = Field(65536, ge=1024)
    """Largest request body; a larger one gets 413."""
    drain_s: float = Field(60, ge=0)
    """On SIGTERM: how long open purchases may take to finish. What is left is resumed at the next start."""
    keep_alive_s: int = Field(75, ge=1)
    """How long an idle connection stays open."""
    max_wait_s: None = None
    """Not in this version: leave it null. A call waits for its picture as long as the provider may take."""
    trusted_proxies: list[str] = []
    """Addresses or networks whose X-Forwarded-For and X-Forwarded-Proto are believed."""
    cors_origins: list[str] = []
    """Origins of web pages that may call the API from a browser. ["*"]: any."""

    @field_validator("public_url")
    @classmethod
    def _public_url(cls, value: str | None) -> str | None:
        return None if value is None else _web_address(value)

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


class ImageStoreSettings(Section):
    kind: Literal["local"] = "local"
    """Where the bytes of pictures live. local: files on this machine."""
    path: Path | None = None
    """Folder of the files. null: images/ in data_dir."""


class ImageUrlSettings(Section):
    expire_s: int | None = Field(None, ge=60)
    """Seconds after which an image address, signed then, expires. null: permanent and unguessable."""


class SecuritySettings(Section):
    admin_key: SecretStr | None = None
    """Key of the admin API. null: generated once, kept in data_dir/admin_key (mode 0600)."""
    secrets: list[SecretStr] = []
    """Pepper of key hashes, key of signatures: the first makes, all check. []: generated; SQLite only."""
    encryption_keys: list[SecretStr] = Field([], max_length=0)
    """Not in this version: leave it []. Provider keys live in the configuration, so none are stored."""

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
    """Rows of the usage log and kept prompts older than this go; hourly totals stay. null: kept."""


class LogSettings(Section):
    format: Literal["auto", "json", "console"] = "auto"
    """auto: for people on a terminal, JSON otherwise."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """debug also logs every hit."""


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
        if not value.get_secret_value().strip():
            raise ValueError("the key is empty")
        return value


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

    @field_validator("base_url")
    @classmethod
    def _base_url(cls, value: str) -> str:
        return _web_address(value)

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

    @model_validator(mode="after")
    def _valid(self) -> LimitSettings:
        check_window(self.metric, self.window)
        parse_amount(self.metric, self.amount)
        return self


class DefaultLimits(Section):
    user: list[LimitSettings] = []
    """Of every user; a user's own limit replaces the default of the same metric and window."""


def _default_providers() -> list[ProviderSettings]:
    """Without a configuration file the provider's key comes from AIMLAPI_API_KEY, when it is set."""
    key = os.environ.get("AIMLAPI_API_KEY", "").strip()
    return [AimlapiSettings(api_keys=[ProviderKeySettings(value=SecretStr(key))] if key else [])]


class Settings(BaseSettings):
    """All settings of one process."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        env_parse_none_str="null",
        use_attribute_docstrings=True,
        nested_model_default_partial_update=True,
    )

    server: ServerSettings = ServerSettings()
    data_dir: Path = Path("data")
    """Embedded database, images, journal, generated secrets (mode 0600)."""
    database_url: str | None = None
    """null: SQLite in data_dir. Or postgresql://user:password@host:5432/name?sslmode=require."""
    redis_url: None = None
    """Not in this version: leave it null. One process keeps what is fast in its own memory."""
    image_store: ImageStoreSettings = ImageStoreSettings()
    image_urls: ImageUrlSettings = ImageUrlSettings()
    security: SecuritySettings = SecuritySettings()
    cache: CacheSettings = CacheSettings()
    privacy: PrivacySettings = PrivacySettings()
    retention: RetentionSettings = RetentionSettings()
    log: LogSettings = LogSettings()
    providers: list[ProviderSettings] = Field(default_factory=_default_providers)
    """Vendor accounts. Test keys are always served by the sandbox, whether it is listed or not."""
    models: list[ModelSettings] = []
    """What callers may ask for. []: every model of the catalogue."""
    catalog_dir: Path | None = None
    """A folder with further models, as files like those in gateway/catalog."""
    limits: DefaultLimits = DefaultLimits()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings

    @model_validator(mode="after")
    def _names_are_unique(self) -> Settings:
        for kind, names in (
            ("providers", [provider.name for provider in self.providers]),
            ("models", [model.name for model in self.models]),
        ):
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                raise ValueError(f"{kind}: {', '.join(sorted(twice))} stands there twice")
        return self

    @model_validator(mode="after")
    def _secrets_where_replicas_share_a_database(self) -> Settings:
        shared = self.database_url is not None and not self.database_url.startswith("sqlite")
        if shared and not self.security.secrets:
            raise ValueError(
                "security.secrets is needed with PostgreSQL: every replica hashes keys with it; "
                "`openssl rand -hex 32` makes one"
            )
        return self


def load_settings(path: Path | None = None) -> Settings:
    """The settings of `path`; of ./config.yaml when there is one; else the embedded default.

    Raises ConfigurationError with every mistake: the setting, its line, and what would be right.
    """
    if path is None and Path("config.yaml").is_file():
        path = Path("config.yaml")
    file = read_config_file(path) if path is not None else ConfigFile.empty()
    _check_variables()
    try:
        return Settings(**file.data)
    except ValidationError as exc:
        raise ConfigurationError("\n".join(_explain(exc, file))) from None


def _explain(exc: ValidationError, file: ConfigFile) -> Iterator[str]:
    for error in exc.errors():
        location = error["loc"]
        if location[:1] == ("providers",):  # the third part is the kind that pydantic chose by
            location = (*location[:2], *location[3:])
        variable = _variable_of(location)
        source = f"{variable}: " if variable else file.where(location)
        name = f"{'.'.join(map(str, location))}: " if location else ""
        yield f"{source}{name}{_message(error)}"


def _message(error: ErrorDetails) -> str:
    """Pydantic's message, or our own where its one speaks of Python."""
    match error["type"]:
        case "extra_forbidden":
            return "there is no such setting"
        case "none_required" | "too_long":
            return "this version does not have it yet; leave it null, or [] where it is a list"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "this is a section: write `name: value` lines in it"
        case "union_tag_not_found":
            return "say which provider it is: kind: aimlapi, or kind: sandbox"
        case "union_tag_invalid":
            return f"kind: {error['ctx']['tag']} is not one of {error['ctx']['expected_tags']}"
    return error["msg"].removeprefix("Value error, ")


def _variable_of(location: Location) -> str | None:
    """The environment variable that set the value at `location`: then the mistake is not in the file."""
    ours = {name.upper(): name for name in os.environ if name.upper().startswith(ENV_PREFIX)}
    for length in range(len(location), 0, -1):
        found = ours.get(ENV_PREFIX + "__".join(map(str, location[:length])).upper())
        if found:
            return found
    return None


def _check_variables() -> None:
    """A misspelt variable would be ignored in silence, an unreadable one blamed on its section."""
    for name, text in os.environ.items():
        if name.upper().startswith(ENV_PREFIX):
            shape = _shape_of(name.upper().removeprefix(ENV_PREFIX).lower().split("__"))
            if shape is None:
                raise ConfigurationError(
                    f"{name}: there is no such setting; see config.example.yaml (a list is JSON, whole)"
                )
            if not text:
                raise ConfigurationError(f"{name} is empty: unset it, or say null")
            if shape is not str and text != "null" and not isinstance(_json(text), shape):
                kind = "list" if shape is list else "section"
                raise ConfigurationError(f"{name}: this is a {kind}: write it as JSON")


def _shape_of(path: list[str]) -> type | None:
    """list, dict (a section) or str (a plain value) for the setting at `path`; None when there is none."""
    fields: Any = Settings.model_fields
    for i, part in enumerate(path):
        if part not in fields:
            return None
        annotation = fields[part].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            shape = list if get_origin(annotation) is list else str
            return shape if i == len(path) - 1 else None
        fields = annotation.model_fields
    return dict


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
