"""Tracks a training in MLflow: parameters, measures and reports as one run of an experiment named as the model.

A local folder by default, a server by its URL. Nothing of it is needed to train, and a training does not fail by it
once it has begun: the server is asked before the first fit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from libs.runtime.errors import BadInput, DependencyUnavailable

if TYPE_CHECKING:
    from services.training.training import TrainedModel


class Tracker:
    """One run, begun before the training."""

    def __init__(self, uri: str, experiment: str) -> None:
        """Begin a run. Raises `DependencyUnavailable` without mlflow or where the server does not answer."""
        try:
            from mlflow import environment_variables as variables
        except ModuleNotFoundError:
            raise DependencyUnavailable(
                'mlflow is not installed; in the checkout of perpflow: pip install -e ".[tracking]"'
            ) from None
        # Folders are what mlflow-skinny can do without a database.
        variables.MLFLOW_ALLOW_FILE_STORE.set(True)
        variables.MLFLOW_DISABLE_TELEMETRY.set(True)
        variables.MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(1)
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        if "://" in uri and not uri.startswith(("http://", "https://", "file://")):
            raise BadInput(f"--track-in {uri}: give a folder, or the URL of an MLflow server")
        self._client = MlflowClient(tracking_uri=uri if "://" in uri else Path(uri).resolve().as_uri())
        try:
            known = self._client.get_experiment_by_name(experiment)
            experiment_id = known.experiment_id if known is not None else self._client.create_experiment(experiment)
            self._run_id: str = self._client.create_run(experiment_id).info.run_id
        except MlflowException as error:
            raise DependencyUnavailable(f"--track-in {uri}: {str(error).splitlines()[0]}") from error
        self.uri = uri

    def finish(self, trained: TrainedModel) -> str:
        """Record what was made and return the run's id."""
        client, manifest = self._client, trained.manifest
        facts: dict[str, Any] = {
            "family": manifest.family,
            "feature_set": manifest.feature_set,
            "timeframe": manifest.timeframe,
            "window": manifest.window,
            "seed": manifest.training["seed"],
            "data": manifest.training["data"],
            **_flat("label", manifest.label),
            **_flat("parameter", _mapping(manifest.training["parameters"])),
        }
        for name, value in facts.items():
            client.log_param(self._run_id, name, value)
        for name, value in _flat("", _mapping(manifest.metrics["model"])).items():
            if isinstance(value, int | float) and math.isfinite(value):
                client.log_metric(self._run_id, name, float(value))
        client.set_tag(self._run_id, "reference", manifest.reference)
        client.set_tag(self._run_id, "verdict", manifest.verdict)
        for path in sorted(trained.folder.iterdir()):
            client.log_artifact(self._run_id, str(path))
        client.set_terminated(self._run_id)
        return self._run_id

    def fail(self) -> None:
        """Record that the training did not finish."""
        self._client.set_terminated(self._run_id, "FAILED")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _flat(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested values by joined names: a measure's interval beside it."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        joined = f"{prefix}.{name}" if prefix else name
        if isinstance(value, Mapping):
            found |= _flat(joined, value)
        else:
            found[joined] = value
    return found
