"""The Helm chart, by Helm itself: linted, rendered, and each object checked against the schemas of Kubernetes."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from gateway.config import Settings
from tests.support.deploy import DEPLOY, TOOLS, documents, run, settings_of

CHART = DEPLOY / "helm" / "darkroom"
SCHEMAS = TOOLS / "kubernetes_validate" / "kubernetes-json-schema" / "v1.37.0-local-strict"
VALUES = Path(__file__).parent / "values"
CASES = sorted(path.stem for path in VALUES.glob("*.yaml"))
OPERATORS_OWN = {"ServiceMonitor", "PrometheusRule"}
"""Kinds of Prometheus' operator, which the schemas of Kubernetes do not have."""

pytestmark = pytest.mark.browser


@functools.cache
def rendered(case: str, *more: str) -> tuple[dict[str, Any], ...]:
    return tuple(documents(run("helm", "template", "dk", CHART, "--namespace", "pictures", "-f", values(case), *more)))


def values(case: str) -> Path:
    return VALUES / f"{case}.yaml"


def of_kind(case: str, kind: str, *more: str) -> list[dict[str, Any]]:
    return [each for each in rendered(case, *more) if each["kind"] == kind]


def deployment(case: str, *more: str) -> dict[str, Any]:
    [found] = of_kind(case, "Deployment", *more)
    return found


def pods(case: str) -> list[dict[str, Any]]:
    return [each["spec"]["template"]["spec"] for each in rendered(case) if each["kind"] in {"Deployment", "Job"}]


def config_of(case: str, folder: Path, *more: str) -> Settings:
    maps = [each for each in of_kind(case, "ConfigMap", *more) if "config.yaml" in each["data"]]
    assert len({each["data"]["config.yaml"] for each in maps}) == 1
    return settings_of(maps[0]["data"]["config.yaml"], folder)


@functools.cache
def schema_of(api_version: str, kind: str) -> jsonschema_rs.Validator:
    group, _, version = api_version.rpartition("/")
    name = "-".join(part for part in (kind.lower(), group.split(".")[0], version) if part)
    schema = json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
    shared = json.loads((SCHEMAS / "_definitions.json").read_text(encoding="utf-8"))
    return jsonschema_rs.validator_for(schema, base_uri="https://schemas.test/", retriever=lambda _: shared)


@pytest.mark.parametrize("case", CASES)
def test_the_linter_has_nothing_to_say(case: str) -> None:
    assert "[WARNING]" not in run("helm", "lint", "--strict", CHART, "-f", values(case))


@pytest.mark.parametrize("case", CASES)
def test_every_object_is_one_that_kubernetes_accepts(case: str) -> None:
    objects = rendered(case)
    for each in objects:
        if each["kind"] not in OPERATORS_OWN:
            schema_of(each["apiVersion"], each["kind"]).validate(each)
    names = [(each["kind"], each["metadata"]["name"]) for each in objects]
    assert len(set(names)) == len(names)


def test_the_schemas_refuse_what_is_wrong() -> None:
    broken = json.loads(json.dumps(deployment("least")))
    broken["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(jsonschema_rs.ValidationError):
        schema_of("apps/v1", "Deployment").validate(broken)


def test_by_default_there_is_what_every_installation_needs() -> None:
    assert {each["kind"] for each in rendered("least")} == {
        "ConfigMap", "Deployment", "Job", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount"
    }  # fmt: skip


def test_with_everything_on_there_is_everything() -> None:
    assert {each["kind"] for each in rendered("full")} - {each["kind"] for each in rendered("least")} == {
        "HorizontalPodAutoscaler", "Ingress", "PrometheusRule", "Secret", "ServiceMonitor"
    }  # fmt: skip
    assert "replicas" not in deployment("full")["spec"]


@pytest.mark.parametrize("case", CASES)
def test_the_gateway_accepts_the_configuration(case: str, tmp_path: Path) -> None:
    settings = config_of(case, tmp_path)
    assert settings.database_url is not None
    assert (settings.redis_url is None) == (case == "without_redis")
    ports = {
        port["name"]: port["containerPort"]
        for port in deployment(case)["spec"]["template"]["spec"]["containers"][0]["ports"]
    }
    assert ports == {"http": settings.server.port, "management": settings.management.port}


@pytest.mark.parametrize("drain", [{}, {"drain_s": 0, "drain_delay_s": 3}, {"drain_s": 300}])
def test_a_pod_has_the_time_that_the_gateway_may_take_to_leave(drain: dict[str, int], tmp_path: Path) -> None:
    more = [f"--set=config.server.{name}={value}" for name, value in drain.items()]
    settings = config_of("least", tmp_path, *more).server
    grace_s = deployment("least", *more)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace_s == settings.drain_delay_s + settings.drain_s + 20


@pytest.mark.parametrize("case", CASES)
def test_every_container_runs_as_nobody_on_a_root_that_is_read_only(case: str) -> None:
    for pod in pods(case):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


@pytest.mark.parametrize("case", CASES)
def test_probes_ask_what_they_are_for(case: str) -> None:
    [container] = deployment(case)["spec"]["template"]["spec"]["containers"]
    asked = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert asked == {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}


@pytest.mark.parametrize("case", CASES)
def test_what_the_migration_needs_is_made_before_it(case: str) -> None:
    [job] = of_kind(case, "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    hooks = {
        each["metadata"]["name"] for each in rendered(case) if "helm.sh/hook" in each["metadata"].get("annotations", {})
    }
    volumes = {volume["name"]: volume for volume in job["spec"]["template"]["spec"]["volumes"]}
    assert volumes["config"]["configMap"]["name"] in hooks
    assert volumes["secret"]["secret"]["secretName"] in hooks | {"darkroom-secrets"}


@pytest.mark.parametrize("case", CASES)
def test_selectors_find_the_gateways_pods_and_no_others(case: str) -> None:
    labels = deployment(case)["spec"]["template"]["metadata"]["labels"]
    [job] = of_kind(case, "Job")
    others = job["spec"]["template"]["metadata"]["labels"]
    selectors = [each["spec"]["selector"] for each in of_kind(case, "Service")]
    selectors += [each["spec"]["selector"]["matchLabels"] for each in of_kind(case, "PodDisruptionBudget")]
    for selector in selectors:
        assert selector.items() <= labels.items()
        assert not selector.items() <= others.items()


def test_the_alerts_and_the_dashboard_are_those_of_the_project() -> None:
    [rule] = of_kind("full", "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((DEPLOY / "prometheus" / "darkroom.rules.yaml").read_text(encoding="utf-8"))
    [board] = [each for each in of_kind("full", "ConfigMap") if "darkroom.json" in each["data"]]
    assert board["data"]["darkroom.json"] == (DEPLOY / "grafana" / "darkroom.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("config.server.prot=1", "additional properties 'prot' not allowed"),
        ("replica=3", "additional properties 'replica' not allowed"),
        ("secret.existing=", "secret.values.admin_key is needed, or secret.existing"),
    ],
)
def test_a_mistake_in_the_values_is_told_before_anything_is_installed(change: str, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        run("helm", "template", "dk", CHART, "-f", values("least"), "--set", change)
