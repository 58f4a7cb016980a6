"""The Kubernetes files, as kustomize makes them."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from infra.kafka.acls import render_users
from infra.kubernetes import generate
from libs.wire.topics import CORE_SERVICES, CORES
from services.console.plan import ONLINE_SERVICES, RUNNABLE_SERVICES
from tests.unit.infra.files import (
    INFRA,
    find_tool,
    foreign_secrets,
    foreign_settings,
    run_tool,
    unknown_variables,
    yaml,
)

_OPERATORS = {
    *("kafka.strimzi.io", "clickhouse.altinity.com", "external-secrets.io"),
    *("monitoring.coreos.com", "keda.sh", "snapshot.storage.k8s.io"),
}
OVERLAYS = sorted(path.name for path in (INFRA / "kubernetes" / "overlays").iterdir())


@cache
def built(overlay: str = "paper") -> list[dict[str, Any]]:
    kustomize = find_tool("kustomize", "https://kubectl.docs.kubernetes.io/installation/kustomize")
    text = run_tool(kustomize, "build", INFRA / "kubernetes" / "overlays" / overlay)
    return [document for document in yaml.safe_load_all(text) if document]


def of_kind(*kinds: str, overlay: str = "paper") -> list[dict[str, Any]]:
    return [document for document in built(overlay) if document["kind"] in kinds]


def name_of(document: dict[str, Any]) -> str:
    return str(document["metadata"]["name"])


def pods(overlay: str = "paper") -> dict[str, dict[str, Any]]:
    found = {
        name_of(each): each["spec"]["template"]["spec"]
        for each in of_kind("StatefulSet", "Deployment", overlay=overlay)
    }
    for each in of_kind("CronJob", overlay=overlay):
        found[name_of(each)] = each["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_document_fits_the_schema(overlay: str) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    checked = 0
    for document in built(overlay):
        # What operators define has no schema there.
        if document["apiVersion"].split("/")[0] in _OPERATORS:
            continue
        checked += 1
        validator.validate(document, validator.latest_version(), strict=True)
    assert checked > 50


@pytest.mark.slow
def test_every_service_has_one_pod() -> None:
    workloads = {name_of(each): each["spec"]["replicas"] for each in of_kind("StatefulSet", "Deployment")}
    assert {name: workloads[name] for name in ONLINE_SERVICES} == dict.fromkeys(ONLINE_SERVICES, 1)


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
    for name, pod in [*pods().items(), *pods("operators").items(), *pods("dev").items()]:
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        # The job that makes snapshots asks Kubernetes for them.
        assert pod["automountServiceAccountToken"] is (name == "backup-kafka"), name
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False, name
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name


def test_services_write_to_volumes_only() -> None:
    for name in RUNNABLE_SERVICES:
        assert pods("dev")[name]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True, name


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


@pytest.mark.parametrize("overlay", ["dev", "paper", "live", "scaled"])
def test_every_workload_has_a_disruption_budget_that_finds_it_and_lets_a_node_be_drained(overlay: str) -> None:
    found = of_kind("PodDisruptionBudget", overlay=overlay)
    budgets = [each["spec"]["selector"]["matchLabels"] for each in found]
    assert all(each["spec"]["maxUnavailable"] >= 1 for each in found)
    for each in of_kind("StatefulSet", "Deployment", overlay=overlay):
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
        (container,) = pods("dev")[service]["containers"]
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


def test_a_fresh_volumes_root_is_never_the_data_folder_of_a_server() -> None:
    for name in ("kafka", "clickhouse"):
        (data,) = [each for each in pods()[name]["containers"][0]["volumeMounts"] if each["name"] == "data"]
        assert data["subPath"], name


def test_topics_are_created_by_something_that_a_new_version_may_change() -> None:
    assert of_kind("Job") == []
    assert "topics" in pods()


def test_names_are_asked_of_a_nodes_own_cache_too() -> None:
    (names,) = [each["spec"] for each in of_kind("NetworkPolicy") if name_of(each) == "names"]
    blocks = [peer["ipBlock"]["cidr"] for peer in names["egress"][0]["to"] if "ipBlock" in peer]
    assert "169.254.20.10/32" in blocks


def test_every_pod_has_a_priority_that_exists_and_orders_come_first() -> None:
    classes = {name_of(each): each["value"] for each in of_kind("PriorityClass")}
    for name, pod in pods("operators").items():
        assert pod["priorityClassName"] in classes, name
    given = {name: classes[pod["priorityClassName"]] for name, pod in pods("paper").items()}
    assert min(given[name] for name in ("kafka", "clickhouse", "risk", "execution", "outbox")) > given["monitoring"]


def test_the_outbox_reaches_the_simulated_exchange_where_there_is_one() -> None:
    policies = {name_of(each): each["spec"] for each in of_kind("NetworkPolicy", overlay="dev")}
    chosen = policies["to-exchange"]["podSelector"]["matchExpressions"][0]["values"]
    allowed = policies["exchange"]["ingress"][0]["from"][0]["podSelector"]["matchExpressions"][0]["values"]
    assert {"ingestion", "outbox"} <= set(chosen) & set(allowed)
    assert "exchange" not in pods("live")


@pytest.mark.parametrize(
    ("overlay", "mode", "outboxes"), [("dev", "paper", 0), ("testnet", "testnet", 1), ("live", "live", 1)]
)
def test_an_overlay_has_an_outbox_where_orders_leave(overlay: str, mode: str, outboxes: int) -> None:
    (settings,) = [
        each["data"] for each in of_kind("ConfigMap", overlay=overlay) if name_of(each).startswith("execution-settings")
    ]
    assert settings["PERPFLOW_EXECUTION_MODE"] == mode
    (outbox,) = [each for each in of_kind("StatefulSet", overlay=overlay) if name_of(each) == "outbox"]
    assert outbox["spec"]["replicas"] == outboxes


def test_probes_go_to_the_port_that_answers_to_any_name() -> None:
    (container,) = pods("operators")["monitoring"]["containers"]
    given = {each["name"]: each.get("value") for each in container["env"]}
    assert "trade.example" in str(given["PERPFLOW_MONITORING_ALLOWED_HOSTS"])
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] == "metrics"


def test_written_files_are_what_their_sources_say() -> None:
    assert generate.RULES.read_text() == generate.render_rules()
    assert generate.USERS.read_text() == render_users()


def test_each_service_logs_in_to_strimzis_kafka_as_itself() -> None:
    users = {name_of(each) for each in of_kind("KafkaUser", overlay="operators")}
    maps = {name_of(each): each["data"] for each in of_kind("ConfigMap", overlay="operators")}
    for service in ("ingestion", *CORES, "recorder", "monitoring", "topics"):
        pod = pods("operators")[service]
        named = [each["configMapRef"]["name"] for each in pod["containers"][0]["envFrom"]]
        (login,) = [maps[name] for name in named if name.startswith("kafka-login-")]
        assert login["PERPFLOW_KAFKA_USERNAME"] == service
        assert {"name": "kafka-login", "secret": {"secretName": service}} in pod["volumes"]
        assert service in users


def test_components_leave_nothing_of_what_they_replace() -> None:
    assert {"kafka", "clickhouse"}.isdisjoint(pods("operators"))
    (recorder,) = pods("operators")["recorder"]["containers"]
    given = {each["name"]: each.get("value") for each in recorder["env"]}
    assert given["PERPFLOW_CLICKHOUSE"] == "http://clickhouse-perpflow:8123"
    (inference,) = pods("operators")["inference"]["containers"]
    assert {"PERPFLOW_REPLICA", "PERPFLOW_INFERENCE_MODELS_DIR"} <= {each["name"] for each in inference["env"]}
