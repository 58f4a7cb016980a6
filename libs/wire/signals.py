"""Feature vectors and forecasts to bytes and back."""

from __future__ import annotations

from libs.domain.features import FeatureVector
from libs.domain.forecasts import Forecast, ModelRole
from libs.schemas.perpflow.features.v1 import features_pb2
from libs.schemas.perpflow.inference.v1 import inference_pb2
from libs.wire.errors import DecodeError
from libs.wire.fields import demand_probability, read_enum, read_message, write_message

_VECTOR_FIELDS = (
    "instrument",
    "event_id",
    "event_time",
    "bar_id",
    "timeframe",
    "feature_set",
    "schema_hash",
    "packed",
    "known_count",
    "reference_price_e8",
    "is_history",
)


def encode_feature_vector(event: FeatureVector) -> bytes:
    """Write a feature vector."""
    return write_message(
        event, lambda: features_pb2.FeatureVector(**{name: getattr(event, name) for name in _VECTOR_FIELDS})
    )


def decode_feature_vector(payload: bytes) -> FeatureVector:
    """Read a feature vector. Raises `DecodeError` where the packed doubles cannot be."""
    message = read_message(features_pb2.FeatureVector, payload)
    if len(message.packed) % 8 or not message.packed:
        raise DecodeError(f"{message.event_id}: packed holds {len(message.packed)} bytes, which are no doubles")
    if len(message.schema_hash) != 64:
        raise DecodeError(f"{message.event_id}: schema_hash must be a sha256 in hex")
    return FeatureVector(*(getattr(message, name) for name in _VECTOR_FIELDS))


def encode_forecast(event: Forecast) -> bytes:
    """Write a forecast."""
    return write_message(
        event,
        lambda: inference_pb2.Forecast(
            event_id=event.event_id,
            instrument=event.instrument,
            event_time=event.event_time,
            vector_id=event.vector_id,
            horizon_ns=event.horizon_ns,
            probability_down=event.probability_down,
            probability_flat=event.probability_flat,
            probability_up=event.probability_up,
            confidence=event.confidence,
            coverage=event.coverage,
            expected_return_bps=event.expected_return_bps,
            model_name=event.model_name,
            model_version=event.model_version,
            model_sha256=event.model_sha256,
            role=int(event.role),  # type: ignore[arg-type]
            feature_set=event.feature_set,
            schema_hash=event.schema_hash,
            reference_price_e8=event.reference_price_e8,
        ),
    )


def decode_forecast(payload: bytes) -> Forecast:
    """Read a forecast. Raises `DecodeError` where probabilities are none."""
    message = read_message(inference_pb2.Forecast, payload)
    total = message.probability_down + message.probability_flat + message.probability_up
    if not abs(total - 1.0) <= 1e-6:
        raise DecodeError(f"{message.event_id}: the probabilities sum to {total}, not 1")
    return Forecast(
        instrument=message.instrument,
        event_id=message.event_id,
        event_time=message.event_time,
        vector_id=message.vector_id,
        horizon_ns=message.horizon_ns,
        probability_down=demand_probability(message.probability_down, "probability_down", message.event_id),
        probability_flat=demand_probability(message.probability_flat, "probability_flat", message.event_id),
        probability_up=demand_probability(message.probability_up, "probability_up", message.event_id),
        confidence=demand_probability(message.confidence, "confidence", message.event_id),
        coverage=demand_probability(message.coverage, "coverage", message.event_id),
        expected_return_bps=message.expected_return_bps if message.HasField("expected_return_bps") else None,
        model_name=message.model_name,
        model_version=message.model_version,
        model_sha256=message.model_sha256,
        role=read_enum(ModelRole, message.role, message.event_id),
        feature_set=message.feature_set,
        schema_hash=message.schema_hash,
        reference_price_e8=message.reference_price_e8,
    )
