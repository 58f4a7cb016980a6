"""Train a small direction model on four simulated days, score it walk-forward, load its ONNX as inference does.

Needs the training extra (torch): in the checkout, pip install -e ".[training]". Without it the example says so and
ends with 3.
"""
# ruff: noqa: T201

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path


def main() -> int:
    """Train, score, export, load; return the exit code."""
    if importlib.util.find_spec("torch") is None:
        sys.stderr.write('torch is not installed; in the checkout of perpflow: pip install -e ".[training]"\n')
        return 3
    from services.inference.onnx import load_models
    from services.training.market_data import simulate_bars
    from services.training.training import TrainingOptions, train_model

    with tempfile.TemporaryDirectory() as name:
        registry = Path(name)
        options = TrainingOptions(name="example", seed=1, folds=1, epochs=2)
        trained = train_model(simulate_bars(seed=11, days=4), options, registry, lambda *_progress: None)
        manifest = trained.manifest
        print(f"{manifest.model_id}: {len(manifest.inputs)} inputs, window of {manifest.window} bars")
        print(f"  trained on {manifest.training['examples']:,} examples, features {manifest.schema_hash[:12]}")
        scores = manifest.metrics["walk_forward_mean"]
        assert isinstance(scores, dict)
        for label, ours, naive in (
            ("log loss", "log_loss", "log_loss_naive"),
            ("Brier score", "brier", "brier_naive"),
            ("accuracy", "accuracy", "accuracy_naive"),
        ):
            print(f"  {label:<12} {scores[ours]:.4f}   naive {scores[naive]:.4f}")
        (model,) = load_models(registry, champion="example", shadows=())
        print(f"  inference loads it: sha256 {model.manifest.onnx_sha256[:12]} is the file's")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
