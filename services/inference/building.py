"""Builds the core of inference from its settings."""

from __future__ import annotations

from libs.runtime.errors import BadInput
from services.inference.core import InferenceCore, ManifestError
from services.inference.onnx import load_models
from services.inference.settings import InferenceSettings


def build_core(settings: InferenceSettings) -> InferenceCore:
    """Load the models that the settings name. Raises `BadInput` where one cannot be used."""
    try:
        return InferenceCore(load_models(settings.models_dir, settings.champion_in_force, settings.shadows))
    except ManifestError as error:
        raise BadInput(str(error)) from error
