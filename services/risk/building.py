"""Builds the gate from its settings; refuses instruments without rules or brackets."""

from __future__ import annotations

from libs.domain.instruments import UnknownInstrument, find_instrument
from libs.margin.default_brackets import find_brackets
from libs.runtime.errors import BadInput
from services.risk.core import RiskCore
from services.risk.settings import RiskSettings


def build_core(settings: RiskSettings, *, follows_settings: bool = True) -> RiskCore:
    """Return the gate of the settings' account. Raises `BadInput` for an instrument that cannot be judged."""
    variable = "PERPFLOW_RISK_INSTRUMENTS"
    try:
        rules = [find_instrument(name) for name in settings.instruments]
    except UnknownInstrument as error:
        raise BadInput(f"{variable}: {error}; correct it or add the instrument's rules") from None
    for entry in rules:
        if find_brackets(entry.instrument) is None:
            raise BadInput(f"{variable}: no leverage brackets for {entry.instrument}; add them to its venue's listing")
    return RiskCore(
        settings.limits(),
        {entry.instrument: entry for entry in rules},
        settings.account,
        model=settings.model,
        follows_settings=follows_settings,
    )


def build_compared_core(settings: RiskSettings) -> RiskCore:
    """Return the gate as it would have been under these settings, whatever settings the session put on record."""
    return build_core(settings, follows_settings=False)
