"""`perpflow train-models`: trains a forecast model, or the starter model that ships."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from libs.runtime.errors import BadInput, DependencyUnavailable
from services.console.output import print_json

if TYPE_CHECKING:
    from services.training.training import TrainedModel


def train_models(
    input_: Annotated[
        Path | None, typer.Option("--input", metavar="BARS.parquet", help="Klines to train on, with a volume column.")
    ] = None,
    simulated_seed: Annotated[
        int | None, typer.Option(min=0, help="Train on the simulated market of this seed instead of a file.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=365, help="Days of the simulated market.")] = 30,
    output: Annotated[Path, typer.Option(help="The registry: OUTPUT/NAME/VERSION is written.")] = Path("var/models"),
    name: Annotated[str, typer.Option(help="The model's name: letters, digits, '_', '.', '-'.")] = "direction",
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of weights and the order of examples.")] = 1,
    epochs: Annotated[int, typer.Option(min=1, max=200, help="Passes over the training bars.")] = 6,
    folds: Annotated[int, typer.Option(min=1, max=20, help="Walk-forward tests before the final fit.")] = 3,
    starter: Annotated[bool, typer.Option("--starter", help="Rebuild the model that ships with perpflow.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")] = False,
) -> None:
    """Train a small transformer on bars, score it walk-forward, export it to ONNX with a manifest.

    Examples:

      perpflow train-models --input bars.parquet --name btc --output var/models

      perpflow train-models --simulated-seed 11 --days 30 --name sim --json

      perpflow train-models --starter
    """
    if starter and (input_ is not None or simulated_seed is not None):
        raise BadInput("--starter is made of fixed data; leave out --input and --simulated-seed")
    if not starter and (input_ is None) == (simulated_seed is None):
        raise BadInput("give --input BARS.parquet or --simulated-seed N, one of them")
    trained = _train(input_, simulated_seed, days, output, name, seed, epochs, folds, starter=starter, is_quiet=json)
    folder, manifest = trained.folder, trained.manifest
    answer: dict[str, Any] = {
        "name": manifest.name,
        "version": manifest.version,
        "folder": str(folder),
        "onnx_sha256": manifest.onnx_sha256,
        "feature_set": manifest.feature_set,
        "schema_hash": manifest.schema_hash,
        "timeframe": manifest.timeframe,
        "window": manifest.window,
        "horizon_ns": manifest.horizon_ns,
        "inputs": [one.name for one in manifest.inputs],
        "training": manifest.training,
        "metrics": manifest.metrics,
    }
    if json:
        print_json(answer)
        return
    mean = manifest.metrics["walk_forward_mean"]
    if isinstance(mean, dict):
        print(f"{manifest.model_id} is in {folder}")
        for label, key in (
            ("log loss", "log_loss"),
            ("log loss, naive", "log_loss_naive"),
            ("accuracy", "accuracy"),
            ("accuracy, naive", "accuracy_naive"),
            ("calibration error", "calibration_error"),
            ("called share", "called_share"),
            ("directional hit rate", "directional_hit_rate"),
        ):
            print(f"  {label:<22} {mean[key]:.4f}")
    left_out = manifest.training["left_out_inputs"]
    if isinstance(left_out, list) and left_out:
        print(f"  left out, for the bars do not tell them: {', '.join(str(name) for name in left_out)}")
    if not starter:
        print(f"Trade on it: PERPFLOW_INFERENCE_MODELS_DIR={output} PERPFLOW_INFERENCE_CHAMPION={name} perpflow up")


def _train(
    input_: Path | None,
    simulated_seed: int | None,
    days: int,
    output: Path,
    name: str,
    seed: int,
    epochs: int,
    folds: int,
    *,
    starter: bool,
    is_quiet: bool,
) -> TrainedModel:
    import re

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
        raise BadInput(f"--name {name!r}: use letters, digits, '_', '.', '-', at most 64")
    try:
        import torch  # noqa: F401
    except ImportError:
        raise DependencyUnavailable(
            'torch is not installed; in the checkout of perpflow: pip install -e ".[training]"'
        ) from None
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    from services.training.market_data import read_bars, simulate_bars
    from services.training.starter import train_starter
    from services.training.training import TrainingOptions, train_model

    columns = (TextColumn("{task.description:<18}"), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=is_quiet or not console.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        if starter:
            return train_starter(show)
        show("bars", 0, 1)
        if input_ is not None:
            data = read_bars(input_)
        else:
            data = simulate_bars(simulated_seed or 0, days)
        show("bars", 1, 1)
        return train_model(data, TrainingOptions(name=name, seed=seed, epochs=epochs, folds=folds), output, show)
