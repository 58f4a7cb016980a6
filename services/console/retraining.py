"""Whether a model is due to be trained again: what the registry holds, and what services' metrics say of its drift."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterable, Sequence
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from libs.runtime.errors import DependencyUnavailable
from libs.runtime.metrics import read_announcement
from services.console.models_registry import ModelEntry, list_entries
from services.console.running import running_folders

_TIMEOUT_S = 10.0
_MOVED_PSI = 0.25
_MOVED_SHARE = 0.5


def newest_model(models_dir: Path, name: str) -> ModelEntry | None:
    """Return the model of this name whose data end last, None where there is none."""
    own = [entry for entry in list_entries(models_dir) if entry.name == name]
    return max(own, key=lambda entry: int(entry.manifest["training"]["last_open_time"]), default=None)


def running_metrics() -> list[str]:
    """Return where the services of the sessions that run on this machine show their metrics."""
    ports = [
        read_announcement(path).get("metrics_port")
        for folder in running_folders()
        for path in sorted((folder / "run").glob("*.json"))
    ]
    return [f"http://127.0.0.1:{port}/metrics" for port in ports if port]


def fetch_metrics(urls: Sequence[str]) -> list[str]:
    """Return the text behind each address. Raises `DependencyUnavailable` naming one that does not answer."""
    texts = []
    for url in urls:
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
                texts.append(answer.read().decode())
        except (OSError, ValueError) as error:
            raise DependencyUnavailable(
                f"--metrics {url} does not answer: {error}; correct the address, or leave out --retrain-on-drift"
            ) from error
    return texts


def describe_drift(texts: Iterable[str], name: str, version: str) -> str:
    """Say how a model drifts by what services show, empty where it does not or nothing is shown.

    It does where ADWIN found a change of its predictions or calibration, and where more than half of its inputs have a
    stability index above 0.25.
    """
    changes: dict[str, float] = {}
    indices: list[float] = []
    for text in texts:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                model = sample.labels.get("model")
                if sample.name == "perpflow_model_drifts_total" and model == f"{name}/{version}":
                    changes[sample.labels["kind"]] = changes.get(sample.labels["kind"], 0.0) + sample.value
                elif sample.name == "perpflow_input_psi" and model == f"{name}-{version}":
                    indices.append(sample.value)
    found = [f"{kind} changed {count:.0f} times" for kind, count in sorted(changes.items()) if count]
    moved = sum(1 for index in indices if index > _MOVED_PSI)
    if indices and moved > _MOVED_SHARE * len(indices):
        found.append(f"{moved} of {len(indices)} inputs have moved")
    return ", ".join(found)
