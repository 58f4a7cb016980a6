"""The risk gate: intents in, verdicts out. Pure."""

from services.risk.core.gate import RiskCore
from services.risk.core.limits import LimitError, RiskLimits

__all__ = ["LimitError", "RiskCore", "RiskLimits"]
