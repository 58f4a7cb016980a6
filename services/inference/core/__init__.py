"""Feature vectors in, forecasts out: manifests, windows, and the arithmetic around a model. Runs no model itself."""

from services.inference.core.inference import PREVIOUS, InferenceCore, ScoredModel, Scores
from services.inference.core.manifest import (
    Manifest,
    ManifestError,
    ModelInput,
    check_bundle,
    decode_manifest,
    encode_manifest,
)

__all__ = [
    "PREVIOUS",
    "InferenceCore",
    "Manifest",
    "ManifestError",
    "ModelInput",
    "ScoredModel",
    "Scores",
    "check_bundle",
    "decode_manifest",
    "encode_manifest",
]
