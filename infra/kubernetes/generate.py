"""Writes what the Kubernetes files share with others: rules for the Prometheus operator, users for Strimzi."""

from __future__ import annotations

from pathlib import Path

from infra.kafka.acls import render_users

FOLDER = Path(__file__).resolve().parent
RULES = FOLDER / "components" / "prometheus-operator" / "rules.yaml"
USERS = FOLDER / "components" / "strimzi" / "users.yaml"
_RULES_HEAD = """# Written by `python -m infra.kubernetes.generate` from infra/prometheus/rules.yml; not edited by hand.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: perpflow
  labels: {app.kubernetes.io/part-of: perpflow}
spec:
"""


def render_rules() -> str:
    """Return the rules as a PrometheusRule."""
    source = (FOLDER.parent / "prometheus" / "rules.yml").read_text().splitlines()
    lines = [line for line in source if not line.startswith("#")]
    return _RULES_HEAD + "".join(f"  {line}\n" if line else "\n" for line in lines)


def main() -> None:
    """Write both files."""
    RULES.write_text(render_rules())
    USERS.write_text(render_users())


if __name__ == "__main__":
    main()
