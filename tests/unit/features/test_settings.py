"""Settings of the features service."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from services.features.settings import FeaturesSettings


def test_an_unknown_feature_set_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERPFLOW_FEATURES_FEATURE_SETS", '["core_v9/1m"]')
    with pytest.raises(ValidationError, match="no feature set 'core_v9'; there are core_v1"):
        FeaturesSettings()


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ('["core_v1"]', "'core_v1': write SET/TIMEFRAME, one of 1m, 5m"),
        ('["core_v1/2m"]', "write SET/TIMEFRAME"),
        ('["core_v1/1m", "core_v1/1m"]', "is listed twice"),
    ],
)
def test_a_set_without_a_timeframe_or_listed_twice_is_refused(
    sets: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERPFLOW_FEATURES_FEATURE_SETS", sets)
    with pytest.raises(ValidationError, match=message):
        FeaturesSettings()


def test_core_over_a_minute_is_the_default() -> None:
    (only,) = FeaturesSettings().load()
    assert (only.name, only.base_timeframe) == ("core_v1", "1m")
