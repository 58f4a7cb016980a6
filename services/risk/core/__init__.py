"""The risk gate: intents in, verdicts out. Pure."""

from services.risk.core.limits import LimitError, RiskLimits
from services.risk.core.risk_gate import RiskCore

__all__ = ["LimitError", "RiskCore", "RiskLimits"]
