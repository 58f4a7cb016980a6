"""Runs inference as a service: feature vectors in, forecasts out."""

from __future__ import annotations

from libs.runtime.errors import BadInput
from libs.runtime.service import CoreService
from services.inference.core import InferenceCore, ManifestError
from services.inference.inputs import INPUTS
from services.inference.onnx import load_models
from services.inference.settings import InferenceSettings


def build_core(settings: InferenceSettings) -> InferenceCore:
    """Load the models that the settings name. Raises `BadInput` where one cannot be used."""
    try:
        return InferenceCore(load_models(settings.models_dir, settings.champion, settings.shadows))
    except ManifestError as error:
        raise BadInput(str(error)) from error


SERVICE = CoreService(
    name="inference",
    inputs=INPUTS,
    settings_type=InferenceSettings,
    build_core=build_core,
)


def main() -> int:
    """Run until asked to stop; return the exit code."""
    return SERVICE.main()


if __name__ == "__main__":
    raise SystemExit(main())
