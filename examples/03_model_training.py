"""Train a small direction model on four simulated days, test it out of sample, load its ONNX as inference does.

Needs the training extra: in the checkout, pip install -e ".[training]". Without it the example says so and
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
    if importlib.util.find_spec("skl2onnx") is None:
        sys.stderr.write('skl2onnx is not installed; in the checkout of perpflow: pip install -e ".[training]"\n')
        return 3
    from services.inference.onnx import load_models
    from services.training.market_data import simulate_bars
    from services.training.report import describe_line
    from services.training.training import TrainingOptions, train_model

    with tempfile.TemporaryDirectory() as name:
        registry = Path(name)
        options = TrainingOptions(name="example", seed=1, family="logistic", folds=2, compares=False)
        trained = train_model(simulate_bars(seed=11, days=4), options, registry, lambda *_progress: None)
        manifest = trained.manifest
        print(f"{manifest.model_id}: {len(manifest.inputs)} inputs, window of {manifest.window} bars")
        print(f"  trained on {manifest.training['examples']:,} examples, features {manifest.schema_hash[:12]}")
        for one in trained.evaluation.scored:
            auc = one.measures["auc"]
            print(f"  {one.name:<14} AUC {auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f})")
        print(f"  {describe_line(manifest, trained.evaluation)}")
        (model,) = load_models(registry, champion=manifest.reference, shadows=())
        print(f"  inference loads it: bundle {model.manifest.bundle_sha256[:12]} is what its reference pins")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
