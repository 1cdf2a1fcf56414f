"""Alerts and dashboard: correct by promtool, and about metrics that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.demo.provider import FakeProvider, running
from tests.support.deploy import DEPLOY, run
from tests.support.gateway import running_gateway, settings_for
from tests.support.ports import free_port
from tests.support.valkey import ValkeyServer

RULES = DEPLOY / "prometheus" / "darkroom.rules.yaml"
DASHBOARD = DEPLOY / "grafana" / "darkroom.json"
NOT_OURS = {"up"}
"""Prometheus' own."""


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def queries() -> Iterator[str]:
    """Of all panels, as Grafana would send them."""
    for panel in panels():
        for target in panel["targets"]:
            expr = target["expr"].replace("$__rate_interval", "1m").replace("$__range", "6h")
            yield re.sub(r"\$\w+", ".*", expr)


def named(expr: str) -> set[str]:
    bare = re.sub(r'"[^"]*"', "", expr)
    return set(re.findall(r"\b(?:darkroom_\w+|up)\b", bare))


@pytest.mark.browser
def test_promtool_accepts_the_alerts_and_they_fire_when_they_should() -> None:
    run("promtool", "check", "rules", RULES)
    run("promtool", "test", "rules", RULES.with_suffix("").with_suffix(".rules.test.yaml"))


@pytest.mark.browser
def test_promtool_accepts_what_scrapes_the_replicas(tmp_path: Path) -> None:
    text = (DEPLOY / "compose" / "prometheus.yaml").read_text(encoding="utf-8")
    config = tmp_path / "prometheus.yml"
    config.write_text(text.replace("/etc/prometheus/darkroom.rules.yaml", str(RULES)), encoding="utf-8")
    run("promtool", "check", "config", config)


@pytest.mark.browser
def test_every_query_of_the_dashboard_is_one(tmp_path: Path) -> None:
    rules = [{"record": f"query:{number}", "expr": expr} for number, expr in enumerate(queries())]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}), encoding="utf-8")
    run("promtool", "check", "rules", file)


def test_every_alert_is_tested_and_says_what_is_wrong() -> None:
    tests = yaml.safe_load((DEPLOY / "prometheus" / "darkroom.rules.test.yaml").read_text(encoding="utf-8"))["tests"]
    tested = {case["alertname"] for test in tests for case in test.get("alert_rule_test", [])}
    assert {alert["alert"] for alert in alerts()} == tested
    for alert in alerts():
        assert alert["labels"]["severity"] in {"warning", "critical"}
        assert alert["annotations"]["summary"].endswith(".")


def test_every_alert_has_its_place_in_the_runbook():
    text = (DEPLOY.parent / "docs" / "production.md").read_text(encoding="utf-8")
    assert re.findall(r"^### (\w+)$", text, flags=re.MULTILINE) == [alert["alert"] for alert in alerts()]


def test_panels_have_titles_units_and_places_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells


async def test_every_metric_that_they_name_is_one_of_a_gateways(tmp_path: Path, valkey: ValkeyServer) -> None:
    fake = FakeProvider()
    async with running(fake) as provider_url:
        settings = settings_for(
            tmp_path / "data", provider_url, port=free_port(), redis_url=f"redis://127.0.0.1:{valkey.port}/0"
        )
        async with running_gateway(settings) as gateway:
            key = await gateway.new_key()
            for seed in (1, 1, None):
                assert (await gateway.generate(key, seed=seed)).status_code == 200
            fake.script.append({"answer_fault": "reset_after_charge"})
            assert (await gateway.generate(key)).status_code >= 500
            text = (await gateway.get("/metrics")).text
    shown = {re.split(r"[{ ]", line)[0] for line in text.splitlines() if not line.startswith("#")}
    exprs = [*queries(), *(alert["expr"] for alert in alerts())]
    assert set().union(*map(named, exprs)) - NOT_OURS - shown == {"darkroom_provider_balance_usd"} - shown
    assert "darkroom_provider_balance_usd" in text  # told once the provider was asked, in the background


async def test_without_redis_nothing_is_said_of_it(tmp_path: Path) -> None:
    async with running_gateway(settings_for(tmp_path / "data", "http://127.0.0.1:1", port=free_port())) as gateway:
        assert "darkroom_redis_up" not in (await gateway.get("/metrics")).text
