"""Feature vectors in, forecasts out: manifests, windows, and the arithmetic around a model. Runs no model itself."""

from services.inference.core.inference import InferenceCore, ScoredModel, Scores
from services.inference.core.manifest import Manifest, ManifestFault, ModelInput, decode_manifest, encode_manifest

__all__ = [
    "InferenceCore",
    "Manifest",
    "ManifestFault",
    "ModelInput",
    "ScoredModel",
    "Scores",
    "decode_manifest",
    "encode_manifest",
]
