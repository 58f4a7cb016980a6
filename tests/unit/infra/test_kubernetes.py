"""The Kubernetes files, as kustomize makes them."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from libs.wire.topics import CORE_SERVICES
from services.console.plan import RUNNABLE_SERVICES
from tests.unit.infra.files import (
    INFRA,
    find_tool,
    foreign_secrets,
    foreign_settings,
    run_tool,
    unknown_variables,
    yaml,
)

OVERLAYS = sorted(path.name for path in (INFRA / "kubernetes" / "overlays").iterdir())


@cache
def built(overlay: str = "paper") -> list[dict[str, Any]]:
    kustomize = find_tool("kustomize", "https://kubectl.docs.kubernetes.io/installation/kustomize")
    text = run_tool(kustomize, "build", INFRA / "kubernetes" / "overlays" / overlay)
    return [document for document in yaml.safe_load_all(text) if document]


def of_kind(*kinds: str) -> list[dict[str, Any]]:
    return [document for document in built() if document["kind"] in kinds]


def name_of(document: dict[str, Any]) -> str:
    return str(document["metadata"]["name"])


def pods() -> dict[str, dict[str, Any]]:
    return {name_of(each): each["spec"]["template"]["spec"] for each in of_kind("StatefulSet", "Deployment", "Job")}


@pytest.mark.slow
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_document_fits_the_schema(overlay: str) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    for document in built(overlay):
        validator.validate(document, validator.latest_version(), strict=True)


@pytest.mark.slow
def test_every_service_has_one_pod() -> None:
    workloads = {name_of(each): each["spec"]["replicas"] for each in of_kind("StatefulSet", "Deployment")}
    assert {name: workloads[name] for name in RUNNABLE_SERVICES} == dict.fromkeys(RUNNABLE_SERVICES, 1)


def test_paper_trading_has_no_outbox_and_nobody_else_holds_the_key() -> None:
    (outbox,) = [each for each in of_kind("StatefulSet") if name_of(each) == "outbox"]
    assert outbox["spec"]["replicas"] == 0
    holders = {
        name
        for name, pod in pods().items()
        if any("EXECUTION_API" in variable["name"] for variable in pod["containers"][0].get("env", []))
    }
    assert holders == {"outbox"}


def test_every_pod_is_a_plain_user_without_privileges() -> None:
    for name, pod in pods().items():
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False, name
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name


def test_services_write_to_volumes_only() -> None:
    for name in RUNNABLE_SERVICES:
        assert pods()[name]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True, name


def test_every_workload_has_probes_and_resources() -> None:
    for each in of_kind("StatefulSet", "Deployment"):
        (container,) = each["spec"]["template"]["spec"]["containers"]
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys(), name_of(each)
        assert {"requests", "limits"} <= container["resources"].keys(), name_of(each)


def test_images_are_pinned() -> None:
    for name, pod in pods().items():
        for container in pod["containers"]:
            image, _, tag = container["image"].partition(":")
            assert image and tag and tag != "latest", name


def test_every_workload_has_a_disruption_budget_that_finds_it() -> None:
    budgets = [each["spec"]["selector"]["matchLabels"] for each in of_kind("PodDisruptionBudget")]
    for each in of_kind("StatefulSet", "Deployment"):
        labels = each["spec"]["template"]["metadata"]["labels"]
        assert any(budget.items() <= labels.items() for budget in budgets), name_of(each)


def test_every_service_object_finds_a_port() -> None:
    workloads = of_kind("StatefulSet", "Deployment")
    for each in of_kind("Service"):
        (target,) = [
            work
            for work in workloads
            if each["spec"]["selector"].items() <= work["spec"]["template"]["metadata"]["labels"].items()
        ]
        ports = {port["name"] for port in target["spec"]["template"]["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in each["spec"]["ports"]} <= ports, name_of(each)


def test_traffic_is_refused_unless_named() -> None:
    policies = {name_of(each): each["spec"] for each in of_kind("NetworkPolicy")}
    assert policies["deny-all"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    chosen = policies["to-venues"]["podSelector"]["matchExpressions"][0]["values"]
    assert sorted(chosen) == ["ingestion", "outbox"]


def test_variables_are_read_by_somebody() -> None:
    names: set[str] = set()
    for each in of_kind("ConfigMap"):
        names |= each["data"].keys()
    for pod in pods().values():
        names |= {variable["name"] for variable in pod["containers"][0].get("env", [])}
    assert unknown_variables(names) == set()


def test_each_pod_gets_no_setting_but_its_own_and_the_platforms() -> None:
    maps = {name_of(each): each["data"].keys() for each in of_kind("ConfigMap")}
    for name, pod in pods().items():
        if name in ("kafka", "clickhouse"):
            continue
        (container,) = pod["containers"]
        given = {variable["name"] for variable in container.get("env", [])}
        for source in container["envFrom"]:
            # One that no overlay makes is left out.
            given |= maps.get(source["configMapRef"]["name"], set())
        assert "PERPFLOW_BUS" in given, name
        assert foreign_settings(name, given) == set(), name
    assert {"PERPFLOW_INGESTION_MARKET", "PERPFLOW_EXECUTION_MODE"} <= set().union(*maps.values())


def test_each_pod_gets_no_secret_but_its_own() -> None:
    for service in RUNNABLE_SERVICES:
        (container,) = pods()[service]["containers"]
        assert not any("secretRef" in source for source in container.get("envFrom", ())), service
        given = {variable["name"] for variable in container.get("env", [])}
        assert foreign_secrets(service, given) == set(), service


def test_no_secret_is_in_the_files() -> None:
    assert of_kind("Secret") == []


def test_scaled_replicas_are_numbered_by_their_ordinal_and_share_one_number_of_partitions() -> None:
    documents = {(each["kind"], name_of(each).split("-")[0]): each for each in built("scaled")}
    partitions = documents["ConfigMap", "perpflow"]["data"]["PERPFLOW_PARTITIONS"]
    assert int(partitions) > 1
    for service in CORE_SERVICES:
        pod = documents["StatefulSet", service]["spec"]["template"]["spec"]
        (container,) = [each for each in pod["containers"] if each["name"] == "service"]
        assert container["env"] == [
            {
                "name": "PERPFLOW_REPLICA",
                "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['apps.kubernetes.io/pod-index']"}},
            }
        ]
    assert documents["StatefulSet", "bars"]["spec"]["replicas"] == 2
