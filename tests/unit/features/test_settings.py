"""Settings of the features service."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from services.features.settings import FeaturesSettings


def test_an_unknown_feature_set_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERPFLOW_FEATURES_FEATURE_SET", "core_v9")
    with pytest.raises(ValidationError, match="no feature set 'core_v9'; there are core_v1"):
        FeaturesSettings()


def test_core_is_the_default() -> None:
    assert FeaturesSettings().feature_set == "core_v1"
