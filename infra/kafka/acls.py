"""What each service may do on a Kafka cluster, worked out from the registry of topics, and nothing beyond.

``python -m infra.kafka.acls`` prints the rules as lines for `kafka-acls.sh`, ``--strimzi`` as KafkaUser resources,
``--apply`` adds them to the cluster that PERPFLOW_BUS names, with the credentials of somebody who may. A principal is
called after its service; rules that are there stay.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import structlog

from libs.bus.security import KafkaSecurity
from libs.runtime.errors import EXIT_OK, BadInput, DependencyUnavailable
from libs.runtime.platform_bus import kafka_security
from libs.runtime.service import run_process
from libs.runtime.settings import CHAIN, PlatformSettings
from libs.wire.topics import CORE_SERVICES, CORES, OUTBOX, TOPICS, tasks_topic

RECORDER = "recorder"
# The job that creates topics; people and their command line.
TOPICS_JOB = "topics"
CONSOLE = "console"
# The page, the outbox and the command line look at how far every group is, and at the last records behind it.
_READERS_OF_ALL = frozenset({RECORDER, CONSOLE, "monitoring", OUTBOX})
PRINCIPALS = ("ingestion", *CORES, CHAIN, RECORDER, "monitoring", CONSOLE, TOPICS_JOB)
_ANSWER_TIMEOUT_S = 30.0

Kind = Literal["topic", "group", "transactional_id", "cluster"]
_SCRIPT_WORDS = {"topic": "--topic", "group": "--group", "transactional_id": "--transactional-id"}


@dataclass(frozen=True, slots=True)
class AclRule:
    """One allowance. `is_prefix`: for every name that begins so."""

    kind: Kind
    name: str
    operations: tuple[str, ...]
    is_prefix: bool = False


def rules_of(principal: str, prefix: str = "") -> list[AclRule]:
    """Return what a principal may do where every name begins with `prefix`. Reading and writing imply describing."""
    if principal == TOPICS_JOB:
        return [
            AclRule("topic", prefix, ("CREATE", "DESCRIBE", "DESCRIBE_CONFIGS", "ALTER_CONFIGS"), is_prefix=True)
            if prefix
            else AclRule("topic", "*", ("CREATE", "DESCRIBE", "DESCRIBE_CONFIGS", "ALTER_CONFIGS")),
        ]
    if principal == CHAIN:
        # It does what six services do, in their names.
        every = [rule for service in CORE_SERVICES for rule in rules_of(service, prefix)]
        own = [
            # What it polls it polls under its own name.
            AclRule("group", f"{prefix}{CHAIN}", ("READ",), is_prefix=True),
            AclRule("transactional_id", f"{prefix}{CHAIN}", ("WRITE",), is_prefix=True),
        ]
        return list(dict.fromkeys([*every, *own]))
    rules = [
        AclRule("topic", f"{prefix}{topic}", operations)
        for topic in _known_topics()
        if (operations := _operations(principal, topic))
    ]
    # Ids of groups and transactions begin with the service's name: of its tasks, its replicas, its kill switch.
    rules += [
        AclRule("group", f"{prefix}{principal}", ("READ",), is_prefix=True),
        AclRule("transactional_id", f"{prefix}{principal}", ("WRITE",), is_prefix=True),
        # Reads without a group of its own, and how far the groups of others are.
        AclRule("group", f"{prefix}ungrouped", ("READ",)),
        AclRule("group", prefix, ("DESCRIBE",), is_prefix=True) if prefix else AclRule("group", "*", ("DESCRIBE",)),
    ]
    if principal in CORES:
        rules.append(AclRule("group", f"{prefix}{tasks_topic(principal)}", ("READ",)))
    return rules


def _known_topics() -> Iterator[str]:
    yield from TOPICS
    yield from map(tasks_topic, CORES)


def _operations(principal: str, topic: str) -> tuple[str, ...]:
    if topic not in TOPICS:
        return ("READ",) if topic == tasks_topic(principal) else ()
    declared = TOPICS[topic]
    operations = []
    if principal in declared.consumers or principal in _READERS_OF_ALL:
        operations.append("READ")
    if principal in declared.producers:
        operations.append("WRITE")
    if principal == RECORDER:
        # It removes what has passed retention.
        operations.append("DELETE")
    return tuple(operations)


def script_lines(principals: Iterable[str], prefix: str = "") -> Iterator[str]:
    """Yield the arguments of `kafka-acls.sh` that add the rules."""
    for principal in principals:
        for rule in rules_of(principal, prefix):
            operations = " ".join(f"--operation {each.title().replace('_', '')}" for each in rule.operations)
            pattern = " --resource-pattern-type prefixed" if rule.is_prefix else ""
            resource = f"{_SCRIPT_WORDS[rule.kind]} '{rule.name}'{pattern}"
            yield f"--add --allow-principal User:{principal} {operations} {resource}"


def kafka_users(principals: Iterable[str], prefix: str = "", cluster: str = "perpflow") -> list[dict[str, Any]]:
    """Return Strimzi's KafkaUser resources, whose passwords its operator makes."""
    names = {"topic": "topic", "group": "group", "transactional_id": "transactionalId", "cluster": "cluster"}
    return [
        {
            "apiVersion": "kafka.strimzi.io/v1",
            "kind": "KafkaUser",
            "metadata": {"name": principal, "labels": {"strimzi.io/cluster": cluster}},
            "spec": {
                "authentication": {"type": "scram-sha-512"},
                "authorization": {
                    "type": "simple",
                    "acls": [
                        {
                            "resource": {
                                "type": names[rule.kind],
                                "name": rule.name,
                                "patternType": "prefix" if rule.is_prefix else "literal",
                            },
                            "operations": [each.title().replace("_", "") for each in rule.operations],
                        }
                        for rule in rules_of(principal, prefix)
                    ],
                },
            },
        }
        for principal in principals
    ]


