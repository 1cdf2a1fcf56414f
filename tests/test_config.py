"""The settings: every one documented, every mistake told with its place and its remedy."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, SecretStr

from gateway.config import Settings, load_settings
from gateway.errors import ConfigurationError
from scripts.config_schema import CHART, TARGET, chart_schema_text, schema_text

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "config.example.yaml"
BAD = Path(__file__).parent / "configs"

MESSAGES = {
    "alerts_out_of_order": ":3: limits.user.0: alert_at: give up to 5 percentages from 1 to 100, ascending",
    "alias_of_itself": ": an alias holds itself",
    "bad_amount": ":3: limits.user.0: '2.5' is not an amount of images: give a whole number, 0 or more",
    "bad_price_amount": ":2: models.0: the price of flux-pro: '6,5 cents' is not an amount of dollars",
    "bad_price_unit": ":2: models.0: flux-pro has no price; give it price: {per_image_usd: '0.065'}",
    "bad_proxy": ":2: server.trusted_proxies: 'proxy.example.com' does not appear to be an IPv4 or IPv6 network",
    "bad_window": ":4: limits.user.1.window: Input should be 'minute', 'hour', 'day', 'month', 'total'",
    "base_url_without_scheme": ":3: providers.0.base_url: start it with http:// or https://",
    "duplicate_key": ":4: server.port stands there twice",
    "empty_provider_key": ":3: providers.0.api_keys.0.value: the key is empty",
    "provider_key_no_header_carries": ":3: providers.0.api_keys.0.value: the key has characters that no header",
    "endless_number": ":2: server.drain_s: Input should be a finite number",
    "image_host_is_an_address": ":3: providers.0.image_hosts: 'https://cdn.example.com/' is not a host",
    "image_store_s3_with_half_a_key": ":1: image_store: access_key_id and secret_access_key go together: give",
    "image_store_s3_without_bucket": ":1: image_store: kind: s3 needs a bucket: name one that exists",
    "image_store_setting_of_the_other_kind": ":1: image_store: bucket, serve can't stand here: of kind: s3",
    "image_store_unknown_key": ":4: image_store.buket: there is no such setting",
    "limit_twice": ":2: limits.user: 0 and 2 both limit cost_usd month, to 50 and 500: keep one of them",
    "list_at_the_top": ": the top level must be `name: value` lines",
    "lock_timeout_too_long": ":1: database: lock_timeout_s must be shorter than statement_timeout_s",
    "missing_file": ":3: security.secrets.0: the file /nowhere/darkroom-secret is missing",
    "management_port_of_the_server": ": management.port is 9000, as server.port is: choose another one",
    "more_workers": ": server.workers is 4: several processes share their limits, money and cache by servers, so set "
    "database_url (PostgreSQL) and redis_url (Redis or Valkey), or leave workers at 1",
    "more_workers_without_redis": ": server.workers is 4: several processes share their limits, money and cache by "
    "servers, so set redis_url (Redis or Valkey), or leave workers at 1",
    "redis_url_of_another_kind": ":1: redis_url: write it like redis://:password@host:6379/0, or rediss:// for TLS",
    "not_yaml": ":3: is not YAML: expected <block end>",
    "provider_twice": ": providers: sandbox stands there twice",
    "provider_without_kind": ":2: providers.0: say which provider it is: kind: aimlapi, or kind: sandbox",
    "public_url_missing": ":1: server: public_url is needed when host is 0.0.0.0",
    "public_url_without_scheme": ":2: server.public_url: start it with http:// or https://",
    "secrets_missing": ": security.secrets is needed with PostgreSQL: every replica hashes keys with it",
    "section_is_a_list": ":1: cache: this is a section: write `name: value` lines in it",
    "short_admin_key": ":2: security.admin_key: use at least 16 characters",
    "encryption_key_too_short": ":2: security.encryption_keys: each is 32 bytes in URL-safe base64",
    "short_secret": ":2: security.secrets: use at least 32 characters for each",
    "unknown_key": ":3: server.prot: there is no such setting",
    "unknown_provider_kind": ":2: providers.0: kind: dalle is not one of 'aimlapi', 'sandbox'",
    "unset_variable": ":2: security.admin_key: the variable DARKROOM_TEST_UNSET is not set",
    "window_missing": ":3: limits.user.0: a limit of images needs a window",
    "window_of_concurrency": ":3: limits.user.0: concurrency counts purchases under way: it has no window",
    "wrong_type": ":2: cache.memory_mb: Input should be a valid integer",
}


@pytest.fixture(autouse=True)
def _nothing_set_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of the machine, and no config.yaml of the folder, takes part."""
    monkeypatch.delenv("AIMLAPI_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)


def names_of(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield name
        for section in sections_in(field.annotation):
            yield from names_of(section)


def sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from sections_in(inner)


def refusal_of(path: Path | None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path)
    return caught.value.message


def test_the_example_holds_the_defaults(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AIMLAPI_API_KEY", "a-provider-key")
    assert load_settings(EXAMPLE) == load_settings()


@pytest.mark.parametrize("name", sorted(set(names_of(Settings))))
def test_the_example_names_the_setting(name: str):
    assert re.search(rf"(^|[\s#{{-]){name}:\s", EXAMPLE.read_text(encoding="utf-8"))


def test_what_the_example_has_commented_out_is_valid_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name in ("AIMLAPI_API_KEY", "DARKROOM_ADMIN_KEY", "DATABASE_PASSWORD", "REDIS_PASSWORD"):
        monkeypatch.setenv(name, "x" * 32)
    monkeypatch.setenv("DARKROOM_ENCRYPTION_KEY", "e" * 43)
    secret = tmp_path / "secret"
    secret.write_text("s" * 32, encoding="utf-8")
    text = EXAMPLE.read_text(encoding="utf-8").replace("/run/secrets/darkroom", str(secret))
    text = re.sub(r"^.*(?:\[\]|null)\n((?: *# .*\n)*)(?= *#[a-z_])", r"\1", text, flags=re.MULTILINE)
    config = tmp_path / "all.yaml"
    config.write_text(re.sub(r"^( *)#(?=\S|  )", r"\1", text, flags=re.MULTILINE), encoding="utf-8")
    settings = load_settings(config)
    assert settings.limits.user[2].amount == "8"
    assert settings.models[0].price == {"per_image_usd": "0.065"}
    assert settings.security.secrets[0].get_secret_value() == "s" * 32


def test_the_schema_for_editors_is_up_to_date():
    assert TARGET.read_text(encoding="utf-8") == schema_text(), "run `make schema`"
    assert CHART.read_text(encoding="utf-8") == chart_schema_text(), "run `make schema`"


def test_every_bad_file_has_its_message():
    assert sorted(path.stem for path in BAD.glob("*.yaml")) == sorted(MESSAGES)


@pytest.mark.parametrize("name", MESSAGES)
def test_a_mistake_is_told_with_its_place(name: str):
    message = refusal_of(BAD / f"{name}.yaml")
    assert message.startswith(f"{BAD / name}.yaml{MESSAGES[name]}")
    assert "\n" not in message


def test_all_mistakes_are_told_at_once(tmp_path: Path):
    config = tmp_path / "c.yaml"
    config.write_text("server:\n  prot: 1\n  port: 99999\ncache: {scope: planet}\n", encoding="utf-8")
    said = refusal_of(config)
    assert [line.split(": ")[0] for line in said.splitlines()] == [f"{config}:{n}" for n in (3, 2, 4)]


@pytest.mark.parametrize("name", ["not_yaml", "short_admin_key", "short_secret"])
def test_a_message_shows_no_secret(name: str):
    assert not re.search("a-key-that-must-not-be-shown|too-short|: short", refusal_of(BAD / f"{name}.yaml"))


def test_a_file_that_is_not_there_is_told(tmp_path: Path):
    assert refusal_of(tmp_path / "none.yaml").endswith("none.yaml: can't be read: No such file or directory")


def test_config_yaml_of_the_folder_is_read(tmp_path: Path):
    (tmp_path / "config.yaml").write_text("server: {port: 9000}\n", encoding="utf-8")
    assert load_settings().server.port == 9000


@pytest.mark.parametrize("text", ["", "# nothing\n", "server:\n  #port: 1\ncache:\n"])
def test_an_empty_file_or_section_is_the_default(tmp_path: Path, text: str):
    config = tmp_path / "c.yaml"
    config.write_text(text, encoding="utf-8")
    assert load_settings(config) == load_settings()


def test_references_are_filled_in_inside_a_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "host").write_text("images.example.com\n", encoding="utf-8")
    monkeypatch.setenv("SCHEME", "https")
    config = tmp_path / "c.yaml"
    config.write_text(f'server: {{public_url: "${{SCHEME}}://${{file:{tmp_path}/host}}/"}}\n', encoding="utf-8")
    assert load_settings(config).server.base_url == "https://images.example.com"


def test_the_provider_key_of_the_environment_is_enough(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AIMLAPI_API_KEY", "a-provider-key")
    provider = load_settings().providers[0]
    assert provider.kind == "aimlapi"
    assert [key.value.get_secret_value() for key in provider.api_keys] == ["a-provider-key"]


def test_the_environment_goes_over_the_file_and_leaves_its_neighbours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    config = tmp_path / "c.yaml"
    config.write_text("server: {port: 9000, drain_s: 5}\ndatabase_url: sqlite:///x.db\n", encoding="utf-8")
    monkeypatch.setenv("DARKROOM__SERVER__PORT", "9001")
    monkeypatch.setenv("DARKROOM__SERVER__TRUSTED_PROXIES", '["10.0.0.0/8"]')
    monkeypatch.setenv("DARKROOM__DATABASE_URL", "null")
    settings = load_settings(config)
    assert (settings.server.port, settings.server.drain_s) == (9001, 5)
    assert settings.server.trusted_proxies == ["10.0.0.0/8"]
    assert settings.database_url is None


def test_a_part_of_a_section_goes_over_the_section_given_whole(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DARKROOM__SERVER__PORT", "9001")
    monkeypatch.setenv("DARKROOM__SERVER", '{"port": 9000, "drain_s": 5}')
    settings = load_settings()
    assert (settings.server.port, settings.server.drain_s) == (9001, 5)


def test_references_are_filled_in_in_the_environment_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "key").write_text('a "quoted" admin key\n', encoding="utf-8")
    (tmp_path / "null").write_text("null\n", encoding="utf-8")
    monkeypatch.setenv("SECRET_OF_OURS", "s" * 32)
    monkeypatch.setenv("DARKROOM__SECURITY__ADMIN_KEY", f"${{file:{tmp_path}/key}}")
    monkeypatch.setenv("DARKROOM__SECURITY__SECRETS", '["${SECRET_OF_OURS}"]')
    monkeypatch.setenv("DARKROOM__DATABASE_URL", f"${{file:{tmp_path}/null}}")
    keys = json.dumps([{"value": f"${{file:{tmp_path}/null}}-key", "weight": 2}])
    monkeypatch.setenv("DARKROOM__PROVIDERS", f'[{{"kind": "aimlapi", "api_keys": {keys}}}]')
    settings = load_settings()
    provider = settings.providers[0]
    assert settings.security.admin_key == SecretStr('a "quoted" admin key')
    assert settings.security.secrets == [SecretStr("s" * 32)]
    assert settings.database_url == "null", "a text that was read, not a word of the variable"
    assert provider.kind == "aimlapi"
    assert (provider.api_keys[0].value, provider.api_keys[0].weight) == (SecretStr("null-key"), 2)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("DARKROOM__SERVER__PORT", "abc", ": server.port: Input should be a valid integer"),
        ("DARKROOM__SERVER__PRT", "9000", ": there is no such setting; see config.example.yaml"),
        ("DARKROOM__PROVIDERS__0__TIMEOUT_S", "9", ": there is no such setting; see config.example.yaml"),
        ("DARKROOM__PROVIDERS", "aimlapi", ": this is a list: write it as JSON"),
        ("DARKROOM__SERVER", "9000", ": this is a section: write it as JSON"),
        ("DARKROOM__DATABASE_URL", "", " is empty: unset it, or say null"),
        (
            "DARKROOM__SECURITY__ADMIN_KEY",
            "${file:/nowhere/key}",
            ": the file /nowhere/key is missing, empty or not text",
        ),
        ("DARKROOM__SECURITY", '{"admin_key": "${NOT_SET}"}', ": the variable NOT_SET is not set"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str, said: str
):
    config = tmp_path / "c.yaml"
    config.write_text("server: {port: 9000}\n", encoding="utf-8")
    monkeypatch.setenv(name, value)
    assert refusal_of(config).startswith(name + said)
