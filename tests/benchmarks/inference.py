"""Measures inference over bare ONNX Runtime: `python -m tests.benchmarks.inference`. Fails above a ceiling.

Processor time of one vector through the core, window and forecast included, beside the same graph run alone on the same
input: the best of many short rounds, which is what the code costs, not what else the machine does. Models are the
starter and, where the training extra is installed, a LightGBM and a transformer as `train-models` makes them; the
transformer's graph is measured with its weights as 8-bit integers too, with how far its probabilities move.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
import timeit
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

from libs.domain.features import FeatureVector
from libs.domain.forecasts import ModelRole
from services.inference.core import InferenceCore, Manifest
from services.inference.onnx import STARTER_DIR, load_model
from services.inference.shipped import STARTER_SHA256

ROUNDS, CALLS = 15, 200
MINUTE = 60 * 10**9
WIDTH = 243
# A ceiling is for mistakes: 65 us over a graph of 20 us were measured on a busy machine.
CEILING_US, CEILING_RATIO = 150.0, 1.5


def cost_us(call: Callable[[], object], calls: int) -> float:
    """Return the least cost of a call in microseconds."""
    return min(timeit.repeat(call, number=calls, repeat=ROUNDS, timer=time.process_time)) / calls * 1e6


def bare_us(folder: Path, manifest: Manifest, calls: int) -> float:
    """Return what the graph alone takes for one window."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    window = np.random.default_rng(1).normal(size=(1, manifest.window, len(manifest.inputs))).astype(np.float32)
    return cost_us(lambda: session.run(None, {"vectors": window}), calls)


def core_us(folder: Path, pin: str, calls: int) -> float:
    """Return what a live vector takes through the core."""
    model = load_model(folder, pin, ModelRole.CHAMPION)
    core = InferenceCore([model])
    packed = np.random.default_rng(1).normal(size=WIDTH).astype("<f8").tobytes()
    vectors = (
        FeatureVector(
            instrument="BTCUSDT.BINANCE",
            event_id=str(number),
            event_time=number * MINUTE,
            bar_id="",
            timeframe=model.manifest.timeframe,
            feature_set=model.manifest.feature_set,
            schema_hash=model.manifest.schema_hash,
            packed=packed,
            known_count=WIDTH,
            reference_price_e8=1,
        )
        for number in range(1, ROUNDS * calls + 1)
    )
    made = iter(list(vectors))
    return cost_us(lambda: core.handle(next(made)), calls)


def main() -> int:
    """Print the table; the answer is 1 where a ceiling is passed."""
    is_slow = False
    print(f"{'model':<14}{'bare us':>10}{'core us':>10}{'over us':>10}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as registry:
        models = [("starter", STARTER_DIR, STARTER_SHA256), *_trained(Path(registry))]
        for name, folder, pin in models:
            manifest = load_model(folder, pin, ModelRole.CHAMPION).manifest
            calls = CALLS if manifest.window == 1 else CALLS // 10
            bare, core = bare_us(folder, manifest, calls), core_us(folder, pin, calls)
            print(f"{name:<14}{bare:>10.1f}{core:>10.1f}{core - bare:>10.1f}{core / bare:>8.2f}")
            is_slow |= core / bare > CEILING_RATIO if bare > 1_000.0 else core - bare > CEILING_US
            if name == "transformer":
                small, moved = quantised_us(folder, manifest, calls)
                print(
                    f"{name + ' int8':<16}{small:>8.1f}   {small / bare:.2f} of it; probabilities move by {moved:.4f}"
                )
    return int(is_slow)


def quantised_us(folder: Path, manifest: Manifest, calls: int) -> tuple[float, float]:
    """Return what the graph takes with 8-bit weights, and the most that a probability differs over 256 windows."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / "int8.onnx"
        quantize_dynamic(folder / "model.onnx", path, weight_type=QuantType.QInt8)
        graphs = [
            onnxruntime.InferenceSession(str(one), options, providers=["CPUExecutionProvider"])
            for one in (folder / "model.onnx", path)
        ]
    shape = (256, manifest.window, len(manifest.inputs))
    windows = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    whole, small = (graph.run(["probabilities"], {"vectors": windows})[0] for graph in graphs)
    return cost_us(lambda: graphs[1].run(None, {"vectors": windows[:1]}), calls), float(np.abs(whole - small).max())


def _trained(registry: Path) -> list[tuple[str, Path, str]]:
    if importlib.util.find_spec("skl2onnx") is None or importlib.util.find_spec("torch") is None:
        print("(without the training extra: the starter alone)")
        return []
    from services.training.market_data import simulate_bars
    from services.training.training import TrainingOptions, train_model

    data = simulate_bars(5, 2)
    made = []
    for family, parameters in (("lightgbm", {"trees": 100}), ("transformer", {"epochs": 1, "examples_per_epoch": 256})):
        options = TrainingOptions(family, 1, family=family, folds=1, compares=False, parameters=parameters)
        began = time.process_time()
        trained = train_model(data, options, registry, lambda *_progress: None)
        print(
            f"(trained {family} on two simulated days, tests and report included: {time.process_time() - began:.1f} s)"
        )
        made.append((family, trained.folder, trained.manifest.version))
    return made


if __name__ == "__main__":
    raise SystemExit(main())