def apply_rules(address: str, security: KafkaSecurity, principals: Iterable[str], prefix: str = "") -> int:
    """Add the rules to a cluster; return how many. Raises `DependencyUnavailable` where it refuses or is away."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import (
        AclBinding,
        AclOperation,
        AclPermissionType,
        AdminClient,
        ResourcePatternType,
        ResourceType,
    )

    # Each once, which the client insists on: the chain's rules are those of several services.
    wanted = {
        (rule.kind, rule.name, rule.is_prefix, principal, operation)
        for principal in principals
        for rule in rules_of(principal, prefix)
        for operation in rule.operations
    }
    bindings = [
        AclBinding(
            ResourceType[kind.upper()],
            name,
            ResourcePatternType.PREFIXED if is_prefix else ResourcePatternType.LITERAL,
            f"User:{principal}",
            "*",
            AclOperation[operation],
            AclPermissionType.ALLOW,
        )
        for kind, name, is_prefix, principal, operation in sorted(wanted)
    ]
    admin = AdminClient({"bootstrap.servers": address, **security.client_settings()})
    for binding, future in admin.create_acls(bindings, request_timeout=_ANSWER_TIMEOUT_S).items():
        try:
            future.result()
        except KafkaException as error:
            raise DependencyUnavailable(
                f"{address} does not take the rule for {binding.principal} on {binding.name}: {error.args[0].str()}; "
                "does it have an authorizer, and may this login alter the cluster?"
            ) from error
    return len(bindings)


def _apply(platform: PlatformSettings, logger: structlog.stdlib.BoundLogger) -> int:
    kind, _, address = platform.bus.partition(":")
    if kind != "kafka":
        raise BadInput(f"PERPFLOW_BUS={platform.bus} is no Kafka; set kafka:HOST:PORT")
    count = apply_rules(address, kafka_security(platform), PRINCIPALS, platform.topic_prefix)
    logger.info("rules are there", rules=count, principals=len(PRINCIPALS))
    return EXIT_OK


def main(arguments: list[str] | None = None) -> int:
    """Print or apply the rules; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.kafka.acls", description=__doc__)
    parser.add_argument("--prefix", default="", help="what the session's topics begin with")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--strimzi", action="store_true", help="print KafkaUser resources")
    chosen.add_argument("--apply", action="store_true", help="add the rules to PERPFLOW_BUS")
    given = parser.parse_args(arguments)
    if given.apply:
        return run_process("acls", _apply)
    if given.strimzi:
        # JSON is YAML, and needs no library.
        sys.stdout.write(render_users(given.prefix))
    else:
        sys.stdout.write("".join(f"{line}\n" for line in script_lines(PRINCIPALS, given.prefix)))
    return EXIT_OK


def render_users(prefix: str = "") -> str:
    """Return the KafkaUser resources as a file."""
    head = "# Written by `python -m infra.kafka.acls --strimzi` from the registry of topics; do not edit it by hand.\n"
    return head + "".join(f"---\n{json.dumps(user)}\n" for user in kafka_users(PRINCIPALS, prefix))


if __name__ == "__main__":
    raise SystemExit(main())
