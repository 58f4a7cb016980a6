"""Feature vectors in, forecasts out: manifests, windows, and the arithmetic around a model. Runs no model itself."""

from services.inference.core.inference import InferenceCore, ScoredModel, Scores
from services.inference.core.manifest import Manifest, ManifestError, ModelInput, decode_manifest, encode_manifest

__all__ = [
    "InferenceCore",
    "Manifest",
    "ManifestError",
    "ModelInput",
    "ScoredModel",
    "Scores",
    "decode_manifest",
    "encode_manifest",
]
