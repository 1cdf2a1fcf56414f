"""The compose file: valid, whole, and of one mind with the configuration beside it."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from gateway.config import Settings
from tests.support.deploy import DEPLOY, TOOLS, settings_of

FOLDER = DEPLOY / "compose"
REPLICAS = ["gateway-1", "gateway-2"]
ONCE = ["bucket", "migrate"]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
    return found


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("DARKROOM_PUBLIC_URL", "http://localhost:8080")
    return settings_of((FOLDER / "config.yaml").read_text(encoding="utf-8"), tmp_path)


@pytest.mark.browser
def test_it_is_what_the_specification_allows(compose: dict[str, Any]) -> None:
    schema = TOOLS / "check_jsonschema" / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema_rs.validator_for(json.loads(schema.read_text(encoding="utf-8"))).validate(compose)


def test_every_file_that_it_names_is_there_or_is_made(compose: dict[str, Any], tmp_path: Path) -> None:
    assert [name for name, each in compose["configs"].items() if not (FOLDER / each["file"]).is_file()] == []
    script = shutil.copy(FOLDER / "make-secrets.sh", tmp_path)
    subprocess.run(["sh", script], check=True, stdout=subprocess.DEVNULL)
    made = {f"secrets/{path.name}" for path in (tmp_path / "secrets").iterdir()}
    assert made == {each["file"] for each in compose["secrets"].values()}
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700


def test_secrets_that_are_there_stay(tmp_path: Path) -> None:
    script = shutil.copy(FOLDER / "make-secrets.sh", tmp_path)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "secret").write_text("mine", encoding="utf-8")
    subprocess.run(["sh", script], check=True, stdout=subprocess.DEVNULL, env=dict(os.environ))
    assert (tmp_path / "secrets" / "secret").read_text(encoding="utf-8") == "mine"


def test_the_gateway_accepts_its_configuration(settings: Settings, compose: dict[str, Any]) -> None:
    assert settings.server.public_url == "http://localhost:8080"
    assert settings.management.port == 9090
    subnet = compose["networks"]["inside"]["ipam"]["config"][0]["subnet"]
    assert [ipaddress.ip_network(text) for text in settings.server.trusted_proxies] == [ipaddress.ip_network(subnet)]


def test_a_replica_has_the_time_that_it_may_take_to_leave(settings: Settings, compose: dict[str, Any]) -> None:
    needed_s = settings.server.drain_delay_s + settings.server.drain_s + 15
    for name in REPLICAS:
        assert int(compose["services"][name]["stop_grace_period"].rstrip("s")) >= needed_s


def test_each_replica_has_a_journal_of_its_own(compose: dict[str, Any]) -> None:
    volumes = [compose["services"][name]["volumes"] for name in REPLICAS]
    assert volumes == [[f"{name}:/data"] for name in REPLICAS]


def test_every_server_is_watched_and_every_image_has_a_version(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert sorted(name for name, service in services.items() if "test" not in service.get("healthcheck", {})) == ONCE
    for service in services.values():
        assert service["image"].rpartition(":")[2] not in {"", "latest"}


def test_nothing_is_published_but_the_balancer_and_a_dashboard_on_loopback(compose: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert published == {"balancer": ["${DARKROOM_PORT:-8080}:80"], "grafana": ["127.0.0.1:3000:3000"]}


def test_no_secret_stands_in_it(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert set(service.get("secrets", [])) <= set(compose["secrets"]), name
        for variable, value in service.get("environment", {}).items():
            assert "PASSWORD" not in variable or value.startswith("/run/secrets/"), variable
