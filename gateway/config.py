"""Settings: a YAML file, then the environment over it (`DARKROOM__SERVER__PORT=9000`).

In both `${NAME}` reads the environment and `${file:PATH}` a file; unset or empty is an error that names the
setting. An unknown key is an error that names its line. `load_settings` is the one way in.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import (
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from gateway.config_environment import read_environment, variable_of
from gateway.config_file import ConfigFile, read_config_file
from gateway.config_operations import ConsoleSettings, LogSettings, ManagementSettings, TracingSettings
from gateway.config_sections import (
    AimlapiSettings,
    CacheSettings,
    DatabaseSettings,
    DefaultLimits,
    ImageStoreSettings,
    ImageUrlSettings,
    ModelSettings,
    PrivacySettings,
    ProviderKeySettings,
    ProviderSettings,
    RetentionSettings,
    SecuritySettings,
    ServerSettings,
)
from gateway.errors import ConfigurationError


def _default_providers() -> list[ProviderSettings]:
    """Without a configuration file the provider's key comes from AIMLAPI_API_KEY, when it is set."""
    key = os.environ.get("AIMLAPI_API_KEY", "").strip()
    return [AimlapiSettings(api_keys=[ProviderKeySettings(value=SecretStr(key))] if key else [])]


class Settings(BaseSettings):
    """All settings of one process."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    server: ServerSettings = ServerSettings()
    management: ManagementSettings = ManagementSettings()
    console: ConsoleSettings = ConsoleSettings()
    data_dir: Path = Path("data")
    """Embedded database, images, journal, generated secrets (mode 0600)."""
    database_url: str | None = None
    """null: SQLite in data_dir. Or postgresql://user:password@host:5432/name?sslmode=require."""
    database: DatabaseSettings = DatabaseSettings()
    redis_url: SecretStr | None = None
    """redis://:password@host:6379/0, or rediss:// for TLS: what replicas share to be fast. null: nothing."""
    redis_timeout_s: float = Field(0.2, gt=0, le=10)
    """How long Redis may take to answer. Past it the process goes on alone until Redis is back."""
    image_store: ImageStoreSettings = ImageStoreSettings()
    image_urls: ImageUrlSettings = ImageUrlSettings()
    security: SecuritySettings = SecuritySettings()
    cache: CacheSettings = CacheSettings()
    privacy: PrivacySettings = PrivacySettings()
    retention: RetentionSettings = RetentionSettings()
    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()
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
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return InitSettingsSource(settings_cls, read_environment(settings_cls.model_fields)), init_settings

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
    def _engines_that_several_processes_share(self) -> Settings:
        missing = [
            f"{name} ({engine})"
            for name, engine, there in (
                ("database_url", "PostgreSQL", self._has_postgres),
                ("redis_url", "Redis or Valkey", self.redis_url is not None),
            )
            if not there
        ]
        if self.server.workers > 1 and missing:
            raise ValueError(
                f"server.workers is {self.server.workers}: several processes share their limits, money and cache by "
                f"servers, so set {' and '.join(missing)}, or leave workers at 1"
            )
        return self

    @model_validator(mode="after")
    def _ports_of_their_own(self) -> Settings:
        if self.management.port is not None and self.management.port == self.server.port:
            raise ValueError(f"management.port is {self.server.port}, as server.port is: choose another one")
        return self

    @property
    def _has_postgres(self) -> bool:
        return self.database_url is not None and not self.database_url.startswith("sqlite")

    @field_validator("redis_url")
    @classmethod
    def _redis_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("redis://", "rediss://")):
            raise ValueError("write it like redis://:password@host:6379/0, or rediss:// for TLS")
        return value

    def generated(self, name: str) -> str | None:
        """The secret of that name that a start made in data_dir, if it is there."""
        file = self.data_dir / name
        return file.read_text(encoding="ascii").strip() if file.is_file() else None

    @model_validator(mode="after")
    def _secrets_where_replicas_share_a_database(self) -> Settings:
        if self._has_postgres and not self.security.secrets:
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
    try:
        return Settings(**file.data)
    except ValidationError as exc:
        raise ConfigurationError("\n".join(_explain(exc, file))) from None


def _explain(exc: ValidationError, file: ConfigFile) -> Iterator[str]:
    for error in exc.errors():
        location = error["loc"]
        if location[:1] == ("providers",):  # the third part is the kind that pydantic chose by
            location = (*location[:2], *location[3:])
        variable = variable_of(location)
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
